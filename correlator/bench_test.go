package correlator_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/correlator/simulate"
	"github.com/tocsin-io/tocsin/incident"
)

var simTime = time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC)

// benchEvents gives about the same number of signals whatever the size of the fleet.
func benchEvents(b *testing.B, clusters int) []incident.Event {
	b.Helper()
	var events []incident.Event
	_, err := simulate.Storm(simulate.Config{Seed: 11, Clusters: clusters, Kinds: []string{"image-waves", "registry", "node"}, Noise: 8000 / float64(clusters)}, 8, func(ev incident.Event) {
		if ev.Signal != nil || ev.Time().Before(simTime.Add(25*time.Minute)) {
			events = append(events, ev)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return events
}

// BenchmarkApply measures one signal, drains included (one every 20,000 signals: one a second at
// the rate of the hub's budget).
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("clusters=%d", n), func(b *testing.B) {
			events := benchEvents(b, n)
			var meta, signals []incident.Event
			for _, ev := range events {
				if ev.Signal == nil {
					meta = append(meta, ev)
				} else {
					signals = append(signals, ev)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			c := correlator.New(correlator.Config{})
			for i := range b.N {
				k := i % len(signals)
				if k == 0 {
					b.StopTimer()
					c = correlator.New(correlator.Config{})
					for _, ev := range meta {
						_ = c.Apply(ev)
					}
					c.Changed()
					runtime.GC()
					b.StartTimer()
				}
				if err := c.Apply(signals[k]); err != nil {
					b.Fatal(err)
				}
				if k%20_000 == 19_999 {
					c.Changed()
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signals/s")
		})
	}
}

// TestAMillionSignalsStayBounded applies a storm of a million signals with three incidents in it.
func TestAMillionSignalsStayBounded(t *testing.T) {
	copies := 100
	if testing.Short() {
		copies = 8
	}
	c := correlator.New(correlator.Config{})
	n, peak := 0, uint64(0)
	var ms runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&ms)
	base := ms.HeapInuse
	truth, err := simulate.Storm(simulate.Config{Seed: 21, Clusters: 100, Kinds: []string{"image-waves", "node", "registry"}, Noise: 30}, copies, func(ev incident.Event) {
		if ev.Signal != nil {
			n++
		}
		if err := c.Apply(ev); err != nil {
			t.Fatal(err)
		}
		if n%50_000 == 0 && ev.Signal != nil {
			c.Changed()
			runtime.ReadMemStats(&ms)
			peak = max(peak, ms.HeapInuse-min(base, ms.HeapInuse))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	open := c.Incidents()
	for _, want := range truth.Incidents {
		for _, inc := range open {
			if want.Shared != nil && inc.Shared != nil && want.Shared.Name == inc.Shared.Name && want.Shared.Value == inc.Shared.Value {
				found++
			}
		}
	}
	t.Logf("%d signals, %d tracks, %d incidents, peak heap %d MiB with the generator's own", n, c.Stats().Tracks, len(open), peak>>20)
	if found != len(truth.Incidents) {
		t.Errorf("found %d of %d incidents by their factors", found, len(truth.Incidents))
	}
	if peak > 500<<20 {
		t.Errorf("peak heap %d MiB, want at most 500", peak>>20)
	}
	for _, inc := range open {
		if len(inc.Signals) > 5000 || len(inc.Timeline) > 210 || len(inc.Members) > 200 {
			t.Errorf("%s lists %d signals, %d steps, %d members", inc.ID, len(inc.Signals), len(inc.Timeline), len(inc.Members))
		}
	}
}
