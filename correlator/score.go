package correlator

import (
	"cmp"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// scope is the part of the fleet that a contrast is made in: one cluster, one region, or all.
type scope struct {
	cl     *clusterState
	region string
}

func (s scope) has(cl *clusterState) bool {
	return s.cl == cl || s.cl == nil && (s.region == "" || cl.inv.region == s.region)
}

// scopes returns one scope a region and one a cluster among the hits.
func scopes(hits []hit) []scope {
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
	var out []scope
	slices.Sort(regions)
	if len(regions) > 1 {
		for _, r := range regions {
			out = append(out, scope{region: r})
		}
	}
	if len(clusters) > 1 && len(clusters) < len(hits) && len(clusters) <= 64 {
		slices.SortFunc(clusters, func(a, b *clusterState) int { return cmp.Compare(a.name, b.name) })
		for _, cl := range clusters {
			out = append(out, scope{cl: cl})
		}
	}
	return out
}

// counts returns how many workloads of the scope hold the factor, and how many there are.
func (c *Correlator) counts(id factorID, in scope) (holders, workloads int) {
	if in.cl != nil {
		workloads = in.cl.inv.workloads
		if !in.cl.inv.known {
			workloads = len(in.cl.objects)
		}
		return in.cl.inv.holders(id), workloads
	}
	h := c.held[id]
	if in.region == "" {
		if h != nil {
			holders = h.total
		}
		return holders, c.workloads[""]
	}
	if h != nil {
		for _, x := range h.by {
			if x.cl.inv.region == in.region {
				holders += int(x.n)
			}
		}
	}
	return holders, c.workloads[in.region]
}

// countWorkloads sums the workloads of each region, and of all under "". A cluster that sent no
// inventory counts with the objects known of it.
func (c *Correlator) countWorkloads() {
	c.workloads = make(map[string]int)
	for _, cl := range c.order {
		n := cl.inv.workloads
		if !cl.inv.known {
			n = len(cl.objects)
		}
		c.workloads[""] += n
		if cl.inv.region != "" {
			c.workloads[cl.inv.region] += n
		}
	}
}

// hitIndex answers how many hits of a class there were at a time, for base rates.
type hitIndex struct {
	all   []*episode
	of    map[*clusterState][]*episode
	spans map[scope]*[classes]times
}

// times are the sorted starts and ends of hits.
type times struct{ starts, ends []millis }

func (c *Correlator) hitIndex(byFactor map[factorID][]hit, byPlace map[placeKey][]hit) *hitIndex {
	ix, seen := &hitIndex{of: make(map[*clusterState][]*episode), spans: make(map[scope]*[classes]times)}, make(map[*episode]bool)
	add := func(hits []hit) {
		for _, h := range hits {
			if !seen[h.e] {
				seen[h.e] = true
				ix.all = append(ix.all, h.e)
				ix.of[h.e.cl] = append(ix.of[h.e.cl], h.e)
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

// around counts the distinct hits of the classes in m between from and to in the scope.
func (ix *hitIndex) around(m *[classes]bool, from, to millis, in scope) int {
	t := ix.spans[in]
	if t == nil {
		t = &[classes]times{}
		es := ix.all
		if in.cl != nil {
			es = ix.of[in.cl]
		}
		for _, e := range es {
			if in.has(e.cl) {
				t[e.class].starts, t[e.class].ends = append(t[e.class].starts, e.start), append(t[e.class].ends, e.linkEnd)
			}
		}
		for k := range t {
			slices.Sort(t[k].starts)
			slices.Sort(t[k].ends)
		}
		ix.spans[in] = t
	}
	n := 0
	for k, on := range m {
		if on {
			begun, _ := slices.BinarySearch(t[k].starts, to+1)
			over, _ := slices.BinarySearch(t[k].ends, from)
			n += begun - over
		}
	}
	return n
}

// score weighs one factor against chance: how much more frequent it is among those hit than
// expected, how natural the failure is for it, and how unlikely so many at once are.
func (c *Correlator) score(id factorID, hits []hit, in scope, all *hitIndex) *candidate {
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
	holders, workloads := c.counts(id, in)
	holders = max(holders, k)
	workloads = max(workloads, holders)
	rate := float64(k) / float64(holders)
	if k < 2 || !convincing(hits, solid, rate) {
		return nil
	}
	natural /= weight
	first, last := hits[0].e.start, hits[0].e.linkEnd
	for _, h := range hits {
		last = max(last, h.e.linkEnd)
	}
	around := max(all.around(&classesOf, first, last, in), k)
	event := majority(hits).eventDriven() && natural >= 1
	evidence := excess(float64(k), float64(holders), float64(workloads), float64(around), event)
	if infrastructure(c.factors[id].name) || c.factors[id].name == incident.FactorNode {
		evidence += c.purity(id, hits, in)
	}
	changed := c.changedBefore(id, hits)
	switch f := c.factors[id].name; {
	case !event && (changed < 0 || natural < 1) && rate < 0.5 && k <= 3:
		return nil
	case (f == incident.FactorApplication || f == incident.FactorChart && changed < 0) && majority(hits) != classSync:
		return nil // the same name in several places
	}
	if evidence < 1 && (natural < 2.5 || infrastructure(c.factors[id].name)) {
		return nil // no contrast: those not hit have it as well
	}
	if f := c.factors[id].name; event && majority(hits) == classPull && f != incident.FactorImage && f != incident.FactorRegistry && changed < 0 && c.images(hits) > 1 {
		return nil // several images at once: what they are pulled from, not what was rolled out
	}
	plain := evidence + natural + changed - mixed(hits, rate >= 0.6 && changed >= 0)
	total := plain + c.coincidence(hits, weight)
	if total < accept {
		return nil
	}
	return &candidate{id: id, hits: hits, score: total, plain: plain, rolled: changed > 0, total: holders, workloads: workloads}
}

// purity is the weight of workloads that are spread over several nodes or zones failing only
// where they are on this one.
func (c *Correlator) purity(id factorID, hits []hit, in scope) float64 {
	name := c.factors[id].name
	if name == incident.FactorRegion || name == incident.FactorProvider {
		return 0
	}
	pure, impure := 0, 0
	for _, h := range hits {
		switch h.e.class {
		case classNode, classLost, classNet, classVolume:
		default:
			continue
		}
		if h.node || h.e.key.kind != "" {
			continue
		}
		one := true
		for _, f := range h.e.factors {
			one = one && (f == id || c.factors[f].name != name)
		}
		if one {
			pure++
		} else {
			impure++
		}
	}
	if pure < 3 || pure < 3*impure {
		return 0
	}
	holders, _ := c.counts(id, in)
	all := c.placed(name, hits)
	if holders == 0 || all <= holders {
		return 0
	}
	return float64(pure-impure) * math.Log(float64(all)/float64(holders))
}

// placed sums the holders of all values of a name in the clusters of the hits.
func (c *Correlator) placed(name incident.FactorName, hits []hit) int {
	seen, n := make(map[*clusterState]bool), 0
	for _, h := range hits {
		if cl := h.e.cl; !seen[cl] {
			seen[cl] = true
			for f := range cl.inv.counts {
				if c.factors[f].name == name {
					n += cl.inv.holders(f)
				}
			}
		}
	}
	return n
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

// convincing reports whether enough of the hits are more than passing: two, or one where nearly
// all holders fail alike, or many little ones at once.
func convincing(hits []hit, solid, rate float64) bool {
	switch {
	case solid >= 2:
		return true
	case solid == 1:
		for _, h := range hits {
			if h.e.class != hits[0].e.class || h.e.lone || h.e.points < 2 {
				return false
			}
		}
		return rate >= 0.7
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
	if c.begun > 0 && c.born[id] <= c.begun+c.cfg.Lateness.Milliseconds() {
		return -1.5 // it was there all along
	}
	if c.rolledIn(id, from, to) {
		return 2.5
	}
	return -1.5
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
	if e.told == nil {
		n := e.mostNamed()
		e.told = &n
	}
	return *e.told
}

func (e *episode) mostNamed() incident.CauseName {
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
	return a == classGeneric || b == classServe || b == classGeneric || akin(a, b)
}

// akin reports whether two ways to fail that both say a reason can have one.
func akin(a, b class) bool {
	if a > b {
		a, b = b, a
	}
	switch {
	case a == classCrash && (b == classOOM || b == classConfig):
		return true
	case a == classOOM && (b == classUsage || b == classProbe):
		return true
	case a == classNode && b == classLost, a == classLost && b == classNode, a == classSched && b == classLost, a == classLost && b == classNet, a == classNode && b == classNet:
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
