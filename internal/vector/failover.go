package vector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// primary is what Failover needs of Postgres.
type primary interface {
	runbooks.Store
	Ping(context.Context) error
}

// Failover is a runbooks.Store that keeps everything in memory and in Postgres: Postgres answers
// while it can, the memory while it cannot. Run brings Postgres up to date when it is back.
type Failover struct {
	memory *Memory
	open   func(context.Context) (primary, error)
	log    *slog.Logger
	every  time.Duration

	mu   sync.Mutex
	pg   primary // nil: never reached yet
	down string  // why Postgres does not answer now; "": it does
	old  bool    // it missed writes
}

var _ runbooks.Store = (*Failover)(nil)

// readDeadline bounds how long a search waits for Postgres before the memory answers.
const readDeadline = 300 * time.Millisecond

// NewFailover returns a store that serves from memory until Run has reached Postgres.
func NewFailover(cfg Config, memory *Memory, log *slog.Logger) *Failover {
	return newFailover(func(ctx context.Context) (primary, error) {
		p, err := OpenPostgres(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return p, nil
	}, memory, log)
}

func newFailover(open func(context.Context) (primary, error), memory *Memory, log *slog.Logger) *Failover {
	return &Failover{memory: memory, open: open, log: log, every: 5 * time.Second, down: "Postgres has not been reached yet", old: true}
}

// Degraded says in one line that the memory answers and why, or "".
func (f *Failover) Degraded() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down == "" {
		return ""
	}
	return "vectors are served from memory: " + f.down
}

// Run connects to Postgres, watches it and brings it up to date after an outage, until ctx ends.
// It closes the connections it opened.
func (f *Failover) Run(ctx context.Context) error {
	defer func() {
		if p, ok := f.current().(*Postgres); ok && p != nil {
			p.Close()
		}
	}()
	for {
		f.heal(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.every):
		}
	}
}

func (f *Failover) current() primary {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pg
}

// heal makes one attempt to have Postgres answering and equal to the memory.
func (f *Failover) heal(ctx context.Context) {
	hctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	pg := f.current()
	if pg == nil {
		var err error
		if pg, err = f.open(hctx); err != nil {
			f.fail(err)
			return
		}
		f.mu.Lock()
		f.pg = pg
		f.mu.Unlock()
	} else {
		pctx, cancel := context.WithTimeout(hctx, 2*time.Second)
		err := pg.Ping(pctx)
		cancel()
		if err != nil {
			f.fail(err)
			return
		}
	}
	f.mu.Lock()
	healthy := f.down == "" && !f.old
	f.old = false // writes that fail from here on set it again
	f.mu.Unlock()
	if healthy {
		return
	}
	if err := f.catchUp(hctx, pg); err != nil {
		f.fail(err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.old {
		return // a write failed meanwhile; next time
	}
	f.down = ""
	f.log.Info("vectors are served by Postgres")
}

// catchUp makes each space of Postgres equal to that of the memory.
func (f *Failover) catchUp(ctx context.Context, pg primary) error {
	for _, name := range f.memory.spaceNames() {
		want, _ := f.memory.Hashes(ctx, name)
		have, err := pg.Hashes(ctx, name)
		if err != nil {
			return err
		}
		var put, drop []string
		for id, h := range want {
			if have[id] != h {
				put = append(put, id)
			}
		}
		for id := range have {
			if _, ok := want[id]; !ok {
				drop = append(drop, id)
			}
		}
		slices.Sort(put)
		slices.Sort(drop)
		for chunk := range slices.Chunk(put, 2000) {
			if err := pg.Apply(ctx, name, f.memory.records(name, chunk), nil); err != nil {
				return err
			}
		}
		if len(drop) > 0 {
			if err := pg.Apply(ctx, name, nil, drop); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail records why Postgres does not answer; the change is logged once.
func (f *Failover) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down == "" {
		f.log.Warn("Postgres does not answer; vectors are served from memory", "error", err)
	}
	f.down = incident.Clip(fmt.Sprintf("Postgres does not answer: %v", err), 300)
	f.old = true
}

// answering returns Postgres when it is up to date and answers, else nil.
func (f *Failover) answering() primary {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != "" {
		return nil
	}
	return f.pg
}

// Hashes implements runbooks.Store from memory, which is never behind.
func (f *Failover) Hashes(ctx context.Context, space string) (map[string]string, error) {
	return f.memory.Hashes(ctx, space)
}

// Apply implements runbooks.Store. It succeeds when the memory took the write; Postgres gets it
// now or, after an outage, from Run.
func (f *Failover) Apply(ctx context.Context, space string, put []runbooks.Record, drop []string) error {
	if err := f.memory.Apply(ctx, space, put, drop); err != nil {
		return err
	}
	f.mu.Lock()
	pg := f.pg
	if f.down != "" {
		pg, f.old = nil, true
	}
	f.mu.Unlock()
	if pg == nil {
		return nil
	}
	if err := pg.Apply(ctx, space, put, drop); err != nil {
		f.fail(err)
	}
	return nil
}

// Nearest implements runbooks.Store.
func (f *Failover) Nearest(ctx context.Context, space string, p runbooks.Probe) ([]runbooks.Match, error) {
	if pg := f.answering(); pg != nil {
		rctx, cancel := context.WithTimeout(ctx, readDeadline)
		m, err := pg.Nearest(rctx, space, p)
		cancel()
		if err == nil || errors.Is(err, incident.ErrInvalid) {
			return m, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.fail(err)
	}
	return f.memory.Nearest(ctx, space, p)
}
