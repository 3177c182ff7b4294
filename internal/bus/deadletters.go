package bus

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// DeadLetter is a message nobody could handle.
type DeadLetter struct {
	Stream   string                 // where it came from, such as SIGNALS_eu-1
	Seq      uint64                 // its sequence there
	Attempts int                    // how often it was tried
	Reason   incident.UntrustedText // the last error
	At       time.Time              // when it was parked
	Data     []byte                 // the message
}

// DeadLetters calls fn for every parked message, oldest first, and returns its error if it
// fails. Messages stay parked for 30 days or until newer ones need their room.
func (b *Bus) DeadLetters(ctx context.Context, fn func(DeadLetter) error) error {
	err := b.read(ctx, reader{stream: streamDead}, func(d delivery) error {
		h := d.msg.Headers()
		seq, _ := strconv.ParseUint(h.Get(headerSequence), 10, 64)
		attempts, _ := strconv.Atoi(h.Get(headerAttempts)) // headers of ours; 0 when somebody else wrote it
		return fn(DeadLetter{Stream: h.Get(headerStream), Seq: seq, Attempts: attempts,
			Reason: incident.UntrustedText(h.Get(headerReason)), At: d.at, Data: d.msg.Data()})
	})
	if errors.Is(err, errGone) {
		return nil // nothing was ever parked
	}
	return err
}
