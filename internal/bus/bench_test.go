package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

const benchEvents = 64 << 10

// rawPublish stores the same bytes as PublishEvents does, by JetStream alone, and returns
// events per second.
func rawPublish(tb testing.TB, b *Bus, n int) float64 {
	tb.Helper()
	ctx := context.Background()
	events := signals("raw", 0, n)
	batches, err := b.batches("raw", events)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := b.stream(ctx, b.signalsConfig("raw")); err != nil {
		tb.Fatal(err)
	}
	start := time.Now()
	var acks []jetstream.PubAckFuture
	for _, batch := range batches {
		ack, err := b.js.PublishAsync("signals.0.raw", batch.data)
		if err != nil {
			tb.Fatal(err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			tb.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkPublishDurable publishes events, fsynced before the acknowledgement, and compares
// with JetStream storing the same bytes in the same run.
func BenchmarkPublishDurable(b *testing.B) {
	for _, clusters := range []int{1, 10} {
		b.Run(fmt.Sprintf("clusters=%d", clusters), func(b *testing.B) {
			bus := open(b, Config{})
			raw := rawPublish(b, bus, benchEvents)
			all := make([][]incident.Event, clusters)
			for c := range all {
				all[c] = signals(incident.ClusterName(fmt.Sprint("c-", c)), 0, benchEvents/clusters)
			}
			var took time.Duration
			for b.Loop() {
				start := time.Now()
				var wg sync.WaitGroup
				for c, events := range all {
					wg.Go(func() {
						for len(events) > 0 {
							n := min(len(events), 4*incident.MaxBatchEvents)
							if err := bus.PublishEvents(b.Context(), incident.ClusterName(fmt.Sprint("c-", c)), events[:n]); err != nil {
								b.Error(err)
								return
							}
							events = events[n:]
						}
					})
				}
				wg.Wait()
				took += time.Since(start)
				b.StopTimer()
				for c := range all { // other IDs, or the next round is dropped as repeats
					for i := range all[c] {
						s := *all[c][i].Signal
						s.Time = s.Time.Add(time.Hour)
						s.ID = incident.NewSignalID(&s)
						all[c][i].Signal = &s
					}
				}
				b.StartTimer()
			}
			rate := float64(b.N) * benchEvents / took.Seconds()
			b.ReportMetric(rate, "events/s")
			b.ReportMetric(raw, "raw-events/s")
			b.ReportMetric(rate/raw, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkEndToEndDurable publishes through a Batcher from many callers while ConsumeEvents
// decodes and hands over, and waits until the last event is handled.
func BenchmarkEndToEndDurable(b *testing.B) {
	bus := open(b, Config{})
	raw := rawPublish(b, bus, benchEvents)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	handled := make(chan int, 1024)
	var g sync.WaitGroup
	s, err := bus.js.Stream(ctx, "SIGNALS_raw") // what rawPublish left is not read
	if err != nil {
		b.Fatal(err)
	}
	skip := s.CachedInfo().State.LastSeq
	g.Go(func() {
		_ = bus.ConsumeEvents(ctx, ConsumeOptions{From: map[incident.ClusterName]uint64{"raw": skip}}, func(_ context.Context, c incident.ClusterName, events []incident.Event, _ Position) error {
			if c != "raw" {
				handled <- len(events)
			}
			return nil
		})
	})
	batcher := bus.NewBatcher(20 * time.Millisecond)
	const clusters, callers = 10, 8
	round := 0
	var took time.Duration
	for b.Loop() {
		round++
		b.StopTimer()
		work := make([][]incident.Event, clusters)
		for c := range work {
			work[c] = signals(incident.ClusterName(fmt.Sprint("c-", c)), round*benchEvents, benchEvents/clusters)
		}
		b.StartTimer()
		start := time.Now()
		var wg sync.WaitGroup
		total := 0
		for c, events := range work {
			total += len(events)
			per := len(events) / callers
			for i := range callers {
				part := events[i*per : (i+1)*per]
				if i == callers-1 {
					part = events[i*per:]
				}
				wg.Go(func() {
					for len(part) > 0 {
						n := min(len(part), 64)
						if err := batcher.Publish(ctx, incident.ClusterName(fmt.Sprint("c-", c)), part[:n]); err != nil {
							b.Error(err)
							return
						}
						part = part[n:]
					}
				})
			}
		}
		for got := 0; got < total; {
			got += <-handled
		}
		wg.Wait()
		took += time.Since(start)
	}
	rate := float64(b.N) * benchEvents / took.Seconds()
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(raw, "raw-events/s")
	b.ReportMetric(rate/raw, "ratio")
	b.ReportMetric(0, "ns/op")
	cancel()
	g.Wait()
}

// BenchmarkLatencyAt5000 sends 5,000 events a second from ten clusters, five at a time, through a
// Batcher and reports how long they take to the consumer's handler.
func BenchmarkLatencyAt5000(b *testing.B) {
	bus := open(b, Config{})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	const clusters, each = 10, 5
	var mu sync.Mutex
	sent := map[string]time.Time{}
	var took []time.Duration
	more := make(chan struct{}, 1)
	var g sync.WaitGroup
	g.Go(func() {
		_ = bus.ConsumeEvents(ctx, ConsumeOptions{}, func(_ context.Context, c incident.ClusterName, events []incident.Event, _ Position) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				took = append(took, time.Since(sent[string(c)+e.Signal.Entity.Name]))
			}
			select {
			case more <- struct{}{}:
			default:
			}
			return nil
		})
	})
	batcher := bus.NewBatcher(20 * time.Millisecond)
	n := 0
	for b.Loop() {
		tick := time.NewTicker(10 * time.Millisecond)
		var wg sync.WaitGroup
		for range 100 { // one second
			<-tick.C
			for c := range clusters {
				name := incident.ClusterName(fmt.Sprint("c-", c))
				events := signals(name, n, each)
				mu.Lock()
				for _, e := range events {
					sent[string(name)+e.Signal.Entity.Name] = time.Now()
				}
				mu.Unlock()
				wg.Go(func() {
					if err := batcher.Publish(ctx, name, events); err != nil {
						b.Error(err)
					}
				})
			}
			n += each
		}
		wg.Wait()
		tick.Stop()
	}
	for done := false; !done; <-more {
		mu.Lock()
		done = len(took) >= n*clusters
		mu.Unlock()
		if done {
			break
		}
	}
	cancel()
	g.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPublishSingle is the worst case: one event a write, one writer.
func BenchmarkPublishSingle(b *testing.B) {
	bus := open(b, Config{})
	i := 0
	for b.Loop() {
		if err := bus.PublishEvents(b.Context(), "a", signals("a", i, 1)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkKVUpdate is one compare-and-set.
func BenchmarkKVUpdate(b *testing.B) {
	bus := open(b, Config{})
	kv, rev := bus.KV(Incidents), uint64(0)
	value := make([]byte, 2<<10)
	for b.Loop() {
		var err error
		if rev, err = kv.Update(b.Context(), "inc", value, rev); err != nil {
			b.Fatal(err)
		}
	}
}
