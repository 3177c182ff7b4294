package runbooks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Past is one resolved incident as it is remembered. Texts are untrusted and bounded.
type Past struct {
	ID       incident.ID         `json:"id"`
	Title    string              `json:"title"`
	Cause    incident.CauseName  `json:"cause,omitempty"`
	Factor   incident.FactorName `json:"factor,omitempty"`
	Value    string              `json:"factorValue,omitempty"`
	Kinds    []string            `json:"kinds,omitempty"`
	Entities []incident.Ref      `json:"entities,omitempty"` // roots first, at most 20
	Clusters int                 `json:"clusters"`
	Opened   time.Time           `json:"opened"`
	Closed   time.Time           `json:"closed"`
	Actions  []PastAction        `json:"actions,omitempty"` // in order, at most 20
	Notes    []string            `json:"notes,omitempty"`   // at most 10
	Text     string              `json:"text"`              // what it is found by
	Runbooks []string            `json:"runbooks,omitempty"`
	Severity incident.Severity   `json:"severity,omitempty"`
	Reasons  []string            `json:"reasons,omitempty"`
}

// PastAction is what was tried and what came of it.
type PastAction struct {
	Action  incident.ActionName   `json:"action"`
	Outcome incident.OutcomeState `json:"outcome"`
}

// Memory remembers resolved incidents and finds similar ones. It is safe for concurrent use.
// Nothing in it chooses an action: what worked before is shown to people and to ranking.
type Memory struct {
	kv  KV
	now func() time.Time

	mu    sync.Mutex
	past  map[incident.ID]Past
	index *Index
	fresh bool // index holds all of past
}

const (
	pastPrefix = "past."
	maxPast    = 20_000               // the oldest are no longer searched
	pastWindow = 90 * 24 * time.Hour  // what Similar speaks of
	keepPast   = 730 * 24 * time.Hour // older ones are no longer searched
)

// NewMemory reads what kv holds. Records that cannot be read are left out and reported in the
// error, beside a Memory that works.
func NewMemory(ctx context.Context, kv KV) (*Memory, error) {
	m := &Memory{kv: kv, now: time.Now, past: map[incident.ID]Past{}, index: NewIndex(Options{})}
	m.index.flat = true // words and structure are enough, and a close costs no embedding
	return m, m.Reload(ctx)
}

// Reload reads all records again, e.g. those of other replicas.
func (m *Memory) Reload(ctx context.Context) error {
	keys, err := m.kv.Keys(ctx)
	if err != nil {
		return fmt.Errorf("incident memory: %w", err)
	}
	var bad []error
	for _, k := range keys {
		id, ok := strings.CutPrefix(k, pastPrefix)
		if !ok || m.knows(incident.ID(id)) {
			continue
		}
		b, _, err := m.kv.Get(ctx, k)
		if errors.Is(err, incident.ErrNotFound) {
			continue
		}
		var p Past
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("incident memory %s: %w", k, err))
			continue
		}
		m.take(p)
	}
	return errors.Join(bad...)
}

func (m *Memory) knows(id incident.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.past[id]
	return ok
}

func (m *Memory) take(p Past) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.past[p.ID] = p
	m.fresh = false
}

// Remember stores a closed incident with what was tried, under its ID: remembering it again, e.g.
// with a later outcome, replaces the record. An open incident is refused with ErrInvalid.
func (m *Memory) Remember(ctx context.Context, inc incident.Incident, outcomes []incident.Outcome) error {
	if inc.ClosedAt == nil || inc.ID == "" {
		return incident.Invalidf("incident %q is not closed", inc.ID)
	}
	p := pastOf(inc, outcomes)
	_, err := change(ctx, m.kv, pastPrefix+string(inc.ID), func(old *Past) bool { *old = p; return true })
	if err != nil {
		return fmt.Errorf("incident memory: %w", err)
	}
	m.take(p)
	return nil
}

func pastOf(inc incident.Incident, outcomes []incident.Outcome) Past {
	q := QueryOf(inc, hypothesesOf(inc))
	p := Past{ID: inc.ID, Title: incident.Clip(inc.Title, 300), Cause: inc.Cause, Kinds: q.Facts.Kinds, Clusters: len(inc.Clusters), Opened: inc.OpenedAt,
		Closed: *inc.ClosedAt, Text: incident.Clip(q.Text, 4096), Severity: inc.Severity, Reasons: q.Facts.Reasons}
	if s := inc.Shared; s != nil {
		p.Factor, p.Value = s.Name, incident.Clip(s.Value, 300)
	}
	if inc.Root != nil {
		p.Entities = append(p.Entities, *inc.Root)
	}
	for _, mem := range inc.Members[:min(len(inc.Members), 20)] {
		p.Entities = append(p.Entities, incident.Ref{Cluster: mem.Cluster, Entity: mem.Entity})
	}
	for _, o := range outcomes[:min(len(outcomes), 20)] {
		p.Actions = append(p.Actions, PastAction{o.Action, o.State})
	}
	for _, n := range inc.Notes[:min(len(inc.Notes), 10)] {
		p.Notes = append(p.Notes, incident.Clip(n, 500))
	}
	if inc.Finding != nil {
		for _, h := range inc.Finding.Runbooks[:min(len(inc.Finding.Runbooks), 3)] {
			p.Runbooks = append(p.Runbooks, h.Path)
		}
	}
	return p
}

func hypothesesOf(inc incident.Incident) []incident.Hypothesis {
	if inc.Finding == nil {
		return nil
	}
	return inc.Finding.Hypotheses
}

// Similar is what happened before that resembles an incident.
type Similar struct {
	Past    []Past `json:"past"`    // most alike first, at most 10, all within the window
	Count   int    `json:"count"`   // of all alike within the window
	Days    int    `json:"days"`    // the window
	Summary string `json:"summary"` // "3 similar in 90 days; RolloutUndo verified twice, once no effect"; "" when none
}

// Similar finds past incidents like inc, itself left out. With a known cause only incidents of
// that cause are alike; without one, only those whose words are nearly the same.
func (m *Memory) Similar(ctx context.Context, inc incident.Incident, hyps []incident.Hypothesis) (Similar, error) {
	index, past, err := m.current(ctx)
	if err != nil {
		return Similar{}, err
	}
	q := QueryOf(inc, hyps)
	now := m.now()
	scores := index.covers(q)
	type ranked struct {
		p Past
		s float64
	}
	var list []ranked
	for _, p := range past {
		if p.ID == inc.ID || now.Sub(p.Closed) > pastWindow || p.Closed.After(now) {
			continue
		}
		s := alike(inc, p) + scores[string(p.ID)]
		if inc.Cause != "" && p.Cause != inc.Cause || inc.Cause == "" && scores[string(p.ID)] < wordsAlike {
			continue
		}
		list = append(list, ranked{p, s})
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.s, a.s), b.p.Closed.Compare(a.p.Closed), strings.Compare(string(a.p.ID), string(b.p.ID)))
	})
	out := Similar{Count: len(list), Days: int(pastWindow / (24 * time.Hour))}
	all := make([]Past, 0, len(list))
	for _, r := range list {
		all = append(all, r.p)
	}
	out.Past = all[:min(len(all), 10)]
	out.Summary = summarise(all, out.Days)
	return out, nil
}

// wordsAlike is the share of an incident's words, by weight, from which another with no known
// cause counts as alike.
const wordsAlike = 0.7

// alike scores shared structure: the factor's value, the blamed object, its name, the kind.
func alike(inc incident.Incident, p Past) float64 {
	s := 0.0
	if inc.Shared != nil && p.Factor == inc.Shared.Name {
		s++
		if p.Value == inc.Shared.Value {
			s++
		}
	}
	if inc.Root != nil {
		for _, e := range p.Entities {
			if e.Entity.Kind == inc.Root.Entity.Kind && e.Entity.Name == inc.Root.Entity.Name {
				return s + 1.5
			}
		}
		if slices.Contains(p.Kinds, inc.Root.Entity.Kind) {
			s += 0.3
		}
	}
	return s
}

// current returns the index over all records, building it anew when some came.
func (m *Memory) current(ctx context.Context) (*Index, []Past, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	all := make([]Past, 0, len(m.past))
	for _, p := range m.past {
		if now.Sub(p.Closed) <= keepPast {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Past) int {
		return cmp.Or(b.Closed.Compare(a.Closed), strings.Compare(string(a.ID), string(b.ID)))
	})
	all = all[:min(len(all), maxPast)]
	if !m.fresh {
		pages := make([]Runbook, len(all))
		for i, p := range all {
			text := p.Text + "\n" + strings.Join(p.Notes, "\n")
			pages[i] = Runbook{Path: string(p.ID), Title: p.Title, Hash: incident.HashParts(text), Sections: []Section{{Line: 1, Text: text}}}
		}
		if err := m.index.Replace(ctx, pages); err != nil {
			return nil, nil, fmt.Errorf("incident memory: %w", err)
		}
		m.fresh = true
	}
	return m.index, all, nil
}

// covers returns the share of the query's words, by weight, that each of the best pages has.
func (x *Index) covers(q Query) map[string]float64 {
	an := x.ans.Get().(*analyzer)
	defer x.ans.Put(an)
	st := x.state()
	out := map[string]float64{}
	for _, c := range st.c.candidates(st.c.terms(&q, an), nil) {
		out[c.doc.rb.Path] = c.cover
	}
	return out
}

// summarise counts outcomes by action: "3 similar in 90 days; RolloutUndo verified twice, once no
// effect".
func summarise(past []Past, days int) string {
	if len(past) == 0 {
		return ""
	}
	counts := map[incident.ActionName]map[incident.OutcomeState]int{}
	for _, p := range past {
		for _, a := range p.Actions {
			if counts[a.Action] == nil {
				counts[a.Action] = map[incident.OutcomeState]int{}
			}
			counts[a.Action][a.Outcome]++
		}
	}
	parts := []string{fmt.Sprintf("%d similar in %d days", len(past), days)}
	states := []struct {
		state incident.OutcomeState
		word  string
	}{{incident.OutcomeVerified, "verified"}, {incident.OutcomeNoEffect, "no effect"}, {incident.OutcomeWorse, "worse"}, {incident.OutcomeUndone, "undone"}, {incident.OutcomeFailed, "failed"}}
	for _, a := range incident.Actions() {
		var said []string
		for _, s := range states {
			n := counts[a][s.state]
			switch {
			case n == 0:
			case len(said) == 0:
				said = append(said, s.word+" "+times(n))
			default:
				said = append(said, times(n)+" "+s.word)
			}
		}
		if len(said) > 0 {
			parts = append(parts, string(a)+" "+strings.Join(said, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
