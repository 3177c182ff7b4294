package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/analyzer"
	"github.com/tocsin-io/tocsin/causes"
	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
	"github.com/tocsin-io/tocsin/internal/kube"
	"github.com/tocsin-io/tocsin/remediations"
)

// heartbeatEvery is how often an agent says on its stream that it sees its cluster: three missed
// ones and the clock skew make about three minutes until others call it silent.
const (
	heartbeatEvery = 20 * time.Second
	healthEvery    = 5 * time.Second
	firstSign      = 50 * time.Millisecond
	maxEvidence    = 10 // hypotheses in one answer
)

// agent is the half beside one cluster: collector, evidence server, executor.
type agent struct {
	cluster   kube.Cluster
	bus       *bus.Bus
	collector *collectkube.Collector
	actions   *actions
	log       *slog.Logger
}

func newAgent(c kube.Cluster, b *bus.Bus, act *actions, log *slog.Logger) *agent {
	a := &agent{cluster: c, bus: b, actions: act, log: log.With("cluster", c.Name)}
	a.collector = collectkube.New(collectkube.Config{Cluster: c.Name, Client: c.Client, Custom: c.Custom, Log: log,
		Memory: remembered{b.KV(bus.Health), string(c.Name) + "/open"}})
	return a
}

func (a *agent) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.collector.Run(ctx, toBus{a.bus, a.cluster.Name}) })
	g.Go(func() error { a.beat(ctx); return nil })
	g.Go(func() error {
		return a.bus.Serve(ctx, a.cluster.Name, bus.VerbEvidence, func(ctx context.Context, payload []byte) ([]byte, error) {
			return a.evidence(payload)
		})
	})
	g.Go(func() error { return a.actions.runAgent(ctx, a) })
	return g.Wait()
}

// beat says how the collector is doing: into the health bucket for people, onto the stream for
// the correlator. A cluster that cannot be read sends no heartbeat: silence is a signal.
func (a *agent) beat(ctx context.Context) {
	kv := a.bus.KV(bus.Health)
	var sent, put time.Time
	said := ""
	for {
		st := a.collector.Status()
		if st.At.IsZero() && !put.IsZero() && st.LastError == said { // others wait for the first sign of life
			if !pause(ctx, firstSign) {
				return
			}
			continue
		}
		put, said = time.Now(), st.LastError
		if b, err := json.Marshal(st); err == nil {
			if _, err := kv.Put(ctx, string(a.cluster.Name)+"/kube", b); err != nil && ctx.Err() == nil {
				a.log.Warn("heartbeat is not stored", "error", err)
			}
		}
		if now := time.Now().UTC(); now.Sub(st.At) < heartbeatEvery && now.Sub(sent) >= heartbeatEvery {
			s := heartbeat(a.cluster.Name, now)
			if err := a.bus.PublishEvents(ctx, a.cluster.Name, []incident.Event{{Signal: &s}}); err == nil {
				sent = now
			}
		}
		wait := healthEvery
		if st.At.IsZero() {
			wait = firstSign
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func heartbeat(c incident.ClusterName, now time.Time) incident.Signal {
	s := incident.Signal{Source: "/clusters/" + string(c) + "/collectors/kube", Time: now, Cluster: c, Entity: incident.Entity{Kind: "Cluster", Name: string(c)},
		Kind: incident.Covering, Status: incident.Resolved, Severity: incident.Info, Reason: "CollectorSilent", Message: "seen",
		Labels: map[string]string{"every": heartbeatEvery.String()}}
	s.ID = incident.NewSignalID(&s)
	return s
}

// evidence answers what the last analysis says of the entities asked about.
func (a *agent) evidence(payload []byte) ([]byte, error) {
	var req evidenceRequest
	if err := json.Unmarshal(payload, &req); err != nil {
		return nil, incident.Invalidf("evidence request: %v", err)
	}
	st, res := a.collector.Latest()
	if st == nil {
		return nil, errors.New("the cluster has not been read yet")
	}
	status := a.collector.Status()
	return json.Marshal(answer(res, req.About, incident.ClusterCoverage{Cluster: a.cluster.Name, LastSeen: st.At, Sources: troubledSources(status.Sources)}))
}

// State implements remediations.Signals: whether the detectors still blame or excuse the target.
func (a *agent) State(_ context.Context, _ incident.ID, target incident.Ref) (remediations.SignalState, error) {
	st, res := a.collector.Latest()
	status := a.collector.Status()
	if st == nil || !status.Synced || time.Since(status.At) > freshFor || time.Since(st.At) > freshFor {
		return remediations.SignalState{Detail: "the cluster is not seen right now"}, nil
	}
	about := []incident.Entity{target.Entity}
	for _, h := range res.Hypotheses {
		if h.Severity != incident.Info && concerns(h, about) {
			return remediations.SignalState{Known: true, Detail: fmt.Sprintf("%s: %s still holds", h.Object, h.Cause)}, nil
		}
	}
	return remediations.SignalState{Known: true, Resolved: true, Detail: "no cause is seen on " + target.Entity.String() + " any more"}, nil
}

// answer picks the hypotheses that blame one of the entities or explain a symptom of it.
func answer(res causes.Result, about []incident.Entity, cov incident.ClusterCoverage) analyzer.Answer {
	ans := analyzer.Answer{Hypotheses: []incident.Hypothesis{}, Coverage: cov}
	for _, h := range res.Hypotheses {
		if len(ans.Hypotheses) < maxEvidence && concerns(h, about) {
			ans.Hypotheses = append(ans.Hypotheses, h)
		}
	}
	return ans
}

func concerns(h incident.Hypothesis, about []incident.Entity) bool {
	is := func(e incident.Entity) bool {
		return slices.ContainsFunc(about, func(x incident.Entity) bool { return x.Key() == e.Key() })
	}
	return is(h.Object) || slices.ContainsFunc(h.Explains, func(x incident.Explained) bool { return is(x.Entity) })
}

// troubledSources leaves out what was seen: a finding names the gaps.
func troubledSources(all []incident.SourceCoverage) []incident.SourceCoverage {
	var out []incident.SourceCoverage
	for _, s := range all {
		if s.State == incident.NotAllowed || s.State == incident.NotSeen {
			out = append(out, s)
		}
	}
	return out
}

// toBus is a cluster's signal stream.
type toBus struct {
	bus  *bus.Bus
	name incident.ClusterName
}

// Publish implements the collector's sink.
func (t toBus) Publish(ctx context.Context, events []incident.Event) error {
	return t.bus.PublishEvents(ctx, t.name, events)
}

// remembered keeps a collector's open signals under one key.
type remembered struct {
	kv  *bus.KV
	key string
}

// Load implements the collector's memory.
func (r remembered) Load(ctx context.Context) ([]byte, error) {
	b, _, err := r.kv.Get(ctx, r.key)
	if errors.Is(err, incident.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// Save implements the collector's memory.
func (r remembered) Save(ctx context.Context, b []byte) error {
	_, err := r.kv.Put(ctx, r.key, b)
	return err
}
