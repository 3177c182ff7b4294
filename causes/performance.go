package causes

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// slowness is one look at the metrics: who became slow or hungry, and who calls whom.
type slowness struct {
	c         *scan
	workloads []*vitals
	nodes     []*vitals
	by        map[incident.Entity]*vitals
	callees   map[incident.Entity][]*vitals
	done      map[*vitals]bool // explained already
}

// performance names what makes workloads slow: CPU, throttling, memory, the network of a pod or
// of a node, a neighbour. A whole node slow together is the node; a chain of slow callers is its
// deepest entity whose own time grew.
func performance(c *scan) {
	ws, ns := c.measured()
	if len(ws)+len(ns) == 0 {
		return
	}
	m := &slowness{c: c, workloads: ws, nodes: ns, by: map[incident.Entity]*vitals{}, callees: map[incident.Entity][]*vitals{}, done: map[*vitals]bool{}}
	for _, v := range ws {
		m.by[v.entity.Key()] = v
	}
	for _, n := range c.needs() {
		if n.host.Service == nil {
			continue
		}
		to, _ := c.measuredEntity(cluster.EntityOf("Service", n.host.Service))
		if v := m.by[to.Key()]; v != nil && to.Key() != n.caller.Entity.Key() && !slices.Contains(m.callees[n.caller.Entity.Key()], v) {
			m.callees[n.caller.Entity.Key()] = append(m.callees[n.caller.Entity.Key()], v)
		}
	}
	m.nodeCPU()
	m.wholeNodes()
	m.podCPU()
	m.podNetwork()
	m.memory()
}

// on returns the measured workloads whose pods all run on a node.
func (m *slowness) on(node string) []*vitals {
	var out []*vitals
	for _, v := range m.workloads {
		if v.node == node && node != "" {
			out = append(out, v)
		}
	}
	return out
}

// nodeCPU names nodes without CPU left, and the neighbour that takes it.
func (m *slowness) nodeCPU() {
	for _, n := range m.nodes {
		cpu := n.level(metricCPU)
		if !cpu.known || cpu.high < 88 || cpu.growth() < 15 {
			continue
		}
		var hungry *vitals
		for _, v := range m.on(n.entity.Name) {
			if g := v.level(metricCPU).growth(); g > 0.3 && (hungry == nil || g > hungry.level(metricCPU).growth()) {
				hungry = v
			}
		}
		cores := m.cores(n.entity.Name)
		slow := slices.DeleteFunc(m.on(n.entity.Name), func(v *vitals) bool { _, _, ok := v.slowed(); return !ok || v == hungry })
		if hungry != nil && hungry.level(metricCPU).growth() > cores*cpu.growth()/100*0.5 {
			m.noisy(n, hungry, slow)
			continue
		}
		s := m.c.blame("NodeCPUSaturated", n.entity, 0.93, "node %s: CPU use went from %.0f %% to %.0f %%", n.entity.Name, cpu.base, cpu.high).explain(n.entity, "")
		m.seeShift(s, n.entity, "cpu", cpu, "%")
		for _, v := range slow {
			m.done[v] = true
			s.explain(v.entity, "").relate(v.entity)
			m.seeLatency(s, v)
		}
		s.propose(incident.CordonNode, n.entity, "keep new pods off node "+n.entity.Name)
		s.step(n.entity, "Find what uses the CPU of node %s outside the pods measured", n.entity.Name)
	}
}

func (m *slowness) cores(node string) float64 {
	if n, ok := m.c.Nodes.Get("", node); ok {
		q := n.Status.Allocatable[corev1.ResourceCPU]
		if x := q.AsApproximateFloat64(); x > 0 {
			return x
		}
	}
	return 4
}

func (m *slowness) noisy(n, hungry *vitals, slow []*vitals) {
	cause, score := incident.CauseName("NoisyNeighbour"), 0.92
	if len(slow) == 0 {
		return // it takes what is free
	}
	cpu := hungry.level(metricCPU)
	s := m.c.blame(cause, hungry.entity, score, "%s took %.1f cores of node %s (%.1f before); its neighbours became slow", hungry.entity, cpu.high, n.entity.Name, cpu.base)
	s.explain(hungry.entity, "").explain(n.entity, "").relate(n.entity).first(unixMilli(cpu.at))
	m.seeShift(s, hungry.entity, "cpu", cpu, " cores")
	m.seeShift(s, n.entity, "cpu", n.level(metricCPU), "%")
	m.done[hungry] = true
	for _, v := range slow {
		m.done[v] = true
		s.explain(v.entity, "").relate(v.entity)
		m.seeLatency(s, v)
	}
	if w := hungry.workload; w != nil && len(w.Template.Spec.Containers) > 0 {
		limit := fmt.Sprintf("%dm", int(max(cpu.base*2, 0.5)*1000))
		s.propose(incident.PatchResources, w.Entity, "limit the CPU of "+w.Entity.String()+" to "+limit, incident.ParamContainer, w.Template.Spec.Containers[0].Name, "limits.cpu", limit)
	}
}

// wholeNodes names nodes on which several workloads became slow while the rest, callers aside,
// did not. The median tells best who is slow itself; only where no median grew (lost packets)
// the tail does.
func (m *slowness) wholeNodes() {
	slow := slices.DeleteFunc(slices.Clone(m.workloads), func(v *vitals) bool { return m.done[v] || !v.slowedItself() })
	if len(slow) == 0 {
		slow = slices.DeleteFunc(slices.Clone(m.workloads), func(v *vitals) bool { return m.done[v] || v.pain() == 0 })
	}
	if m.oneExplains(slow) {
		return
	}
	for _, n := range m.c.Nodes.All() {
		var here []*vitals
		for _, v := range slow {
			if v.node == n.Name {
				here = append(here, v)
			}
		}
		if len(here) < 2 || len(here) < 3 && float64(len(here)) < 0.6*float64(len(m.on(n.Name))) || m.oneExplains(here) {
			continue
		}
		if !slices.ContainsFunc(slow, func(v *vitals) bool { return v.node != n.Name && !m.callsAny(v, here) }) {
			m.blameNode(n.Name, here)
			return
		}
	}
	m.crossing(slow)
}

// crossing names the node whose boundary all slow calls cross: a node's slow network makes
// callers on other nodes slow, too, while calls inside nodes stay quick. A node across whose
// boundary others call without becoming slow is not the one.
func (m *slowness) crossing(slow []*vitals) {
	best, bestHere := "", []*vitals(nil)
	for _, n := range m.c.Nodes.All() {
		var here []*vitals
		against := 0
		for _, v := range m.workloads {
			if !m.crosses(v, n.Name) {
				continue
			}
			if slices.Contains(slow, v) {
				here = append(here, v)
			} else if v.pain() == 0 && v.level(metricMedian).known {
				against++
			}
		}
		if len(here) < 3 || against*4 > len(here) || slices.ContainsFunc(slow, func(v *vitals) bool { return !slices.Contains(here, v) && !m.callsAny(v, here) }) {
			continue
		}
		if best != "" {
			return // two nodes would explain it: nothing decides between them
		}
		best, bestHere = n.Name, here
	}
	if best != "" {
		m.blameNode(best, bestHere)
	}
}

// crosses reports whether a workload calls over a node's boundary.
func (m *slowness) crosses(v *vitals, node string) bool {
	return slices.ContainsFunc(m.callees[v.entity.Key()], func(o *vitals) bool {
		return v.node != "" && o.node != "" && v.node != o.node && (v.node == node || o.node == node)
	})
}

// slowedItself reports whether the median latency grew.
func (v *vitals) slowedItself() bool {
	m := v.level(metricMedian)
	return m.known && m.growth() > max(15, 2*m.base)
}

// oneExplains reports whether one of the slow workloads accounts for all the others: they call
// it, or it calls them and is slower by far (their answers are late on its side).
func (m *slowness) oneExplains(slow []*vitals) bool {
	return slices.ContainsFunc(slow, func(x *vitals) bool {
		return !slices.ContainsFunc(slow, func(v *vitals) bool {
			return v != x && !m.reaches(v, x, 6) && !(m.reaches(x, v, 6) && x.pain() > 5*v.pain())
		})
	})
}

func (m *slowness) reaches(from, to *vitals, depth int) bool {
	if depth == 0 {
		return false
	}
	return slices.ContainsFunc(m.callees[from.entity.Key()], func(v *vitals) bool { return v == to || m.reaches(v, to, depth-1) })
}

func (m *slowness) callsAny(v *vitals, slow []*vitals) bool {
	return slices.ContainsFunc(slow, func(x *vitals) bool { return m.reaches(v, x, 6) })
}

func (m *slowness) blameNode(name string, slow []*vitals) {
	e := nodeEntity(name)
	var node *vitals
	for _, n := range m.nodes {
		if n.entity.Name == name {
			node = n
		}
	}
	cause, score := incident.CauseName("NodeNetworkDelay"), 0.88
	if node != nil && m.lossy(node) || !slices.ContainsFunc(slow, func(v *vitals) bool { return !v.heavyTail() }) || slices.ContainsFunc(slow, func(v *vitals) bool { return m.lossy(v) }) {
		cause = "NodeNetworkLoss"
	}
	s := m.c.blame(cause, e, score, "node %s: %d workloads on it became slow together; %s", name, len(slow), line(cause)).explain(e, "")
	if node != nil && node.level(metricRetransmit).known {
		m.seeShift(s, e, "TCP retransmits", node.level(metricRetransmit), "/s")
	}
	for _, v := range slow {
		m.done[v] = true
		s.explain(v.entity, "").relate(v.entity)
		m.seeLatency(s, v)
	}
	for _, v := range m.workloads {
		if m.callsAny(v, slow) {
			m.done[v] = true
		}
	}
	for _, v := range slow {
		m.coverCallees(v)
	}
	s.propose(incident.CordonNode, e, "keep new pods off node "+name)
	s.step(e, "See the network of node %s (interface errors, traffic shaping)", name)
}

// heavyTail reports whether only the slow requests became slower, as when some packets are lost
// and sent again after a timeout; a delay moves the median in step (1.2 to 3.4 times less than the
// tail on the development cases).
func (v *vitals) heavyTail() bool {
	med, tail, _ := v.slowed()
	return v.level(metricMedian).known && tail > 150 && med < 400 && tail > 6*(med+10)
}

// lossy reports whether segments are sent again far more than before.
func (m *slowness) lossy(v *vitals) bool {
	r := v.level(metricRetransmit)
	return r.known && r.growth() > 3 && r.high > 4*max(r.base, 0.5)
}

// podCPU names workloads that use all CPU they can get, or that their limit holds back.
func (m *slowness) podCPU() {
	for _, v := range m.workloads {
		if m.done[v] || v.workload == nil {
			continue
		}
		cpu, cfs := v.level(metricCPU), v.level(metricThrottle)
		limit := m.cpuLimit(v)
		rose := cpu.known && cpu.growth() > max(0.05, cpu.base) && (limit == 0 && cpu.growth() > 0.3 || limit > 0 && cpu.high > 0.5*limit || cfs.known && cfs.growth() > 0.05 && cfs.high > 3*cfs.base)
		held := cfs.known && cfs.growth() > 0.05 && cfs.high > 4*max(cfs.base, 0.01)
		med, tail, slow := v.slowed()
		hard := cfs.high >= 0.25 || limit > 0 && cpu.high > 0.6*limit || limit == 0 && cpu.growth() > 0.3
		if !rose && !held || !slow && !(hard && m.callerSlow(v)) && cfs.high < 0.3 {
			continue
		}
		cause := incident.CauseName("PodCPUSaturated")
		if !rose || held && cpu.growth() < 0.5*cpu.base {
			cause = "PodCPUThrottled"
		}
		if cause == "PodCPUThrottled" && cpu.known && limit > 0 && cpu.high < 0.2*limit && cfs.high < 0.15 {
			continue
		}
		score := 0.93
		if !slow {
			score = 0.8
		}
		s := m.c.blame(cause, v.entity, score, "%s: CPU use went from %.2f to %.2f cores (limit %.2f), throttled %.2f s/s", v.entity, cpu.base, cpu.high, limit, cfs.high).explain(v.entity, "").first(unixMilli(max(cpu.at, cfs.at)))
		m.seeShift(s, v.entity, "cpu", cpu, " cores")
		if cfs.known {
			m.seeShift(s, v.entity, "CPU throttling", cfs, " s/s")
		}
		if med+tail > 0 {
			m.seeLatency(s, v)
		}
		m.done[v] = true
		m.moreCPU(s, v, limit)
		if m.painBehind(v) < 0.25*m.worstPain() { // something else is far slower: this is not what was felt
			s.score = min(s.score, 0.6)
			s.level(incident.Warning)
			continue
		}
		m.coverCallers(s, v)
	}
}

// worstPain returns the largest pain of all workloads.
func (m *slowness) worstPain() float64 {
	worst := 0.0
	for _, v := range m.workloads {
		worst = max(worst, v.pain())
	}
	return worst
}

// painBehind returns the largest pain of a workload and those that call it.
func (m *slowness) painBehind(v *vitals) float64 {
	pain := v.pain()
	for _, o := range m.workloads {
		if o.pain() > pain && m.reaches(o, v, 6) && (v.pain() == 0 || inProportion(v, o)) {
			pain = o.pain()
		}
	}
	return pain
}

// callerSlow reports whether something that calls v became slow.
func (m *slowness) callerSlow(v *vitals) bool {
	return slices.ContainsFunc(m.workloads, func(o *vitals) bool {
		_, _, ok := o.slowed()
		return ok && slices.Contains(m.callees[o.entity.Key()], v)
	})
}

// coverCallers marks the callers of a slow workload as explained.
func (m *slowness) coverCallers(s *suspect, v *vitals) {
	for _, o := range m.workloads {
		if _, _, ok := o.slowed(); ok && o != v && m.reaches(o, v, 6) {
			m.done[o] = true
			s.explain(o.entity, "").relate(o.entity)
		}
	}
}

// coverCallees marks the callees of a slow workload that are slower by its side's fault only:
// they slowed little beside it.
func (m *slowness) coverCallees(v *vitals) {
	for _, o := range m.workloads {
		if o != v && o.pain() > 0 && o.pain() < v.pain()/5 && m.reaches(v, o, 6) {
			m.done[o] = true
		}
	}
}

// cpuLimit returns the CPU limit of all running pods together, in cores; 0 when there is none.
func (m *slowness) cpuLimit(v *vitals) float64 {
	sum := 0.0
	for i := range v.workload.Template.Spec.Containers {
		q, ok := v.workload.Template.Spec.Containers[i].Resources.Limits[corev1.ResourceCPU]
		if ok {
			sum += q.AsApproximateFloat64()
		}
	}
	return sum * float64(max(v.pods, 1))
}

func (m *slowness) moreCPU(s *suspect, v *vitals, limit float64) {
	w := v.workload
	if len(w.Template.Spec.Containers) == 0 || limit == 0 {
		return
	}
	ct := &w.Template.Spec.Containers[0]
	q, ok := ct.Resources.Limits[corev1.ResourceCPU]
	if !ok {
		return
	}
	more := resource.NewMilliQuantity(q.MilliValue()*2, resource.DecimalSI)
	s.propose(incident.PatchResources, w.Entity, "raise the CPU limit of container "+ct.Name+" from "+q.String()+" to "+more.String(), incident.ParamContainer, ct.Name, "limits.cpu", more.String())
	if w.Entity.Kind == "Deployment" && w.Desired > 0 {
		n := itoa(int(w.Desired) + 1)
		s.propose(incident.Scale, w.Entity, "scale "+w.Entity.String()+" to "+n, incident.ParamReplicas, n, incident.ParamFrom, itoa(int(w.Desired)))
	}
}

// pain is how much slower a workload became: the geometric mean of what median and tail grew by.
func (v *vitals) pain() float64 {
	med, tail, ok := v.slowed()
	if !ok {
		return 0
	}
	return math.Sqrt((med + 1) * (tail + 1))
}

// podNetwork names workloads whose own network makes them and their callers slow: from the
// slowest one down the calls as long as a callee slowed in proportion.
func (m *slowness) podNetwork() {
	for round := range 3 {
		slow := slices.DeleteFunc(slices.Clone(m.workloads), func(v *vitals) bool { return m.done[v] || v.pain() == 0 })
		if len(slow) == 0 {
			return
		}
		worst := slices.MaxFunc(slow, func(a, b *vitals) int {
			return cmp.Or(cmp.Compare(a.pain(), b.pain()), cmp.Compare(b.entity.Name, a.entity.Name))
		})
		v := m.deepest(worst)
		if round > 0 && v.pain() < 100 {
			return
		}
		m.blameNetwork(v, round)
	}
}

// deepest follows the calls down from v to the last one that slowed in proportion to its caller.
func (m *slowness) deepest(v *vitals) *vitals {
	seen := map[*vitals]bool{}
	for !seen[v] {
		seen[v] = true
		var next *vitals
		for _, o := range m.callees[v.entity.Key()] {
			if !m.done[o] && o.pain() > 0 && !seen[o] && inProportion(o, v) && (next == nil || o.pain() > next.pain()) {
				next = o
			}
		}
		if next == nil {
			return v
		}
		v = next
	}
	return v
}

// inProportion reports whether the callee's slowing can account for the caller's: a request may
// call it several times.
func inProportion(callee, caller *vitals) bool {
	cm, ct, _ := callee.slowed()
	pm, pt, _ := caller.slowed()
	if pm > 15 {
		return cm > 0.25*pm && ct > 0.05*pt
	}
	return callee.pain() > 0.3*caller.pain()
}

func (m *slowness) blameNetwork(v *vitals, round int) {
	cause := incident.CauseName("PodNetworkDelay")
	med, tail, _ := v.slowed()
	ok := v.level(metricSuccess)
	lost := m.lossy(v) || v.heavyTail() || ok.known && ok.base-ok.low > 0.05 && med < 30 && tail > 150
	if lost {
		cause = "PodNetworkLoss"
	}
	score := 0.9
	if round > 0 {
		score = 0.55
	}
	s := m.c.blame(cause, v.entity, score, "%s became slow without using more CPU (median +%.0f ms, tail +%.0f ms): %s", v.entity, med, tail, line(cause)).explain(v.entity, "")
	if round > 0 {
		s.level(incident.Warning)
	}
	m.done[v] = true
	m.seeLatency(s, v)
	if cpu := v.level(metricCPU); cpu.known {
		m.seeShift(s, v.entity, "cpu", cpu, " cores")
	}
	if r := v.level(metricRetransmit); r.known {
		m.seeShift(s, v.entity, "TCP retransmits", r, "/s")
	}
	if ok.known && lost {
		s.see("metrics", v.entity, "success rate", fmt.Sprintf("%.3f", ok.low), fmt.Sprintf("%.3f", ok.base))
	}
	m.coverCallers(s, v)
	m.coverCallees(v)
	if v.workload != nil {
		s.propose(incident.RolloutRestart, v.entity, "restart the pods of "+v.entity.String()+", on other nodes if possible")
	}
	s.step(v.entity, "See the network of the pods of %s (traffic shaping, interface errors, fault injection)", v.entity)
}

// memory names workloads close to their memory limit.
func (m *slowness) memory() {
	for _, v := range m.workloads {
		mem := v.level(metricMemory)
		if !mem.known || v.workload == nil {
			continue
		}
		sum := 0.0
		for i := range v.workload.Template.Spec.Containers {
			q := v.workload.Template.Spec.Containers[i].Resources.Limits[corev1.ResourceMemory]
			sum += q.AsApproximateFloat64()
		}
		limit := sum * float64(max(v.pods, 1))
		if limit == 0 || mem.high < 0.9*limit {
			continue
		}
		level := incident.Info
		if mem.growth() > 0.1*limit || mem.high > 0.95*limit {
			level = incident.Warning
		}
		s := m.c.blame("PodMemoryPressure", v.entity, 0.8, "%s uses %.0f MiB of the %.0f MiB it may", v.entity, mem.high/(1<<20), limit/(1<<20)).level(level).explain(v.entity, "")
		m.seeShift(s, v.entity, "memory", mem, " bytes")
		ct := &v.workload.Template.Spec.Containers[0]
		if q, ok := ct.Resources.Limits[corev1.ResourceMemory]; ok {
			more := resource.NewQuantity(q.Value()*3/2, resource.BinarySI)
			s.propose(incident.PatchResources, v.entity, "raise the memory limit of container "+ct.Name+" from "+q.String()+" to "+more.String(), incident.ParamContainer, ct.Name, "limits.memory", more.String())
		}
	}
}

// seeShift cites how a metric changed, when and by how much.
func (m *slowness) seeShift(s *suspect, e incident.Entity, what string, x shift, unit string) {
	s.see("metrics", e, what, fmt.Sprintf("%.4g%s", x.high, unit), fmt.Sprintf("%.4g%s before", x.base, unit))
	if x.at != 0 && len(s.ev) > 0 {
		at := unixMilli(x.at)
		s.ev[len(s.ev)-1].Time = &at
		s.first(at)
	}
}

func (m *slowness) seeLatency(s *suspect, v *vitals) {
	if x := v.level(metricMedian); x.known {
		m.seeShift(s, v.entity, "median latency", x, " ms")
	}
	if x := v.level(metricTail); x.known {
		m.seeShift(s, v.entity, "tail latency", x, " ms")
	}
}
