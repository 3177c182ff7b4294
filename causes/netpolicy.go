package causes

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// blockedCalls names workloads that network policies cut off from a call that fails: by ingress
// the callee is isolated, by egress the caller.
func blockedCalls(c *scan) {
	if c.NetworkPolicies.Len() == 0 {
		return
	}
	for _, n := range c.needs() {
		svc := n.host.Service
		if svc == nil || len(n.caller.Template.Labels) == 0 {
			continue
		}
		ws, selected := c.ServiceWorkloads(svc)
		if !selected {
			continue
		}
		for _, w := range ws {
			if w != n.caller {
				c.blockedCall(n, svc, w)
			}
		}
	}
}

func (c *scan) blockedCall(n need, svc *corev1.Service, w *cluster.Workload) {
	for _, sp := range svc.Spec.Ports {
		if n.port != 0 && int(sp.Port) != n.port {
			continue
		}
		port := target(sp, &w.Template.Spec)
		call := flow{from: n.caller, to: w, port: port, named: portNames(&w.Template.Spec, port), protocol: protocolOf(sp.Protocol)}
		if p := c.refusing(call, networkingv1.PolicyTypeIngress); p != nil {
			c.blameNetworkPolicy(n, svc, w, p, w, "spec.ingress", "a rule that admits "+n.caller.Entity.String())
		}
		if p := c.refusing(call, networkingv1.PolicyTypeEgress); p != nil {
			c.blameNetworkPolicy(n, svc, w, p, n.caller, "spec.egress", "a rule that admits "+w.Entity.String())
		}
	}
}

// flow is traffic between two workloads.
type flow struct {
	from, to *cluster.Workload
	port     int
	named    []string // names of the port
	protocol corev1.Protocol
}

func portNames(spec *corev1.PodSpec, port int) []string {
	var out []string
	for i := range spec.Containers {
		for _, p := range spec.Containers[i].Ports {
			if int(p.ContainerPort) == port && p.Name != "" {
				out = append(out, p.Name)
			}
		}
	}
	return out
}

// refusing returns a policy that isolates one end of the flow when none admits the flow; nil when
// it may pass. Policies add up: one that admits is enough.
func (c *scan) refusing(f flow, direction networkingv1.PolicyType) *networkingv1.NetworkPolicy {
	self, peer := f.to, f.from
	if direction == networkingv1.PolicyTypeEgress {
		self, peer = f.from, f.to
	}
	var last *networkingv1.NetworkPolicy
	for _, p := range c.NetworkPolicies.In(self.Entity.Namespace) {
		sel, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil || !sel.Matches(labels.Set(self.Template.Labels)) || !governs(p, direction) {
			continue
		}
		if c.admits(p, direction, peer, f) {
			return nil
		}
		last = p
	}
	return last
}

// governs reports whether a policy speaks of the direction; without policyTypes every policy
// speaks of ingress, and of egress when it has egress rules.
func governs(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	for _, t := range p.Spec.PolicyTypes {
		if t == direction {
			return true
		}
	}
	return len(p.Spec.PolicyTypes) == 0 && (direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0)
}

func (c *scan) admits(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType, peer *cluster.Workload, f flow) bool {
	if direction == networkingv1.PolicyTypeIngress {
		for _, r := range p.Spec.Ingress {
			if portAdmitted(r.Ports, f) && c.peerAdmitted(r.From, p.Namespace, peer) {
				return true
			}
		}
		return false
	}
	for _, r := range p.Spec.Egress {
		if portAdmitted(r.Ports, f) && c.peerAdmitted(r.To, p.Namespace, peer) {
			return true
		}
	}
	return false
}

func portAdmitted(ports []networkingv1.NetworkPolicyPort, f flow) bool {
	if len(ports) == 0 || f.port == 0 {
		return true
	}
	for _, p := range ports {
		if p.Protocol != nil && protocolOf(*p.Protocol) != f.protocol || p.Protocol == nil && f.protocol != corev1.ProtocolTCP {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			for _, name := range f.named {
				if name == p.Port.StrVal {
					return true
				}
			}
		case p.EndPort != nil && f.port >= p.Port.IntValue() && f.port <= int(*p.EndPort), p.Port.IntValue() == f.port:
			return true
		}
	}
	return false
}

func (c *scan) peerAdmitted(peers []networkingv1.NetworkPolicyPeer, ns string, w *cluster.Workload) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		switch {
		case p.IPBlock != nil:
			if blockHas(p.IPBlock, w) {
				return true
			}
		case p.NamespaceSelector == nil && w.Entity.Namespace != ns, p.NamespaceSelector != nil && !c.namespaceMatches(p.NamespaceSelector, w.Entity.Namespace):
		case p.PodSelector == nil:
			return true
		default:
			if sel, err := metav1.LabelSelectorAsSelector(p.PodSelector); err == nil && sel.Matches(labels.Set(w.Template.Labels)) {
				return true
			}
		}
	}
	return false
}

// namespaceMatches says yes where the namespace's labels were not seen.
func (c *scan) namespaceMatches(s *metav1.LabelSelector, name string) bool {
	ns, ok := c.Namespaces.Get("", name)
	if !ok {
		return true
	}
	set := labels.Set{"kubernetes.io/metadata.name": name}
	for k, v := range ns.Labels {
		set[k] = v
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(set)
}

// blockHas reports whether any pod of the workload has an address in the block.
func blockHas(b *networkingv1.IPBlock, w *cluster.Workload) bool {
	net, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return true
	}
	for _, p := range w.Pods {
		ip, err := netip.ParseAddr(p.Status.PodIP)
		if err == nil && net.Contains(ip) {
			for _, e := range b.Except {
				if out, err := netip.ParsePrefix(e); err == nil && out.Contains(ip) {
					return false
				}
			}
			return true
		}
	}
	return false
}

// blameNetworkPolicy blames the isolated workload. Without a call that fails by timeout the
// policy may stand for a caller that no longer calls, and the finding is only possible.
func (c *scan) blameNetworkPolicy(n need, svc *corev1.Service, to *cluster.Workload, p *networkingv1.NetworkPolicy, isolated *cluster.Workload, path, expected string) {
	e := cluster.EntityOf("NetworkPolicy", p)
	f := c.callFails(n)
	refused := f != nil && f.class == logRefused && !strings.Contains(strings.ToLower(f.text), "timed out")
	score, level := 0.3, incident.Info
	switch {
	case f != nil && !refused:
		score, level = 0.94, incident.Critical
	case f != nil:
		score, level = 0.6, incident.Warning
	case c.checkFails(cluster.EntityOf("Service", svc)):
		score, level = 0.85, incident.Critical
	}
	s := c.blame("NetworkPolicyBlocks", isolated.Entity, score, "%s keeps %s from %s", e, n.caller.Entity, to.Entity).level(level)
	s.see("objects/networkpolicies", e, path, "no rule for this call", expected).relate(e, cluster.EntityOf("Service", svc), n.caller.Entity, to.Entity)
	if f != nil {
		s.quote("logs", f.pod, f.text, time.Time{}).explain(f.pod, "").explain(n.caller.Entity, "")
	}
	s.explain(isolated.Entity, "").explain(cluster.EntityOf("Service", svc), "")
	s.step(e, "Add to %s of %s %s", path, e, expected)
}
