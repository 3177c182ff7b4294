package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// record is the stored form of an incident: what the correlator says of it, what the analyzer
// found, and what people and actions added. Fields are only added.
type record struct {
	Incident incident.Incident `json:"incident"`
	Finding  *incident.Finding `json:"finding,omitempty"`
	Steps    []incident.Step   `json:"steps,omitempty"` // of actions and people
}

// maxSteps bounds the steps that people and actions add to one incident.
const maxSteps = 200

// view is the incident as it is shown.
func (r record) view() incident.Incident {
	i := r.Incident
	i.Finding = r.Finding
	if r.Finding != nil {
		i.Proposals = r.Finding.Proposals
		if i.Confidence == 0 && len(r.Finding.Hypotheses) > 0 && r.Finding.Hypotheses[0].Cause == i.Cause {
			i.Confidence = r.Finding.Hypotheses[0].Confidence
		}
	}
	i.Timeline = append(slices.Clone(i.Timeline), r.Steps...)
	slices.SortStableFunc(i.Timeline, func(a, b incident.Step) int { return a.Time.Compare(b.Time) })
	return i
}

// store keeps incidents in the KV bucket. Writers in several processes are kept apart by
// compare-and-set; a lost race reads again. It is safe for concurrent use.
type store struct {
	kv *bus.KV
	mu sync.Mutex // one writer of this process at a time: races with ourselves are needless
}

func (s *store) load(ctx context.Context, id incident.ID) (record, uint64, error) {
	b, rev, err := s.kv.Get(ctx, string(id))
	if errors.Is(err, incident.ErrNotFound) {
		return record{}, 0, nil
	}
	if err != nil {
		return record{}, 0, fmt.Errorf("incident %s: %w", id, err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, 0, incident.Invalidf("incident %s: stored value: %v", id, err)
	}
	return r, rev, nil
}

// change reads the record of id, lets fn change it and writes it back.
func (s *store) change(ctx context.Context, id incident.ID, fn func(*record)) (record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		r, rev, err := s.load(ctx, id)
		if err != nil {
			return r, err
		}
		fn(&r)
		r.Incident.ID = id
		b, err := json.Marshal(r)
		if err != nil {
			return r, fmt.Errorf("incident %s: %w", id, err)
		}
		if rev == 0 {
			_, err = s.kv.Create(ctx, string(id), b)
		} else {
			_, err = s.kv.Update(ctx, string(id), b, rev)
		}
		if errors.Is(err, incident.ErrStale) {
			continue
		}
		return r, err
	}
}

// List returns open incidents, or all, newest first.
func (s *store) List(ctx context.Context, all bool) ([]incident.Incident, error) {
	var out []incident.Incident
	err := s.kv.All(ctx, func(_ string, value []byte, _ uint64) error {
		var r record
		if err := json.Unmarshal(value, &r); err != nil {
			return nil // of a newer version: shown by the newer process
		}
		if all || r.Incident.State == incident.Open {
			out = append(out, r.view())
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b incident.Incident) int { return b.OpenedAt.Compare(a.OpenedAt) })
	return out, err
}

// Get returns the incident of that ID, following merges.
func (s *store) Get(ctx context.Context, id incident.ID) (incident.Incident, error) {
	for range 64 { // merges form no circle; the bound is for damaged stores
		r, rev, err := s.load(ctx, id)
		if err != nil {
			return incident.Incident{}, err
		}
		if rev == 0 {
			return incident.Incident{}, fmt.Errorf("incident %s: %w: tocsin incidents list --all shows those there are", incident.Clip(string(id), 60), incident.ErrNotFound)
		}
		if r.Incident.MergedInto == "" {
			return r.view(), nil
		}
		id = r.Incident.MergedInto
	}
	return incident.Incident{}, incident.Invalidf("incident %s: merges form a circle", id)
}

// Watch calls fn with every incident and then with every change.
func (s *store) Watch(ctx context.Context, fn func(incident.Incident) error) error {
	return s.kv.Watch(ctx, func(_ string, value []byte, _ uint64) error {
		var r record
		if value == nil || json.Unmarshal(value, &r) != nil {
			return nil
		}
		return fn(r.view())
	})
}
