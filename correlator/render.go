package correlator

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/tocsin-io/tocsin/incident"
)

// render returns the incident of a record for the outside.
func (c *Correlator) render(r *record) incident.Incident {
	var inc incident.Incident
	switch {
	case r.frozen != nil:
		inc = *r.frozen
		inc.Timeline = slices.Clone(inc.Timeline)
	case r.bundle != nil:
		inc = c.picture(r)
	default:
		inc = incident.Incident{Title: "merged into " + string(r.into), Severity: incident.Info, OpenedAt: fromMillis(r.start), UpdatedAt: fromMillis(r.end)}
	}
	inc.ID, inc.State, inc.Revision, inc.MergedInto = r.id, r.state, r.revision, r.into
	inc.ClosedAt = nil
	if r.state == incident.Closed {
		at := fromMillis(r.closedAt)
		inc.ClosedAt = &at
	}
	inc.Timeline = append(inc.Timeline, r.steps...)
	slices.SortStableFunc(inc.Timeline, func(a, b incident.Step) int { return a.Time.Compare(b.Time) })
	inc.Notes = slices.Clone(r.notes)
	inc.Silent = slices.Clone(r.silent)
	return inc
}

// last returns the final picture of a record whose signals are about to be forgotten.
func (c *Correlator) last(r *record) *incident.Incident {
	if r.frozen != nil {
		return r.frozen
	}
	if r.bundle == nil {
		return &incident.Incident{Title: "went away by itself", Severity: incident.Info, OpenedAt: fromMillis(r.start), UpdatedAt: fromMillis(r.end), Signals: []incident.SignalID{}, Clusters: []incident.ClusterName{}}
	}
	inc := c.picture(r)
	return &inc
}

// picture draws the incident from its bundle.
func (c *Correlator) picture(r *record) incident.Incident {
	b := r.bundle
	inc := incident.Incident{OpenedAt: fromMillis(b.start), UpdatedAt: fromMillis(b.end), Severity: incident.Info, Signals: []incident.SignalID{}, Clusters: []incident.ClusterName{}}
	es := b.episodes()
	c.list(&inc, b, es)
	for _, e := range es {
		if e.severity.Rank() > inc.Severity.Rank() {
			inc.Severity = e.severity
		}
		if !slices.Contains(inc.Clusters, e.cl.name) {
			inc.Clusters = append(inc.Clusters, e.cl.name)
		}
	}
	if b.lone() { // nobody is called for one alert that nothing confirms
		inc.Severity = incident.Info
	}
	inc.Shared = c.sharedOf(b, es)
	inc.Root = c.rootOf(b)
	inc.Cause, inc.Confidence = c.causeOf(b, &inc)
	inc.Title = title(&inc)
	c.members(&inc, es)
	c.suspects(&inc, b)
	c.timeline(&inc, b, es, r)
	return inc
}

// episodes returns all episodes of b in the order of spread.
func (b *bundle) episodes() []*episode {
	var es []*episode
	for _, g := range b.groups {
		es = append(es, g.members...)
	}
	slices.SortFunc(es, compareEpisodes)
	return es
}

// lone reports whether all there is to b is one alert that lasts, and not a critical one.
func (b *bundle) lone() bool {
	for _, g := range b.groups {
		for _, e := range g.members {
			if e.solid && !e.lone || e.severity == incident.Critical {
				return false
			}
		}
	}
	return true
}

// list fills in the signal IDs, oldest first, up to the limit, and their count.
func (c *Correlator) list(inc *incident.Incident, b *bundle, es []*episode) {
	var pts []point
	dropped := 0
	for _, e := range es {
		for i := range e.parts {
			p := &e.parts[i]
			pts = append(pts, p.tr.points[p.from:p.to]...)
			if p.from == 0 {
				dropped += p.tr.dropped
			}
		}
	}
	for _, ch := range b.changes {
		pts = append(pts, ch.points...)
	}
	slices.SortFunc(pts, comparePoints)
	inc.Count = len(pts) + dropped
	if c.cfg.Listed > 0 && len(pts) > c.cfg.Listed {
		pts = pts[len(pts)-c.cfg.Listed:]
	}
	inc.Signals = make([]incident.SignalID, 0, len(pts))
	for _, p := range pts {
		inc.Signals = append(inc.Signals, p.id)
	}
}

// members lists the affected: roots first, then in the order of spread.
func (c *Correlator) members(inc *incident.Incident, es []*episode) {
	at := make(map[spanKey]int)
	for _, e := range es {
		k := spanKey{e.cl.name, e.key}
		i, ok := at[k]
		if !ok {
			inc.MembersTotal++
			if len(inc.Members) >= c.cfg.Members {
				continue
			}
			i = len(inc.Members)
			at[k] = i
			inc.Members = append(inc.Members, incident.Member{Cluster: e.cl.name, Entity: e.entity, First: fromMillis(e.start), Severity: incident.Info, Symptom: e.parent != nil})
		}
		m := &inc.Members[i]
		m.Last, m.Status = fromMillis(e.end), incident.Resolved
		if e.open {
			m.Status = incident.Firing
		}
		if e.severity.Rank() > m.Severity.Rank() {
			m.Severity = e.severity
		}
		m.Symptom = m.Symptom && e.parent != nil
		episodeMember(m, e)
		inc.Flapping = inc.Flapping || m.Flapping
	}
	slices.SortStableFunc(inc.Members, func(a, b incident.Member) int {
		if a.Symptom != b.Symptom {
			if b.Symptom {
				return -1
			}
			return 1
		}
		return 0
	})
	for _, e := range es {
		if e.parent != nil || len(inc.Evidence) >= 8 {
			continue
		}
		for i := range e.parts {
			for _, ev := range e.parts[i].tr.evidence {
				if len(inc.Evidence) < 8 {
					ev.ID = "e" + strconv.Itoa(len(inc.Evidence)+1)
					if ev.Object == nil {
						obj := e.parts[i].tr.obj.entity
						ev.Object = &obj
					}
					inc.Evidence = append(inc.Evidence, ev)
				}
			}
		}
	}
	if c.cfg.Members > 0 && inc.MembersTotal < len(inc.Members) {
		inc.MembersTotal = len(inc.Members)
	}
}

// episodeMember adds reasons, cause, count and flapping of one episode to its member.
func episodeMember(m *incident.Member, e *episode) {
	stretches := make(map[*track]int)
	for i := range e.parts {
		p := &e.parts[i]
		m.Signals += p.to - p.from
		if p.from == 0 {
			m.Signals += p.tr.dropped
		}
		if len(m.Reasons) < 8 && !slices.Contains(m.Reasons, p.tr.reason) {
			m.Reasons = append(m.Reasons, p.tr.reason)
		}
		for _, v := range p.tr.votes {
			if conf := float64(v.conf) / 1000; conf > m.Confidence || conf == m.Confidence && (m.Cause == "" || v.name < m.Cause) {
				m.Cause, m.Confidence = v.name, conf
			}
		}
		if stretches[p.tr]++; stretches[p.tr] >= 4 {
			m.Flapping = true
		}
	}
}

// suspects lists the changes before the first symptom, nearest first.
func (c *Correlator) suspects(inc *incident.Incident, b *bundle) {
	for _, ch := range b.changes {
		if !ch.cause {
			continue
		}
		inc.Changes = append(inc.Changes, incident.SuspectedChange{Signal: ch.points[0].id, Cluster: ch.cl.name, Entity: ch.tr.obj.entity, Time: fromMillis(ch.at), Reason: ch.tr.reason, Message: ch.tr.message,
			Before: incident.Seconds(float64(firstAfter(b, ch)-ch.at) / 1000)})
	}
	slices.SortStableFunc(inc.Changes, func(x, y incident.SuspectedChange) int { return x.Time.Compare(y.Time) })
	inc.Changes = inc.Changes[:min(len(inc.Changes), c.cfg.Members)]
}

// firstAfter returns the first symptom of what the change touched, else of its cluster, else of
// all.
func firstAfter(b *bundle, ch changeRef) millis {
	own, near := millis(0), millis(0)
	for _, g := range b.groups {
		for _, e := range g.members {
			if e.cl != ch.cl {
				continue
			}
			if near == 0 || e.start < near {
				near = e.start
			}
			if slices.Contains(ch.targets, e.key) && (own == 0 || e.start < own) {
				own = e.start
			}
		}
	}
	return cmp.Or(own, near, b.start)
}

// timeline draws the order of spread, growth and shrink, bounded.
func (c *Correlator) timeline(inc *incident.Incident, b *bundle, es []*episode, r *record) {
	var steps []incident.Step
	add := func(at millis, kind incident.StepKind, cl incident.ClusterName, e *incident.Entity, text string) {
		steps = append(steps, incident.Step{Time: fromMillis(at), Kind: kind, Cluster: cl, Entity: e, Text: text})
	}
	for i, e := range es {
		kind := incident.StepJoined
		if i == 0 {
			kind = incident.StepOpened
		}
		ent := e.entity
		add(e.start, kind, e.cl.name, &ent, e.parts[0].tr.reason)
		if !e.open {
			add(e.end, incident.StepLeft, e.cl.name, &ent, "recovered or quiet")
		}
	}
	for _, ch := range b.changes {
		ent := ch.tr.obj.entity
		add(ch.at, incident.StepChange, ch.cl.name, &ent, ch.tr.reason)
	}
	for _, cov := range r.silent {
		add(toMillis(cov.LastSeen), incident.StepSilent, cov.Cluster, nil, silentText(cov))
	}
	if r.state == incident.Closed {
		add(r.closedAt, incident.StepClosed, "", nil, "quiet")
	}
	slices.SortStableFunc(steps, func(a, b incident.Step) int { return a.Time.Compare(b.Time) })
	if over := len(steps) - c.cfg.Members; over > 0 {
		half := c.cfg.Members / 2
		cut := incident.Step{Time: steps[half].Time, Kind: incident.StepDropped, Text: strconv.Itoa(over+1) + " steps are not kept"}
		steps = append(append(slices.Clone(steps[:half]), cut), steps[half+over+1:]...)
	}
	inc.Timeline = steps
	for _, g := range b.groups {
		for _, e := range g.members {
			if e.ambiguous != "" && len(inc.Ambiguous) < 20 {
				inc.Ambiguous = append(inc.Ambiguous, e.ambiguous)
			}
		}
	}
}

// sum is a cheap fingerprint of everything of a record that is shown and can change.
func (c *Correlator) sum(r *record) uint64 {
	h := uint64(14695981039346656037)
	mix := func(v uint64) { h = (h ^ v) * 1099511628211 }
	b := r.bundle
	mix(uint64(len(r.state)))
	mix(uint64(b.factor))
	if b.shared {
		mix(1)
	}
	mix(uint64(len(b.groups)))
	mix(uint64(len(b.changes)))
	mix(uint64(len(r.steps)))
	mix(uint64(len(r.silent)))
	for _, g := range b.groups {
		for _, e := range g.members {
			mix(uint64(e.start))
			mix(uint64(e.end))
			mix(uint64(len(e.parts)))
			mix(uint64(e.fires))
			mix(uint64(e.class))
			if e.open {
				mix(2)
			}
		}
	}
	return h
}
