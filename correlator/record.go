package correlator

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// record is one incident with its memory: ID, state and the steps that can not be told from the
// signals alone.
type record struct {
	id       incident.ID
	state    incident.State
	revision uint64
	into     incident.ID
	spans    []span // what it was made of at the last settling
	bundle   *bundle
	frozen   *incident.Incident // set when its signals are forgotten, or read from a snapshot
	start    millis
	end      millis
	closedAt millis
	steps    []incident.Step
	notes    []string
	sum      uint64
	silent   []incident.ClusterCoverage
}

// span is one episode by name, so that the next settling can find it again.
type span struct {
	Cluster    incident.ClusterName
	Key        subjectKey
	Start, End millis
}

type spanKey struct {
	cluster incident.ClusterName
	key     subjectKey
}

// reopenWithin is how long after its end the same trouble of the same thing is the same incident.
const reopenWithin = 3600 * 1000

// newID names an incident after the earliest signal it is made of.
func newID(b *bundle) incident.ID {
	var first *point
	var cluster incident.ClusterName
	for _, g := range b.groups {
		for _, e := range g.members {
			for i := range e.parts {
				p := &e.parts[i].tr.points[e.parts[i].from]
				if first == nil || p.t < first.t || p.t == first.t && p.id < first.id {
					first, cluster = p, e.cl.name
				}
			}
		}
	}
	sum := sha256.Sum256([]byte(string(cluster) + "\x00" + string(first.id)))
	return incident.ID("inc-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:12])
}

// carry ties the bundles to the incidents known so far: the incident that most of a bundle was
// part of goes on as that bundle, others that ended up in it are merged into it, and what left an
// incident becomes one of its own.
func (c *Correlator) carry(bundles []*bundle) {
	index := make(map[spanKey][]*record)
	for _, r := range c.live {
		for _, s := range r.spans {
			k := spanKey{s.Cluster, s.Key}
			if l := index[k]; len(l) == 0 || l[len(l)-1] != r {
				index[k] = append(l, r)
			}
		}
		r.bundle = nil
	}
	floor := c.now() - (c.cfg.Memory + c.cfg.Lateness + c.cfg.Quiet).Milliseconds()
	claims := c.claims(bundles, index, floor)
	slices.SortStableFunc(claims, func(a, b claim) int {
		return cmp.Or(-cmp.Compare(a.votes, b.votes), cmp.Compare(a.r.start, b.r.start), cmp.Compare(a.r.id, b.r.id))
	})
	owner := make(map[*bundle]*record)
	for _, cl := range claims {
		if cl.r.bundle == nil && owner[cl.b] == nil {
			cl.r.bundle, owner[cl.b] = cl.b, cl.r
		}
	}
	for _, b := range bundles {
		if !b.solid && !b.named || b.linkEnd < floor {
			continue
		}
		r := owner[b]
		if r == nil && !b.solid {
			continue // over before anybody could have looked
		}
		if r == nil {
			r = c.open(b, claims)
			owner[b] = r
		}
	}
	for _, r := range c.live {
		if r.bundle == nil && r.state != incident.Merged {
			c.dissolve(r, claims, owner)
		}
	}
	for _, r := range c.live {
		if r.bundle != nil {
			c.update(r)
		}
	}
	c.live = slices.DeleteFunc(c.live, func(r *record) bool { return r.state == incident.Merged || r.frozen != nil })
}

// claim says that a bundle holds this much of what a record was made of.
type claim struct {
	b     *bundle
	r     *record
	votes int
}

func (c *Correlator) claims(bundles []*bundle, index map[spanKey][]*record, floor millis) []claim {
	var out []claim
	quiet := c.cfg.Quiet.Milliseconds()
	for _, b := range bundles {
		if !b.solid && !b.named || b.linkEnd < floor {
			continue
		}
		votes := make(map[*record]int)
		for _, g := range b.groups {
			for _, e := range g.members {
				for _, r := range index[spanKey{e.cl.name, e.key}] {
					for _, s := range r.spans {
						if s.Key == e.key && s.Cluster == e.cl.name && s.Start <= e.linkEnd+quiet && s.End >= e.start-quiet {
							votes[r] += 1 + e.fires
						}
					}
				}
			}
		}
		for r, n := range votes {
			out = append(out, claim{b, r, n})
		}
	}
	return out
}

// open makes a record for a bundle that no record goes on as.
func (c *Correlator) open(b *bundle, claims []claim) *record {
	id := newID(b)
	for n := byte('a'); c.incidents[id] != nil; n++ { // taken by what it was split from
		id = id[:len(id)-1] + incident.ID(n)
	}
	r := &record{id: id, state: incident.Open, bundle: b, start: b.start}
	for _, cl := range claims {
		if cl.b == b && cl.r.bundle != nil && cl.r.bundle != b {
			at := fromMillis(c.now())
			cl.r.steps = append(cl.r.steps, incident.Step{Time: at, Kind: incident.StepSplit, Text: "part of it was found to be another incident: " + string(id)})
			r.steps = append(r.steps, incident.Step{Time: at, Kind: incident.StepSplit, Text: "was split from " + string(cl.r.id)})
			c.changed[cl.r.id] = true
			break
		}
	}
	c.incidents[id] = r
	c.live = append(c.live, r)
	c.changed[id] = true
	return r
}

// dissolve ends a record that nothing goes on as: what it was made of is part of another incident
// (it is merged), or turned out to be nothing.
func (c *Correlator) dissolve(r *record, claims []claim, owner map[*bundle]*record) {
	at := fromMillis(c.now())
	for _, cl := range claims {
		if cl.r != r {
			continue
		}
		if into := owner[cl.b]; into != nil && into != r {
			r.state, r.into = incident.Merged, into.id
			r.steps = append(r.steps, incident.Step{Time: at, Kind: incident.StepMerged, Text: "found to be part of " + string(into.id)})
			into.steps = append(into.steps, incident.Step{Time: at, Kind: incident.StepMerged, Text: string(r.id) + " was found to be part of this incident"})
			into.steps = append(into.steps, carried(r.steps)...)
			into.notes = append(into.notes, r.notes...)
			into.start = min(into.start, r.start)
			c.changed[r.id], c.changed[into.id] = true, true
			return
		}
	}
	if r.state == incident.Open {
		r.state, r.closedAt = incident.Closed, c.now()
		r.steps = append(r.steps, incident.Step{Time: at, Kind: incident.StepClosed, Text: "went away by itself"})
		c.changed[r.id] = true
	}
	r.frozen = c.last(r)
}

// carried returns what people and actions added to an incident.
func carried(steps []incident.Step) []incident.Step {
	var out []incident.Step
	for _, s := range steps {
		if s.Kind == incident.StepNote || s.Kind == incident.StepAction {
			out = append(out, s)
		}
	}
	return out
}

// update takes over the bundle's times and state and notes whether anything shown changed.
func (c *Correlator) update(r *record) {
	b := r.bundle
	r.start, r.end = b.start, b.end
	r.spans = r.spans[:0]
	for _, g := range b.groups {
		for _, e := range g.members {
			r.spans = append(r.spans, span{e.cl.name, e.key, e.start, e.linkEnd})
		}
	}
	r.silent = c.silentOf(b)
	over := !b.open && c.now() > b.end+c.cfg.Quiet.Milliseconds()
	if over && len(r.silent) > 0 && b.unresolved() {
		over = false
	}
	switch {
	case over && r.state == incident.Open:
		r.state, r.closedAt = incident.Closed, b.end
	case over:
		r.closedAt = b.end
	case r.state == incident.Closed:
		r.state, r.closedAt = incident.Open, 0
		r.steps = append(r.steps, incident.Step{Time: fromMillis(b.end), Kind: incident.StepReopened, Text: "fired again after closing"})
	}
	if sum := c.sum(r); sum != r.sum {
		r.sum = sum
		c.changed[r.id] = true
	}
}

// unresolved reports whether something in b was never said to be over.
func (b *bundle) unresolved() bool {
	for _, g := range b.groups {
		for _, e := range g.members {
			for i := range e.parts {
				if e.parts[i].resolves == 0 {
					return true
				}
			}
		}
	}
	return false
}

// silentOf returns the coverage of the clusters of b that could not be seen.
func (c *Correlator) silentOf(b *bundle) []incident.ClusterCoverage {
	var out []incident.ClusterCoverage
	for _, cov := range c.gaps {
		mine := !b.shared && len(b.groups) == 1 && b.groups[0].root.cl.name != cov.Cluster
		if !mine {
			out = append(out, cov)
		}
	}
	return out
}

// groups returns the groups of a live record in one cluster.
func (r *record) groups(cl *clusterState) []*group {
	if r.bundle == nil {
		return nil
	}
	var out []*group
	for _, g := range r.bundle.groups {
		if g.root.cl == cl {
			out = append(out, g)
		}
	}
	return out
}

// retire freezes what ended before floor and drops the oldest beyond the limit.
func (c *Correlator) retire(floor millis) {
	kept := c.live[:0]
	for _, r := range c.live {
		if r.state != incident.Open && r.end < floor {
			r.frozen = c.last(r)
			r.bundle, r.spans = nil, nil
			continue
		}
		kept = append(kept, r)
	}
	clear(c.live[len(kept):])
	c.live = kept
	if len(c.incidents) <= c.cfg.Closed+len(c.live) {
		return
	}
	var old []*record
	for _, r := range c.incidents {
		if r.frozen != nil || r.state == incident.Merged {
			old = append(old, r)
		}
	}
	slices.SortFunc(old, func(a, b *record) int { return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.id, b.id)) })
	for _, r := range old[:max(0, len(old)-c.cfg.Closed)] {
		delete(c.incidents, r.id)
		delete(c.changed, r.id)
	}
}

// Note puts a step of a person or an action on the timeline of an incident, following merges. A
// zero kind is a note. It returns an error wrapping incident.ErrNotFound for an unknown ID.
// Putting the same step again changes nothing.
func (c *Correlator) Note(id incident.ID, step incident.Step) error {
	r := c.incidents[id]
	for n := 0; r != nil && r.state == incident.Merged && n < 64; n++ {
		r = c.incidents[r.into]
	}
	if r == nil {
		return fmt.Errorf("correlator: incident %s: %w", id, incident.ErrNotFound)
	}
	if step.Kind == "" {
		step.Kind = incident.StepNote
	}
	for _, s := range r.steps {
		if s.Time.Equal(step.Time) && s.Kind == step.Kind && s.Text == step.Text {
			return nil
		}
	}
	r.steps = append(r.steps, step)
	if step.Kind == incident.StepNote {
		r.notes = append(r.notes, incident.Clip(step.Text, 1000))
	}
	if over := len(r.steps) - c.cfg.Members; over > 0 {
		r.steps = slices.Delete(r.steps, 0, over)
	}
	c.changed[r.id] = true
	return nil
}
