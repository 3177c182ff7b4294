package correlator_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/correlator/simulate"
	"github.com/tocsin-io/tocsin/incident"
	"pgregory.net/rapid"
)

// picture is what must not depend on the order of arrival.
func picture(c *correlator.Correlator) []string {
	var out []string
	for _, inc := range c.Incidents() {
		if inc.State == incident.Merged || len(inc.Signals) == 0 { // gone again before the end
			continue
		}
		ids := slices.Clone(inc.Signals)
		slices.Sort(ids)
		ids = slices.Compact(ids)
		root, shared := "", ""
		if inc.Root != nil {
			root = inc.Root.String()
		}
		if inc.Shared != nil {
			shared = fmt.Sprint(*inc.Shared)
		}
		out = append(out, fmt.Sprintf("%s %s %s %s %s %v %d signals %s", inc.Title, inc.Severity, inc.OpenedAt.Format(time.RFC3339Nano), root, shared, inc.Clusters, len(ids), incident.HashParts(strs(ids)...)[:12]))
	}
	slices.Sort(out)
	return out
}

func strs(ids []incident.SignalID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

func generated(t *rapid.T) []incident.Event {
	kinds := simulate.Kinds()
	var picked []string
	for range rapid.IntRange(1, 3).Draw(t, "kinds") {
		picked = append(picked, rapid.SampledFrom(kinds).Draw(t, "kind"))
	}
	events, _, err := simulate.Generate(simulate.Config{Seed: rapid.Uint64Range(1, 1<<40).Draw(t, "seed"), Clusters: rapid.IntRange(4, 12).Draw(t, "clusters"), Kinds: picked, Apart: 7 * time.Minute, Noise: 6, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func apply(t *rapid.T, c *correlator.Correlator, events []incident.Event) {
	for _, ev := range events {
		if err := c.Apply(ev); err != nil {
			t.Fatal(err)
		}
	}
}

func compare(t *rapid.T, what string, want, got []string) {
	if slices.Equal(want, got) {
		return
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Logf("only in order: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Logf("only %s: %s", what, g)
		}
	}
	t.Fatalf("%s: %d incidents, in order %d", what, len(got), len(want))
}

func TestOrderAndRepetitionChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := generated(t)
		ref := correlator.New(correlator.Config{})
		apply(t, ref, events)
		want := picture(ref)

		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 1))
		type moved struct {
			ev incident.Event
			at int64
		}
		var other []moved
		for _, ev := range events {
			var at int64
			if ev.Signal != nil { // up to the lateness bound, in event time
				at = ev.Time().UnixMilli() + rnd.Int64N(10*60*1000)
			} else {
				at = ev.Time().UnixMilli()
			}
			other = append(other, moved{ev, at})
			if rnd.IntN(10) == 0 {
				other = append(other, moved{ev, at + rnd.Int64N(5*60*1000)})
			}
		}
		slices.SortStableFunc(other, func(a, b moved) int { return cmp.Compare(a.at, b.at) })
		c := correlator.New(correlator.Config{})
		for _, m := range other {
			if err := c.Apply(m.ev); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(200) == 0 {
				c.Changed()
			}
		}
		compare(t, "out of order", want, picture(c))
	})
}

func TestARestartAnywhereChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := generated(t)
		ref := correlator.New(correlator.Config{})
		apply(t, ref, events)
		want := picture(ref)

		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		again := rapid.IntRange(0, min(cut, 50)).Draw(t, "again") // read once more after the restart
		before := correlator.New(correlator.Config{})
		apply(t, before, events[:cut])
		b, err := before.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		after := correlator.New(correlator.Config{})
		if err := after.Restore(b); err != nil {
			t.Fatal(err)
		}
		apply(t, after, events[cut-again:])
		compare(t, "after the restart", want, picture(after))
	})
}

// TestFailOverInAStorm restarts at 200 random points of one storm and compares IDs too.
func TestFailOverInAStorm(t *testing.T) {
	var events []incident.Event
	if _, err := simulate.Storm(simulate.Config{Seed: 7, Clusters: 8, Kinds: []string{"image-waves", "node", "registry"}, Noise: 6, Plain: true}, 8, func(ev incident.Event) { events = append(events, ev) }); err != nil {
		t.Fatal(err)
	}
	drain := func(c *correlator.Correlator, from, to int, ids map[incident.ID]bool) {
		for i := from; i < to; i++ {
			if err := c.Apply(events[i]); err != nil {
				t.Fatal(err)
			}
			if i%500 == 0 {
				for _, inc := range c.Changed() {
					ids[inc.ID] = true
				}
			}
		}
	}
	ref, want := correlator.New(correlator.Config{}), map[incident.ID]bool{}
	drain(ref, 0, len(events), want)
	pic := picture(ref)
	points := 200
	if testing.Short() {
		points = 20
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	c, got, at := correlator.New(correlator.Config{}), map[incident.ID]bool{}, 0
	for i := range points {
		to := at + (len(events)-at)/(points-i)
		if i < points-1 {
			to = min(len(events), max(at, to+rnd.IntN(21)-10))
		}
		drain(c, at, to, got)
		b, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		c = correlator.New(correlator.Config{})
		if err := c.Restore(b); err != nil {
			t.Fatal(err)
		}
		at = max(0, to-rnd.IntN(30)) // the new holder reads a little again
	}
	drain(c, at, len(events), got)
	if g := picture(c); !slices.Equal(g, pic) {
		t.Errorf("incidents differ after %d restarts:\n got %d\nwant %d", points, len(g), len(pic))
	}
	if len(got) != len(want) {
		t.Errorf("%d incident IDs were published, without restarts %d", len(got), len(want))
	}
}

func TestSimulatedKindsComeOutRight(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	ari, runs := 0.0, 0
	for _, kind := range simulate.Kinds() {
		for seed := range seeds {
			events, truth, err := simulate.Generate(simulate.Config{Seed: uint64(100 + seed), Clusters: 10, Kinds: []string{kind}})
			if err != nil {
				t.Fatal(err)
			}
			c := correlator.New(correlator.Config{Listed: -1, Points: 1 << 20})
			for _, ev := range events {
				if err := c.Apply(ev); err != nil {
					t.Fatal(err)
				}
			}
			s := simulate.Compare(truth, reports(c))
			if s.True > 0 {
				ari += s.ARI
				runs++
			}
			if s.Merged > 0 {
				t.Errorf("%s, seed %d: independent incidents merged: %v", kind, 100+seed, s.Wrong)
			}
		}
	}
	if mean := ari / float64(runs); mean < 0.95 {
		t.Errorf("adjusted Rand index %.3f over %d runs, want at least 0.95", mean, runs)
	}
}

func reports(c *correlator.Correlator) []simulate.Reported {
	var out []simulate.Reported
	for _, inc := range c.Incidents() {
		if inc.State != incident.Merged {
			out = append(out, simulate.Reported{Signals: inc.Signals, Severity: inc.Severity, Shared: inc.Shared, Root: inc.Root, Cause: inc.Cause})
		}
	}
	return out
}

func jsonLines(events []incident.Event) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, ev := range events {
		if err := enc.Encode(ev); err != nil {
			panic(err)
		}
	}
	return buf.Bytes()
}
