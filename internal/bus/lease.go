package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/incident"
)

// Lease makes at most one holder at a time do something, such as correlate one partition. It is
// not a lock: a holder that was paused may run on for a moment, so what it writes must be fenced
// as well (Snapshots.Claim, KV.Update with revisions).
type Lease struct {
	kv     *KV
	name   string
	holder string
	boot   string
	ttl    time.Duration
}

// Lease returns the lease called name for holder, which is different for every process. ttl is
// how long the others wait for a silent holder; 0: 10 s. With an embedded store without open
// port, holders of an earlier process are known to be dead and are not waited for.
func (b *Bus) Lease(name, holder string, ttl time.Duration) *Lease {
	if ttl <= 0 {
		ttl = 10 * time.Second
	}
	return &Lease{kv: b.KV(Leases), name: name, holder: holder, boot: b.boot, ttl: ttl}
}

// leaseRecord is the stored form. An empty holder: released.
type leaseRecord struct {
	Holder string `json:"holder"`
	Boot   string `json:"boot,omitempty"`
	TTL    string `json:"ttl,omitempty"` // for people; each waiter uses its own
}

// Run waits for the lease, calls fn while holding it and returns what fn returns; the lease is
// then free for others at once. token grows with every change of hands. When the lease is lost,
// fn's context ends, and after fn has returned Run waits for the lease again. When ctx ends, Run
// returns nil unless fn failed.
func (l *Lease) Run(ctx context.Context, fn func(ctx context.Context, token uint64) error) error {
	for {
		rev, err := l.acquire(ctx)
		if err != nil {
			return nil // ctx ended
		}
		lost, err := l.hold(ctx, rev, fn)
		if !lost {
			return err
		}
	}
}

// acquire polls until the lease is ours. The age of a foreign record is measured by our own
// clock from when we first saw its revision, so clocks need not agree.
func (l *Lease) acquire(ctx context.Context) (rev uint64, err error) {
	var seen uint64
	var since time.Time
	for {
		value, have, err := l.kv.Get(ctx, l.name)
		var rec leaseRecord
		switch {
		case errors.Is(err, incident.ErrNotFound):
			rev, err = l.write(ctx, 0, l.holder)
		case err == nil:
			if have != seen {
				seen, since = have, time.Now()
			}
			if jerr := json.Unmarshal(value, &rec); jerr != nil {
				rec = leaseRecord{Holder: "unreadable record"}
			}
			err = fmt.Errorf("held by %s", rec.Holder)
			if rec.Holder == "" || rec.Holder == l.holder || l.boot != "" && rec.Boot != l.boot || time.Since(since) > l.ttl {
				rev, err = l.write(ctx, have, l.holder)
			}
		}
		if err == nil {
			return rev, nil
		}
		if !waitFor(ctx, nil, l.ttl/8) {
			return 0, ctx.Err()
		}
	}
}

func (l *Lease) write(ctx context.Context, rev uint64, holder string) (uint64, error) {
	value, err := json.Marshal(leaseRecord{Holder: holder, Boot: l.boot, TTL: l.ttl.String()})
	if err != nil {
		return 0, err
	}
	return l.kv.Update(ctx, l.name, value, rev)
}

// hold runs fn and renews the lease beside it.
func (l *Lease) hold(ctx context.Context, rev uint64, fn func(context.Context, uint64) error) (lost bool, err error) {
	fctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	token := rev
	g.Go(func() error {
		defer cancel()
		renewed := time.Now()
		for waitFor(fctx, nil, l.ttl/4) {
			next, err := l.write(fctx, rev, l.holder)
			switch {
			case err == nil:
				rev, renewed = next, time.Now()
			case errors.Is(err, incident.ErrStale), time.Since(renewed) > l.ttl*3/4:
				// Somebody else has it, or may have it before we could know.
				lost = fctx.Err() == nil
				return nil
			}
		}
		return nil
	})
	err = fn(fctx, token)
	cancel()
	if werr := g.Wait(); werr != nil {
		return false, werr
	}
	if lost {
		return true, nil
	}
	// ctx may have ended; giving the lease back saves the next holder the wait.
	rctx, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	_, _ = l.write(rctx, rev, "")
	return false, err
}
