// Package vectortest is the conformance test of runbooks.Store, and a real Postgres with pgvector
// to run it on. It is used by tests only.
package vectortest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// Conformance runs the contract of runbooks.Store against a store that is empty. tolerance is the
// largest error of a cosine.
func Conformance(t *testing.T, s runbooks.Store, tolerance float64) {
	ctx := t.Context()
	tests := []struct {
		name string
		run  func(*testing.T, context.Context, runbooks.Store, float64)
	}{
		{"an unknown space is empty and no error", unknownSpace},
		{"what was put is found nearest first", nearestFirst},
		{"a record put again replaces the old one", replaces},
		{"a dropped record is gone and the others stay", drops},
		{"a bad record refuses the whole batch", allOrNothing},
		{"vectors of two lengths never meet", oneLength},
		{"spaces do not see each other", spacesApart},
		{"a filter never shortens a result", filterFull},
		{"hostile texts and names are stored as data", hostile},
		{"readers and writers may work at once", concurrent},
		{"limits are checked", limits},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, ctx, s, tolerance) })
	}
}

func unknownSpace(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	h, err := s.Hashes(ctx, "unknown")
	if err != nil || len(h) != 0 {
		t.Errorf("Hashes = %v, %v; want empty", h, err)
	}
	m, err := s.Nearest(ctx, "unknown", runbooks.Probe{Vector: []float32{1, 0}, Limit: 3})
	if err != nil || len(m) != 0 {
		t.Errorf("Nearest = %v, %v; want empty", m, err)
	}
	if err := s.Apply(ctx, "unknown", nil, []string{"x"}); err != nil {
		t.Errorf("dropping from an unknown space: %v", err)
	}
}

func rec(id string, v ...float32) runbooks.Record {
	return runbooks.Record{ID: id, Source: "s", Hash: "h-" + id, Text: "text of " + id, Vector: v}
}

func apply(t *testing.T, ctx context.Context, s runbooks.Store, space string, put ...runbooks.Record) {
	t.Helper()
	if err := s.Apply(ctx, space, put, nil); err != nil {
		t.Fatal(err)
	}
}

func ids(ms []runbooks.Match) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.ID)
	}
	return out
}

func nearest(t *testing.T, ctx context.Context, s runbooks.Store, space string, p runbooks.Probe) []runbooks.Match {
	t.Helper()
	m, err := s.Nearest(ctx, space, p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func nearestFirst(t *testing.T, ctx context.Context, s runbooks.Store, tol float64) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const n, dim = 500, 24
	var recs []runbooks.Record
	for i := range n {
		v := make([]float32, dim)
		for j := range v {
			v[j] = float32(rnd.NormFloat64()) * 3 // stores take any length of vector
		}
		recs = append(recs, rec(fmt.Sprintf("r%03d", i), v...))
	}
	apply(t, ctx, s, "order", recs...)
	for range 20 {
		q := make([]float32, dim)
		for j := range q {
			q[j] = float32(rnd.NormFloat64())
		}
		got := nearest(t, ctx, s, "order", runbooks.Probe{Vector: q, Limit: 10})
		if len(got) != 10 {
			t.Fatalf("got %d matches, want 10", len(got))
		}
		slices.SortFunc(recs, func(a, b runbooks.Record) int {
			if cosine(q, a.Vector) > cosine(q, b.Vector) {
				return -1
			}
			return 1
		})
		for i, m := range got {
			want := cosine(q, recs[i].Vector)
			if math.Abs(float64(m.Cosine)-want) > tol {
				t.Errorf("place %d: %s with cosine %.5f, want %s with %.5f", i, m.ID, m.Cosine, recs[i].ID, want)
			}
		}
	}
}

func cosine(a, b []float32) float64 {
	ab, aa, bb := 0.0, 0.0, 0.0
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func replaces(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "replace", rec("a", 1, 0), rec("b", 0, 1))
	again := rec("a", 0.1, 1)
	again.Hash = "new"
	apply(t, ctx, s, "replace", again)
	h, err := s.Hashes(ctx, "replace")
	if want := map[string]string{"a": "new", "b": "h-b"}; err != nil || !maps.Equal(h, want) {
		t.Errorf("Hashes = %v, %v; want %v", h, err, want)
	}
	if got := ids(nearest(t, ctx, s, "replace", runbooks.Probe{Vector: []float32{1, 0}, Limit: 5})); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("order %v, want a, b", got)
	}
}

func drops(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "drop", rec("a", 1, 0), rec("b", 0, 1), rec("c", 1, 1))
	if err := s.Apply(ctx, "drop", nil, []string{"b", "never there"}); err != nil {
		t.Fatal(err)
	}
	if got := ids(nearest(t, ctx, s, "drop", runbooks.Probe{Vector: []float32{0, 1}, Limit: 5})); !slices.Equal(got, []string{"c", "a"}) {
		t.Errorf("left %v, want c, a", got)
	}
}

func allOrNothing(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "batch", rec("a", 1, 0))
	for name, bad := range map[string]runbooks.Record{
		"NaN": rec("n", float32(math.NaN()), 0), "infinity": rec("i", float32(math.Inf(1)), 0), "no id": rec("", 1, 0), "other length": rec("l", 1, 0, 0)} {
		if err := s.Apply(ctx, "batch", []runbooks.Record{rec("good", 0, 1), bad}, []string{"a"}); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	if h, _ := s.Hashes(ctx, "batch"); len(h) != 1 || h["a"] == "" {
		t.Errorf("after refused batches the space holds %v, want a alone", h)
	}
}

func oneLength(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "length", rec("a", 1, 0))
	if err := s.Apply(ctx, "length", []runbooks.Record{rec("b", 1, 0, 0)}, nil); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
	if _, err := s.Nearest(ctx, "length", runbooks.Probe{Vector: []float32{1, 0, 0}, Limit: 1}); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("probe of another length: error %v, want ErrInvalid", err)
	}
}

func spacesApart(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "one/model-2", rec("a", 1, 0))
	apply(t, ctx, s, "other/model-3", rec("b", 1, 0, 0))
	if got := ids(nearest(t, ctx, s, "one/model-2", runbooks.Probe{Vector: []float32{1, 0}, Limit: 5})); !slices.Equal(got, []string{"a"}) {
		t.Errorf("found %v, want a alone", got)
	}
}

func filterFull(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	var recs []runbooks.Record
	for i := range 400 {
		r := rec(fmt.Sprintf("r%03d", i), 1, float32(i)/400)
		r.Source = "common"
		if i%40 == 39 {
			r.Source = "rare"
		}
		recs = append(recs, r)
	}
	apply(t, ctx, s, "filter", recs...)
	got := nearest(t, ctx, s, "filter", runbooks.Probe{Vector: []float32{1, 0}, Sources: []string{"rare"}, Limit: 10})
	if len(got) != 10 || got[0].ID != "r039" {
		t.Errorf("got %v, want the ten rare ones, r039 first", ids(got))
	}
}

func hostile(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	id := "a'); DROP TABLE tocsin_spaces; --/é\".md#0"
	r := rec(id, 1, 0)
	r.Text = "nul \x00 byte, bad utf-8 \xff\xfe, quote ' and $1 " + id
	space := "x'; DROP TABLE tocsin_spaces; --"
	apply(t, ctx, s, space, r)
	got := nearest(t, ctx, s, space, runbooks.Probe{Vector: []float32{1, 0}, Text: "quote' & | ! :* ) drop", Limit: 1})
	if len(got) != 1 || got[0].ID != id {
		t.Errorf("found %q, want %q", ids(got), id)
	}
}

func concurrent(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	apply(t, ctx, s, "busy", rec("base", 1, 0))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 5 {
				if err := s.Apply(ctx, "busy", []runbooks.Record{rec(fmt.Sprintf("w%d-%d", w, i), 0, 1)}, nil); err != nil {
					t.Error(err)
				}
				m, err := s.Nearest(ctx, "busy", runbooks.Probe{Vector: []float32{1, 0}, Limit: 1})
				if err != nil || len(m) != 1 || m[0].ID != "base" {
					t.Errorf("found %v, %v while others write; want base", ids(m), err)
				}
			}
		})
	}
	wg.Wait()
	if h, err := s.Hashes(ctx, "busy"); err != nil || len(h) != 21 {
		t.Errorf("%d records after concurrent writes (%v), want 21", len(h), err)
	}
}

func limits(t *testing.T, ctx context.Context, s runbooks.Store, _ float64) {
	for _, limit := range []int{0, -1, 1001} {
		if _, err := s.Nearest(ctx, "x", runbooks.Probe{Vector: []float32{1}, Limit: limit}); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("limit %d: error %v, want ErrInvalid", limit, err)
		}
	}
}
