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
	affected   int // holders of the factor that are hit
	total      int
	others     int
	othersOf   int
	changes    []changeRef
	start, end millis
	linkEnd    millis
	open       bool
	solid      bool
}

// hit is one episode that a factor could account for.
type hit struct {
	e    *episode
	w    float64
	fit  float64 // of the factor with the way e fails
	node bool
}

// fit tells how natural it is that the factor breaks things in way k: 3 natural, 0 possible,
// below -3 unlikely, -50 excluded. Event-driven says that only what starts meanwhile is hit, so
// that holders which run already say nothing.
func fit(name incident.FactorName, k class) (score float64, eventDriven bool) {
	const no = -50
	eventDriven = k == classPull || k == classQuota || k == classAdmit || k == classSched || k == classVolume
	type row = map[class]float64
	var t row
	other := float64(no)
	switch name {
	case incident.FactorImage:
		t, other = row{classCrash: 2, classOOM: 2, classConfig: 1, classProbe: 1.5, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 0, classGeneric: 0, classAdmit: -1, classTLS: -1, classJob: 1, classVolume: -3, classNet: -2, classSched: -2, classSync: 0}, -6
	case incident.FactorGitRevision, incident.FactorChart, incident.FactorApplication:
		t, other = row{classCrash: 1.5, classOOM: 1.5, classConfig: 2, classProbe: 1, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 1, classGeneric: 0.5, classAdmit: 1, classTLS: 0, classJob: 1, classVolume: 0, classNet: 0, classSched: 1, classSync: 2, classDNS: 0, classScaled: 1}, -6
	case incident.FactorConfigHash:
		t, other = row{classCrash: 2, classOOM: 1, classConfig: 2.5, classProbe: 1.5, classServe: 1.5, classUsage: 1, classUpstream: 1.5, classGeneric: 1, classTLS: 0.5, classJob: 1, classDNS: 1, classNet: 0, classVolume: -1, classSched: -1, classPull: -3}, -6
	case incident.FactorRegistry:
		t = row{classPull: 3}
	case incident.FactorNode:
		t = row{classLost: 3, classNode: 3, classNet: 2, classProbe: 1, classVolume: 1, classUsage: 1, classServe: 0, classGeneric: 0, classOOM: -1, classCrash: -1, classDNS: 0}
	case incident.FactorZone:
		t = row{classNode: 3, classLost: 2.5, classVolume: 1, classNet: 1.5, classSched: 1, classServe: 0, classProbe: 0, classUpstream: 0, classGeneric: 0, classCrash: -2, classDNS: -1}
	case incident.FactorRegion, incident.FactorProvider:
		t = row{classNode: 0.5, classLost: 0, classVolume: 0, classNet: 0.5, classSched: 0, classServe: -1, classUpstream: -1, classDNS: 0, classGeneric: -1, classControl: 0}
	case incident.FactorStorage:
		t = row{classVolume: 3, classProbe: -0.5, classServe: -0.5, classGeneric: -0.5, classCrash: -1, classSched: 0.5, classUpstream: -1}
	case incident.FactorDNSName:
		t = row{classDNS: 3, classUpstream: 0.5, classServe: 0.5, classTLS: 0, classProbe: -1, classGeneric: -1, classCrash: -1}
	case incident.FactorHost:
		t = row{classUpstream: 2.5, classServe: 1, classDNS: 1, classTLS: 1, classNet: 1, classProbe: 0, classCrash: 0, classGeneric: 0, classUsage: -1, classJob: 0}
	case incident.FactorIssuer:
		t = row{classTLS: 3, classUpstream: 0, classServe: 0, classProbe: -1, classCrash: -1, classGeneric: -1, classNet: -1}
	case incident.FactorPolicy:
		t = row{classAdmit: 3, classNet: 1.5, classUpstream: 0.5, classServe: 0, classGeneric: 0, classSched: -1, classProbe: -0.5, classDNS: 0, classCrash: -2}
	case incident.FactorKubelet, incident.FactorKernel:
		t = row{classNode: 2.5, classLost: 1, classNet: 1.5, classVolume: 1, classProbe: 0.5, classCrash: 0, classOOM: 0, classUsage: 0.5, classGeneric: 0, classServe: 0, classSched: -1, classDNS: 0, classUpstream: 0}
	case incident.FactorDependency:
		t = row{classUpstream: 2.5, classServe: 1.5, classProbe: 1, classCrash: 0.5, classGeneric: 0.5, classTLS: 0, classDNS: 0, classConfig: -1, classUsage: 0, classJob: 0}
	default:
		return 0, eventDriven
	}
	if v, ok := t[k]; ok {
		return v, eventDriven
	}
	return other, eventDriven
}

// candidate is a factor, the hits it would account for, and how well it does so.
type candidate struct {
	id        factorID
	hits      []hit
	score     float64
	total     int
	workloads int
	place     subjectKey
	placed    bool // id means nothing; place does
}

// Thresholds of contrast, chosen on package simulate (2026-11-21).
const (
	accept      = 5.0 // least score of a factor
	leastEffect = 0.3 // a factor that breaks its holders breaks at least this share of them
)

// contrast joins groups that a shared factor accounts for. The groups are of all clusters,
// sorted by start.
func (c *Correlator) contrast(groups []*group) []*bundle {
	c.noteRollouts()
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
		if spans(hits) {
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
	for len(cands) > 0 {
		var best *candidate
		live := cands[:0]
		for _, cand := range cands {
			cand.hits = slices.DeleteFunc(cand.hits, func(h hit) bool { return taken[h.e.group] })
			if !spans(cand.hits) {
				continue
			}
			live = append(live, cand)
			if got := c.judge(cand, all); got != nil && (best == nil || c.better(got, best)) {
				best = got
			}
		}
		cands = live
		if best == nil {
			break
		}
		b := c.bundleOf(best)
		for _, g := range b.groups {
			taken[g] = true
		}
		out = append(out, b)
	}
	for _, g := range groups {
		if !taken[g] {
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
	own := e == g.root || !e.class.consequence()
	w := 1.0
	if !e.solid || e.lone {
		w = min(0.5, 0.12*float64(1+e.points))
	}
	under := g.root.key.kind == "Node" && e != g.root
	for _, id := range e.factors {
		f := &c.factors[id]
		if !own && !(under && infrastructure(f.name)) || f.name == incident.FactorNode {
			continue
		}
		k := e.class
		if under && infrastructure(f.name) {
			k = classLost
		}
		if score, _ := fit(f.name, k); score > -5 {
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

// hitIndex holds the start times of all hits by class, for base rates.
type hitIndex struct {
	byClass [classes][]*episode
}

func (c *Correlator) hitIndex(byFactor map[factorID][]hit, byPlace map[placeKey][]hit) *hitIndex {
	ix, seen := &hitIndex{}, make(map[*episode]bool)
	add := func(hits []hit) {
		for _, h := range hits {
			if !seen[h.e] {
				seen[h.e] = true
				ix.byClass[h.e.class] = append(ix.byClass[h.e.class], h.e)
			}
		}
	}
	for _, hits := range byFactor {
		add(hits)
	}
	for _, hits := range byPlace {
		add(hits)
	}
	return ix
}

// around counts the distinct hits of the classes in m between from and to, in the clusters of
// scope (nil: all).
func (ix *hitIndex) around(m *[classes]bool, from, to millis, scope func(*clusterState) bool) int {
	n := 0
	for k, on := range m {
		if !on {
			continue
		}
		for _, e := range ix.byClass[k] {
			if e.start <= to && e.linkEnd >= from && (scope == nil || scope(e.cl)) {
				n++
			}
		}
	}
	return n
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
	try := func(hits []hit, scope func(*clusterState) bool) {
		for _, run := range c.runs(cand.id, alike(name, hits)) {
			if !spans(run) {
				continue
			}
			at := scope
			if one := oneCluster(run); one != nil { // the contrast is with the rest of that cluster
				if wide {
					continue
				}
				at = func(cl *clusterState) bool { return cl == one }
			}
			got := c.score(cand.id, run, at, all)
			if got != nil && (best == nil || c.better(got, best)) {
				best = got
			}
		}
	}
	try(cand.hits, nil)
	if wide {
		return best
	}
	for _, r := range c.scopes(cand.hits) {
		var in []hit
		for _, h := range cand.hits {
			if r(h.e.cl) {
				in = append(in, h)
			}
		}
		if spans(in) {
			try(in, r)
		}
	}
	return best
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
func alike(name incident.FactorName, hits []hit) []hit {
	most := majority(hits)
	var out []hit
	for _, h := range hits {
		if h.e.class == most || h.node || related(h.e.class, most) && !(infrastructure(name) && h.e.class.consequence()) {
			out = append(out, h)
		}
	}
	return out
}

// scopes returns one test a region and one a cluster among the hits, if there are several.
func (c *Correlator) scopes(hits []hit) []func(*clusterState) bool {
	var regions []string
	var clusters []*clusterState
	for _, h := range hits {
		if r := h.e.cl.inv.region; r != "" && !slices.Contains(regions, r) {
			regions = append(regions, r)
		}
		if !slices.Contains(clusters, h.e.cl) {
			clusters = append(clusters, h.e.cl)
		}
	}
	var out []func(*clusterState) bool
	slices.Sort(regions)
	for _, r := range regions {
		out = append(out, func(cl *clusterState) bool { return cl.inv.region == r })
	}
	slices.SortFunc(clusters, func(a, b *clusterState) int { return cmp.Compare(a.name, b.name) })
	for _, only := range clusters {
		out = append(out, func(cl *clusterState) bool { return cl == only })
	}
	return out
}

// runs cuts hits into stretches without long gaps: hours for a factor that few hold, minutes for
// one that many do.
func (c *Correlator) runs(id factorID, hits []hit) [][]hit {
	slices.SortFunc(hits, func(a, b hit) int { return compareEpisodes(a.e, b.e) })
	holders, workloads := c.counts(id, nil)
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

// counts returns how many workloads of the scope hold the factor, and how many there are.
func (c *Correlator) counts(id factorID, scope func(*clusterState) bool) (holders, workloads int) {
	for _, cl := range c.order {
		if cl.inv.known && (scope == nil || scope(cl)) {
			holders += cl.inv.holders(id)
			workloads += cl.inv.workloads
		}
	}
	return holders, workloads
}

// score weighs one factor against chance: how much more frequent it is among those hit than
// expected, how natural the failure is for it, and how unlikely so many at once are.
func (c *Correlator) score(id factorID, hits []hit, scope func(*clusterState) bool, all *hitIndex) *candidate {
	var classesOf [classes]bool
	var weight, natural, solid float64
	subjects := make(map[*clusterState]map[subjectKey]bool)
	k := 0
	for _, h := range hits {
		weight, natural = weight+h.w, natural+h.fit*h.w
		if h.e.solid && !h.e.lone {
			solid++
		}
		if subjects[h.e.cl] == nil {
			subjects[h.e.cl] = make(map[subjectKey]bool)
		}
		if !subjects[h.e.cl][h.e.key] {
			subjects[h.e.cl][h.e.key] = true
			k++
		}
		classesOf[h.e.class] = true
	}
	rate := float64(k) / float64(max(1, holdersIn(c, id, scope, k)))
	if k < 2 || !convincing(hits, solid, rate) {
		return nil
	}
	natural /= weight
	holders, workloads := c.counts(id, scope)
	holders = max(holders, k)
	workloads = max(workloads, holders, c.subjects(scope))
	first, last := hits[0].e.start, hits[0].e.linkEnd
	for _, h := range hits {
		last = max(last, h.e.linkEnd)
	}
	around := max(all.around(&classesOf, first, last, scope), k)
	_, event := fit(c.factors[id].name, majority(hits))
	event = event && natural >= 1
	evidence := excess(float64(k), float64(holders), float64(workloads), float64(around), event)
	changed := c.changedBefore(id, hits)
	if evidence < 1 && (natural < 2.5 || infrastructure(c.factors[id].name)) {
		return nil // no contrast: those not hit have it as well
	}
	if f := c.factors[id].name; event && majority(hits) == classPull && f != incident.FactorImage && f != incident.FactorRegistry && changed < 0 && c.images(hits) > 1 {
		return nil // several images at once: what they are pulled from, not what was rolled out
	}
	total := evidence + natural + c.coincidence(hits, weight) + changed - mixed(hits, rate >= 0.6 && changed >= 0)
	if total < accept {
		return nil
	}
	return &candidate{id: id, hits: hits, score: total, total: holders, workloads: workloads}
}

// images counts the distinct images among hits.
func (c *Correlator) images(hits []hit) int {
	seen := make(map[factorID]bool)
	for _, h := range hits {
		for _, id := range h.e.factors {
			if c.factors[id].name == incident.FactorImage {
				seen[id] = true
			}
		}
	}
	return len(seen)
}

func holdersIn(c *Correlator, id factorID, scope func(*clusterState) bool, k int) int {
	n, _ := c.counts(id, scope)
	return max(n, k)
}

// convincing reports whether enough of the hits are more than passing: two, or one where nearly
// all holders fail alike, or many little ones at once.
func convincing(hits []hit, solid, rate float64) bool {
	switch {
	case solid >= 2:
		return true
	case solid == 1:
		return rate >= 0.7 && len(hits) >= 2
	}
	return len(hits) >= 4 && hits[len(hits)-1].e.start-hits[0].e.start <= 10*60*1000
}

// changedBefore weighs whether the value of a factor that comes with rollouts was rolled out
// shortly before the trouble.
func (c *Correlator) changedBefore(id factorID, hits []hit) float64 {
	if !released(c.factors[id].name) {
		return 0
	}
	from, to := hits[0].e.start-suspectFar, hits[len(hits)-1].e.start+c.cfg.Skew.Milliseconds()
	for _, at := range c.rolled[id] {
		if at >= from && at <= to {
			return 2.5
		}
	}
	return -1.5
}

// noteRollouts lists when each value of a released factor was seen on a change.
func (c *Correlator) noteRollouts() {
	c.rolled = make(map[factorID][]millis)
	for _, cl := range c.order {
		for i := range cl.changes {
			ch := &cl.changes[i]
			for _, o := range ch.tr.obs {
				if o.first <= ch.at && ch.at <= o.last && released(c.factors[o.id].name) {
					c.rolled[o.id] = append(c.rolled[o.id], ch.at)
				}
			}
		}
	}
}

// excess is the log-likelihood ratio of k of holders being hit against the base rate. Where only
// what starts meanwhile is hit, holders that run already say nothing: then what counts is how
// unlikely it is that all k hold the factor by chance.
func excess(k, holders, workloads, around float64, event bool) float64 {
	if event {
		share := (holders + 0.5) / (workloads + 1)
		return k * math.Log(1/min(share, 1))
	}
	base := (around + 0.5) / (workloads + 1)
	r := min(max(k/holders, leastEffect), 0.97)
	if r <= base {
		return -2
	}
	return k*math.Log(r/base) + (holders-k)*math.Log((1-r)/(1-base))
}

// coincidence is the weight of several things failing alike so close in time.
func (c *Correlator) coincidence(hits []hit, weight float64) float64 {
	if len(hits) < 2 {
		return 0
	}
	gap := float64(hits[len(hits)-1].e.start-hits[0].e.start) / float64(len(hits)-1) / 60_000
	each := 2.5
	switch {
	case gap > 60:
		each = 0.3
	case gap > 20:
		each = 0.8
	case gap > 5:
		each = 1.6
	}
	return min((weight-1)*each, 10)
}

// mixed is the cost of members that fail in another way than most, more where it is not clear
// that the factor breaks its holders.
func mixed(hits []hit, clear bool) float64 {
	most := majority(hits)
	cost := 0.0
	for _, h := range hits {
		if h.e.class == most || h.node {
			continue
		}
		d := 0.7
		if !clear {
			d = 2
		}
		cost += d * h.w
	}
	named := make(map[incident.CauseName]float64) // what detectors that are sure say
	sum, top := 0.0, 0.0
	for _, h := range hits {
		if n := h.e.narrow(); n != "" && !h.node {
			named[n] += h.w
			sum, top = sum+h.w, max(top, named[n])
		}
	}
	if clear {
		return cost + 0.7*(sum-top)
	}
	return cost + 5*(sum-top)
}

// narrow returns the narrow cause that most signals of e name with confidence, or "".
func (e *episode) narrow() incident.CauseName {
	best, most := incident.CauseName(""), int32(0)
	n := make(map[incident.CauseName]int32)
	for i := range e.parts {
		for _, v := range e.parts[i].tr.votes {
			if info, ok := incident.LookupCause(v.name); v.conf >= 500 && ok && !info.Generic && info.Family != incident.FamilyFleet {
				n[v.name] += v.conf
			}
		}
	}
	for name, w := range n {
		if w > most || w == most && name < best {
			best, most = name, w
		}
	}
	return best
}

// related reports whether two ways to fail are seen of one fault.
func related(a, b class) bool {
	soft := func(k class) bool {
		switch k {
		case classCrash, classProbe, classServe, classGeneric, classUpstream, classUsage, classJob:
			return true
		}
		return false
	}
	if soft(a) && soft(b) {
		return true
	}
	if a > b {
		a, b = b, a
	}
	switch {
	case a == classGeneric, b == classServe, b == classGeneric:
		return true
	case a == classCrash && (b == classOOM || b == classConfig):
		return true
	case a == classOOM && (b == classUsage || b == classProbe):
		return true
	case a == classNode && (b == classLost), a == classLost && b == classNode, a == classSched && b == classLost:
		return true
	case a == classDNS && b == classUpstream, a == classTLS && b == classUpstream, a == classUpstream && b == classNet:
		return true
	case a == classAdmit && b == classNet, a == classQuota && b == classAdmit, a == classSched && b == classVolume:
		return true
	}
	return false
}

// majority returns the class most hits have; the smaller one among equals.
func majority(hits []hit) class {
	var n [classes]float64
	for _, h := range hits {
		n[h.e.class] += h.w
	}
	best := class(0)
	for k := range n {
		if n[k] > n[best] {
			best = class(k)
		}
	}
	return best
}

// judgePlace scores "all in one cluster" and "all in one namespace".
func (c *Correlator) judgePlace(cand *candidate) *candidate {
	hits := slices.Clone(cand.hits)
	slices.SortFunc(hits, func(a, b hit) int { return compareEpisodes(a.e, b.e) })
	least, gap := 3, millis(15*60*1000)
	if cand.place.kind == "Namespace" || hits[0].e.class == classNode || hits[0].e.class == classSched || hits[0].e.class == classControl {
		least = 2
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
		score := accept + c.coincidence(run, float64(solid))/4
		if got := (&candidate{place: cand.place, placed: true, hits: run, score: score, total: len(run)}); best == nil || c.better(got, best) {
			best = got
		}
	}
	return best
}

// subjects returns how many subjects are known of the clusters in scope that sent no inventory.
func (c *Correlator) subjects(scope func(*clusterState) bool) int {
	n := 0
	for _, cl := range c.order {
		if !cl.inv.known && (scope == nil || scope(cl)) {
			n += len(cl.objects)
		}
	}
	return n
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

func compareGroups(a, b *group) int {
	return cmp.Or(cmp.Compare(a.start, b.start), compareEpisodes(a.root, b.root))
}
