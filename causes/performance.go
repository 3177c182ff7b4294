package causes

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

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
