package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Log is an append-only log whose entries are numbered from 1 without gaps. It refuses deletes
// and purges; when it is full, appending fails.
type Log struct {
	b    *Bus
	name LogName
}

// Log returns the log; it is made when first used.
func (b *Bus) Log(name LogName) *Log { return &Log{b: b, name: name} }

// Append adds an entry after entry number last and returns its number, last+1. If the log has
// grown meanwhile it is ErrStale and nothing is written: read on and try again. After any other
// error the entry may be there; Read tells.
func (l *Log) Append(ctx context.Context, entry []byte, last uint64) (seq uint64, err error) {
	msg := &nats.Msg{Subject: logSubject(l.name), Data: entry}
	seq, err = l.b.publish(ctx, l.b.logConfig(l.name), msg, jetstream.WithExpectLastSequence(last))
	if err != nil {
		return 0, fmt.Errorf("log %s: append after %d: %w", l.name, last, err)
	}
	return seq, nil
}

// Last returns the number of the newest entry, 0 for an empty log.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	ctx, cancel := l.b.linked(ctx, l.b.cfg.AckTimeout)
	defer cancel()
	s, err := l.b.stream(ctx, l.b.logConfig(l.name))
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("log %s: %w", l.name, l.b.explain(err))
	}
	return info.State.LastSeq, nil
}

// Read calls fn for the entries from number from (0 counts as 1) to the end the log had at the
// start, in order, and returns fn's error if it fails. at is the server's clock.
func (l *Log) Read(ctx context.Context, from uint64, fn func(seq uint64, at time.Time, entry []byte) error) error {
	if _, err := l.b.stream(ctx, l.b.logConfig(l.name)); err != nil {
		return err
	}
	return l.b.read(ctx, reader{stream: string(l.name), next: from}, func(d delivery) error {
		return fn(d.seq, d.at, d.msg.Data())
	})
}

// Follow is Read that goes on with new entries until ctx ends.
func (l *Log) Follow(ctx context.Context, from uint64, fn func(seq uint64, at time.Time, entry []byte) error) error {
	if _, err := l.b.stream(ctx, l.b.logConfig(l.name)); err != nil {
		return err
	}
	return l.b.read(ctx, reader{stream: string(l.name), next: from, follow: true}, func(d delivery) error {
		return fn(d.seq, d.at, d.msg.Data())
	})
}
