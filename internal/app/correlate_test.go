package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

func openBus(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func found(c incident.ClusterName, name string, at time.Time, status incident.Status) incident.Event {
	e := incident.Entity{Kind: "Deployment", Namespace: "shop", Name: name}
	s := &incident.Signal{Source: "/clusters/" + string(c) + "/collectors/kube", Time: at, Cluster: c, Entity: e, Owner: &e, Kind: incident.Found, Status: status,
		Severity: incident.Critical, Reason: "OOMKilled", Cause: "OOMKilled", Confidence: 0.95}
	s.ID = incident.NewSignalID(s)
	return incident.Event{Signal: s}
}

// runHub correlates until stop is called.
func runHub(t *testing.T, b *bus.Bus) (s *store, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s = &store{kv: b.KV(bus.Incidents)}
	c := &correlating{bus: b, log: slog.New(slog.DiscardHandler), name: fmt.Sprint(time.Now().UnixNano()), clock: time.Now,
		to: func(ctx context.Context, inc incident.Incident) error {
			_, err := s.change(ctx, inc.ID, func(r *record) { r.Incident = inc })
			return err
		}}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.run(ctx); err != nil && !ended(ctx, err) {
			t.Errorf("correlating: %v", err)
		}
	})
	return s, func() { cancel(); wg.Wait() }
}

func await(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !check() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within 20 s", what)
		case <-tick.C:
		}
	}
}

func openCount(t *testing.T, s *store, all bool) int {
	t.Helper()
	l, err := s.List(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

// A correlating process is stopped and started between signals; every incident is there once.
func TestARestartContinuesWhereItStopped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "js")
	now := time.Now().UTC()
	for i := range 4 {
		b := openBus(t, dir)
		s, stop := runHub(t, b)
		if err := b.PublishEvents(t.Context(), "eu-1", []incident.Event{found("eu-1", fmt.Sprintf("app-%d", i), now, incident.Firing)}); err != nil {
			t.Fatal(err)
		}
		await(t, "the incident", func() bool { return openCount(t, s, false) == i+1 })
		stop()
		if n := openCount(t, s, true); n != i+1 {
			t.Fatalf("%d incidents after %d signals", n, i+1)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Two processes on one bus: one correlates; when it ends the other goes on.
func TestTheOtherProcessTakesOver(t *testing.T) {
	b := openBus(t, filepath.Join(t.TempDir(), "js"))
	defer b.Close(context.Background())
	s, stop1 := runHub(t, b)
	_, stop2 := runHub(t, b)
	defer stop2()
	now := time.Now().UTC()
	if err := b.PublishEvents(t.Context(), "eu-1", []incident.Event{found("eu-1", "a", now, incident.Firing)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the first incident", func() bool { return openCount(t, s, false) == 1 })
	stop1()
	if err := b.PublishEvents(t.Context(), "eu-1", []incident.Event{found("eu-1", "b", now, incident.Firing)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the second incident", func() bool { return openCount(t, s, false) == 2 })
	if n := openCount(t, s, true); n != 2 {
		t.Fatalf("%d incidents, want 2", n)
	}
}

func TestStoreFollowsMergesAndKeepsSteps(t *testing.T) {
	b := openBus(t, filepath.Join(t.TempDir(), "js"))
	defer b.Close(context.Background())
	s := &store{kv: b.KV(bus.Incidents)}
	ctx := t.Context()
	put := func(i incident.Incident) {
		if _, err := s.change(ctx, i.ID, func(r *record) { r.Incident = i }); err != nil {
			t.Fatal(err)
		}
	}
	put(incident.Incident{ID: "inc-a", State: incident.Merged, MergedInto: "inc-b"})
	put(incident.Incident{ID: "inc-b", State: incident.Open})
	h := &hub{store: s}
	for range 2 { // told twice, kept once
		if err := h.note(ctx, "inc-b", incident.Step{Time: time.Unix(1, 0), Kind: incident.StepAction, Text: "verified"}); err != nil {
			t.Fatal(err)
		}
	}
	put(incident.Incident{ID: "inc-b", State: incident.Open, Title: "new"})
	got, err := s.Get(ctx, "inc-a")
	if err != nil || got.ID != "inc-b" || got.Title != "new" || len(got.Timeline) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := s.Get(ctx, "inc-z"); !errors.Is(err, incident.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
}
