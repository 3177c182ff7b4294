package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// unitCauses tells which cause an inactive node unit stands for.
var unitCauses = []struct {
	unit  string
	cause incident.CauseName
}{
	{"kubelet", "KubeletDown"}, {"k3s-agent", "KubeletDown"}, {"rke2-agent", "KubeletDown"}, {"containerd", "ContainerRuntimeDown"}, {"crio", "ContainerRuntimeDown"}, {"cri-o", "ContainerRuntimeDown"},
	{"docker", "ContainerRuntimeDown"}, {"kube-proxy", "KubeProxyDown"}, {"kube-scheduler", "SchedulerDown"}, {"kube-controller-manager", "ControllerManagerDown"},
	{"flanneld", "NetworkPluginDown"}, {"calico-node", "NetworkPluginDown"}, {"cilium", "NetworkPluginDown"},
}

// nodeUnits names node components whose unit a check found inactive.
func nodeUnits(c *scan) {
	for _, p := range c.Probes {
		if p.Kind != "unit" || p.OK || p.Node == "" {
			continue
		}
		unit := strings.TrimSuffix(p.Unit, ".service")
		for _, u := range unitCauses {
			if u.unit != unit {
				continue
			}
			n := nodeEntity(p.Node)
			s := c.blame(u.cause, n, 0.97, "node %s: %s", p.Node, line(u.cause)).explain(n, "")
			s.see("probes", n, unit, "inactive", "active").quote("probes", n, p.Detail, time.Time{})
			c.explainNode(s, p.Node, u.cause)
			s.step(n, "Start %s on node %s (systemctl start %s) and read why it stopped (journalctl -u %s)", unit, p.Node, unit, unit)
		}
	}
}

// explainNode says what a fault of a node explains: its pods, and for a scheduler all pods that
// wait without a word.
func (c *scan) explainNode(s *suspect, node string, cause incident.CauseName) {
	if cause == "SchedulerDown" {
		for _, p := range c.forgotten() {
			s.explain(c.owner(p), "").explain(podEntity(p), "").relate(c.owner(p))
		}
		return
	}
	if cause == "ControllerManagerDown" {
		return
	}
	for _, p := range c.PodsOnNode(node) {
		if !cluster.PodReady(p) && p.Status.Phase != corev1.PodSucceeded {
			s.explain(c.owner(p), "").explain(podEntity(p), "").relate(c.owner(p))
		}
	}
}

// forgotten returns pods that wait for the scheduler without a word from it.
func (c *scan) forgotten() []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.Pods.All() {
		if p.Spec.NodeName != "" || p.Status.Phase != corev1.PodPending && p.Status.Phase != "" || p.DeletionTimestamp != nil || len(p.Spec.SchedulingGates) > 0 {
			continue
		}
		if c.lastWarning(podEntity(p), "FailedScheduling", "Scheduled") != nil || c.age(p.CreationTimestamp.Time) < 30*time.Second {
			continue
		}
		told := slices.ContainsFunc(p.Status.Conditions, func(k corev1.PodCondition) bool { return k.Type == corev1.PodScheduled && k.Reason != "" })
		if !told && (p.Spec.SchedulerName == "" || p.Spec.SchedulerName == corev1.DefaultSchedulerName) {
			out = append(out, p)
		}
	}
	return out
}

// schedulerDown names a scheduler that leaves pods waiting without a word.
func schedulerDown(c *scan) {
	pods := c.forgotten()
	if len(pods) == 0 || !c.Sees("events") || c.Nodes.Len() == 0 {
		return
	}
	node, sign := "", ""
	for _, p := range slices.Concat(c.Pods.In("kube-system"), c.Partials) {
		if strings.HasPrefix(p.Name, "kube-scheduler") && !cluster.PodReady(p) {
			node, sign = p.Spec.NodeName, "pod "+p.Name+" is not ready"
		}
	}
	if l, ok := c.Leases.Get("kube-system", "kube-scheduler"); ok && l.Spec.RenewTime != nil && c.age(l.Spec.RenewTime.Time) > time.Minute {
		sign = or(sign, "its lease was renewed last "+c.age(l.Spec.RenewTime.Time).Round(time.Second).String()+" ago")
		if l.Spec.HolderIdentity != nil {
			holder, _, _ := strings.Cut(*l.Spec.HolderIdentity, "_")
			if _, ok := c.Nodes.Get("", holder); ok && node == "" {
				node = holder
			}
		}
	}
	var control []string
	for _, n := range c.Nodes.All() {
		if controlPlane(n) {
			control = append(control, n.Name)
		}
	}
	if node == "" && len(control) == 1 {
		node = control[0]
	}
	if node == "" {
		return
	}
	score := 0.8
	if sign != "" {
		score = 0.95
	}
	n := nodeEntity(node)
	s := c.blame("SchedulerDown", n, score, "the scheduler does not run: pods wait without a word from it").explain(n, "")
	c.explainNode(s, node, "SchedulerDown")
	for _, p := range pods[:min(len(pods), 3)] {
		s.see("objects/pods", podEntity(p), "spec.nodeName", "none for "+c.age(p.CreationTimestamp.Time).Round(time.Second).String()+", no event of the scheduler", "a node, or a FailedScheduling event")
	}
	if sign != "" {
		s.quote("objects/pods", n, sign, time.Time{})
	}
	s.step(n, "See the kube-scheduler on node %s", node)
}

// brokenNodes names nodes that are not ready, by what their condition and events say.
func brokenNodes(c *scan) {
	for _, n := range c.Nodes.All() {
		if c.joining(n) {
			continue
		}
		e := nodeEntity(n.Name)
		var ready corev1.NodeCondition
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				ready = cond
			}
		}
		runtime := c.runtimeGone(n)
		switch {
		case runtime != nil && (ready.Status != corev1.ConditionTrue || c.age(cluster.EventTime(runtime)) < 3*time.Minute):
			s := c.blame("ContainerRuntimeDown", e, 0.94, "node %s: the container runtime does not run", n.Name).explain(e, "")
			s.quote("events", e, runtime.Message, cluster.EventTime(runtime)).see("objects/nodes", e, "status.conditions[Ready]", string(ready.Status)+" "+ready.Reason, "True")
			c.explainNode(s, n.Name, "ContainerRuntimeDown")
			s.step(e, "Start the container runtime on node %s and read its journal", n.Name)
		case ready.Status == "" || ready.Status == corev1.ConditionTrue:
		case ready.Status == corev1.ConditionUnknown || has(ready.Reason+ready.Message, "stopped posting node status", "nodestatusunknown"):
			s := c.blame("KubeletDown", e, 0.88, "node %s: its kubelet stopped posting its status", n.Name).explain(e, "").first(ready.LastTransitionTime.Time)
			s.see("objects/nodes", e, "status.conditions[Ready]", string(ready.Status)+" "+ready.Reason+" "+ready.Message, "True")
			c.explainNode(s, n.Name, "KubeletDown")
			s.lack("probes: whether the kubelet's unit runs, or the whole machine or its network is down")
			s.step(e, "See whether node %s is up, and start its kubelet", n.Name)
		default:
			c.notReady(n, ready)
		}
	}
}

// runtimeGone returns the latest event that says a node's container runtime does not answer.
func (c *scan) runtimeGone(n *corev1.Node) *corev1.Event {
	var last *corev1.Event
	look := func(evs []*corev1.Event) {
		for _, ev := range evs {
			if has(ev.Message, "containerd.sock", "crio.sock", "cri-dockerd.sock", "container runtime is down", "docker.sock") && has(ev.Message, "no such file", "connection refused", "container runtime is down", "unavailable") &&
				(last == nil || cluster.EventTime(ev).After(cluster.EventTime(last))) {
				last = ev
			}
		}
	}
	look(c.warnings(nodeEntity(n.Name), "ContainerGCFailed", "ImageGCFailed", "NodeNotReady", "ContainerRuntimeNotReady"))
	for _, p := range c.PodsOnNode(n.Name) {
		look(c.warnings(podEntity(p), "FailedCreatePodSandBox", "Failed", "FailedKillPod", "FailedSync"))
	}
	return last
}

func (c *scan) notReady(n *corev1.Node, ready corev1.NodeCondition) {
	e := nodeEntity(n.Name)
	cause, score := incident.CauseName("NodeNotReady"), 0.6
	switch {
	case has(ready.Message, "container runtime is down", "runtime not ready", "pleg is not healthy", "runtimeready=false"):
		cause, score = "ContainerRuntimeDown", 0.9
	case has(ready.Message, "network plugin", "cni", "networkready=false", "networkpluginnotready"):
		cause, score = "NetworkPluginDown", 0.92
	}
	if has(ready.Message, "cni", "networkpluginnotready", "networkready=false") {
		cause, score = "NetworkPluginDown", 0.92
	}
	s := c.blame(cause, e, score, "node %s is not ready: %s", n.Name, or(ready.Message, line(cause))).explain(e, "").first(ready.LastTransitionTime.Time)
	s.see("objects/nodes", e, "status.conditions[Ready]", string(ready.Status)+" "+ready.Reason+" "+ready.Message, "True")
	c.explainNode(s, n.Name, cause)
	s.step(e, "See the kubelet of node %s: %s", n.Name, ready.Message)
}
