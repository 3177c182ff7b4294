package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/analyzer"
	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/console"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/internal/bus"
	"github.com/tocsin-io/tocsin/internal/kube"
)

// Role says which halves a process runs.
type Role int

// Roles.
const (
	Both      Role = iota // tocsin up
	AgentOnly             // tocsin agent
	HubOnly               // tocsin hub
)

// Up runs the halves of role until ctx ends.
func Up(ctx context.Context, o Options, role Role) error {
	if err := o.validate(role); err != nil {
		return err
	}
	var clusters []kube.Cluster
	var err error
	if role != HubOnly {
		if clusters, err = kube.Contexts(o.Kubeconfig, o.Contexts); err != nil {
			return err
		}
	}
	b, err := o.openBus(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close(context.WithoutCancel(ctx)) }()
	act, err := newActions(o, b)
	if err != nil {
		return err
	}
	var h *hub
	if role != AgentOnly {
		if h, err = newHub(ctx, o, b, act); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.Run(gctx) })
	if h != nil {
		g.Go(func() error { return h.run(gctx) })
		g.Go(func() error {
			return o.serve(gctx, b, console.Config{Incidents: h.store, Desk: act, Status: statuses{b}, Signals: stored{b}, Feedback: h.known, Healthy: b.Healthy, Log: o.Log})
		})
		g.Go(func() error { return o.follow(gctx, h.store) })
		text.To(o.Out).Printf("tocsin %s: data in %s; look with `tocsin incidents list`, stop with Ctrl-C", Version, o.data())
	}
	for _, c := range clusters {
		if c.Broken != nil {
			text.To(o.Out).Printf("  %s: left out: %s", c.Name, plainLine(c.Broken.Error()))
			continue
		}
		a := newAgent(c, b, act, o.Log)
		g.Go(func() error { return a.run(gctx) })
		g.Go(func() error { o.announce(gctx, c, a.collector); return nil })
	}
	err = g.Wait()
	if ended(ctx, err) {
		return nil
	}
	return err
}

func newHub(ctx context.Context, o Options, b *bus.Bus, act *actions) (*hub, error) {
	st := &store{kv: b.KV(bus.Incidents)}
	k, err := openKnowledge(ctx, o, b, st)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only to tell processes apart
	h := &hub{bus: b, store: st, known: k, actions: act, log: o.Log, name: fmt.Sprintf("%s-%d-%d", host, os.Getpid(), time.Now().UnixNano())}
	h.analyzer = analyzer.New(agents{b}, pages{k.index})
	return h, act.openDesk(h.store, h.note)
}

// announce says when a cluster has been read, or why it cannot be.
func (o *Options) announce(ctx context.Context, c kube.Cluster, col *collectkube.Collector) {
	w := text.To(o.Out)
	w.Printf("  %s: reading %s …", c.Name, c.Server)
	last := ""
	for {
		st := col.Status()
		switch {
		case st.Synced:
			w.Printf("  %s: watching %d objects; %s", c.Name, st.Objects, notSeen(st.Sources))
			return
		case st.LastError != "" && st.LastError != last:
			last = st.LastError
			w.Printf("  %s: not reachable, trying on: %s", c.Name, last)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return
		}
	}
}

func notSeen(sources []incident.SourceCoverage) string {
	n := 0
	for _, s := range sources {
		if s.State == incident.NotAllowed && s.Source != "objects/secrets" {
			n++
		}
	}
	if n == 0 {
		return "everything that is looked at may be read"
	}
	return fmt.Sprintf("%d kinds may not be read (tocsin doctor names them)", n)
}

// follow prints incidents as they open, change and close.
func (o *Options) follow(ctx context.Context, s *store) error {
	w := text.To(o.Out)
	seen := map[incident.ID]string{}
	return s.Watch(ctx, func(i incident.Incident) error {
		what, key := Happened(seen[i.ID], i)
		if what != "" {
			w.Line(i, what)
		}
		seen[i.ID] = key
		return nil
	})
}

// Happened compares an incident with the key of its last look and names what is worth a line:
// opened, grew, cause, closed, merged, explained, or "" for nothing.
func Happened(last string, i incident.Incident) (what, key string) {
	type look struct {
		State    incident.State
		Clusters int
		Cause    incident.CauseName
		Found    bool
		Fixes    int
	}
	now := look{i.State, len(i.Clusters), i.Cause, i.Finding != nil, len(i.Proposals)}
	b, err := json.Marshal(now)
	if err != nil {
		return "", last
	}
	var was look
	_ = json.Unmarshal([]byte(last), &was) // the zero look when there was none
	switch {
	case last == "" && now.State == incident.Open:
		what = "opened"
	case last == "":
	case now.State != was.State && now.State == incident.Open:
		what = "reopened"
	case now.State != was.State:
		what = string(now.State)
	case now.Clusters > was.Clusters:
		what = "grew"
	case now.Cause != was.Cause:
		what = "cause"
	case now.Found && !was.Found, now.Fixes != was.Fixes:
		what = "explained"
	}
	return what, string(b)
}

// statuses reads what the agents say of themselves.
type statuses struct{ bus *bus.Bus }

// Status implements console.Status: one entry per cluster.
func (s statuses) Status(ctx context.Context) (json.RawMessage, error) {
	out := []collectkube.Status{}
	err := s.bus.KV(bus.Health).All(ctx, func(key string, value []byte, _ uint64) error {
		var st collectkube.Status
		if len(key) > 5 && key[len(key)-5:] == "/kube" && json.Unmarshal(value, &st) == nil {
			out = append(out, st)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// stored reads what the signal streams hold.
type stored struct{ bus *bus.Bus }

// errIdle ends a reading when nothing more is stored.
var errIdle = errors.New("idle")

// Signals implements console.Signals.
func (s stored) Signals(ctx context.Context, fn func(incident.Event) error) error {
	g, ctx := errgroup.WithContext(ctx)
	beat := make(chan struct{}, 1)
	g.Go(func() error {
		return s.bus.ConsumeEvents(ctx, bus.ConsumeOptions{}, func(_ context.Context, _ incident.ClusterName, events []incident.Event, _ bus.Position) error {
			select {
			case beat <- struct{}{}:
			default:
			}
			for _, e := range events {
				if err := fn(e); err != nil {
					return fmt.Errorf("%w: %w", incident.ErrInvalid, err)
				}
			}
			return nil
		})
	})
	g.Go(func() error {
		for {
			t := time.NewTimer(time.Second)
			select {
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			case <-beat:
				t.Stop()
			case <-t.C:
				return errIdle
			}
		}
	})
	if err := g.Wait(); !errors.Is(err, errIdle) {
		return err
	}
	return nil
}

// Logger returns the process's logger: text on w, at the level.
func Logger(w *os.File, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
