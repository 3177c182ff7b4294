package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// Pace of the correlating process. An incident is told to the outside at once when it changes,
// and then at most once a second.
const (
	drainEvery    = 50 * time.Millisecond
	tellEvery     = time.Second
	advanceEvery  = time.Second
	snapshotEvery = 10 * time.Second
	leaseTTL      = 10 * time.Second
	caughtUpAfter = 300 * time.Millisecond // without a stored signal
	catchUpFor    = 10 * time.Second       // at most: a storm may never pause
	maxSnapshot   = 1 << 30
)

// correlating runs the correlator of the bus's partition while this process holds its lease.
type correlating struct {
	bus  *bus.Bus
	to   func(ctx context.Context, inc incident.Incident) error // durable when nil
	log  *slog.Logger
	name string // of this process, for the lease

	clock func() time.Time

	mu    sync.Mutex // the correlator is single-threaded
	cor   *correlator.Correlator
	at    map[incident.ClusterName]uint64 // sequence applied per cluster
	dirty bool

	appliedAt time.Time
	missed    int
}

// saved is the snapshot: the correlator's state and the stream positions it stands at.
type saved struct {
	Positions map[incident.ClusterName]uint64 `json:"positions"`
	State     []byte                          `json:"state"`
}

const partition = "correlator-0"

// run correlates whenever this process holds the lease, until ctx ends.
func (c *correlating) run(ctx context.Context) error {
	for {
		err := c.hold(ctx)
		if !errors.Is(err, incident.ErrStale) {
			return err
		}
		c.log.Warn("another process correlates now; waiting for the lease")
	}
}

func (c *correlating) hold(ctx context.Context) error {
	return c.bus.Lease(partition, c.name, leaseTTL).Run(ctx, func(ctx context.Context, _ uint64) error {
		rev, err := c.restore(ctx)
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return c.bus.ConsumeEvents(ctx, bus.ConsumeOptions{From: c.positions()}, c.apply) })
		g.Go(func() error { return c.drain(ctx) })
		g.Go(func() error { return c.save(ctx, rev) })
		return g.Wait()
	})
}

// restore takes over from the last holder: its snapshot, and everything after it again.
func (c *correlating) restore(ctx context.Context) (rev uint64, err error) {
	data, rev, err := c.bus.Snapshots().Claim(ctx, partition)
	if err != nil {
		return 0, fmt.Errorf("correlator snapshot: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appliedAt = time.Now()
	c.cor, c.at = correlator.New(correlator.Config{}), map[incident.ClusterName]uint64{}
	if data == nil {
		return rev, nil
	}
	s, err := decodeSnapshot(data)
	if err == nil {
		err = c.cor.Restore(s.State)
	}
	if err != nil { // it can be derived again
		c.log.Warn("correlator snapshot cannot be used; reading the stored signals from the start", "error", err)
		c.cor = correlator.New(correlator.Config{})
		return rev, nil
	}
	c.at = s.Positions
	c.log.Info("correlator restored", "clusters", len(c.at), "incidents", len(c.cor.Incidents()))
	return rev, nil
}

func decodeSnapshot(data []byte) (s saved, err error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return s, err
	}
	return s, json.NewDecoder(io.LimitReader(z, maxSnapshot)).Decode(&s)
}

func (c *correlating) positions() map[incident.ClusterName]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[incident.ClusterName]uint64, len(c.at))
	for k, v := range c.at {
		out[k] = v
	}
	return out
}

func (c *correlating) apply(_ context.Context, name incident.ClusterName, events []incident.Event, p bus.Position) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range events {
		c.cor.Apply(e)
	}
	c.at[name], c.dirty, c.appliedAt = p.Seq, true, time.Now()
	if p.Missed > 0 {
		c.missed += int(p.Missed)
		c.log.Warn("signals were dropped from the stream before they were read", "cluster", name, "batches", p.Missed)
	}
	return nil
}

// drain tells the outside what changed. What could not be stored is told again.
func (c *correlating) drain(ctx context.Context) error {
	waiting := map[incident.ID]incident.Incident{}
	told := map[incident.ID]time.Time{}
	for _, inc := range c.open() { // the last holder may have died between its snapshot and telling
		waiting[inc.ID] = inc
	}
	if !c.awaitCaughtUp(ctx) {
		return nil
	}
	advanced := time.Time{}
	for {
		start := time.Now()
		for _, inc := range c.changed(start, &advanced) {
			waiting[inc.ID] = inc
		}
		for id, inc := range waiting {
			if start.Sub(told[id]) < tellEvery {
				continue
			}
			if err := c.to(ctx, inc); err != nil {
				if ctx.Err() == nil {
					c.log.Warn("incident is not stored yet; trying again", "incident", id, "error", err)
				}
				continue
			}
			told[id] = start
			delete(waiting, id)
		}
		if len(told) > 10_000 { // only the last second matters
			clear(told)
		}
		// A large fleet takes longer to group: leave the core to the reader three quarters of the time.
		if !pause(ctx, max(drainEvery, 3*time.Since(start))) {
			return nil
		}
	}
}

// awaitCaughtUp waits until what was stored before the start has been read: an incident seen
// through half of the clusters' streams would name the wrong thing.
func (c *correlating) awaitCaughtUp(ctx context.Context) bool {
	for deadline := time.Now().Add(catchUpFor); time.Now().Before(deadline); {
		c.mu.Lock()
		idle := time.Since(c.appliedAt)
		c.mu.Unlock()
		if idle > caughtUpAfter {
			return true
		}
		if !pause(ctx, drainEvery) {
			return false
		}
	}
	return true
}

func (c *correlating) open() []incident.Incident {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cor.Incidents()
}

func (c *correlating) changed(now time.Time, advanced *time.Time) []incident.Incident {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(*advanced) >= advanceEvery {
		c.cor.Advance(c.clock())
		*advanced, c.dirty = now, true
	}
	if !c.dirty {
		return nil
	}
	c.dirty = false
	return c.cor.Changed()
}

// save writes a snapshot now and then, and a last one at the end. A newer holder ends it: ErrStale.
func (c *correlating) save(ctx context.Context, rev uint64) error {
	every := snapshotEvery
	for {
		more := pause(ctx, every)
		start := time.Now()
		c.mu.Lock()
		state, err := c.cor.Snapshot()
		s := saved{Positions: make(map[incident.ClusterName]uint64, len(c.at)), State: state}
		for k, v := range c.at {
			s.Positions[k] = v
		}
		c.mu.Unlock()
		if err != nil {
			return fmt.Errorf("correlator snapshot: %w", err)
		}
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		if err := json.NewEncoder(z).Encode(s); err != nil {
			return fmt.Errorf("correlator snapshot: %w", err)
		}
		if err := z.Close(); err != nil {
			return fmt.Errorf("correlator snapshot: %w", err)
		}
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTTL/2)
		next, err := c.bus.Snapshots().Save(sctx, partition, buf.Bytes(), rev)
		cancel()
		switch {
		case !more:
			return nil // the next holder reads the stream again from the snapshot before
		case errors.Is(err, incident.ErrStale):
			return err
		case err != nil:
			c.log.Warn("correlator snapshot is not saved; a restart reads more of the stream", "error", err)
		default:
			rev = next
		}
		every = max(snapshotEvery, 20*time.Since(start)) // a twentieth of one core at most
	}
}
