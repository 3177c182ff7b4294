package correlator

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// hold is how long an observation that is neither repeated nor resolved links to later ones.
const hold = 30 * 60 * 1000

// part is one stretch of firing of one track inside an episode: points[from:to].
type part struct {
	tr         *track
	from, to   int
	start, end millis // end: the resolution, or the newest observation when open
	open       bool
	fires      int
	seen       int    // fires at least again apart
	seenAt     millis // of the last of them
	resolves   int
}

// again is the least time between two observations that count as a repetition.
const again = 10 * 1000

// linkEnd is the time up to which p ties to what comes later.
func (p *part) linkEnd(now millis) millis {
	if p.unresolved() {
		return max(p.end, min(now, p.end+hold))
	}
	return p.end
}

// unresolved reports whether nobody said that it is over; it may be all the same (see open).
func (p *part) unresolved() bool { return p.resolves == 0 }

// episode is one stretch of trouble of one subject.
type episode struct {
	cl         *clusterState
	key        subjectKey
	entity     incident.Entity
	parts      []part
	start, end millis
	linkEnd    millis
	open       bool
	fires      int
	points     int // see weigh
	severity   incident.Severity
	class      class
	weights    [classes]int32
	solid      bool
	named      bool // a detector was sure of its cause, now or before
	lone       bool // solid only because one alert lasts
	factors    []factorID
	nodes      []string
	parent     *episode
	group      *group
	told       *incident.CauseName // what narrow found
	ambiguous  string              // why an alert could not be tied to one entity
}

// has reports whether any part of e is of class k.
func (e *episode) has(k class) bool { return e.weights[k] > 0 }

// blip is the least span a lone object must keep firing to count as more than a blip.
const blip = 20 * 60 * 1000

// sure is the confidence, in thousandths, from which a detector's finding opens an incident alone.
// Ours are calibrated: of those above it about nine in ten are right.
const sure = 700

// parts cuts a track into stretches of firing, oldest first.
func (t *track) parts(stale millis, now millis) []part {
	if t.cut != nil {
		return t.cut
	}
	gap := stale
	if t.kind == incident.Symptom { // what lasts is seen again; what is seen again later is new
		gap = min(stale, hold)
	}
	var out []part
	var cur *part
	for i, p := range t.points {
		if p.firing && cur != nil && cur.open && p.t > cur.end+gap {
			cur = nil
		}
		switch {
		case p.firing && (cur == nil || !cur.open):
			out = append(out, part{tr: t, from: i, to: i + 1, start: p.t, end: p.t, open: true, fires: 1, seen: 1, seenAt: p.t})
			cur = &out[len(out)-1]
		case p.firing:
			cur.to, cur.end, cur.fires = i+1, p.t, cur.fires+1
			if p.t >= cur.seenAt+again {
				cur.seen, cur.seenAt = cur.seen+1, p.t
			}
		case cur == nil: // a resolution whose firing never came
			out = append(out, part{tr: t, from: i, to: i + 1, start: p.t, end: p.t, resolves: 1})
			cur = &out[len(out)-1]
		default:
			cur.to, cur.end, cur.open, cur.resolves = i+1, p.t, false, cur.resolves+1
		}
	}
	if len(out) > 0 && t.dropped > 0 {
		out[0].start = min(out[0].start, t.droppedF)
		out[0].fires += t.dropped
		out[0].seen += min(t.dropped, 1+int((t.droppedL-t.droppedF)/again))
	}
	for i := range out { // never resolved, and not heard of for too long: over
		if p := &out[i]; p.open && (i < len(out)-1 || now > p.end+stale) {
			p.open = false
		}
	}
	if len(out) > 0 && !out[len(out)-1].open {
		t.cut = out
	}
	return out
}

// episodes groups the parts of one subject by time.
func (b *builder) episodes(key subjectKey, parts []part) []*episode {
	slices.SortFunc(parts, func(x, y part) int {
		return cmp.Or(cmp.Compare(x.start, y.start), compareEntities(x.tr.obj.entity, y.tr.obj.entity), cmp.Compare(x.tr.reason, y.tr.reason), cmp.Compare(x.tr.kind, y.tr.kind))
	})
	var out []*episode
	var cur *episode
	for _, p := range parts {
		if cur == nil || p.start > cur.reach(&p, b.now, b.quiet) {
			cur = &episode{cl: b.cl, key: key, start: p.start, end: p.end, linkEnd: p.linkEnd(b.now), severity: incident.Info}
			out = append(out, cur)
		}
		cur.parts = append(cur.parts, p)
		cur.end, cur.linkEnd = max(cur.end, p.end), max(cur.linkEnd, p.linkEnd(b.now))
		cur.open = cur.open || p.open
		cur.fires += p.fires
		if p.fires > 0 && p.tr.severity.Rank() > cur.severity.Rank() {
			cur.severity = p.tr.severity
		}
	}
	for _, e := range out {
		b.characterise(e)
	}
	return out
}

// reach is the time up to which a part still belongs to e. What passed by itself reaches only a
// little beyond its end, and an observation that was never resolved no further than the
// resolutions that came after it.
func (e *episode) reach(next *part, now, quiet millis) millis {
	resolved := millis(0)
	for i := range e.parts {
		if p := &e.parts[i]; p.resolves > 0 && p.end < next.start {
			resolved = max(resolved, p.end)
		}
	}
	to := millis(0)
	for i := range e.parts {
		p := &e.parts[i]
		slack := quiet
		end := p.linkEnd(now)
		switch {
		case p.resolves > 0 && (p.seen <= 2 || end-p.start < 5*60*1000) && p.tr.class == next.tr.class:
			slack = min(quiet, max(2*60*1000, end-p.start))
		case p.resolves > 0 && (p.seen <= 2 || end-p.start < 5*60*1000):
			slack = 60 * 1000
		case p.unresolved() && p.tr.kind == incident.Symptom && p.seen <= 2: // seen in passing
			end = p.end
		case p.unresolved() && resolved > p.end:
			end = resolved
			slack = quiet / 2
		}
		to = max(to, end+slack)
	}
	return to
}

// characterise sets class, weight, placement and entity of an episode.
func (b *builder) characterise(e *episode) {
	for i := range e.parts {
		p := &e.parts[i]
		w := int32(2 + min(p.seen, 4))
		if p.tr.kind == incident.Found {
			w *= 2
		}
		e.weights[p.tr.class] += w
		for _, v := range p.tr.votes {
			if v.conf >= 500 {
				if info, ok := incident.LookupCause(v.name); ok && !info.Generic {
					if k := b.kinds.refine(b.kinds.of(string(v.name)), p.tr.obj.entity.Kind, ""); !k.generic() {
						e.weights[k] += (v.conf + 200) / 400
					}
				}
			}
		}
		if n := b.nodeOf(p.tr); n != "" && !slices.Contains(e.nodes, n) {
			e.nodes = append(e.nodes, n)
		}
	}
	for i := range e.parts {
		if o := e.parts[i].tr.obj; o.labels != nil {
			e.ambiguous = b.ambiguity(o, e.parts[i].tr.reason)
		}
	}
	e.class = primary(&e.weights)
	if e.key.kind == "Node" {
		e.class = classNode
	}
	e.solid, e.named = e.weighty(b.now), e.firmly(false)
	e.entity = b.entityOf(e)
}

// ambiguity says which entities an alert's labels fit, if several.
func (b *builder) ambiguity(o *object, reason string) string {
	_, fits, ok := b.res.byLabels(o.labels)
	if !ok || len(fits) < 2 {
		return ""
	}
	names := make([]string, 0, len(fits))
	for _, k := range fits[:min(len(fits), 5)] {
		names = append(names, k.namespace+"/"+k.name)
	}
	return reason + " in " + string(b.cl.name) + " fits " + strconv.Itoa(len(fits)) + " entities: " + strings.Join(names, ", ")
}

// primary chooses the class that says most of the reason.
func primary(w *[classes]int32) class {
	best, most := classGeneric, int32(0)
	for k := class(1); k < classes; k++ {
		v := w[k] * 4
		if k.consequence() {
			v = w[k]
		}
		if v > most {
			best, most = k, v
		}
	}
	return best
}

// weight says how much there is to e, where one passing warning is 1: each distinct way it shows
// counts by how often it was repeated. What its sources call info does not count.
func (e *episode) weigh(now millis) (points int, longest millis, kinds, objects int) {
	var last *object
	for i := range e.parts {
		p := &e.parts[i]
		if p.fires == 0 || p.tr.severity == incident.Info {
			continue
		}
		n := min(p.seen, 3)
		if p.tr.kind == incident.Found {
			n *= 2
		} else if p.unresolved() && now-p.start > 5*60*1000 {
			n++
		}
		points += n
		kinds++
		if p.tr.obj != last {
			objects, last = objects+1, p.tr.obj
		}
		if p.tr.class == classJob || p.tr.class == classUsage {
			continue
		}
		end := p.end
		if p.unresolved() && p.tr.kind != incident.Symptom { // its source says when it is over
			end = p.linkEnd(now)
		}
		longest = max(longest, end-p.start)
	}
	return points, longest, kinds, objects
}

// weighty reports whether e is more than something that goes away by itself: it shows in several
// ways, or is repeated, or lasts.
func (e *episode) weighty(now millis) bool {
	points, longest, kinds, objects := e.weigh(now)
	e.points = points
	span := e.linkEnd - e.start
	switch {
	case e.firmly(false) && (e.firmly(true) || span >= 60*1000):
		// A detector names a cause and the trouble goes on, or went on for a minute: the incident
		// opens at once, and closes when the detector takes it back.
	case !e.open && span < 6*60*1000 && points < 7 && e.severity != incident.Critical:
		return false // over before anybody could have looked
	case points >= 5:
	case points >= 4 && (kinds >= 3 || objects >= 2):
	case points >= 3 && span >= 10*60*1000 && longest >= span/2:
	case e.key.kind == "Node" && e.severity == incident.Critical && span >= 2*60*1000:
	case longest >= blip && e.repeats() >= 2:
	case longest >= blip && e.alerted():
		e.lone = true
	default:
		return false
	}
	return true
}

// firmly reports whether there is a finding above info that a detector is sure of; going: one
// that is still firing.
func (e *episode) firmly(going bool) bool {
	for i := range e.parts {
		p := &e.parts[i]
		if p.tr.kind != incident.Found || going && !p.open || p.fires == 0 || p.tr.severity == incident.Info {
			continue
		}
		if slices.ContainsFunc(p.tr.votes, func(v vote) bool { return v.conf >= sure }) {
			return true
		}
	}
	return false
}

// repeats counts the firing signals above info.
func (e *episode) repeats() int {
	n := 0
	for i := range e.parts {
		if e.parts[i].tr.severity != incident.Info {
			n += e.parts[i].seen
		}
	}
	return n
}

// alerted reports whether an alert or a finding takes part, not only a raw symptom.
func (e *episode) alerted() bool {
	for i := range e.parts {
		if k := e.parts[i].tr.kind; e.parts[i].fires > 0 && (k == incident.Alert || k == incident.Found) {
			return true
		}
	}
	return false
}

// nodeOf returns the node a track's object is on: by its newest node factor, a related node, or
// the topology.
func (b *builder) nodeOf(t *track) string {
	if t.obj.entity.Kind == "Node" {
		return t.obj.entity.Name
	}
	best, at := "", millis(-1)
	for _, o := range t.obs {
		if f := &b.c.factors[o.id]; f.name == incident.FactorNode && (o.last > at || o.last == at && f.value < best) {
			best, at = f.value, o.last
		}
	}
	if best != "" {
		return best
	}
	for _, e := range t.related {
		if e.Kind == "Node" && (best == "" || e.Name < best) {
			best = e.Name
		}
	}
	if best != "" {
		return best
	}
	return b.cl.topo.runsOn[t.obj.entity]
}

// entityOf names the thing to repair for an episode.
func (b *builder) entityOf(e *episode) incident.Entity {
	k := e.key
	if k.kind != "" {
		ent := incident.Entity{Kind: k.kind, Namespace: k.namespace, Name: k.name}
		if k.kind == "Job" && len(e.parts) > 0 && e.parts[0].tr.obj.entity.Kind == "Job" {
			ent.Name = e.parts[0].tr.obj.entity.Name
		}
		return ent
	}
	if known, ok := b.res.known[k]; ok {
		return known
	}
	best := incident.Entity{}
	for i := range e.parts {
		if o := e.parts[i].tr.obj; !o.owner.IsZero() && o.owner.Name == k.name {
			return o.owner
		} else if best.IsZero() || compareEntities(o.entity, best) < 0 {
			best = o.entity
		}
	}
	if best.Kind == "Pod" || best.Kind == "ReplicaSet" { // the workload is known by its pods' names only
		kind := "Deployment"
		if i := len(k.name); len(best.Name) > i+1 && digits(best.Name[i+1:]) {
			kind = "StatefulSet"
		}
		if best.Name == k.name {
			kind = best.Kind
		}
		return incident.Entity{Kind: kind, Namespace: k.namespace, Name: k.name}
	}
	return best
}

// tally counts how often a factor was seen, and when last.
type tally struct {
	id   factorID
	n    int
	last millis
}

func count(byName map[incident.FactorName][]tally, name incident.FactorName, t tally) {
	l := byName[name]
	for i := range l {
		if l[i].id == t.id {
			l[i].n, l[i].last = l[i].n+t.n, max(l[i].last, t.last)
			return
		}
	}
	byName[name] = append(l, t)
}

// gather sets the factors of e that hold during it: of each single-valued name the value most of
// its signals carry, of placement all values.
func (b *builder) gather(e *episode) {
	byName := make(map[incident.FactorName][]tally)
	for i := range e.parts {
		p := &e.parts[i]
		for _, o := range p.tr.obs {
			if o.first <= p.end && o.last >= p.start && o.firing {
				count(byName, b.c.factors[o.id].name, tally{o.id, 2, min(o.last, p.end)})
			}
		}
	}
	earlier := make(map[incident.FactorName][]tally) // what was known of the subject before
	for _, tr := range b.bySubject[e.key] {
		for _, o := range tr.obs {
			if name := b.c.factors[o.id].name; len(byName[name]) == 0 && !placement(name) && o.first <= e.start+3*60*1000 {
				count(earlier, name, tally{o.id, 0, o.first})
			}
		}
	}
	maps.Copy(byName, earlier)
	b.infer(e, byName)
	for name, l := range byName {
		if placement(name) {
			for _, t := range l {
				e.factors = append(e.factors, t.id)
			}
			continue
		}
		best := l[0]
		for _, t := range l[1:] {
			if t.n > best.n || t.n == best.n && (t.last > best.last || t.last == best.last && b.c.factorLess(t.id, best.id)) {
				best = t
			}
		}
		e.factors = append(e.factors, best.id)
	}
	slices.Sort(e.factors)
}

// placement reports whether one workload can have several values of the factor at once.
func placement(n incident.FactorName) bool {
	switch n {
	case incident.FactorNode, incident.FactorZone, incident.FactorKubelet, incident.FactorKernel, incident.FactorDependency, incident.FactorHost, incident.FactorDNSName, incident.FactorPolicy, incident.FactorStorage, incident.FactorIssuer:
		return true
	}
	return false
}
