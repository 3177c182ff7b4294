package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/incident"
)

// KV is where feedback and past incidents are kept: a bucket of its own with compare-and-set.
// Missing keys are errors that wrap ErrNotFound; a lost race (Create of an existing key, Update
// of another revision) wraps ErrStale.
type KV interface {
	Get(ctx context.Context, key string) (value []byte, rev uint64, err error)
	Create(ctx context.Context, key string, value []byte) (rev uint64, err error)
	Update(ctx context.Context, key string, value []byte, rev uint64) (newRev uint64, err error)
	Keys(ctx context.Context) ([]string, error)
}

// kvAttempts bounds how often a write is repeated after a lost race.
const kvAttempts = 8

// change reads key into a T (zero when missing), lets f change it, and writes it back, repeating
// after a lost race. f may be called several times and says whether there is anything to write.
func change[T any](ctx context.Context, kv KV, key string, f func(*T) bool) (T, error) {
	for range kvAttempts {
		var v T
		b, rev, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, incident.ErrNotFound):
		case err != nil:
			return v, err
		default:
			if err := json.Unmarshal(b, &v); err != nil {
				return v, incident.Invalidf("key %s: %v", key, err)
			}
		}
		missing := err != nil
		if !f(&v) {
			return v, nil
		}
		nb, err := json.Marshal(v)
		if err != nil {
			return v, err
		}
		if missing {
			_, err = kv.Create(ctx, key, nb)
		} else {
			_, err = kv.Update(ctx, key, nb, rev)
		}
		if err == nil || !errors.Is(err, incident.ErrStale) {
			return v, err
		}
	}
	return *new(T), fmt.Errorf("key %s: %d writes lost the race: %w", key, kvAttempts, incident.ErrStale)
}
