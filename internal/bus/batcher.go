package bus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Batcher joins the events that many callers publish at about the same time into few durable
// writes: with fsync one message costs what a batch costs. The first caller of a cluster waits
// up to the linger time for others, then writes for all of them.
type Batcher struct {
	publish func(context.Context, incident.ClusterName, []incident.Event) error
	linger  time.Duration

	mu     sync.Mutex
	queues map[incident.ClusterName]*queue
}

// queue holds the calls that wait for the next write of one cluster.
type queue struct {
	calls  []*call
	events int
	busy   bool          // a leader is collecting or writing
	full   chan struct{} // closed when a batch is full; nil when nobody collects
}

type call struct {
	events []incident.Event
	done   chan error
	lead   chan struct{} // closed to make this call's goroutine the next leader
}

// NewBatcher returns a Batcher on b. linger is how long the first of a group waits for others,
// at most incident.MaxBatchDelay.
func (b *Bus) NewBatcher(linger time.Duration) *Batcher { return newBatcher(b.PublishEvents, linger) }

func newBatcher(publish func(context.Context, incident.ClusterName, []incident.Event) error, linger time.Duration) *Batcher {
	return &Batcher{publish: publish, linger: min(max(linger, 0), incident.MaxBatchDelay), queues: map[incident.ClusterName]*queue{}}
}

// Publish returns when the events are durable, like PublishEvents. Calls of one cluster are
// written in the order they came. When a joint write fails, each caller of the group gets the
// error, except that a call which ErrInvalid refuses does not fail the others. If ctx ends
// first, the events may still be written.
func (t *Batcher) Publish(ctx context.Context, c incident.ClusterName, events []incident.Event) error {
	if len(events) == 0 {
		return nil
	}
	me := &call{events: events, done: make(chan error, 1), lead: make(chan struct{})}
	t.mu.Lock()
	q := t.queues[c]
	if q == nil {
		q = &queue{}
		t.queues[c] = q
	}
	q.calls = append(q.calls, me)
	q.events += len(events)
	if !q.busy {
		q.busy = true
		close(me.lead)
	}
	if q.full != nil && q.events >= incident.MaxBatchEvents {
		close(q.full)
		q.full = nil
	}
	t.mu.Unlock()

	select {
	case err := <-me.done:
		return err
	case <-me.lead:
		// The leader writes for others too, so its own deadline does not cut the write short.
		return t.lead(context.WithoutCancel(ctx), c, q, me)
	case <-ctx.Done():
		return t.leave(c, q, me, ctx.Err())
	}
}

// leave withdraws a call that has not been taken into a write; one that was made leader
// meanwhile passes that on.
func (t *Batcher) leave(c incident.ClusterName, q *queue, me *call, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range q.calls {
		if o == me {
			q.calls = append(q.calls[:i:i], q.calls[i+1:]...)
			q.events -= len(me.events)
			break
		}
	}
	select {
	case <-me.lead:
		t.handOver(c, q)
	default:
	}
	return err
}

// handOver makes the oldest waiting call the leader. t.mu is held.
func (t *Batcher) handOver(c incident.ClusterName, q *queue) {
	if len(q.calls) > 0 {
		close(q.calls[0].lead)
		return
	}
	q.busy = false
	delete(t.queues, c)
}

func (t *Batcher) lead(ctx context.Context, c incident.ClusterName, q *queue, me *call) error {
	t.mu.Lock()
	var full chan struct{}
	if q.events < incident.MaxBatchEvents {
		full = make(chan struct{})
		q.full = full
	}
	t.mu.Unlock()
	if full != nil && t.linger > 0 {
		waitFor(ctx, full, t.linger)
	}

	t.mu.Lock()
	calls := q.calls
	q.calls, q.events, q.full = nil, 0, nil
	t.mu.Unlock()
	t.write(ctx, c, calls)
	t.mu.Lock()
	t.handOver(c, q)
	t.mu.Unlock()
	return <-me.done
}

// write publishes the calls together and tells each how it went.
func (t *Batcher) write(ctx context.Context, c incident.ClusterName, calls []*call) {
	var all []incident.Event
	for _, o := range calls {
		all = append(all, o.events...)
	}
	err := t.publish(ctx, c, all)
	for _, o := range calls {
		if err != nil && len(calls) > 1 && errors.Is(err, incident.ErrInvalid) {
			o.done <- t.publish(ctx, c, o.events)
			continue
		}
		o.done <- err
	}
}
