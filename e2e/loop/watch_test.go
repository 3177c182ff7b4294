//go:build e2e

package loop

import (
	"context"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app"
)

// firstSeen tells when a workload is first a member of an incident.
type firstSeen struct {
	mu   sync.Mutex
	seen map[string]time.Time
	wait map[string]chan time.Time
}

func newFirstSeen() *firstSeen {
	return &firstSeen{seen: map[string]time.Time{}, wait: map[string]chan time.Time{}}
}

func (f *firstSeen) of(name string) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := f.channel(name)
	if at, ok := f.seen[name]; ok && len(ch) == 0 {
		ch <- at
	}
	return ch
}

func (f *firstSeen) channel(name string) chan time.Time {
	if f.wait[name] == nil {
		f.wait[name] = make(chan time.Time, 1)
	}
	return f.wait[name]
}

func (f *firstSeen) follow(ctx context.Context, p *process) {
	for ctx.Err() == nil {
		_ = app.Connect("", p.data).Watch(ctx, func(i incident.Incident) error { // an error: connect again
			now := time.Now()
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, m := range i.Members {
				if _, ok := f.seen[m.Entity.Name]; !ok {
					f.seen[m.Entity.Name] = now
					f.channel(m.Entity.Name) <- now
				}
			}
			return nil
		})
	}
}
