//go:build e2e

package loop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tocsin-bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tocsin")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/tocsin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// process is one `tocsin up` that can be killed and started again on the same data.
type process struct {
	t    *testing.T
	bin  string
	data string
	args []string
	cmd  *exec.Cmd
	log  *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(s.b.String(), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// up starts the product on a kubeconfig; it is stopped with the test.
func up(t *testing.T, kubeconfig string, args ...string) *process {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, bin: bin, data: t.TempDir(), log: &safeBuffer{}, args: append([]string{"up", "--kubeconfig", kubeconfig}, args...)}
	p.start()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("end of the process's output:\n%s", p.log.tail(60))
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, append(p.args, "--data", p.data)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) stop(sig syscall.Signal) {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("the process did not end within 20 s of %s", sig)
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// crash kills the process as a power cut of the machine's kernel would not: kill -9, then again up.
func (p *process) crash() {
	p.t.Helper()
	p.stop(syscall.SIGKILL)
	p.start()
}

// tocsin runs one command against the process.
func (p *process) tocsin(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.bin, append(args, "--data", p.data)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("tocsin %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func ask[T any](p *process, args ...string) (T, error) {
	var v T
	out, err := p.tocsin(append(args, "-o", "json")...)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(out), &v)
}

// incidents returns those open now that matter (above info), all of their detail.
func (p *process) incidents() ([]incident.Incident, error) {
	all, err := ask[[]incident.Incident](p, "incidents", "list")
	var out []incident.Incident
	for _, i := range all {
		if i.Severity != incident.Info {
			out = append(out, i)
		}
	}
	return out, err
}

// eventually repeats check until it returns nil.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}
