package correlator

import (
	"cmp"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// bundle is what becomes one incident: groups held to share a cause.
type bundle struct {
	groups     []*group
	factor     factorID
	shared     bool // factor is set
	place      subjectKey
	total      int
	changes    []changeRef
	start, end millis
	linkEnd    millis
	open       bool
	solid      bool
	named      bool // see episode: it may go on as an incident, not open one
}

// hit is one episode that a factor could account for.
type hit struct {
	e    *episode
	w    float64
	fit  float64 // of the factor with the way e fails
	node bool
}

// candidate is a factor, the hits it would account for, and how well it does so.
type candidate struct {
	id        factorID
	hits      []hit
	score     float64
	plain     float64 // score without the coincidence in time
	rolled    bool    // the value was rolled out shortly before
	total     int
	workloads int
	place     subjectKey
	placed    bool // id means nothing; place does
	judged    bool
	verdict   *candidate // what judge said of the hits as they are
}

// Thresholds of contrast, chosen on package simulate (2026-11-21).
const (
	accept      = 5.0 // least score of a factor
	leastEffect = 0.3 // a factor that breaks its holders breaks at least this share of them
)

// contrast joins groups that a shared factor accounts for. The groups are of all clusters,
// sorted by start.
func (c *Correlator) contrast(groups []*group) []*bundle {
	byFactor := make(map[factorID][]hit)
	byPlace := make(map[placeKey][]hit)
	for _, g := range groups {
		if !g.worth() {
			continue
		}
		for _, e := range g.members {
			c.collect(g, e, byFactor, byPlace)
		}
	}
	var cands []*candidate
	for id, hits := range byFactor {
		if promising(hits) {
			cands = append(cands, &candidate{id: id, hits: hits})
		}
	}
	for k, hits := range byPlace {
		if spans(hits) {
			cands = append(cands, &candidate{hits: hits, place: k.place, placed: true})
		}
	}
	var out []*bundle
	taken := make(map[*group]bool)
	all := c.hitIndex(byFactor, byPlace)
	for {
		var best *candidate
		live := cands[:0]
		for _, cand := range cands {
			before := len(cand.hits)
			cand.hits = slices.DeleteFunc(cand.hits, func(h hit) bool { return taken[h.e.group] })
			if !spans(cand.hits) {
				continue
			}
			live = append(live, cand)
			if len(cand.hits) != before || !cand.judged {
				cand.verdict, cand.judged = c.judge(cand, all), true
			}
			if cand.verdict != nil && (best == nil || c.better(cand.verdict, best)) {
				best = cand.verdict
			}
		}
		cands = live
		if best == nil {
			break
		}
		best = c.yield(c.finer(best, cands), cands)
		b := c.bundleOf(best)
		c.adopt(b, best, groups, taken)
		for _, g := range b.groups {
			taken[g] = true
		}
		out = append(out, b)
	}
	for _, g := range groups {
		if !taken[g] && (g.solid || g.named) {
			out = append(out, &bundle{groups: []*group{g}})
		}
	}
	return out
}

// worth reports whether a group may take part in a contrast: it is solid, or still going on, or
// more than one passing warning.
func (g *group) worth() bool {
	return g.root.severity != incident.Info && (g.solid || g.open || g.points >= 2)
}

type placeKey struct {
	place subjectKey
	class class
}

// collect files the factors of one episode.
func (c *Correlator) collect(g *group, e *episode, byFactor map[factorID][]hit, byPlace map[placeKey][]hit) {
	under := g.root.key.kind == "Node" && e != g.root
	own := e == g.root
	w := 1.0
	if !e.solid || e.lone {
		w = min(0.5, 0.12*float64(1+e.points))
	}
	for _, id := range e.factors {
		f := &c.factors[id]
		if !own && !(under && infrastructure(f.name)) || f.name == incident.FactorNode && g.root.key.kind == "Node" {
			continue
		}
		k := e.class
		if under && infrastructure(f.name) {
			k = classLost
		}
		if score := c.fits.of(f.name, k) + hint(f.name, e.narrow()); score > -5 {
			byFactor[id] = append(byFactor[id], hit{e: e, w: w, fit: score, node: under})
		}
	}
	if e != g.root {
		return
	}
	switch e.class {
	case classDNS, classControl, classNet, classSched, classVolume, classNode:
		k := placeKey{subjectKey{kind: "Cluster", name: string(e.cl.name)}, e.class}
		byPlace[k] = append(byPlace[k], hit{e: e, w: w, fit: 1})
	}
	switch e.class {
	case classGeneric, classServe, classUpstream, classProbe, classDNS, classQuota: // whatever it is, it is all over the cluster
		k := placeKey{subjectKey{kind: "Cluster", namespace: "*", name: string(e.cl.name)}, classGeneric}
		byPlace[k] = append(byPlace[k], hit{e: e, w: w, fit: 0})
	}
	switch e.class {
	case classQuota, classAdmit, classConfig, classNet:
		k := placeKey{subjectKey{kind: "Namespace", namespace: string(e.cl.name), name: e.key.namespace}, e.class}
		byPlace[k] = append(byPlace[k], hit{e: e, w: w, fit: 1})
	}
}

func infrastructure(n incident.FactorName) bool {
	switch n {
	case incident.FactorZone, incident.FactorRegion, incident.FactorProvider, incident.FactorKubelet, incident.FactorKernel:
		return true
	}
	return false
}

// promising reports whether hits could convince at all; most of what passes can not.
func promising(hits []hit) bool {
	solid := 0
	for i := range hits {
		if hits[i].e.solid && !hits[i].e.lone {
			solid++
		}
	}
	return (solid > 0 || len(hits) >= 4) && spans(hits)
}

// spans reports whether hits lie in two groups or more.
func spans(hits []hit) bool {
	for i := range hits {
		if hits[i].e.group != hits[0].e.group {
			return true
		}
	}
	return false
}

// better orders candidates: by score, then the smaller set of holders, then by name.
func (c *Correlator) better(a, b *candidate) bool {
	if math.Abs(a.score-b.score) > 1e-9 {
		return a.score > b.score
	}
	if a.placed != b.placed {
		return b.placed
	}
	if a.total != b.total {
		return a.total < b.total
	}
	if a.placed {
		return compareKeys(a.place, b.place) < 0
	}
	return c.factorLess(a.id, b.id)
}

func (c *Correlator) factorLess(a, b factorID) bool {
	x, y := &c.factors[a], &c.factors[b]
	return cmp.Or(cmp.Compare(rank(x.name), rank(y.name)), cmp.Compare(x.name, y.name), cmp.Compare(x.value, y.value), cmp.Compare(x.scope, y.scope)) < 0
}

// rank prefers, of factors that fit equally, the one a person would repair.
func rank(n incident.FactorName) int {
	switch n {
	case incident.FactorImage:
		return 0
	case incident.FactorConfigHash:
		return 1
	case incident.FactorGitRevision:
		return 2
	case incident.FactorPolicy, incident.FactorIssuer, incident.FactorHost, incident.FactorDNSName, incident.FactorStorage, incident.FactorKubelet:
		return 3
	case incident.FactorChart, incident.FactorKernel, incident.FactorZone:
		return 4
	case incident.FactorRegion, incident.FactorProvider, incident.FactorApplication:
		return 6
	}
	return 5
}

// judge scores a candidate in each scope that makes sense (fleet, region, cluster) and returns
// the best, or nil when none is good enough.
func (c *Correlator) judge(cand *candidate, all *hitIndex) *candidate {
	if cand.placed {
		return c.judgePlace(cand)
	}
	var best *candidate
	name := c.factors[cand.id].name
	wide := name == incident.FactorRegion || name == incident.FactorProvider
	try := func(hits []hit, in scope) {
		for _, run := range c.runs(cand.id, c.alike(name, hits)) {
			if !spans(run) {
				continue
			}
			at := in
			if wide && clustersOf(run) < 3 {
				continue
			}
			if one := oneCluster(run); one != nil { // the contrast is with the rest of that cluster
				at = scope{cl: one}
			}
			if got := c.score(cand.id, run, at, all); got != nil && (best == nil || c.better(got, best)) {
				best = got
			}
		}
	}
	try(cand.hits, scope{})
	if wide {
		return best
	}
	for _, in := range scopes(cand.hits) {
		var part []hit
		for _, h := range cand.hits {
			if in.has(h.e.cl) {
				part = append(part, h)
			}
		}
		if spans(part) {
			try(part, in)
		}
	}
	return best
}

func clustersOf(hits []hit) int {
	seen := make(map[*clusterState]bool)
	for _, h := range hits {
		seen[h.e.cl] = true
	}
	return len(seen)
}

// oneCluster returns the cluster that all hits are in, nil when there are several.
func oneCluster(hits []hit) *clusterState {
	for _, h := range hits {
		if h.e.cl != hits[0].e.cl {
			return nil
		}
	}
	return hits[0].e.cl
}

// alike keeps the hits that fail as most do, or in a way that is seen of the same fault. What
// fails in a way of its own is not accounted for by the factor, except where a whole place fails.
func (c *Correlator) alike(name incident.FactorName, hits []hit) []hit {
	most := majority(hits)
	cause := mostNamed(hits)
	var out []hit
	for _, h := range hits {
		if h.e.class != most && !h.node && (!related(h.e.class, most) || infrastructure(name) && h.e.class.consequence()) {
			continue
		}
		if n := h.e.narrow(); len(hits) >= 4 && n != "" && n != cause && !h.node {
			if k := c.kinds.of(string(n)); k != most && !akin(k, most) {
				continue // its own detector says something else
			}
		}
		out = append(out, h)
	}
	return out
}

// mostNamed returns the narrow cause that most hits name.
func mostNamed(hits []hit) incident.CauseName {
	n := make(map[incident.CauseName]float64)
	best := incident.CauseName("")
	for _, h := range hits {
		if name := h.e.narrow(); name != "" {
			n[name] += h.w
		}
	}
	for name, w := range n {
		if best == "" || w > n[best] || w == n[best] && name < best {
			best = name
		}
	}
	return best
}

// runs cuts hits into stretches without long gaps: hours for a factor that few hold, minutes for
// one that many do.
func (c *Correlator) runs(id factorID, hits []hit) [][]hit {
	byStart := func(a, b hit) int { return compareEpisodes(a.e, b.e) }
	if !slices.IsSortedFunc(hits, byStart) {
		slices.SortFunc(hits, byStart)
	}
	holders, workloads := c.counts(id, scope{})
	gap := c.cfg.Memory.Milliseconds() * 3 / 4
	if holders > 25 && holders*20 > workloads {
		gap = 20 * 60 * 1000
	}
	hits = near(hits)
	var out [][]hit
	var end millis
	for i, h := range hits {
		if i == 0 || h.e.start > end+gap {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], h)
		end = max(end, h.e.start, min(h.e.linkEnd, h.e.start+gap))
	}
	return out
}

// near drops the passing ones that are not close to a solid one that fails the same way, unless
// all are passing.
func near(hits []hit) []hit {
	const close = 15 * 60 * 1000
	var solid []hit
	for _, h := range hits {
		if h.e.solid {
			solid = append(solid, h)
		}
	}
	if len(solid) == 0 {
		return hits
	}
	return slices.DeleteFunc(slices.Clone(hits), func(h hit) bool {
		return !h.e.solid && !slices.ContainsFunc(solid, func(s hit) bool {
			return s.e.class == h.e.class && h.e.start >= s.e.start-close && h.e.start <= s.e.linkEnd
		})
	})
}

func compareGroups(a, b *group) int {
	return cmp.Or(cmp.Compare(a.start, b.start), compareEpisodes(a.root, b.root))
}
