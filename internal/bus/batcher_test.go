package bus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// sink is a store that takes its time and remembers how it was called.
type sink struct {
	mu     sync.Mutex
	writes [][]incident.Event
	delay  time.Duration
	fail   func([]incident.Event) error
}

func (s *sink) publish(_ context.Context, _ incident.ClusterName, events []incident.Event) error {
	time.Sleep(s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(events); err != nil {
			return err
		}
	}
	s.writes = append(s.writes, events)
	return nil
}

func TestBatcherJoinsWhatComesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{delay: 5 * time.Millisecond}
		b := newBatcher(s.publish, 20*time.Millisecond)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%10) * time.Millisecond)
				if err := b.Publish(t.Context(), "a", signals("a", i, 1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(s.writes) != 1 || len(s.writes[0]) != 50 {
			t.Errorf("%d writes", len(s.writes))
		}
		if took := time.Since(start); took != 25*time.Millisecond {
			t.Errorf("took %s, want linger and write", took)
		}
	})
}

func TestBatcherWritesAFullBatchAtOnceAndTheRestNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{delay: 5 * time.Millisecond}
		b := newBatcher(s.publish, time.Hour) // bounded by MaxBatchDelay
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				if err := b.Publish(t.Context(), "a", signals("a", i, 1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		total := 0
		for _, w := range s.writes {
			total += len(w)
		}
		if total != 300 || len(s.writes) > 2 {
			t.Errorf("%d events in %d writes", total, len(s.writes))
		}
		if took := time.Since(start); took > incident.MaxBatchDelay+10*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}

func TestBatcherTellsEachCallerItsOwnOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		s := &sink{}
		s.fail = func(events []incident.Event) error {
			for _, e := range events {
				switch e.Signal.Entity.Name {
				case "cart-1":
					return incident.Invalidf("too large")
				case "cart-7":
					return down
				}
			}
			return nil
		}
		b := newBatcher(s.publish, time.Millisecond)
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = b.Publish(t.Context(), "a", signals("a", i, 1)) })
		}
		wg.Wait()
		for i, err := range errs {
			if want := i == 1; errors.Is(err, incident.ErrInvalid) != want || !want && err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		for i := range 2 {
			wg.Go(func() { errs[i] = b.Publish(t.Context(), "a", signals("a", 7+i, 1)) })
		}
		wg.Wait()
		if !errors.Is(errs[0], down) || !errors.Is(errs[1], down) {
			t.Errorf("a failed write is told to all: %v", errs[:2])
		}
	})
}

func TestBatcherGivesUpWithItsCallerAndGoesOnWithTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{delay: 50 * time.Millisecond}
		b := newBatcher(s.publish, 10*time.Millisecond)
		var wg sync.WaitGroup
		var late, other error
		wg.Go(func() { _ = b.Publish(t.Context(), "a", signals("a", 0, 1)) })
		time.Sleep(20 * time.Millisecond) // the first write is under way
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Go(func() { late = b.Publish(ctx, "a", signals("a", 1, 1)) })
		wg.Go(func() {
			time.Sleep(5 * time.Millisecond)
			other = b.Publish(t.Context(), "a", signals("a", 2, 1))
		})
		wg.Wait()
		if !errors.Is(late, context.DeadlineExceeded) || other != nil {
			t.Errorf("late %v, other %v", late, other)
		}
		if len(s.writes) != 2 || s.writes[1][0].Signal.Entity.Name != "cart-2" {
			t.Errorf("writes %v", s.writes)
		}
		if len(b.queues) != 0 {
			t.Errorf("%d queues left behind", len(b.queues))
		}
	})
}
