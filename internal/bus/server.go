package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is a NATS server in this process that can be restarted in place: clients reconnect
// through InProcessConn to whatever server is current.
type embedded struct {
	cfg  Config
	cap  int64
	log  *slog.Logger
	lock *os.File

	mu  sync.RWMutex
	srv *server.Server // nil while restarting
}

func startEmbedded(cfg Config, log *slog.Logger) (*embedded, error) {
	lock, err := openFolder(cfg.Dir, server.VERSION)
	if err != nil {
		return nil, err
	}
	e := &embedded{cfg: cfg, log: log, lock: lock}
	if e.cap, err = storeCap(cfg.Dir, cfg.MaxStore); err == nil {
		err = e.start()
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return e, nil
}

func (e *embedded) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: "tocsin", JetStream: true, StoreDir: filepath.Join(e.cfg.Dir, "nats"),
		JetStreamMaxStore: e.cap, JetStreamMaxMemory: 256 << 20,
		SyncAlways: !e.cfg.lazySync, // without it a power cut loses what was acknowledged
		NoSigs:     true, NoLog: true, NoSystemAccount: true,
		MaxPayload: MaxPayload, DontListen: e.cfg.Listen == "", Authorization: e.cfg.Token,
	}
	if e.cfg.Listen == "" {
		return o, nil
	}
	host, port, err := net.SplitHostPort(e.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("bus: listen address: %w", err)
	}
	if o.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("bus: listen address: port %q: %w", port, err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	if o.Host = host; host == "" {
		o.Host = "127.0.0.1"
	}
	return o, nil
}

func (e *embedded) start() error {
	o, err := e.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("bus: embedded server: %w", err)
	}
	srv.SetLoggerV2(serverLog{e.log}, false, false, false)
	srv.Start() // returns once JetStream has recovered, or has shut itself down
	if !srv.ReadyForConnections(30 * time.Second) {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("bus: embedded server on %s did not become ready: see its log lines above", e.cfg.Dir)
	}
	e.mu.Lock()
	e.srv = srv
	e.mu.Unlock()
	return nil
}

func (e *embedded) stop() {
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown() // the store is only whole after this
	}
}

func (e *embedded) close() error {
	e.stop()
	return e.lock.Close()
}

func (e *embedded) current() *server.Server {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.srv
}

// InProcessConn connects a client to the current server.
func (e *embedded) InProcessConn() (net.Conn, error) {
	srv := e.current()
	if srv == nil {
		return nil, errors.New("bus: embedded server is restarting")
	}
	return srv.InProcessConn()
}

// healthy reads the server's own health report: it is the only place where a store that has
// stopped writing shows (publishes merely time out).
func (e *embedded) healthy() error {
	srv := e.current()
	if srv == nil {
		return errors.New("bus: embedded server is restarting")
	}
	var st *server.HealthStatus
	for i := range healthLooks {
		if i > 0 {
			time.Sleep(healthPause)
		}
		if st = srv.Healthz(nil); st.Status == "ok" {
			return nil
		}
	}
	return fmt.Errorf("bus: embedded store in %s: %s", e.cfg.Dir, st.Error)
}

// A stream that is being made is on disk before the server lists it, and its health report then
// calls it lost for a moment (seen here: some milliseconds). What is wrong stays wrong.
const (
	healthLooks = 4
	healthPause = 100 * time.Millisecond
)

// restart brings back a server whose store gave up, once the folder takes writes again.
func (e *embedded) restart() error {
	if err := probeWrite(e.cfg.Dir, 4<<20); err != nil {
		return fmt.Errorf("bus: waiting for space: %w", err)
	}
	e.stop()
	return e.start()
}

// clientURL returns the address others can connect to, "" without a port.
func (e *embedded) clientURL() string {
	if srv := e.current(); srv != nil && e.cfg.Listen != "" {
		return srv.ClientURL()
	}
	return ""
}

// serverLog passes the server's lines on. Notices are debug: they are many and about NATS.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(f, v...)) }
func (l serverLog) Debugf(string, ...any)      {}
func (l serverLog) Tracef(string, ...any)      {}
