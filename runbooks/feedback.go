package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Vote is one person's word on one page for one topic. The last word of a person counts.
type Vote struct {
	Topic string    `json:"topic"` // a cause, or an alert's name where no cause is known
	Path  string    `json:"path"`
	By    string    `json:"by"`
	Value int       `json:"value"` // 1: helped, 2: "this one was right", -1: did not apply, 0: takes the word back
	At    time.Time `json:"at"`
}

// Feedback keeps votes and turns them into a Bias. It is safe for concurrent use. Votes of one
// topic never touch another, and Value 0 undoes a vote completely.
type Feedback struct {
	kv KV
	mu sync.RWMutex
	by map[string]topicVotes // topic → page → person → vote
}

var _ Bias = (*Feedback)(nil)

type topicVotes map[string]map[string]Vote

// votesOf is the stored form: one key a topic.
type votesOf struct {
	Topic string          `json:"topic"`
	Votes map[string]Vote `json:"votes"` // by "person\x00page"
}

const (
	feedbackPrefix = "feedback."
	voteWeight     = 0.5   // of one vote on the ranking score; MaxBias bounds the sum
	maxVotes       = 5_000 // of one topic
)

// NewFeedback reads the votes in kv. A stored topic that cannot be read is left out and reported
// in the error, beside a Feedback that works.
func NewFeedback(ctx context.Context, kv KV) (*Feedback, error) {
	f := &Feedback{kv: kv, by: map[string]topicVotes{}}
	return f, f.Reload(ctx)
}

// Reload reads all votes again, e.g. those recorded by other replicas.
func (f *Feedback) Reload(ctx context.Context) error {
	keys, err := f.kv.Keys(ctx)
	if err != nil {
		return fmt.Errorf("feedback: %w", err)
	}
	var bad []error
	for _, k := range keys {
		if !strings.HasPrefix(k, feedbackPrefix) {
			continue
		}
		b, _, err := f.kv.Get(ctx, k)
		if errors.Is(err, incident.ErrNotFound) {
			continue
		}
		var v votesOf
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("feedback %s: %w", k, err))
			continue
		}
		f.take(v)
	}
	return errors.Join(bad...)
}

func (f *Feedback) take(v votesOf) {
	pages := topicVotes{}
	for _, vote := range v.Votes {
		if pages[vote.Path] == nil {
			pages[vote.Path] = map[string]Vote{}
		}
		pages[vote.Path][vote.By] = vote
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by[v.Topic] = pages
}

// Record stores a vote and applies it at once. Errors wrap ErrInvalid for a vote that cannot be.
func (f *Feedback) Record(ctx context.Context, v Vote) error {
	if v.Topic == "" || v.Path == "" || v.By == "" || len(v.Topic) > 253 || len(v.Path) > 1024 || len(v.By) > 253 || v.Value < -1 || v.Value > 2 {
		return incident.Invalidf("vote: topic, path and by are required, value is -1, 0, 1 or 2")
	}
	key := feedbackPrefix + string(incident.HashParts(v.Topic))[:24]
	stored, err := change(ctx, f.kv, key, func(s *votesOf) bool {
		s.Topic = v.Topic
		if s.Votes == nil {
			s.Votes = map[string]Vote{}
		}
		at := v.By + "\x00" + v.Path
		if old, ok := s.Votes[at]; ok && old.At.After(v.At) {
			return false // a later word of the same person is there already
		}
		if v.Value == 0 {
			delete(s.Votes, at)
		} else if len(s.Votes) < maxVotes {
			s.Votes[at] = v
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("feedback on %s: %w", incident.Clip(v.Path, 200), err)
	}
	f.take(stored)
	return nil
}

// Bias implements Bias: half a point a vote, within ±MaxBias.
func (f *Feedback) Bias(topic, path string) float64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	sum := 0
	for _, v := range f.by[topic][path] {
		sum += v.Value
	}
	return min(MaxBias, max(-MaxBias, voteWeight*float64(sum)))
}
