// Package audit keeps the trail of what was proposed, decided and done, so that it can be proved
// afterwards.
//
// Entries form a chain: each carries its number and the hash of the one before, so that a
// changed, removed, added or reordered entry is found by Verify. What was cut off at the end is
// found against a Checkpoint, which is to be kept outside of the store. An entry counts only
// when the log has it durably; Append returns after that, and nothing may be done on an error.
// Entries hold no secrets: callers mask what they append. A Chain is safe for concurrent use and
// several may append to one log.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Log is the append-only stream entries are kept in; see remediations.Log.
type Log interface {
	Append(ctx context.Context, entry []byte, lastSeq uint64) (seq uint64, err error)
	Read(ctx context.Context, from uint64, fn func(seq uint64, entry []byte) error) error
}

// Entry is one link. Number counts from 1; Prev is the Hash of the entry before, empty for the first.
type Entry struct {
	Number   uint64              `json:"number"`
	Prev     incident.Digest     `json:"prev"`
	Time     time.Time           `json:"time"`
	Kind     string              `json:"kind"` // proposal, verdicts, approval, dispatch, outcome, …
	Actor    string              `json:"actor"`
	Incident incident.ID         `json:"incident,omitempty"`
	Proposal incident.ProposalID `json:"proposal,omitempty"`
	Text     string              `json:"text"`
	Data     json.RawMessage     `json:"data,omitempty"`
	Hash     incident.Digest     `json:"hash"` // of everything above
}

func (e Entry) digest() incident.Digest {
	e.Hash = ""
	raw, err := json.Marshal(e)
	if err != nil {
		panic("audit: entry cannot be marshalled: " + err.Error())
	}
	return incident.HashParts("tocsin.audit.v1", string(raw))
}

// Checkpoint says how far a chain had come. Kept outside of the store it proves that nothing up
// to it was cut off or rewritten.
type Checkpoint struct {
	Number uint64          `json:"number"`
	Hash   incident.Digest `json:"hash"`
	Time   time.Time       `json:"time"`
}

// Chain appends to a log.
type Chain struct {
	log Log

	mu     sync.Mutex
	seq    uint64 // of the log, last seen
	number uint64
	last   incident.Digest
	loaded bool
}

// New returns the chain kept in log. Nothing is read before the first Append.
func New(log Log) *Chain { return &Chain{log: log} }

const appendTries = 16

// Append adds e (its Number, Prev, Time and Hash are set here) and returns when it is durable.
func (c *Chain) Append(ctx context.Context, e Entry) (Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range appendTries {
		if err := c.catchUp(ctx); err != nil {
			return Entry{}, err
		}
		e.Number, e.Prev, e.Time = c.number+1, c.last, time.Now().UTC()
		var err error
		if e.Data, err = compact(e.Data); err != nil {
			return Entry{}, err
		}
		e.Hash = e.digest()
		raw, err := json.Marshal(e)
		if err != nil {
			return Entry{}, fmt.Errorf("audit: %w", err)
		}
		seq, err := c.log.Append(ctx, raw, c.seq)
		if err == nil {
			c.seq, c.number, c.last = seq, e.Number, e.Hash
			return e, nil
		}
		// Whatever went wrong, what is in the log now has to be read again.
		c.loaded = false
		if !errors.Is(err, incident.ErrStale) {
			return Entry{}, fmt.Errorf("audit entry is not durable: %w", err)
		}
	}
	return Entry{}, fmt.Errorf("audit: %d others appended in between: %w", appendTries, incident.ErrStale)
}

func compact(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, incident.Invalidf("audit data: %v", err)
	}
	return b.Bytes(), nil
}

// catchUp reads what others appended. A chain that is broken is not added to.
func (c *Chain) catchUp(ctx context.Context) error {
	if c.loaded {
		return nil
	}
	err := c.log.Read(ctx, c.seq+1, func(seq uint64, raw []byte) error {
		e, err := parse(raw)
		if err != nil {
			return err
		}
		if err := e.follows(c.number, c.last); err != nil {
			return err
		}
		c.seq, c.number, c.last = seq, e.Number, e.Hash
		return nil
	})
	if err != nil {
		return fmt.Errorf("audit: read the end of the trail: %w", err)
	}
	c.loaded = true
	return nil
}

// parse reads one stored entry strictly: exactly what Append wrote, byte for byte.
func parse(raw []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, incident.Invalidf("audit entry: %v", err)
	}
	again, err := json.Marshal(e)
	if err != nil || !bytes.Equal(again, raw) {
		return e, incident.Invalidf("audit entry %d is not as it was written", e.Number)
	}
	return e, nil
}

func (e Entry) follows(number uint64, last incident.Digest) error {
	switch {
	case e.Number != number+1:
		return incident.Invalidf("audit entry %d follows entry %d: entries are missing or out of order", e.Number, number)
	case e.Prev != last:
		return incident.Invalidf("audit entry %d does not follow from entry %d: one of them was changed", e.Number, number)
	case e.Hash != e.digest():
		return incident.Invalidf("audit entry %d was changed", e.Number)
	}
	return nil
}

// Verify reads the whole log and returns how far it is intact. The error wraps ErrInvalid and
// names the first entry that is wrong, or the checkpoint that does not hold.
func Verify(ctx context.Context, log Log, checkpoints ...Checkpoint) (Checkpoint, error) {
	var at Checkpoint
	held := make([]bool, len(checkpoints))
	err := log.Read(ctx, 1, func(_ uint64, raw []byte) error {
		e, err := parse(raw)
		if err != nil {
			return fmt.Errorf("after entry %d: %w", at.Number, err)
		}
		if err := e.follows(at.Number, at.Hash); err != nil {
			return err
		}
		at = Checkpoint{e.Number, e.Hash, e.Time}
		for i, c := range checkpoints {
			if c.Number == e.Number {
				if c.Hash != e.Hash {
					return incident.Invalidf("audit entry %d is not the one of the checkpoint of %s: the trail was rewritten", e.Number, c.Time.Format(time.RFC3339))
				}
				held[i] = true
			}
		}
		return nil
	})
	if err != nil {
		return at, err
	}
	for i, c := range checkpoints {
		if !held[i] && c.Number > 0 {
			return at, incident.Invalidf("the trail ends at entry %d, the checkpoint of %s is at %d: the end was cut off", at.Number, c.Time.Format(time.RFC3339), c.Number)
		}
	}
	return at, nil
}

// Export writes the entries as JSON lines, after checking that they follow from each other, and
// returns the checkpoint of the last.
func Export(ctx context.Context, log Log, w io.Writer) (Checkpoint, error) {
	var at Checkpoint
	err := log.Read(ctx, 1, func(_ uint64, raw []byte) error {
		e, err := parse(raw)
		if err != nil {
			return err
		}
		if err := e.follows(at.Number, at.Hash); err != nil {
			return err
		}
		at = Checkpoint{e.Number, e.Hash, e.Time}
		_, err = w.Write(append(bytes.Clone(raw), '\n'))
		return err
	})
	return at, err
}
