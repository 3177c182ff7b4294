package correlator

import (
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// adopt adds to an accepted factor what started meanwhile and fails alike: groups that hold it
// too but show only consequences, and those of the same clusters of which it is not known.
func (c *Correlator) adopt(b *bundle, cand *candidate, groups []*group, taken map[*group]bool) {
	if cand.placed {
		return
	}
	name, most, cause := c.factors[cand.id].name, majority(cand.hits), mostNamed(cand.hits)
	if name == incident.FactorRegistry && most != classPull {
		return
	}
	first, last := cand.hits[0].e.start-c.cfg.Skew.Milliseconds(), cand.hits[0].e.linkEnd
	in := make(map[*clusterState]bool)
	for _, h := range cand.hits {
		in[h.e.cl], last = true, max(last, h.e.linkEnd)
	}
	common := len(cand.hits)*10 >= cand.total*4 // most of its holders are hit
	for _, g := range groups {
		e := g.root
		if taken[g] || !in[e.cl] || g.start < first || g.start > last || !g.worth() || e.passing() || slices.Contains(b.groups, g) {
			continue
		}
		if n := e.narrow(); n != "" && n != cause {
			if k := c.kinds.of(string(n)); k != most && !akin(k, most) {
				continue
			}
		}
		switch {
		case slices.Contains(e.factors, cand.id):
			if !common || e.class != most && !e.class.consequence() && !akin(e.class, most) {
				continue
			}
		case e.class != most || most.consequence() || c.knows(e, name):
			continue
		case e.cl.inv.holders(cand.id)*10 < e.cl.inv.workloads*3:
			continue
		}
		b.groups = append(b.groups, g)
	}
	slices.SortFunc(b.groups, compareGroups)
}

// knows reports whether e has any value of the factor.
func (c *Correlator) knows(e *episode, name incident.FactorName) bool {
	return slices.ContainsFunc(e.factors, func(id factorID) bool { return c.factors[id].name == name })
}

// finer returns the first of several candidates that together account for what best does, if
// they do so better: two rollouts that fail at once in things that also have something in common.
func (c *Correlator) finer(best *candidate, cands []*candidate) *candidate {
	if best.placed {
		return best
	}
	whole := make(map[*group]bool)
	for _, h := range best.hits {
		whole[h.e.group] = true
	}
	var inside []*candidate
	for _, cand := range cands {
		v := cand.verdict
		if v == nil || v == best || !v.rolled || v.id == best.id {
			continue
		}
		n := make(map[*group]bool)
		for _, h := range v.hits {
			if !whole[h.e.group] {
				n = nil
				break
			}
			n[h.e.group] = true
		}
		if n != nil && len(n) < len(whole) {
			inside = append(inside, v)
		}
	}
	slices.SortFunc(inside, func(a, b *candidate) int {
		if c.better(a, b) {
			return -1
		}
		return 1
	})
	covered := make(map[*group]bool)
	sum, parts := 0.0, 0
	var first *candidate
	for _, v := range inside {
		if slices.ContainsFunc(v.hits, func(h hit) bool { return covered[h.e.group] }) {
			continue
		}
		for _, h := range v.hits {
			covered[h.e.group] = true
		}
		if first == nil {
			first = v
		}
		sum, parts = sum+v.plain, parts+1
	}
	if parts >= 2 && len(covered)*10 >= len(whole)*8 && sum-accept*float64(parts-1) > best.plain {
		return first
	}
	return best
}

// yield leaves to a rollout what fails in its way and not in that of the best candidate.
func (c *Correlator) yield(best *candidate, cands []*candidate) *candidate {
	if best.placed || best.rolled {
		return best
	}
	most := majority(best.hits)
	kept := slices.DeleteFunc(slices.Clone(best.hits), func(h hit) bool {
		return h.e.class != most && slices.ContainsFunc(cands, func(o *candidate) bool {
			v := o.verdict
			return v != nil && v.rolled && v.id != best.id && majority(v.hits) == h.e.class && slices.ContainsFunc(v.hits, func(x hit) bool { return x.e == h.e })
		})
	})
	if len(kept) == len(best.hits) || !spans(kept) {
		return best
	}
	out := *best
	out.hits = kept
	return &out
}

// judgePlace scores "all in one cluster" and "all in one namespace".
func (c *Correlator) judgePlace(cand *candidate) *candidate {
	hits := slices.Clone(cand.hits)
	slices.SortFunc(hits, func(a, b hit) int { return compareEpisodes(a.e, b.e) })
	least, gap := 3, millis(15*60*1000)
	if cand.place.kind == "Namespace" || hits[0].e.class == classNode || hits[0].e.class == classSched || hits[0].e.class == classControl {
		least = 2
	}
	if cand.place.namespace == "*" {
		least, gap = max(5, hits[0].e.cl.inv.workloads*15/100), 5*60*1000
	}
	var best *candidate
	for from := 0; from < len(hits); {
		to, solid, end := from, 0, hits[from].e.start
		for to < len(hits) && hits[to].e.start <= end+gap {
			end = max(end, hits[to].e.start)
			if hits[to].e.solid {
				solid++
			}
			to++
		}
		run := hits[from:to]
		from = to
		if len(run) < least || solid < least-1 || !spans(run) {
			continue
		}
		place, score := cand.place, accept+c.coincidence(run, float64(solid))/4
		if place.namespace == "*" {
			place, score = placeOf(run), accept
		}
		if got := (&candidate{place: place, placed: true, hits: run, score: score, total: len(run)}); best == nil || c.better(got, best) {
			best = got
		}
	}
	return best
}

// placeOf names where all of a burst is: a namespace, if it is one, else the cluster.
func placeOf(run []hit) subjectKey {
	cl := string(run[0].e.cl.name)
	for _, h := range run {
		if h.e.key.namespace != run[0].e.key.namespace || h.e.key.kind != "" {
			return subjectKey{kind: "Cluster", name: cl}
		}
	}
	return subjectKey{kind: "Namespace", namespace: cl, name: run[0].e.key.namespace}
}

// bundleOf joins the groups of an accepted candidate.
func (c *Correlator) bundleOf(cand *candidate) *bundle {
	b := &bundle{factor: cand.id, shared: !cand.placed, place: cand.place, total: cand.total}
	for _, h := range cand.hits {
		if !slices.Contains(b.groups, h.e.group) {
			b.groups = append(b.groups, h.e.group)
		}
	}
	slices.SortFunc(b.groups, compareGroups)
	return b
}
