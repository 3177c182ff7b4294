package causes

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/incident"
)

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
