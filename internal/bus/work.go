package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/incident"
)

// MessageHandler handles one command or outcome of a cluster. id is the one it was sent with.
// nil: done. ErrInvalid: parked at once. Any other error: delivered again later, and parked
// after the last attempt.
type MessageHandler func(ctx context.Context, c incident.ClusterName, id string, payload []byte) error

const (
	// workAckWait is how long a message of a process that died waits; it is extended while the
	// handler runs.
	workAckWait  = 10 * time.Second
	workAttempts = 8
	workBase     = 250 * time.Millisecond
	workMax      = 30 * time.Second
)

// SendCommand queues a command for the agent of c and returns when it is durable. The same id
// within DuplicateWindow is stored once.
func (b *Bus) SendCommand(ctx context.Context, c incident.ClusterName, id string, payload []byte) error {
	token, err := EncodeName(string(c))
	if err != nil {
		return fmt.Errorf("bus: cluster: %w", err)
	}
	if err := b.send(ctx, b.commandsConfig(token), subjectCommands+token, id, payload); err != nil {
		return fmt.Errorf("bus: command %s to %s: %w", id, c, err)
	}
	return nil
}

// ReceiveCommands hands the commands for c to handler, one at a time, oldest first (a failed
// one waits its turn behind the others), until ctx ends. A command is removed when handler
// returns nil; a crash before that delivers it again.
func (b *Bus) ReceiveCommands(ctx context.Context, c incident.ClusterName, handler MessageHandler) error {
	token, err := EncodeName(string(c))
	if err != nil {
		return fmt.Errorf("bus: cluster: %w", err)
	}
	return b.work(ctx, b.commandsConfig(token), "agent", handler)
}

// PublishOutcome stores what an action in c led to and returns when it is durable. The same id
// within DuplicateWindow is stored once.
func (b *Bus) PublishOutcome(ctx context.Context, c incident.ClusterName, id string, payload []byte) error {
	token, err := EncodeName(string(c))
	if err != nil {
		return fmt.Errorf("bus: cluster: %w", err)
	}
	if err := b.send(ctx, b.outcomesConfig(), subjectOutcomes+token, id, payload); err != nil {
		return fmt.Errorf("bus: outcome %s of %s: %w", id, c, err)
	}
	return nil
}

// ConsumeOutcomes hands the outcomes of all clusters to handler, one at a time, until ctx ends.
// Each reader name gets every outcome once, from the oldest kept when the name is first used;
// processes that share a name share the work.
func (b *Bus) ConsumeOutcomes(ctx context.Context, name string, handler MessageHandler) error {
	token, err := EncodeName(name)
	if err != nil {
		return fmt.Errorf("bus: reader: %w", err)
	}
	return b.work(ctx, b.outcomesConfig(), token, handler)
}

func (b *Bus) send(ctx context.Context, cfg jetstream.StreamConfig, subject, id string, payload []byte) error {
	if id == "" || strings.ContainsAny(id, "\r\n") || len(id) > 256 {
		return incident.Invalidf("message ID %q: want 1 to 256 bytes without line ends", incident.Clip(id, 40))
	}
	_, err := b.publish(ctx, cfg, &nats.Msg{Subject: subject, Data: payload}, jetstream.WithMsgID(id), jetstream.WithExpectStream(cfg.Name))
	return err
}

// work runs a durable consumer, made again whenever it is gone.
func (b *Bus) work(ctx context.Context, cfg jetstream.StreamConfig, durable string, handler MessageHandler) error {
	pause := backoff{base: 100 * time.Millisecond, max: 5 * time.Second}
	for ctx.Err() == nil {
		err := b.workOnce(ctx, cfg, durable, handler, pause.reset)
		if ctx.Err() != nil {
			return nil
		}
		b.forget(cfg.Name)
		b.log.Debug("bus: receiving again", "stream", cfg.Name, "err", err)
		if pause.tries == 5 {
			b.log.Warn("bus: cannot receive", "stream", cfg.Name, "err", err)
		}
		if pause.wait(ctx) != nil {
			return nil
		}
	}
	return nil
}

func (b *Bus) workOnce(ctx context.Context, cfg jetstream.StreamConfig, durable string, handler MessageHandler, progress func()) error {
	s, err := b.stream(ctx, cfg)
	if err != nil {
		return err
	}
	cctx, cancel := b.linked(ctx, b.cfg.AckTimeout)
	cons, err := s.CreateOrUpdateConsumer(cctx, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: b.cfg.ackWait, MaxAckPending: 64,
		// The reader counts attempts and parks; the server must not stop delivering on its own.
		MaxDeliver: -1,
	})
	cancel()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fctx, cancel := b.linked(ctx, fetchWait)
		batch, err := cons.Fetch(1, jetstream.FetchContext(fctx))
		n := 0
		if err == nil {
			for msg := range batch.Messages() {
				n++
				b.workMessage(ctx, msg, handler)
			}
			err = batch.Error()
		}
		cancel()
		switch {
		case n > 0:
			progress()
		case err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout): // also: the connection went
			return err
		default: // idle: is the consumer still there?
			ictx, cancel := b.linked(ctx, b.cfg.AckTimeout)
			_, err := cons.Info(ictx)
			cancel()
			if err != nil {
				return err
			}
			progress()
		}
	}
	return nil
}

// workMessage settles one message: acknowledged, given back or parked. When even that fails the
// server delivers it again after workAckWait.
func (b *Bus) workMessage(ctx context.Context, msg jetstream.Msg, handler MessageHandler) {
	md, err := msg.Metadata()
	if err != nil {
		return
	}
	// Both commands.<cluster> and outcomes.<cluster>.
	kind, token, _ := strings.Cut(msg.Subject(), ".")
	name, err := DecodeName(token)
	if err == nil {
		err = b.keepAlive(ctx, msg, func(ctx context.Context) error {
			return handler(ctx, incident.ClusterName(name), msg.Headers().Get(jetstream.MsgIDHeader), msg.Data())
		})
	}
	tried := int(min(md.NumDelivered, 1<<20))
	switch {
	case err == nil:
		err = msg.DoubleAck(ctx)
	case ctx.Err() != nil:
		err = msg.Nak()
	case errors.Is(err, incident.ErrInvalid) || tried >= workAttempts:
		d := delivery{msg: msg, seq: md.Sequence.Stream, at: md.Timestamp}
		if perr := b.park(ctx, kind+"."+token, d, tried, err); perr != nil {
			return
		}
		err = msg.Term()
	default:
		b.log.Warn("bus: message not handled, trying again", "stream", md.Stream, "seq", md.Sequence.Stream, "attempt", tried, "err", err)
		err = msg.NakWithDelay(min(workBase<<min(tried, 16), workMax))
	}
	if err != nil {
		b.log.Warn("bus: message not settled, it will come again", "stream", md.Stream, "seq", md.Sequence.Stream, "err", err)
	}
}

// keepAlive runs the handler and tells the server meanwhile that it is still at work.
func (b *Bus) keepAlive(ctx context.Context, msg jetstream.Msg, handler func(context.Context) error) error {
	done := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		for waitFor(ctx, done, b.cfg.ackWait/3) {
			select {
			case <-done:
				return nil
			default:
				_ = msg.InProgress() // if it fails the message comes again; handlers are idempotent
			}
		}
		return nil
	})
	err := handler(ctx)
	close(done)
	return errors.Join(err, g.Wait())
}
