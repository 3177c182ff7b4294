package vectortest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tocsin-io/tocsin/incident"
)

// packageJSON pins the packages that run Postgres with pgvector as WebAssembly, over the wire
// and without Docker.
const packageJSON = `{"name":"tocsin-pgvector-test","private":true,"dependencies":{
"@electric-sql/pglite":"0.5.14","@electric-sql/pglite-socket":"0.2.17","@electric-sql/pglite-pgvector":"0.0.15"}}
`

// Require is the environment variable that turns a missing Postgres from a skip into a failure.
// TOCSIN_TEST_POSTGRES may hold the DSN of a server to use instead, whose schema is overwritten.
const Require = "TOCSIN_REQUIRE_PGVECTOR"

// Postgres starts a real Postgres with pgvector for one test and returns its DSN. Without npm
// (or network, at the first run) the test is skipped with the reason.
func Postgres(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("TOCSIN_TEST_POSTGRES"); dsn != "" {
		return dsn
	}
	dir, err := install(t.Context())
	if err != nil {
		if os.Getenv(Require) != "" {
			t.Fatalf("Postgres with pgvector is required: %v", err)
		}
		t.Skipf("no Postgres with pgvector: %v", err)
	}
	dsn, stop := start(t, dir)
	t.Cleanup(stop)
	return dsn
}

// install puts the packages into a cache folder named after their versions, once.
func install(ctx context.Context) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("npm is not installed")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "tocsin-test", "pgvector-"+string(incident.HashParts(packageJSON))[:12])
	if _, err := os.Stat(filepath.Join(dir, "done")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "package.json"), []byte(packageJSON), 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", "--loglevel=error")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w: %s", err, incident.Clip(string(out), 300))
	}
	if err := os.WriteFile(filepath.Join(tmp, "done"), nil, 0o644); err != nil {
		return "", err
	}
	// Two test processes may install at once: the first to rename wins.
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, "done")); statErr != nil {
			return "", err
		}
	}
	return dir, nil
}

// Server is a Postgres that a test can stop and start again on the same port, with its data.
type Server struct {
	t    testing.TB
	dir  string
	data string
	port int
	stop func()
}

// NewServer is Postgres for tests about outages.
func NewServer(t testing.TB) *Server {
	t.Helper()
	dir, err := install(t.Context())
	if err != nil {
		if os.Getenv(Require) != "" {
			t.Fatalf("Postgres with pgvector is required: %v", err)
		}
		t.Skipf("no Postgres with pgvector: %v", err)
	}
	s := &Server{t: t, dir: dir, data: filepath.Join(t.TempDir(), "data"), port: freePort(t)}
	s.Start()
	t.Cleanup(func() { s.Stop() })
	return s
}

// DSN returns how to reach the server. Statements are not prepared: the server multiplexes all
// connections onto one session, in which names of prepared statements would collide.
func (s *Server) DSN() string { return dsnOf(s.port) }

// Start starts the server and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.stop = run(s.t, s.dir, s.data, s.port)
}

// Stop kills the server, as a power cut would. Stopping twice does nothing.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func dsnOf(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&default_query_exec_mode=exec&pool_max_conns=4", port)
}

func start(t testing.TB, dir string) (string, func()) {
	port := freePort(t)
	return dsnOf(port), run(t, dir, "", port)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func run(t testing.TB, dir, data string, port int) func() {
	t.Helper()
	args := []string{"-p", strconv.Itoa(port), "-e", "@electric-sql/pglite-pgvector:vector", "-m", "8"}
	if data != "" {
		args = append(args, "-d", data)
	}
	cmd := exec.Command(filepath.Join(dir, "node_modules", ".bin", "pglite-server"), args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Postgres: %v", err)
	}
	stop := func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}
	deadline := time.Now().Add(90 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, dsnOf(port))
		if err == nil {
			err = conn.Ping(ctx)
			conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return stop
		}
		<-time.After(100 * time.Millisecond)
		if time.Now().After(deadline) {
			stop()
			t.Fatalf("Postgres does not answer: %v", err)
		}
	}
}
