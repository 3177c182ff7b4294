package kube

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// goneFor is how long something must be gone before it is resolved: a crash loop or a rollout
// looks healthy for moments. The correlator damps what flaps more slowly.
const goneFor = 3 * time.Second

// maxPending bounds edge-triggered changes that wait for the next look; more are dropped, oldest
// first (they are facts for the timeline, not the state itself).
const maxPending = 1000

// openKey is what makes two level-triggered signals the same one.
type openKey struct {
	Entity incident.Entity    `json:"entity"`
	Kind   incident.Kind      `json:"kind"`
	Reason string             `json:"reason"`
	Cause  incident.CauseName `json:"cause,omitempty"`
}

// openSignal is a firing signal as far as resolving it needs.
type openSignal struct {
	Key      openKey           `json:"key"`
	Owner    *incident.Entity  `json:"owner,omitempty"`
	Severity incident.Severity `json:"severity"`
	Factors  incident.Factors  `json:"factors,omitempty"`
	GoneAt   time.Time         `json:"-"` // zero: there at the last look
}

// reporter turns looks into the signals that differ from what was sent. Only changes come from
// other goroutines; the rest is called by the collector's loop alone.
type reporter struct {
	cluster   incident.ClusterName
	source    string
	firing    map[openKey]*openSignal
	inventory incident.Digest
	topology  incident.Digest
	countedAt time.Time

	mu      sync.Mutex
	pending []incident.Signal
}

func newReporter(name incident.ClusterName) *reporter {
	return &reporter{cluster: name, source: "/clusters/" + string(name) + "/collectors/kube", firing: map[openKey]*openSignal{}}
}

func (r *reporter) open() int { return len(r.firing) }

// diff returns what to publish after a look, changes first, and does not remember it: sent does.
// partial says that some kinds were not read yet; nothing is resolved then.
func (r *reporter) diff(st *cluster.State, res causes.Result, partial bool) []incident.Event {
	now := st.At
	out := r.changes()
	if !partial && now.Sub(r.countedAt) > inventoryGap {
		out = append(out, r.counts(st)...)
	}
	there := map[openKey]bool{}
	for _, s := range causes.Signals(st, res) {
		k := openKey{s.Entity.Key(), s.Kind, s.Reason, s.Cause}
		there[k] = true
		if o := r.firing[k]; o != nil {
			o.GoneAt = time.Time{}
			continue
		}
		out = append(out, r.event(s, now))
	}
	if partial {
		return out
	}
	for k, o := range r.firing {
		if there[k] {
			continue
		}
		if o.GoneAt.IsZero() {
			o.GoneAt = now
		}
		if now.Sub(o.GoneAt) >= goneFor {
			out = append(out, r.event(incident.Signal{Entity: k.Entity, Owner: o.Owner, Kind: k.Kind, Status: incident.Resolved, Severity: o.Severity,
				Reason: k.Reason, Cause: k.Cause, Factors: o.Factors, Time: now, Message: "no longer observed"}, now))
		}
	}
	return out
}

func (r *reporter) event(s incident.Signal, now time.Time) incident.Event {
	s.Cluster, s.Source = r.cluster, r.source
	if s.Time.IsZero() {
		s.Time = now
	}
	s.ID = incident.NewSignalID(&s)
	return incident.Event{Signal: &s}
}

// counts returns the inventory and the topology when they differ from those sent last.
func (r *reporter) counts(st *cluster.State) []incident.Event {
	r.countedAt = st.At
	var out []incident.Event
	inv := cluster.Inventory(st)
	inv.Cluster, inv.Source, inv.Time = r.cluster, r.source, st.At
	if h := hashOf(inv); h != r.inventory {
		inv.ID, r.inventory = incident.SignalID(incident.HashParts("inventory", string(r.cluster), string(h), st.At.String())[:24]), h
		out = append(out, incident.Event{Inventory: &inv})
	}
	top := cluster.Topology(st)
	top.Cluster, top.Source, top.Time = r.cluster, r.source, st.At
	if h := hashOf(top); h != r.topology {
		top.ID, r.topology = incident.SignalID(incident.HashParts("topology", string(r.cluster), string(h), st.At.String())[:24]), h
		out = append(out, incident.Event{Topology: &top})
	}
	return out
}

// hashOf hashes the published form, which holds neither ID nor time.
func hashOf(v any) incident.Digest {
	b, err := json.Marshal(v)
	if err != nil {
		panic("kube: plain data cannot be marshalled: " + err.Error())
	}
	return incident.HashParts(string(b))
}

// sent remembers what is durable now.
func (r *reporter) sent(events []incident.Event) {
	for _, e := range events {
		s := e.Signal
		if s == nil || s.Kind == incident.Change {
			continue
		}
		k := openKey{s.Entity.Key(), s.Kind, s.Reason, s.Cause}
		if s.Status == incident.Resolved {
			delete(r.firing, k)
		} else {
			r.firing[k] = &openSignal{Key: k, Owner: s.Owner, Severity: s.Severity, Factors: s.Factors}
		}
	}
}

// changes hands over the pending change signals.
func (r *reporter) changes() []incident.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []incident.Event
	for _, s := range r.pending {
		out = append(out, r.event(s, s.Time))
	}
	r.pending = nil
	return out
}

// noteChange keeps a change signal for the next look when the update is one that people make.
func (r *reporter) noteChange(old, now any, at time.Time) {
	s, ok := changeOf(old, now)
	if !ok {
		return
	}
	s.Time = at
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == maxPending {
		r.pending = r.pending[1:]
	}
	r.pending = append(r.pending, s)
}

// load and save keep the firing signals over a restart, gzipped JSON.
func (r *reporter) load(ctx context.Context, m Memory) error {
	if m == nil {
		return nil
	}
	b, err := m.Load(ctx)
	if err != nil || len(b) == 0 {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("open signals: %w", err)
	}
	var list []openSignal
	if err := json.NewDecoder(io.LimitReader(z, 64<<20)).Decode(&list); err != nil {
		return fmt.Errorf("open signals: %w", err)
	}
	for _, o := range list {
		r.firing[o.Key] = &o
	}
	return nil
}

func (r *reporter) save(ctx context.Context, m Memory) error {
	if m == nil {
		return nil
	}
	list := make([]openSignal, 0, len(r.firing))
	for _, o := range r.firing {
		list = append(list, *o)
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if err := json.NewEncoder(z).Encode(list); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return m.Save(ctx, buf.Bytes())
}
