package causes

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/cluster"
)

type metaOwner = metav1.OwnerReference

// free returns what a node has left of a resource by the requests of the pods on it, those seen
// only in part included.
func (c *scan) free(n *corev1.Node, res corev1.ResourceName) resource.Quantity {
	key := roomKey{n.Name, res}
	if q, ok := c.room[key]; ok {
		return q
	}
	free := n.Status.Allocatable[res].DeepCopy()
	seen := map[*corev1.Pod]bool{}
	for _, p := range c.PodsOnNode(n.Name) {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			free.Sub(podRequests(&p.Spec, res))
		}
	}
	for _, p := range c.Partials {
		if _, whole := c.Pods.Get(p.Namespace, p.Name); p.Spec.NodeName == n.Name && !whole && !seen[p] && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			seen[p] = true
			free.Sub(podRequests(&p.Spec, res))
		}
	}
	if free.Sign() < 0 {
		free = resourceZero(res)
	}
	c.room[key] = free
	return free
}

type roomKey struct {
	node string
	res  corev1.ResourceName
}

func resourceZero(res corev1.ResourceName) resource.Quantity {
	if res == corev1.ResourceCPU {
		return *resource.NewMilliQuantity(0, resource.DecimalSI)
	}
	return *resource.NewQuantity(0, resource.BinarySI)
}

// fitNeighbours checks the filters that depend on the pods already there.
func (c *scan) fitNeighbours(p *corev1.Pod, n *corev1.Node, f *fit) {
	f.hostPort = c.hostPortTaken(p, n)
	if limit, ok := n.Status.Allocatable[corev1.ResourcePods]; ok {
		f.podCount = int64(len(c.PodsOnNode(n.Name))) >= limit.Value()
	}
	if a := p.Spec.Affinity; a != nil {
		if a.PodAntiAffinity != nil {
			for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				f.antiAffinity = f.antiAffinity || c.termMet(p, t, n)
			}
		}
		if a.PodAffinity != nil {
			for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				f.podAffinity = f.podAffinity || !c.termMet(p, t, n) && !c.firstOfItself(p, t)
			}
		}
	}
	f.antiAffinity = f.antiAffinity || c.repelled(p, n)
	for _, t := range p.Spec.TopologySpreadConstraints {
		if t.WhenUnsatisfiable != corev1.ScheduleAnyway {
			f.spread = f.spread || c.skewed(p, t, n)
		}
	}
}

// termMet reports whether a pod that matches the term runs in the node's topology domain.
func (c *scan) termMet(p *corev1.Pod, t corev1.PodAffinityTerm, n *corev1.Node) bool {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil || t.LabelSelector == nil {
		return false
	}
	for _, o := range c.domainPods(n, t.TopologyKey) {
		if o != p && inTerm(p, t, o) && sel.Matches(labels.Set(o.Labels)) {
			return true
		}
	}
	return false
}

func inTerm(p *corev1.Pod, t corev1.PodAffinityTerm, o *corev1.Pod) bool {
	if t.NamespaceSelector != nil && len(t.Namespaces) == 0 {
		return len(t.NamespaceSelector.MatchLabels)+len(t.NamespaceSelector.MatchExpressions) == 0 || o.Namespace == p.Namespace
	}
	if len(t.Namespaces) == 0 {
		return o.Namespace == p.Namespace
	}
	for _, ns := range t.Namespaces {
		if ns == o.Namespace {
			return true
		}
	}
	return false
}

// firstOfItself is the scheduler's exception: a pod whose affinity matches itself may be the
// first of its group.
func (c *scan) firstOfItself(p *corev1.Pod, t corev1.PodAffinityTerm) bool {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil || !sel.Matches(labels.Set(p.Labels)) {
		return false
	}
	for _, o := range c.Pods.In(p.Namespace) {
		if o != p && o.Spec.NodeName != "" && sel.Matches(labels.Set(o.Labels)) {
			return false
		}
	}
	return true
}

// domainPods returns the running pods on nodes of the same topology domain.
func (c *scan) domainPods(n *corev1.Node, key string) []*corev1.Pod {
	v, ok := n.Labels[key]
	if !ok && key != "kubernetes.io/hostname" {
		return nil
	}
	var out []*corev1.Pod
	for _, m := range c.Nodes.All() {
		if m != n && (!ok || m.Labels[key] != v) {
			continue
		}
		for _, p := range c.PodsOnNode(m.Name) {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				out = append(out, p)
			}
		}
	}
	return out
}

// repelled reports whether a pod already there has a required anti-affinity against p.
func (c *scan) repelled(p *corev1.Pod, n *corev1.Node) bool {
	for _, o := range c.antiAffine() {
		for _, t := range o.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
			if err != nil || t.LabelSelector == nil || o == p || !inTerm(o, t, p) || !sel.Matches(labels.Set(p.Labels)) {
				continue
			}
			m, ok := c.Nodes.Get("", o.Spec.NodeName)
			if ok && (m == n || m.Labels[t.TopologyKey] != "" && m.Labels[t.TopologyKey] == n.Labels[t.TopologyKey]) {
				return true
			}
		}
	}
	return false
}

// antiAffine returns the placed pods that have a required anti-affinity.
func (c *scan) antiAffine() []*corev1.Pod {
	if c.repellers == nil {
		c.repellers = []*corev1.Pod{}
		for _, o := range c.Pods.All() {
			if a := o.Spec.Affinity; o.Spec.NodeName != "" && a != nil && a.PodAntiAffinity != nil &&
				len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 && o.Status.Phase != corev1.PodSucceeded && o.Status.Phase != corev1.PodFailed {
				c.repellers = append(c.repellers, o)
			}
		}
	}
	return c.repellers
}

func (c *scan) hostPortTaken(p *corev1.Pod, n *corev1.Node) bool {
	if hostPorts(&p.Spec) == "" {
		return false
	}
	type port struct {
		n     int32
		proto corev1.Protocol
	}
	taken := map[port]bool{}
	each := func(s *corev1.PodSpec, f func(port)) {
		for _, ct := range s.Containers {
			for _, cp := range ct.Ports {
				if cp.HostPort > 0 {
					proto := cp.Protocol
					if proto == "" {
						proto = corev1.ProtocolTCP
					}
					f(port{cp.HostPort, proto})
				}
			}
		}
	}
	for _, o := range c.PodsOnNode(n.Name) {
		if o != p && o.Status.Phase != corev1.PodSucceeded && o.Status.Phase != corev1.PodFailed {
			each(&o.Spec, func(x port) { taken[x] = true })
		}
	}
	hit := false
	each(&p.Spec, func(x port) { hit = hit || taken[x] })
	return hit
}

// skewed reports whether placing p on n would break a spread constraint.
func (c *scan) skewed(p *corev1.Pod, t corev1.TopologySpreadConstraint, n *corev1.Node) bool {
	v, ok := n.Labels[t.TopologyKey]
	if !ok {
		return true
	}
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return false
	}
	counts := map[string]int{}
	for _, m := range c.Nodes.All() {
		if d, ok := m.Labels[t.TopologyKey]; ok {
			counts[d] += 0
			for _, o := range c.PodsOnNode(m.Name) {
				if o.Namespace == p.Namespace && o.DeletionTimestamp == nil && sel.Matches(labels.Set(o.Labels)) {
					counts[d]++
				}
			}
		}
	}
	least := counts[v]
	for _, n := range counts {
		least = min(least, n)
	}
	return counts[v]+1-least > int(t.MaxSkew)
}

// volumesReach reports whether the volumes bound to the pod's claims can be used on the node.
func (c *scan) volumesReach(p *corev1.Pod, n *corev1.Node) bool {
	for _, name := range claimsOf(&p.Spec) {
		pvc, ok := c.Claims.Get(p.Namespace, name)
		if !ok || pvc.Spec.VolumeName == "" {
			continue
		}
		pv, ok := c.Volumes.Get("", pvc.Spec.VolumeName)
		if ok && pv.Spec.NodeAffinity != nil && pv.Spec.NodeAffinity.Required != nil && !matchTerms(pv.Spec.NodeAffinity.Required.NodeSelectorTerms, n) {
			return false
		}
	}
	return true
}

// claimsOf returns the names of the claims a pod mounts, ephemeral ones excepted.
func claimsOf(s *corev1.PodSpec) []string {
	var out []string
	for _, v := range s.Volumes {
		if v.PersistentVolumeClaim != nil {
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return out
}

// previousRequest returns what the revision before asked for; nil when it is not known.
func (c *scan) previousRequest(w *cluster.Workload, res corev1.ResourceName) *resource.Quantity {
	if len(w.ReplicaSets) < 2 {
		return nil
	}
	q := podRequests(&w.ReplicaSets[1].Spec.Template.Spec, res)
	return &q
}
