package runbooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// fakeKV is a KV in memory. races makes the next writes lose.
type fakeKV struct {
	mu    sync.Mutex
	m     map[string][]byte
	rev   map[string]uint64
	n     uint64
	races int
}

func newFakeKV() *fakeKV { return &fakeKV{m: map[string][]byte{}, rev: map[string]uint64{}} }

func (k *fakeKV) Get(_ context.Context, key string) ([]byte, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.m[key]
	if !ok {
		return nil, 0, fmt.Errorf("key %s: %w", key, incident.ErrNotFound)
	}
	return slices.Clone(v), k.rev[key], nil
}

func (k *fakeKV) Create(ctx context.Context, key string, v []byte) (uint64, error) {
	return k.put(key, v, 0)
}

func (k *fakeKV) Update(ctx context.Context, key string, v []byte, rev uint64) (uint64, error) {
	return k.put(key, v, rev)
}

func (k *fakeKV) put(key string, v []byte, rev uint64) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.races > 0 || k.rev[key] != rev {
		k.races--
		return 0, fmt.Errorf("key %s: %w", key, incident.ErrStale)
	}
	k.n++
	k.m[key], k.rev[key] = v, k.n
	return k.n, nil
}

func (k *fakeKV) Keys(context.Context) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.m)), nil
}

func vote(t *testing.T, f *Feedback, topic, path, by string, value int) {
	t.Helper()
	if err := f.Record(t.Context(), Vote{Topic: topic, Path: path, By: by, Value: value, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func TestFeedbackMovesRankForItsCauseBoundedAndReversibly(t *testing.T) {
	kv := newFakeKV()
	f, err := NewFeedback(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	const topic = "OOMKilled"
	vote(t, f, topic, "a.md", "ann", 1)
	vote(t, f, topic, "a.md", "ann", 1) // the same person again counts once
	if got := f.Bias(topic, "a.md"); got != voteWeight {
		t.Errorf("bias %v after one person's votes, want %v", got, voteWeight)
	}
	if got := f.Bias("SecretMissing", "a.md"); got != 0 {
		t.Errorf("bias %v for another cause, want 0", got)
	}
	for i := range 50 {
		vote(t, f, topic, "a.md", fmt.Sprint("p", i), 2)
		vote(t, f, topic, "b.md", fmt.Sprint("p", i), -1)
	}
	if a, b := f.Bias(topic, "a.md"), f.Bias(topic, "b.md"); a != MaxBias || b != -MaxBias {
		t.Errorf("bias %v and %v after many votes, want ±%v", a, b, MaxBias)
	}
	for i := range 50 {
		vote(t, f, topic, "a.md", fmt.Sprint("p", i), 0)
	}
	vote(t, f, topic, "a.md", "ann", 0)
	again, err := NewFeedback(t.Context(), kv)
	if err != nil || again.Bias(topic, "a.md") != 0 || again.Bias(topic, "b.md") != -MaxBias {
		t.Errorf("after taking votes back and a restart: %v, %v, %v; want 0 and %v", again.Bias(topic, "a.md"), again.Bias(topic, "b.md"), err, -MaxBias)
	}
}

func TestFeedbackReordersLikePages(t *testing.T) {
	f, _ := NewFeedback(t.Context(), newFakeKV())
	x := indexed(t, Options{Bias: f}, "a.md", "# Disk full on node\nThe disk is full.\n", "b.md", "# Disk full of node\nThe disk is full.\n")
	q := Query{Text: "disk full", Facts: Facts{Cause: "NodeDiskPressure"}}
	first := found(search(t, x, q))[0]
	vote(t, f, "NodeDiskPressure", first, "ann", -1)
	if got := found(search(t, x, q))[0]; got == first {
		t.Errorf("%s is still first after a vote against it", got)
	}
}

func TestVotesSurviveLostRacesAndRefuseNonsense(t *testing.T) {
	kv := newFakeKV()
	f, _ := NewFeedback(t.Context(), kv)
	kv.races = 3
	vote(t, f, "x", "a.md", "ann", 1)
	kv.races = kvAttempts
	if err := f.Record(t.Context(), Vote{Topic: "x", Path: "a.md", By: "bob", Value: 1}); !errors.Is(err, incident.ErrStale) {
		t.Errorf("error %v after too many races, want ErrStale", err)
	}
	kv.races = 0
	for _, v := range []Vote{{}, {Topic: "x", Path: "y"}, {Topic: "x", Path: "y", By: "z", Value: 9}, {Topic: "x", Path: strings.Repeat("y", 2000), By: "z", Value: 1}} {
		if err := f.Record(t.Context(), v); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("%+v: error %v, want ErrInvalid", v, err)
		}
	}
}

func closedIncident(id string, cause incident.CauseName, name, image string, at time.Time) incident.Incident {
	root := incident.Ref{Cluster: "eu-1", Entity: incident.Entity{Kind: "Deployment", Namespace: "shop", Name: name}}
	return incident.Incident{ID: incident.ID(id), Title: name + " is broken", State: incident.Closed, Cause: cause, OpenedAt: at.Add(-time.Hour), ClosedAt: &at, Root: &root,
		Clusters: []incident.ClusterName{"eu-1"}, Shared: &incident.SharedFactor{Name: incident.FactorImage, Value: image}, Notes: []string{"fixed by hand"}}
}

func TestPastIncidentsOfTheCauseAreFoundAndCounted(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	kv := newFakeKV()
	m, err := NewMemory(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	m.now = func() time.Time { return now }
	undo := func(s incident.OutcomeState) []incident.Outcome {
		return []incident.Outcome{{Action: incident.RolloutUndo, State: s}}
	}
	remember := func(m *Memory, inc incident.Incident, o []incident.Outcome) {
		t.Helper()
		if err := m.Remember(t.Context(), inc, o); err != nil {
			t.Fatal(err)
		}
	}
	remember(m, closedIncident("inc-1", "BadRollout", "cart", "cart:v1", now.AddDate(0, 0, -80)), undo(incident.OutcomeVerified))
	remember(m, closedIncident("inc-2", "BadRollout", "pay", "pay:v3", now.AddDate(0, 0, -20)), undo(incident.OutcomeVerified))
	remember(m, closedIncident("inc-3", "BadRollout", "cart", "cart:v2", now.AddDate(0, 0, -10)), undo(incident.OutcomeUnknown))
	remember(m, closedIncident("inc-3", "BadRollout", "cart", "cart:v2", now.AddDate(0, 0, -10)), undo(incident.OutcomeNoEffect)) // the outcome came later
	remember(m, closedIncident("inc-4", "BadRollout", "cart", "cart:v0", now.AddDate(0, 0, -100)), undo(incident.OutcomeWorse))
	remember(m, closedIncident("inc-5", "OOMKilled", "cart", "cart:v2", now.AddDate(0, 0, -5)), nil)

	again, err := NewMemory(t.Context(), kv) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	again.now = m.now
	for _, mem := range []*Memory{m, again} {
		got, err := mem.Similar(t.Context(), closedIncident("inc-9", "BadRollout", "cart", "cart:v2", now), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := "3 similar in 90 days; RolloutUndo verified twice, once no effect"; got.Summary != want || got.Count != 3 {
			t.Errorf("summary %q, want %q", got.Summary, want)
		}
		if got.Past[0].ID != "inc-3" || got.Past[1].ID != "inc-1" {
			t.Errorf("order %s, %s; want the same workload and image first, then the same workload", got.Past[0].ID, got.Past[1].ID)
		}
	}
	if got, _ := m.Similar(t.Context(), closedIncident("inc-9", "SecretMissing", "cart", "cart:v2", now), nil); got.Count != 0 || got.Summary != "" {
		t.Errorf("another cause found %+v", got)
	}
	open := closedIncident("inc-8", "BadRollout", "cart", "x", now)
	open.ClosedAt = nil
	if err := m.Remember(t.Context(), open, nil); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("an open incident: error %v, want ErrInvalid", err)
	}
}

func TestAnUnknownCauseIsFoundByItsWords(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	m, _ := NewMemory(t.Context(), newFakeKV())
	m.now = func() time.Time { return now }
	old := closedIncident("inc-1", "", "billing", "b:v1", now.AddDate(0, 0, -3))
	old.Title = "Billing exporter cannot reach the ledger queue: broker handshake refused"
	if err := m.Remember(t.Context(), old, nil); err != nil {
		t.Fatal(err)
	}
	like := closedIncident("inc-2", "", "billing", "b:v2", now)
	like.Title = "Billing exporter cannot reach the ledger queue: handshake refused"
	if got, err := m.Similar(t.Context(), like, nil); err != nil || got.Count != 1 {
		t.Errorf("nearly the same words found %+v, %v; want one", got, err)
	}
	like.Title = "Node pool upgrade is stuck at draining"
	if got, _ := m.Similar(t.Context(), like, nil); got.Count != 0 {
		t.Errorf("other words found %+v", got)
	}
}
