package vector

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/vector/vectortest"
	"github.com/tocsin-io/tocsin/runbooks"
)

// flaky is a primary that can be switched off.
type flaky struct {
	*Memory
	off atomic.Bool
}

var errOff = errors.New("connection refused")

func (f *flaky) Ping(context.Context) error {
	if f.off.Load() {
		return errOff
	}
	return nil
}

func (f *flaky) Apply(ctx context.Context, s string, put []runbooks.Record, drop []string) error {
	if f.off.Load() {
		return errOff
	}
	return f.Memory.Apply(ctx, s, put, drop)
}

func (f *flaky) Nearest(ctx context.Context, s string, p runbooks.Probe) ([]runbooks.Match, error) {
	if f.off.Load() {
		return nil, errOff
	}
	return f.Memory.Nearest(ctx, s, p)
}

func (f *flaky) Hashes(ctx context.Context, s string) (map[string]string, error) {
	if f.off.Load() {
		return nil, errOff
	}
	return f.Memory.Hashes(ctx, s)
}

func record(id string, v ...float32) runbooks.Record {
	return runbooks.Record{ID: id, Hash: "h" + id, Vector: v}
}

func TestFailoverKeepsTheContractOfAStore(t *testing.T) {
	for _, off := range []bool{false, true} {
		pg := &flaky{Memory: NewMemory()}
		pg.off.Store(off)
		f := newFailover(func(context.Context) (primary, error) { return pg, pg.Ping(t.Context()) }, NewMemory(), slog.New(slog.DiscardHandler))
		f.heal(t.Context())
		vectortest.Conformance(t, f, 1e-5)
	}
}

func TestAnOutageIsServedFromMemoryAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		pg := &flaky{Memory: NewMemory()}
		f := newFailover(func(context.Context) (primary, error) { return pg, nil }, NewMemory(), slog.New(slog.DiscardHandler))
		go f.Run(ctx)
		synctest.Wait()
		if d := f.Degraded(); d != "" {
			t.Fatalf("degraded at start: %s", d)
		}
		must(t, f.Apply(ctx, "s", []runbooks.Record{record("a", 1, 0), record("b", 0, 1)}, nil))

		pg.off.Store(true)
		if m, err := f.Nearest(ctx, "s", runbooks.Probe{Vector: []float32{1, 0}, Limit: 1}); err != nil || len(m) != 1 || m[0].ID != "a" {
			t.Errorf("during the outage: %v, %v; want a", m, err)
		}
		if f.Degraded() == "" {
			t.Error("nothing says that the memory serves")
		}
		must(t, f.Apply(ctx, "s", []runbooks.Record{record("c", 1, 1)}, []string{"b"}))

		pg.off.Store(false)
		<-time.After(2 * f.every)
		synctest.Wait()
		if d := f.Degraded(); d != "" {
			t.Errorf("still degraded after healing: %s", d)
		}
		h, err := pg.Hashes(ctx, "s")
		if err != nil || len(h) != 2 || h["c"] != "hc" || h["a"] != "ha" {
			t.Errorf("Postgres holds %v, %v after healing; want a and c", h, err)
		}
		cancel()
		synctest.Wait()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestARealPostgresThatDiesIsReplacedByMemoryAndCaughtUp(t *testing.T) {
	srv := vectortest.NewServer(t)
	f := NewFailover(Config{DSN: srv.DSN()}, NewMemory(), slog.New(slog.DiscardHandler))
	ctx := t.Context()
	f.heal(ctx)
	if d := f.Degraded(); d != "" {
		t.Fatalf("degraded at start: %s", d)
	}
	must(t, f.Apply(ctx, "s", []runbooks.Record{record("a", 1, 0)}, nil))
	srv.Stop()
	if m, err := f.Nearest(ctx, "s", runbooks.Probe{Vector: []float32{1, 0}, Limit: 1}); err != nil || len(m) != 1 {
		t.Errorf("with Postgres dead: %v, %v; want a from memory", m, err)
	}
	if f.Degraded() == "" {
		t.Error("nothing says that Postgres is down")
	}
	must(t, f.Apply(ctx, "s", []runbooks.Record{record("b", 0, 1)}, nil))
	srv.Start()
	f.heal(ctx)
	if d := f.Degraded(); d != "" {
		t.Fatalf("degraded after restart: %s", d)
	}
	h, err := f.current().Hashes(ctx, "s")
	if err != nil || h["b"] != "hb" {
		t.Errorf("Postgres holds %v, %v; want what was written during the outage", h, err)
	}
	f.current().(*Postgres).Close()
}

func TestTheCacheGivesBackWhatWasSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vectors")
	m, err := OpenMemory(path)
	must(t, err)
	must(t, m.Apply(t.Context(), "s", []runbooks.Record{record("a", 3, 4)}, nil))
	must(t, m.Save())
	again, err := OpenMemory(path)
	must(t, err)
	if h, _ := again.Hashes(t.Context(), "s"); h["a"] != "ha" {
		t.Errorf("the cache gave %v, want a", h)
	}
	b, err := os.ReadFile(path)
	must(t, err)
	for _, damaged := range [][]byte{b[:len(b)-3], append([]byte("x"), b...), flip(b)} {
		must(t, os.WriteFile(path, damaged, 0o600))
		m, err := OpenMemory(path)
		if !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("damaged cache: error %v, want ErrInvalid", err)
		}
		if h, _ := m.Hashes(t.Context(), "s"); len(h) != 0 {
			t.Errorf("damaged cache still gave %v", h)
		}
	}
}

func flip(b []byte) []byte {
	c := append([]byte(nil), b...)
	c[len(c)-5] ^= 0x40
	return c
}

func TestPlaintextToAnotherMachineIsRefused(t *testing.T) {
	tests := []struct {
		name, dsn string
		allow, ok bool
	}{
		{"no encryption to another machine", "postgres://u@db.example.org/x?sslmode=disable", false, false},
		{"encryption only if it can be had", "postgres://u@db.example.org/x?sslmode=prefer", false, false},
		{"verified encryption", "postgres://u@db.example.org/x?sslmode=verify-full", false, true},
		{"a socket on this machine", "host=/var/run/postgresql dbname=x sslmode=disable", false, true},
		{"loopback", "postgres://u@127.0.0.1/x?sslmode=disable", false, true},
		{"allowed explicitly", "postgres://u@db.example.org/x?sslmode=disable", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a permitted configuration fails to connect; a refused one is ErrInvalid
			_, err := OpenPostgres(ctx, Config{DSN: tt.dsn, AllowPlaintext: tt.allow})
			if refused := errors.Is(err, incident.ErrInvalid); refused == tt.ok {
				t.Errorf("error %v; want refused: %v", err, !tt.ok)
			}
		})
	}
}
