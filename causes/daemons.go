package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// networkAgents are the DaemonSets of the common network plugins, by the beginning of their name.
var networkAgents = []string{"calico-node", "canal", "cilium", "kube-flannel", "weave-net", "aws-node", "antrea-agent", "kube-router", "ovnkube-node", "azure-cni", "azure-cns", "kindnet", "kube-ovn-cni", "multus"}

// nodeAgents names nodes whose kube-proxy or network plugin does not run, by the pods of their
// DaemonSets and by checks.
func nodeAgents(c *scan) {
	for _, w := range c.Workloads() {
		if w.Entity.Kind != "DaemonSet" {
			continue
		}
		switch {
		case strings.HasPrefix(w.Entity.Name, "kube-proxy"):
			c.agentsDown(w, "KubeProxyDown")
		case slices.ContainsFunc(networkAgents, func(n string) bool { return strings.HasPrefix(w.Entity.Name, n) }) && !strings.Contains(w.Entity.Name, "operator"):
			c.agentsDown(w, "NetworkPluginDown")
		}
	}
	c.partialAgents()
	c.cutOffNodes()
}

// saysNotReady reports whether a pod's Ready condition is there and not true: of pods known in
// part it may be missing.
func saysNotReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(k corev1.PodCondition) bool { return k.Type == corev1.PodReady && k.Status != corev1.ConditionTrue })
}

// partialAgents blames nodes by the pods of which little more than name and node is known: one
// that is not ready, or none where every other node has one.
func (c *scan) partialAgents() {
	on := map[string]*corev1.Pod{}
	for _, p := range c.Partials {
		if p.Namespace == "kube-system" && strings.HasPrefix(p.Name, "kube-proxy-") {
			on[p.Spec.NodeName] = p
		}
	}
	if len(on) == 0 {
		return
	}
	var without []string
	for _, n := range c.Nodes.All() {
		if p := on[n.Name]; p == nil {
			without = append(without, n.Name)
		} else if saysNotReady(p) && !c.nodeGone(n.Name) && nodeCondition(n, corev1.NodeReady) == corev1.ConditionTrue {
			e := nodeEntity(n.Name)
			s := c.blame("KubeProxyDown", e, 0.92, "node %s: %s", n.Name, line("KubeProxyDown")).explain(e, "").relate(podEntity(p))
			s.see("objects/pods", podEntity(p), "status.phase", string(p.Status.Phase)+", not ready", "ready")
			c.explainNode(s, n.Name, "KubeProxyDown")
			s.propose(incident.RestartDaemonPod, podEntity(p), "restart "+podEntity(p).String())
		}
	}
	if len(without) == 1 && len(on) >= 2 && !c.nodeGone(without[0]) {
		e := nodeEntity(without[0])
		s := c.blame("KubeProxyDown", e, 0.88, "node %s: %s", e.Name, line("KubeProxyDown")).explain(e, "")
		s.see("objects/pods", e, "pods of kube-proxy", "none on "+e.Name, "one on every node")
		c.explainNode(s, e.Name, "KubeProxyDown")
		s.step(e, "See why the DaemonSet of kube-proxy has no pod on node %s", e.Name)
	}
}

// agentsDown blames the nodes on which the DaemonSet's pod fails or is missing.
func (c *scan) agentsDown(w *cluster.Workload, cause incident.CauseName) {
	placed := map[string]bool{}
	for _, p := range live(w) {
		placed[p.Spec.NodeName] = true
		if p.Spec.NodeName == "" || cluster.PodReady(p) || c.age(p.CreationTimestamp.Time) < settleTime || c.nodeGone(p.Spec.NodeName) {
			continue
		}
		why := "it is not ready"
		for _, k := range containersOf(p) {
			if r, m := k.waiting(); r != "" && r != "PodInitializing" {
				why = r + ": " + m
			}
		}
		s := c.agentDown(w, p.Spec.NodeName, cause)
		s.see("objects/pods", podEntity(p), "status.containerStatuses", why, "ready").relate(podEntity(p)).explain(podEntity(p), "")
		for _, f := range c.said(w.Entity, logPanic, logPermission, logRefused, logTimeout) {
			if f.pod.Key() == podEntity(p).Key() {
				s.quote("logs", f.pod, f.text, time.Time{})
			}
		}
		s.propose(incident.RestartDaemonPod, podEntity(p), "restart "+podEntity(p).String())
	}
	if int(w.Desired) <= len(live(w)) {
		return
	}
	for _, n := range c.Nodes.All() {
		if !placed[n.Name] && (w.Ready > 0 || len(placed) > 0) && !c.nodeGone(n.Name) && c.failsFrom(n.Name) {
			s := c.agentDown(w, n.Name, cause)
			s.see("objects/daemonsets", w.Entity, "status.desiredNumberScheduled", itoa(len(live(w)))+" of "+itoa(int(w.Desired))+" pods exist, none on "+n.Name, "one on every node")
		}
	}
}

func (c *scan) agentDown(w *cluster.Workload, node string, cause incident.CauseName) *suspect {
	n := nodeEntity(node)
	s := c.blame(cause, n, 0.94, "node %s: %s", node, line(cause)).explain(n, "SandboxCreationFailed").explain(n, "NodeNotReady").relate(w.Entity)
	s.explain(w.Entity, "")
	for _, generic := range []string{"ApplicationCrash", "BadRollout", "RolloutStuck"} {
		s.explain(w.Entity, generic)
	}
	c.explainNode(s, node, cause)
	s.step(n, "See the pod of %s on node %s and its log", w.Entity, node)
	return s
}

// nodeGone reports whether the node's kubelet or runtime is down: its pods are then no sign of
// their own.
func (c *scan) nodeGone(node string) bool {
	return slices.ContainsFunc(c.suspects, func(s *suspect) bool {
		return s.object.Kind == "Node" && s.object.Name == node && (s.cause == "KubeletDown" || s.cause == "ContainerRuntimeDown") && s.score > 0.8
	})
}

// failsFrom reports whether connections from a node fail: a check from it, or a pod on it that
// says so.
func (c *scan) failsFrom(node string) bool {
	if slices.ContainsFunc(c.Probes, func(p cluster.Probe) bool { return p.Kind == "tcp" && !p.OK && p.From == node }) {
		return true
	}
	return slices.ContainsFunc(c.facts(), func(f *logFact) bool {
		p, ok := c.Pods.Get(f.pod.Namespace, f.pod.Name)
		return ok && p.Spec.NodeName == node && (f.class == logTimeout || f.class == logRefused)
	})
}

// cutOffNodes names nodes from which checks reach no service while other nodes reach them:
// the service addresses are not translated there.
func (c *scan) cutOffNodes() {
	type tally struct{ failed, passed map[string]bool }
	from := map[string]*tally{}
	reached := map[string]bool{}
	for _, p := range c.Probes {
		if p.Kind != "tcp" || p.From == "" {
			continue
		}
		t := from[p.From]
		if t == nil {
			t = &tally{map[string]bool{}, map[string]bool{}}
			from[p.From] = t
		}
		target := p.Namespace + "/" + p.Service
		if p.OK {
			t.passed[target], reached[target] = true, true
		} else {
			t.failed[target] = true
		}
	}
	for _, n := range c.Nodes.All() {
		t := from[n.Name]
		if t == nil || len(t.failed) < 2 || len(t.passed) > 0 || c.nodeGone(n.Name) {
			continue
		}
		elsewhere := 0
		for target := range t.failed {
			if reached[target] {
				elsewhere++
			}
		}
		if elsewhere < 2 {
			continue
		}
		e := nodeEntity(n.Name)
		s := c.blame("KubeProxyDown", e, 0.8, "node %s: %s", n.Name, line("KubeProxyDown")).explain(e, "")
		for _, p := range c.Probes {
			if p.Kind == "tcp" && p.From == n.Name && !p.OK {
				svc := incident.Entity{Kind: "Service", Namespace: p.Namespace, Name: p.Service}
				s.quote("probes", e, "check of "+p.Service+" from "+n.Name+": "+p.Detail, time.Time{}).explain(svc, "ConnectionFailed")
			}
		}
		s.step(e, "See kube-proxy on node %s", n.Name)
	}
}

// nodePressure names nodes that say they lack something. Where they evict for it, that is said.
func nodePressure(c *scan) {
	for _, n := range c.Nodes.All() {
		e := nodeEntity(n.Name)
		for _, k := range n.Status.Conditions {
			cause := map[corev1.NodeConditionType]incident.CauseName{corev1.NodeDiskPressure: "NodeDiskPressure", corev1.NodeMemoryPressure: "NodeMemoryPressure", corev1.NodePIDPressure: "NodePIDPressure"}[k.Type]
			if cause == "" || k.Status != corev1.ConditionTrue {
				continue
			}
			s := c.blame(cause, e, 0.92, "node %s: %s", n.Name, line(cause)).explain(e, "").first(k.LastTransitionTime.Time)
			s.see("objects/nodes", e, "status.conditions["+string(k.Type)+"]", "True "+k.Reason+": "+k.Message, "False")
			s.propose(incident.CordonNode, e, "keep new pods off node "+n.Name)
			for _, p := range c.PodsOnNode(n.Name) {
				if p.Status.Reason == "Evicted" {
					s.explain(podEntity(p), "").explain(c.owner(p), "")
				}
			}
			for _, o := range c.suspects {
				if o.cause == "EvictedByNodePressure" && o.object.Key() == e {
					o.explain(e, string(cause)).see("objects/nodes", e, "status.conditions["+string(k.Type)+"]", "True "+k.Reason, "False")
				}
			}
		}
	}
}

// nodeCertificates names nodes whose kubelet cannot speak to the API server any more because its
// certificate has expired.
func nodeCertificates(c *scan) {
	rejected := ""
	for i := range c.Logs {
		l := &c.Logs[i]
		if !systemNamespace(l.Namespace) || !strings.HasPrefix(l.Pod, "kube-apiserver") {
			continue
		}
		for text := range strings.Lines(l.Current) {
			if has(text, "certificate has expired") && has(text, "unable to authenticate the request") {
				rejected = strings.TrimSpace(text)
			}
		}
	}
	for _, n := range c.Nodes.All() {
		e := nodeEntity(n.Name)
		if s := nodeCondition(n, corev1.NodeReady); s == corev1.ConditionTrue || s == "" {
			continue
		}
		text, source := c.nodeSays(n, "certificate", "expired")
		score := 0.96
		if text == "" && rejected != "" && !slices.ContainsFunc(c.Probes, func(p cluster.Probe) bool { return p.Kind == "unit" && p.Node == n.Name && !p.OK }) {
			text, source, score = rejected, "logs", 0.85
		}
		if text == "" {
			continue
		}
		s := c.blame("NodeCertificateExpired", e, score, "node %s: %s", n.Name, line("NodeCertificateExpired")).explain(e, "").explain(e, "KubeletDown").explain(e, "NodeNotReady")
		s.quote(source, e, text, time.Time{})
		c.explainNode(s, n.Name, "NodeCertificateExpired")
		s.step(e, "Renew the kubelet's certificate on node %s (delete the expired kubelet-client certificate and restart the kubelet with a bootstrap token)", n.Name)
	}
}

// nodeSays returns what a node's condition, events or unit checks say with all the words, and
// where.
func (c *scan) nodeSays(n *corev1.Node, words ...string) (text, source string) {
	all := func(s string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !has(s, w) })
	}
	for _, k := range n.Status.Conditions {
		if all(k.Message) {
			return k.Message, "objects/nodes"
		}
	}
	for _, ev := range c.EventsOn(nodeEntity(n.Name)) {
		if all(ev.Message) {
			return ev.Message, "events"
		}
	}
	for _, p := range c.Probes {
		if p.Kind == "unit" && p.Node == n.Name && all(p.Detail) {
			return p.Detail, "probes"
		}
	}
	return "", ""
}
