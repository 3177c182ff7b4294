package app

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/analyzer"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// hub is the half that sees all clusters: it correlates, analyzes and decides.
type hub struct {
	bus      *bus.Bus
	store    *store
	analyzer *analyzer.Analyzer
	actions  *actions
	known    *knowledge // nil: a recording
	log      *slog.Logger
	name     string
	clock    func() time.Time // nil: the wall clock; a recording has its own

	queue queue
}

// Analyses run beside each other, each at most once every analyzeEvery for one incident.
const (
	analysts     = 4
	analyzeEvery = 2 * time.Second
	refreshEvery = 30 * time.Second // open incidents: evidence ages, gates that refused pass
)

func (h *hub) run(ctx context.Context) error {
	h.queue.init()
	g, ctx := errgroup.WithContext(ctx)
	cor := &correlating{bus: h.bus, to: h.put, log: h.log, name: h.name, clock: h.now}
	g.Go(func() error { return cor.run(ctx) })
	for range analysts {
		g.Go(func() error { return h.analyze(ctx) })
	}
	if h.known != nil {
		g.Go(func() error { return h.known.run(ctx) })
	}
	g.Go(func() error { h.refresh(ctx); return nil })
	g.Go(func() error { return h.actions.runDesk(ctx) })
	return g.Wait()
}

func (h *hub) now() time.Time {
	if h.clock == nil {
		return time.Now()
	}
	return h.clock()
}

// refresh has open incidents analyzed again now and then.
func (h *hub) refresh(ctx context.Context) {
	for pause(ctx, refreshEvery) {
		open, err := h.store.List(ctx, false)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("open incidents cannot be read", "error", err)
		}
		for _, i := range open {
			h.queue.add(i.ID)
		}
	}
}

// put stores what the correlator says and has it analyzed when that could change the answer.
func (h *hub) put(ctx context.Context, inc incident.Incident) error {
	again := false
	_, err := h.store.change(ctx, inc.ID, func(r *record) {
		again = gist(r.Incident) != gist(inc) || r.Finding == nil
		r.Incident = inc
	})
	if err != nil {
		return err
	}
	if again && inc.State != incident.Merged {
		h.queue.add(inc.ID)
	}
	return nil
}

// gist hashes what a finding depends on.
func gist(i incident.Incident) incident.Digest {
	parts := []string{string(i.State), string(i.Cause), string(i.Severity)}
	if i.Shared != nil {
		parts = append(parts, string(i.Shared.Name), i.Shared.Value)
	}
	if i.Root != nil {
		parts = append(parts, i.Root.String())
	}
	for _, m := range i.Members {
		parts = append(parts, string(m.Cluster), m.Entity.String(), string(m.Status), string(m.Cause))
	}
	return incident.HashParts(parts...)
}

func (h *hub) analyze(ctx context.Context) error {
	for {
		id, ok := h.queue.next(ctx)
		if !ok {
			return nil
		}
		err := h.analyzeOne(ctx, id)
		h.queue.done(id)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("finding is not stored; it will be made again", "incident", id, "error", err)
			h.queue.add(id)
		}
	}
}

func (h *hub) analyzeOne(ctx context.Context, id incident.ID) error {
	r, rev, err := h.store.load(ctx, id)
	if err != nil || rev == 0 {
		return err
	}
	inc := r.view()
	if inc.State != incident.Open && r.Finding != nil {
		outcomes, err := h.actions.outcomesOf(ctx, id)
		if err != nil {
			return err
		}
		return h.known.remember(ctx, inc, outcomes) // nothing more is proposed
	}
	f := h.analyzer.Analyze(ctx, inc, h.now().UTC())
	f.Similar = h.known.before(ctx, inc, f.Hypotheses)
	if _, err := h.store.change(ctx, id, func(r *record) { r.Finding = &f }); err != nil {
		return err
	}
	return h.actions.propose(ctx, inc, f)
}

// note adds a step of an action or a person to an incident.
func (h *hub) note(ctx context.Context, id incident.ID, s incident.Step) error {
	_, err := h.store.change(ctx, id, func(r *record) {
		for _, old := range r.Steps {
			if old.Kind == s.Kind && old.Text == s.Text && old.Time.Equal(s.Time) {
				return // told twice
			}
		}
		r.Steps = append(r.Steps, s)
		if len(r.Steps) > maxSteps {
			r.Steps = r.Steps[len(r.Steps)-maxSteps:]
		}
	})
	return err
}

// agents asks the agents of the clusters over the bus.
type agents struct{ bus *bus.Bus }

type evidenceRequest struct {
	About []incident.Entity `json:"about"`
}

// Evidence implements analyzer.Evidence.
func (a agents) Evidence(ctx context.Context, c incident.ClusterName, about []incident.Entity) (analyzer.Answer, error) {
	req, err := json.Marshal(evidenceRequest{About: about})
	if err != nil {
		return analyzer.Answer{}, err
	}
	b, err := a.bus.Request(ctx, c, bus.VerbEvidence, req)
	if err != nil {
		return analyzer.Answer{}, err
	}
	var ans analyzer.Answer
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&ans); err != nil {
		return analyzer.Answer{}, incident.Invalidf("evidence of %s: %v", c, err)
	}
	return ans, nil
}

// queue holds the incidents to analyze: each once, in order, no two at a time, not too often.
type queue struct {
	mu      sync.Mutex
	waiting []incident.ID
	last    map[incident.ID]time.Time
	running map[incident.ID]bool
	wake    chan struct{}
}

func (q *queue) init() {
	q.last, q.running, q.wake = map[incident.ID]time.Time{}, map[incident.ID]bool{}, make(chan struct{}, 1)
}

func (q *queue) add(id incident.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.waiting, id) {
		q.waiting = append(q.waiting, id)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for an incident whose turn it is; ok is false when ctx ended.
func (q *queue) next(ctx context.Context) (id incident.ID, ok bool) {
	for {
		if id, found := q.take(time.Now()); found {
			return id, true
		}
		t := time.NewTimer(analyzeEvery / 4)
		select {
		case <-ctx.Done():
			t.Stop()
			return "", false
		case <-q.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

func (q *queue) done(id incident.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, id)
}

func (q *queue) take(now time.Time) (incident.ID, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, id := range q.waiting {
		if q.running[id] || now.Sub(q.last[id]) < analyzeEvery {
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if len(q.last) > 10_000 {
			clear(q.last)
		}
		q.last[id], q.running[id] = now, true
		return id, true
	}
	return "", false
}
