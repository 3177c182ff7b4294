package remediations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// KV is a compare-and-set bucket. Keys use [a-zA-Z0-9_.-] only and are never deleted by this
// package: a claim that could be won twice is no claim.
type KV interface {
	// Get returns incident.ErrNotFound for a key that does not exist.
	Get(ctx context.Context, key string) (value []byte, rev uint64, err error)
	// Create returns incident.ErrStale if the key exists or existed.
	Create(ctx context.Context, key string, value []byte) (rev uint64, err error)
	// Update returns incident.ErrStale when rev is not the key's last revision.
	Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error)
	Keys(ctx context.Context) ([]string, error)
}

// Log is an append-only stream for the audit trail.
type Log interface {
	// Append returns incident.ErrStale when lastSeq is not the last sequence (0: empty log). It
	// returns only after the entry is durable.
	Append(ctx context.Context, entry []byte, lastSeq uint64) (seq uint64, err error)
	// Read calls fn for each entry with sequence ≥ from, in order, up to the end at call time.
	Read(ctx context.Context, from uint64, fn func(seq uint64, entry []byte) error) error
}

// Commands is the work queue to one cluster's agent; at least once, in no order.
type Commands interface {
	Send(ctx context.Context, cluster incident.ClusterName, id string, payload []byte) error
}

// casTries bounds how often a lost compare-and-set is tried again. Losing needs another writer
// to win in between, so few are enough even with several replicas.
const casTries = 16

// load reads a JSON value; found is false when the key does not exist.
func load[T any](ctx context.Context, kv KV, key string) (v T, rev uint64, found bool, err error) {
	raw, rev, err := kv.Get(ctx, key)
	if errors.Is(err, incident.ErrNotFound) {
		return v, 0, false, nil
	}
	if err != nil {
		return v, 0, false, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, 0, false, fmt.Errorf("read %s: %w", key, incident.Invalidf("stored value: %v", err))
	}
	return v, rev, true, nil
}

// save writes v over revision rev; rev 0 creates the key.
func save(ctx context.Context, kv KV, key string, v any, rev uint64) (uint64, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	if rev == 0 {
		rev, err = kv.Create(ctx, key, raw)
	} else {
		rev, err = kv.Update(ctx, key, raw, rev)
	}
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

// update applies change to the value under key until a compare-and-set wins. change sees the
// zero value when the key does not exist; an error from it ends the update unchanged.
func update[T any](ctx context.Context, kv KV, key string, change func(v *T) error) (T, error) {
	for range casTries {
		v, rev, _, err := load[T](ctx, kv, key)
		if err != nil {
			return v, err
		}
		if err := change(&v); err != nil {
			return v, err
		}
		if _, err = save(ctx, kv, key, v, rev); !errors.Is(err, incident.ErrStale) {
			return v, err
		}
	}
	var zero T
	return zero, fmt.Errorf("write %s: lost %d compare-and-sets in a row: %w", key, casTries, incident.ErrStale)
}

// keyOf joins parts into a bucket key. Bytes outside [a-zA-Z0-9-] become _XX, so that no two
// different lists of parts share a key.
func keyOf(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		for _, c := range []byte(p) {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, "_%02x", c)
			}
		}
		if p == "" {
			b.WriteByte('_')
		}
	}
	return b.String()
}

// Key prefixes: p proposals (hub), plan fleet plans (hub), x executions (agent), lock and rates
// (both halves, each in its own bucket), breaker (hub), stop (shared).
const (
	keyProposal  = "p"
	keyPlan      = "plan"
	keyExecution = "x"
	keyLock      = "lock"
	keyRates     = "rates"
	keyBreaker   = "breaker"
	keyStop      = "stop"
)
