package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

// reader reads one stream in order, without loss and without repeats, whatever happens to the
// connection, the server or its consumer. Everything in this package that reads by sequence
// (signals, buckets, logs) rests on it.
//
// It keeps its own place and uses throw-away consumers: the server's delivery counter shows a
// lost delivery, an idle fetch is checked against the stream's last sequence, and both end in a
// new consumer at the place where the reader stands.
type reader struct {
	stream  string
	next    uint64 // first sequence wanted; 0 counts as 1
	follow  bool   // wait for more at the end of the stream
	headers bool   // leave bodies out
	// batch says how many messages may wait in memory; nil: fetchBatch.
	batch func() int
}

// delivery is one message with its place. Reading what comes next waits for the handler.
type delivery struct {
	msg    jetstream.Msg
	seq    uint64
	at     time.Time // when it was stored
	missed uint64    // messages between the one before and this that are gone for good (limits)
}

const (
	fetchBatch = 256
	// fetchWait bounds how long a reader can sit on a dead consumer before it looks.
	fetchWait = 5 * time.Second
	// consumerIdle is when the server drops a reader's consumer after its process died.
	consumerIdle = time.Minute
)

var (
	errLost = errors.New("a delivery was lost")
	errGone = fmt.Errorf("stream does not exist: %w", incident.ErrNotFound)
)

// read calls fn for every message from r.next on, until ctx ends, fn fails (its error is
// returned), or, without r.follow, the stream's end is reached. A stream that does not exist is
// errGone.
func (b *Bus) read(ctx context.Context, r reader, fn func(delivery) error) error {
	r.next = max(r.next, 1)
	pause := backoff{base: 50 * time.Millisecond, max: 2 * time.Second}
	for {
		cons, pending, err := b.consumer(ctx, r)
		if err == nil && pending == 0 && r.next > 1 {
			err = b.rewind(ctx, &r)
		}
		switch {
		case ctx.Err() != nil:
			return r.stop(ctx)
		case errors.Is(err, errGone):
			return err
		case err == nil && pending == 0 && !r.follow:
			b.drop(r.stream, cons)
			return nil
		case err == nil:
			var done bool
			before := r.next
			done, err = b.drain(ctx, cons, &r, fn)
			b.drop(r.stream, cons)
			if done {
				return err
			}
			if ctx.Err() != nil {
				return r.stop(ctx)
			}
			if r.next > before {
				pause.reset()
			}
		}
		if !r.follow && pause.tries > 5 {
			return fmt.Errorf("bus: read %s: %w", r.stream, err)
		}
		b.log.Debug("bus: reading again", "stream", r.stream, "from", r.next, "err", err)
		if pause.wait(ctx) != nil {
			return r.stop(ctx)
		}
	}
}

// stop is what a read that was interrupted returns: nothing for one that ends only so.
func (r reader) stop(ctx context.Context) error {
	if r.follow {
		return nil
	}
	return ctx.Err()
}

func (b *Bus) consumer(ctx context.Context, r reader) (jetstream.Consumer, uint64, error) {
	ctx, cancel := b.linked(ctx, b.cfg.AckTimeout)
	defer cancel()
	cons, err := b.js.CreateConsumer(ctx, r.stream, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerIdle, HeadersOnly: r.headers,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = errGone
	}
	if err != nil {
		return nil, 0, fmt.Errorf("bus: read %s: %w", r.stream, err)
	}
	return cons, cons.CachedInfo().NumPending, nil
}

// drop removes a consumer nobody reads any more; the server would do so later.
func (b *Bus) drop(stream string, cons jetstream.Consumer) {
	if cons == nil || b.nc.Status() != nats.CONNECTED {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = b.js.DeleteConsumer(ctx, stream, cons.CachedInfo().Name)
}

// drain reads one consumer until it breaks. done: the end was reached or fn failed.
func (b *Bus) drain(ctx context.Context, cons jetstream.Consumer, r *reader, fn func(delivery) error) (done bool, err error) {
	delivered := uint64(0) // by this consumer
	for ctx.Err() == nil {
		n, end, err := b.fetch(ctx, cons, r, &delivered, fn)
		switch {
		case end:
			return true, err
		case err != nil:
			return false, err
		case n > 0:
			continue
		}
		// Nothing came: is there really nothing?
		ictx, cancel := b.linked(ctx, b.cfg.AckTimeout)
		info, err := cons.Info(ictx)
		cancel()
		if err != nil {
			return false, err
		}
		if info.NumPending > 0 || info.Delivered.Consumer > delivered {
			return false, errLost
		}
	}
	return false, ctx.Err()
}

// rewind moves a place beyond the end of the stream back to its start: the stream is younger
// than the place, so it was made anew. It returns errLost when it did.
func (b *Bus) rewind(ctx context.Context, r *reader) error {
	s, err := b.js.Stream(ctx, r.stream)
	if err != nil {
		return err
	}
	if last := s.CachedInfo().State.LastSeq; last+1 < r.next {
		b.log.Warn("bus: stream was made anew, reading it from its start", "stream", r.stream, "stood", r.next-1, "last", last)
		r.next = 1
		return errLost
	}
	return nil
}

// fetch handles one pull. end: fn failed or the stream's end was reached and is wanted.
func (b *Bus) fetch(ctx context.Context, cons jetstream.Consumer, r *reader, delivered *uint64, fn func(delivery) error) (n int, end bool, err error) {
	fctx, cancel := b.linked(ctx, fetchWait)
	defer cancel()
	size := fetchBatch
	if r.batch != nil {
		size = r.batch()
	}
	batch, err := cons.Fetch(size, jetstream.FetchContext(fctx), jetstream.FetchMaxBytes(int(2*b.nc.MaxPayload())))
	if err != nil {
		return 0, false, err
	}
	for msg := range batch.Messages() {
		if ctx.Err() != nil {
			return n, false, ctx.Err()
		}
		md, err := msg.Metadata()
		if err != nil {
			return n, false, err
		}
		if md.Sequence.Consumer != *delivered+1 {
			return n, false, errLost
		}
		d := delivery{msg: msg, seq: md.Sequence.Stream, at: md.Timestamp, missed: md.Sequence.Stream - r.next}
		if err := fn(d); err != nil {
			return n, true, err
		}
		*delivered++
		n++
		r.next = d.seq + 1
		if !r.follow && md.NumPending == 0 {
			return n, true, nil
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return n, false, err
	}
	return n, false, nil
}

// backoff is a growing pause: base, twice that, … max.
type backoff struct {
	base, max time.Duration
	tries     int
}

func (p *backoff) reset() { p.tries = 0 }

// wait pauses; its error is that of ctx.
func (p *backoff) wait(ctx context.Context) error {
	d := p.max
	if p.tries < 20 {
		d = min(p.base<<p.tries, p.max)
	}
	p.tries++
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
