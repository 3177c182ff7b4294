package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

// KV is one bucket: the newest value of each key, each write with a revision that grows over
// the whole bucket. Keys are any non-empty text up to 1,024 bytes; values are at most the
// server's payload limit.
type KV struct {
	b    *Bus
	name BucketName
}

// KV returns the bucket; it is made when first used.
func (b *Bus) KV(name BucketName) *KV { return &KV{b: b, name: name} }

// NATS marks a removed key by a message with this header.
const (
	headerKVOperation = "KV-Operation"
	kvDelete          = "DEL"
)

func isDelete(h nats.Header) bool { return h.Get(headerKVOperation) != "" }

func (k *KV) subject(key string) (string, error) {
	token, err := encodeKey(key)
	if err != nil {
		return "", fmt.Errorf("bucket %s: %w", k.name, err)
	}
	return subjectKV + string(k.name) + "." + token, nil
}

// Get reads the newest value from the leader, never from a cache. A key that does not exist, or
// was deleted, is ErrNotFound. The caller owns the slice.
func (k *KV) Get(ctx context.Context, key string) (value []byte, rev uint64, err error) {
	subject, err := k.subject(key)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := k.b.linked(ctx, k.b.cfg.AckTimeout)
	defer cancel()
	s, err := k.b.stream(ctx, k.b.bucketConfig(k.name))
	if err != nil {
		return nil, 0, err
	}
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return nil, 0, fmt.Errorf("bucket %s: key %q: %w", k.name, key, k.b.explain(translate(err)))
	}
	if isDelete(msg.Header) {
		return nil, 0, fmt.Errorf("bucket %s: key %q was deleted: %w", k.name, key, incident.ErrNotFound)
	}
	return msg.Data, msg.Sequence, nil
}

// Create writes a key that has never existed. One that exists, or existed and was deleted, is
// ErrStale: a claim once made cannot be made again.
func (k *KV) Create(ctx context.Context, key string, value []byte) (rev uint64, err error) {
	return k.Update(ctx, key, value, 0)
}

// Update writes the key if rev is still its newest revision, else ErrStale.
func (k *KV) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	return k.write(ctx, key, &nats.Msg{Data: value}, jetstream.WithExpectLastSequencePerSubject(rev))
}

// Put writes the key whatever it held.
func (k *KV) Put(ctx context.Context, key string, value []byte) (rev uint64, err error) {
	return k.write(ctx, key, &nats.Msg{Data: value})
}

// Delete hides the key if rev is its newest revision, else ErrStale. A marker stays, so that
// Create keeps refusing it.
func (k *KV) Delete(ctx context.Context, key string, rev uint64) error {
	msg := &nats.Msg{Header: nats.Header{headerKVOperation: []string{kvDelete}}}
	_, err := k.write(ctx, key, msg, jetstream.WithExpectLastSequencePerSubject(rev))
	return err
}

func (k *KV) write(ctx context.Context, key string, msg *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	subject, err := k.subject(key)
	if err != nil {
		return 0, err
	}
	msg.Subject = subject
	rev, err := k.b.publish(ctx, k.b.bucketConfig(k.name), msg, opts...)
	if err != nil {
		return 0, fmt.Errorf("bucket %s: key %q: %w", k.name, key, err)
	}
	return rev, nil
}

// Keys lists the keys that exist, oldest write first.
func (k *KV) Keys(ctx context.Context) ([]string, error) {
	var keys []string
	err := k.read(ctx, reader{headers: true}, func(key string, d delivery) error {
		if !isDelete(d.msg.Headers()) {
			keys = append(keys, key)
		}
		return nil
	})
	return keys, err
}

// All calls fn for every key that exists, oldest write first, and returns its error if it fails.
func (k *KV) All(ctx context.Context, fn func(key string, value []byte, rev uint64) error) error {
	return k.read(ctx, reader{}, func(key string, d delivery) error {
		if isDelete(d.msg.Headers()) {
			return nil
		}
		return fn(key, d.msg.Data(), d.seq)
	})
}

// Watch calls fn for every key, oldest write first, and then for every write, until ctx ends
// (nil) or fn fails (its error). value is nil for a deleted key. Revisions only grow; of writes
// to one key in quick succession only the last may be seen. No newest value is missed across
// reconnects and restarts. A decision that must not be late reads the key with Get.
func (k *KV) Watch(ctx context.Context, fn func(key string, value []byte, rev uint64) error) error {
	return k.read(ctx, reader{follow: true}, func(key string, d delivery) error {
		if isDelete(d.msg.Headers()) {
			return fn(key, nil, d.seq)
		}
		return fn(key, d.msg.Data(), d.seq)
	})
}

func (k *KV) read(ctx context.Context, r reader, fn func(key string, d delivery) error) error {
	r.stream = streamKV + string(k.name)
	prefix := subjectKV + string(k.name) + "."
	pause := backoff{base: 50 * time.Millisecond, max: k.b.cfg.AckTimeout}
	for {
		_, err := k.b.stream(ctx, k.b.bucketConfig(k.name))
		if err == nil {
			err = k.b.read(ctx, r, func(d delivery) error {
				key, err := decodeKey(strings.TrimPrefix(d.msg.Subject(), prefix))
				if err != nil {
					k.b.log.Warn("bus: key not written by us is left out", "bucket", k.name, "err", err)
					return nil
				}
				return fn(key, d)
			})
			if !errors.Is(err, errGone) {
				return err
			}
			k.b.forget(r.stream) // the bucket was removed: start over with a new one
		}
		if !r.follow {
			return err
		}
		if pause.wait(ctx) != nil {
			return nil
		}
	}
}
