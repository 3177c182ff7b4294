package causes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// unschedulable returns the pods that the scheduler has tried and could not place, one per
// workload (the first by name), with its last word.
func (c *scan) unschedulable() []pendingPod {
	var out []pendingPod
	for _, w := range c.Workloads() {
		for _, p := range live(w) {
			if p.Spec.NodeName != "" || p.Status.Phase != corev1.PodPending && p.Status.Phase != "" {
				continue
			}
			pp := pendingPod{pod: p, workload: w}
			if ev := c.lastWarning(podEntity(p), "FailedScheduling"); ev != nil && !has(ev.Message, "skip schedule deleting pod") {
				pp.message, pp.event = ev.Message, ev
			}
			for _, cond := range p.Status.Conditions {
				if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse && cond.Reason == corev1.PodReasonUnschedulable && pp.message == "" {
					pp.message = cond.Message
				}
			}
			// Without a word of the scheduler (events end after an hour, or were not seen) the nodes
			// themselves may tell; see unplaced.
			if pp.message != "" || c.age(p.CreationTimestamp.Time) > time.Minute && len(p.Spec.SchedulingGates) == 0 {
				out = append(out, pp)
				break
			}
		}
	}
	return out
}

// pendingPod is a pod without a node and what the scheduler said about it.
type pendingPod struct {
	pod      *corev1.Pod
	workload *cluster.Workload
	message  string
	event    *corev1.Event // nil: only the condition told
}

// cite adds the scheduler's word to a suspect and says what it explains.
func (p pendingPod) cite(s *suspect) *suspect {
	s.explain(p.workload.Entity, "").explain(podEntity(p.pod), "Unschedulable").relate(podEntity(p.pod)).first(p.pod.CreationTimestamp.Time)
	if p.event != nil {
		return s.quote("events", podEntity(p.pod), p.message, cluster.EventTime(p.event))
	}
	if p.message == "" {
		s.score = min(s.score, 0.85)
		return s.see("objects/pods", podEntity(p.pod), "spec.nodeName", "none", "a node").lack("events: what the scheduler says")
	}
	return s.see("objects/pods", podEntity(p.pod), "status.conditions[PodScheduled].message", p.message, "")
}

// fit is why one node does not take a pod; all false: it would.
type fit struct {
	node                                                               *corev1.Node
	selector, affinity, volume                                         bool // constraints that no change of the node's load lifts
	cordon, taint, notReady                                            bool
	cpu, memory, podAffinity, antiAffinity, spread, hostPort, podCount bool
	taintKey                                                           string
}

// unplaced explains pods that the scheduler cannot place. Constraints are applied in the order
// in which a person would ask: is there a node of the wanted kind at all, may the pod use it, is
// it open, has it room. The first question that leaves no node names the cause.
func unplaced(c *scan) {
	for _, p := range c.unschedulable() {
		if c.unboundClaims(p) {
			continue
		}
		if c.Nodes.Len() == 0 || !c.Sees("objects/nodes") {
			c.unplacedByMessage(p)
			continue
		}
		fits := make([]fit, 0, c.Nodes.Len())
		for _, n := range c.Nodes.All() {
			fits = append(fits, c.fit(p.pod, n))
		}
		c.unplacedByNodes(p, fits)
	}
}

func (c *scan) unplacedByNodes(p pendingPod, fits []fit) {
	kept := func(fs []fit, bad func(fit) bool) []fit {
		return slices.DeleteFunc(slices.Clone(fs), bad)
	}
	left := kept(fits, func(f fit) bool { return f.selector })
	if len(left) == 0 {
		c.selectorMismatch(p)
		return
	}
	left = kept(left, func(f fit) bool { return f.affinity })
	if len(left) == 0 || !positive(p.pod) && !slices.ContainsFunc(left, func(f fit) bool { return !closedControlPlane(f) }) && slices.ContainsFunc(fits, func(f fit) bool { return !closedControlPlane(f) }) {
		// A closed control-plane node that happens to lack what the rule excludes is no place
		// the rule's author meant.
		c.affinityMismatch(p)
		return
	}
	if left = kept(left, func(f fit) bool { return f.volume }); len(left) == 0 {
		c.volumeConflict(p)
		return
	}
	open := kept(left, func(f fit) bool { return f.cordon || f.taint || f.notReady })
	if len(open) == 0 {
		c.closedNodes(p, left)
		return
	}
	c.fullNodes(p, open)
}

// closedNodes blames what closes the nodes that would fit: cordons, taints or dead nodes,
// whichever closes most of them; control-plane nodes count only when there are no others.
func (c *scan) closedNodes(p pendingPod, nodes []fit) {
	workers := slices.DeleteFunc(slices.Clone(nodes), func(f fit) bool { return controlPlane(f.node) })
	if len(workers) > 0 {
		nodes = workers
	}
	var cordoned, tainted, dead []fit
	for _, f := range nodes {
		switch {
		case f.notReady:
			dead = append(dead, f)
		case f.taint:
			tainted = append(tainted, f)
		case f.cordon:
			cordoned = append(cordoned, f)
		}
	}
	switch n := max(len(cordoned), len(tainted), len(dead)); {
	case n == len(cordoned):
		s := p.cite(c.blame("NodeCordoned", p.workload.Entity, 0.94, "%s finds no open node: %s cordoned", p.workload.Entity, namesOf(cordoned)))
		for _, f := range cordoned {
			e := nodeEntity(f.node.Name)
			s.relate(e).see("objects/nodes", e, "spec.unschedulable", "true", "false on a node that fits")
			s.propose(incident.UncordonNode, e, "make node "+f.node.Name+" schedulable again")
		}
		c.seeConstraint(s, p)
	case n == len(tainted):
		f := tainted[0]
		s := p.cite(c.blame("TaintNotTolerated", p.workload.Entity, 0.94, "%s does not tolerate the taint %s of %s", p.workload.Entity, f.taintKey, namesOf(tainted)))
		for _, f := range tainted {
			s.relate(nodeEntity(f.node.Name)).see("objects/nodes", nodeEntity(f.node.Name), "spec.taints", f.taintKey, "a toleration in the pod")
		}
		s.propose(incident.PatchScheduling, p.workload.Entity, "let "+p.workload.Entity.String()+" tolerate "+f.taintKey, "toleration", f.taintKey)
		c.rollback(s, p.workload)
	default:
		// The node's own fault explains the pod; the infrastructure detectors name it.
	}
}

func namesOf(fs []fit) string {
	var names []string
	for _, f := range fs {
		names = append(names, f.node.Name)
	}
	if len(names) > 4 {
		return fmt.Sprintf("%d nodes", len(names))
	}
	return "node " + strings.Join(names, ", ")
}

// fullNodes blames what keeps the pod off the nodes that are open to it: the reason that holds
// on most of them.
func (c *scan) fullNodes(p pendingPod, open []fit) {
	count := map[string]int{}
	for _, f := range open {
		for name, bad := range map[string]bool{"cpu": f.cpu, "memory": f.memory, "podAffinity": f.podAffinity, "antiAffinity": f.antiAffinity,
			"spread": f.spread, "hostPort": f.hostPort, "podCount": f.podCount} {
			if bad {
				count[name]++
			}
		}
	}
	order := []string{"antiAffinity", "podAffinity", "hostPort", "spread", "cpu", "memory", "podCount"}
	best := slices.MaxFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(slices.Index(order, b), slices.Index(order, a)))
	})
	if count[best] == 0 {
		c.unplacedByMessage(p)
		return
	}
	if said := reasonSaid(p.message); said != "" && said != best && count[said] == count[best] {
		best = said
	}
	c.blameFull(p, best, open)
}

// reasonSaid tells which of the load reasons the scheduler's message names most.
func reasonSaid(m string) string {
	best, most := "", 0
	for _, part := range strings.Split(m, ",") {
		n := 0
		fmt.Sscanf(strings.TrimSpace(part[strings.LastIndex(part, ":")+1:]), "%d", &n)
		name := ""
		switch {
		case has(part, "insufficient cpu"):
			name = "cpu"
		case has(part, "insufficient memory"):
			name = "memory"
		case has(part, "too many pods"):
			name = "podCount"
		case has(part, "anti-affinity"):
			name = "antiAffinity"
		case has(part, "pod affinity rules"):
			name = "podAffinity"
		case has(part, "free ports"):
			name = "hostPort"
		case has(part, "topology spread"):
			name = "spread"
		}
		if name != "" && n > most {
			best, most = name, n
		}
	}
	return best
}

func (c *scan) blameFull(p pendingPod, reason string, open []fit) {
	w := p.workload
	switch reason {
	case "cpu", "memory":
		res := corev1.ResourceName(reason)
		cause := incident.CauseName("InsufficientCPU")
		if reason == "memory" {
			cause = "InsufficientMemory"
		}
		want := podRequests(&p.pod.Spec, res)
		s := p.cite(c.blame(cause, w.Entity, 0.94, "%s requests %s %s; no node that fits has that much free", w.Entity, want.String(), reason))
		c.seeRoom(s, p, res, open)
	case "antiAffinity", "podAffinity":
		s := p.cite(c.blame("PodAntiAffinityConflict", w.Entity, 0.94, "%s: its required pod (anti-)affinity leaves no node", w.Entity))
		if a := p.pod.Spec.Affinity; a != nil {
			s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.affinity", describeAffinity(a), "a rule that some node satisfies")
		}
		if a := p.pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			s.propose(incident.PatchScheduling, w.Entity, "drop the required pod anti-affinity of "+w.Entity.String(), "dropPodAntiAffinity", "true")
		} else {
			s.step(w.Entity, "Start a pod that the required affinity of %s asks for, or make the rule a preferred one", w.Entity)
		}
		if n := len(open); int(w.Desired) > n && n > 0 && reason == "antiAffinity" {
			s.propose(incident.Scale, w.Entity, fmt.Sprintf("scale %s to %d, one pod a node", w.Entity, n), incident.ParamReplicas, itoa(n), incident.ParamFrom, itoa(int(w.Desired)))
		}
		c.rollback(s, w)
	case "spread":
		s := p.cite(c.blame("TopologySpreadUnsatisfiable", w.Entity, 0.93, "%s: its topology spread constraints leave no node", w.Entity))
		for i, t := range p.pod.Spec.TopologySpreadConstraints {
			s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.topologySpreadConstraints["+itoa(i)+"]",
				fmt.Sprintf("maxSkew %d over %s, %s", t.MaxSkew, t.TopologyKey, t.WhenUnsatisfiable), "domains that can take the pods")
		}
		s.step(w.Entity, "Relax the spread constraint of %s (whenUnsatisfiable: ScheduleAnyway) or add nodes to the empty domains", w.Entity)
	case "hostPort":
		s := p.cite(c.blame("HostPortConflict", w.Entity, 0.94, "%s: host port %s is taken on every node that fits", w.Entity, hostPorts(&p.pod.Spec)))
		s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.containers[].ports[].hostPort", hostPorts(&p.pod.Spec), "a port free on some node")
		c.rollback(s, w)
		s.step(w.Entity, "Give %s another host port or none", w.Entity)
	case "podCount":
		s := p.cite(c.blame("InsufficientCPU", w.Entity, 0.4, "%s: every node that fits holds as many pods as it may", w.Entity))
		s.step(w.Entity, "Add nodes or raise the kubelet's maxPods")
	}
}

// seeRoom cites request and free amounts and proposes a request that fits.
func (c *scan) seeRoom(s *suspect, p pendingPod, res corev1.ResourceName, open []fit) {
	want := podRequests(&p.pod.Spec, res)
	s.see("objects/pods", podEntity(p.pod), "spec.containers[].resources.requests."+string(res), want.String(), "at most what a node has free")
	best := resourceZero(res)
	for i, f := range open {
		free := c.free(f.node, res)
		if i < 3 {
			alloc := f.node.Status.Allocatable[res]
			s.relate(nodeEntity(f.node.Name)).see("objects/nodes", nodeEntity(f.node.Name), "status.allocatable."+string(res), alloc.String()+" allocatable, "+free.String()+" free", want.String())
		}
		if free.Cmp(best) > 0 {
			best = free
		}
	}
	if prev := c.previousRequest(p.workload, res); prev != nil && prev.Cmp(best) <= 0 {
		c.rollback(s, p.workload)
	}
	if len(p.pod.Spec.Containers) == 1 && best.Sign() > 0 {
		s.propose(incident.PatchResources, p.workload.Entity, "lower the "+string(res)+" request to what a node has free ("+best.String()+")",
			incident.ParamContainer, p.pod.Spec.Containers[0].Name, "requests."+string(res), best.String())
	}
	s.step(p.workload.Entity, "Add a node with %s %s free, or lower the request of %s", want.String(), res, p.workload.Entity)
}

func (c *scan) selectorMismatch(p pendingPod) {
	w, sel := p.workload, p.pod.Spec.NodeSelector
	s := p.cite(c.blame("NodeSelectorMismatch", w.Entity, 0.95, "%s wants nodes with %s; no node has that", w.Entity, labels.FormatLabels(sel)))
	s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.nodeSelector", labels.FormatLabels(sel), "labels that a node has"+c.nodeValues(sel))
	if fixed := c.nearSelector(sel); fixed != "" {
		s.propose(incident.PatchScheduling, w.Entity, "set the node selector of "+w.Entity.String()+" to "+fixed, "nodeSelector", fixed)
	}
	s.propose(incident.PatchScheduling, w.Entity, "remove the node selector of "+w.Entity.String(), "nodeSelector", "-")
	c.rollback(s, w)
}

// nodeValues lists the values that nodes have for the selector's keys.
func (c *scan) nodeValues(sel map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(sel)) {
		vals := map[string]bool{}
		for _, n := range c.Nodes.All() {
			if v, ok := n.Labels[k]; ok {
				vals[v] = true
			}
		}
		if len(vals) > 0 && len(vals) <= 8 {
			out = append(out, k+": "+strings.Join(slices.Sorted(maps.Keys(vals)), " "))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}

// nearSelector returns a selector with each value replaced by the one spelled almost like it on
// a node; "" when some pair has none.
func (c *scan) nearSelector(sel map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(sel)) {
		var vals []string
		for _, n := range c.Nodes.All() {
			if v, ok := n.Labels[k]; ok {
				vals = append(vals, v)
			}
		}
		v := nearest(sel[k], vals)
		if v == "" {
			return ""
		}
		out = append(out, k+"="+v)
	}
	return strings.Join(out, ",")
}

func (c *scan) affinityMismatch(p pendingPod) {
	w := p.workload
	s := p.cite(c.blame("NodeAffinityMismatch", w.Entity, 0.95, "%s: no node satisfies its required node affinity", w.Entity))
	s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.affinity.nodeAffinity", describeAffinity(p.pod.Spec.Affinity), "a term that some node satisfies")
	s.propose(incident.PatchScheduling, w.Entity, "drop the required node affinity of "+w.Entity.String(), "dropNodeAffinity", "true")
	c.rollback(s, w)
}

func (c *scan) volumeConflict(p pendingPod) {
	w := p.workload
	s := p.cite(c.blame("VolumeNodeAffinityConflict", w.Entity, 0.94, "%s: its volume is not reachable from any node it may use", w.Entity))
	for _, name := range claimsOf(&p.pod.Spec) {
		pvc, ok := c.Claims.Get(p.pod.Namespace, name)
		if !ok {
			continue
		}
		if pv, ok := c.Volumes.Get("", pvc.Spec.VolumeName); ok && pv.Spec.NodeAffinity != nil && pv.Spec.NodeAffinity.Required != nil {
			e := cluster.EntityOf("PersistentVolume", pv)
			s.relate(cluster.EntityOf("PersistentVolumeClaim", pvc), e)
			s.see("objects/persistentvolumes", e, "spec.nodeAffinity", describeTerms(pv.Spec.NodeAffinity.Required.NodeSelectorTerms), "a node that fits the pod")
		}
	}
	s.step(w.Entity, "Let %s run where its volume is, or move the data", w.Entity)
}

// seeConstraint cites the selector or affinity that narrows the nodes of a pod.
func (c *scan) seeConstraint(s *suspect, p pendingPod) {
	if len(p.pod.Spec.NodeSelector) > 0 {
		s.see("objects/pods", podEntity(p.pod), "spec.nodeSelector", labels.FormatLabels(p.pod.Spec.NodeSelector), "")
	}
	if a := p.pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		s.see("objects/pods", podEntity(p.pod), "spec.affinity.nodeAffinity", describeAffinity(a), "")
	}
}

// unplacedByMessage names the cause from the scheduler's words alone, when nodes were not seen
// or show nothing.
func (c *scan) unplacedByMessage(p pendingPod) {
	m, w := p.message, p.workload
	score := 0.85
	if !c.Sees("objects/nodes") {
		score = 0.75
	}
	cause := incident.CauseName("")
	switch {
	case has(m, "volume node affinity conflict"):
		cause = "VolumeNodeAffinityConflict"
	case has(m, "anti-affinity", "pod affinity rules"):
		cause = "PodAntiAffinityConflict"
	case has(m, "node affinity/selector", "node selector", "node affinity"):
		cause = "NodeSelectorMismatch"
		if len(p.pod.Spec.NodeSelector) == 0 && p.pod.Spec.Affinity != nil && p.pod.Spec.Affinity.NodeAffinity != nil {
			cause = "NodeAffinityMismatch"
		}
	case has(m, "free ports"):
		cause = "HostPortConflict"
	case has(m, "topology spread"):
		cause = "TopologySpreadUnsatisfiable"
	case has(m, "insufficient cpu"):
		cause = "InsufficientCPU"
	case has(m, "insufficient memory"):
		cause = "InsufficientMemory"
	case has(m, "untolerated taint", "didn't tolerate"):
		cause = "TaintNotTolerated"
	case has(m, "were unschedulable"):
		cause = "NodeCordoned"
	default:
		return
	}
	s := p.cite(c.blame(cause, w.Entity, score, "%s cannot be placed: %s", w.Entity, m))
	if !c.Sees("objects/nodes") {
		s.lack("objects/nodes: which node fails which rule")
	}
	c.rollback(s, w)
}

// fit checks the scheduler's filters for one node.
func (c *scan) fit(p *corev1.Pod, n *corev1.Node) fit {
	f := fit{node: n, cordon: n.Spec.Unschedulable}
	spec := &p.Spec
	f.selector = len(spec.NodeSelector) > 0 && !labels.SelectorFromSet(spec.NodeSelector).Matches(labels.Set(n.Labels))
	if a := spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		f.affinity = !matchTerms(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, n)
	}
	f.volume = !c.volumesReach(p, n)
	f.notReady = nodeCondition(n, corev1.NodeReady) != corev1.ConditionTrue && len(n.Status.Conditions) > 0
	for _, t := range n.Spec.Taints {
		switch {
		case t.Effect == corev1.TaintEffectPreferNoSchedule, t.Key == "node.kubernetes.io/unschedulable", tolerated(spec.Tolerations, t):
		case strings.HasPrefix(t.Key, "node.kubernetes.io/not-ready"), strings.HasPrefix(t.Key, "node.kubernetes.io/unreachable"):
			f.notReady = true
		default:
			f.taint, f.taintKey = true, taintString(t)
		}
	}
	if f.cordon && tolerated(spec.Tolerations, corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: corev1.TaintEffectNoSchedule}) {
		f.cordon = false
	}
	for res, bad := range map[corev1.ResourceName]*bool{corev1.ResourceCPU: &f.cpu, corev1.ResourceMemory: &f.memory} {
		want, free := podRequests(spec, res), c.free(n, res)
		_, known := n.Status.Allocatable[res]
		*bad = known && want.Sign() > 0 && want.Cmp(free) > 0
	}
	c.fitNeighbours(p, n, &f)
	return f
}
