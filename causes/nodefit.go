package causes

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

func controlPlane(n *corev1.Node) bool {
	for k, v := range n.Labels {
		if k == "node-role.kubernetes.io/control-plane" || k == "node-role.kubernetes.io/master" || k == "kubernetes.io/role" && (v == "master" || v == "control-plane") {
			return true
		}
	}
	return false
}

func closedControlPlane(f fit) bool { return controlPlane(f.node) && (f.cordon || f.taint) }

// positive reports whether the pod asks for nodes by what they have, not only by what they lack.
func positive(p *corev1.Pod) bool {
	if len(p.Spec.NodeSelector) > 0 {
		return true
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, r := range slices.Concat(t.MatchExpressions, t.MatchFields) {
			if r.Operator != corev1.NodeSelectorOpNotIn && r.Operator != corev1.NodeSelectorOpDoesNotExist {
				return true
			}
		}
	}
	return false
}

func taintString(t corev1.Taint) string {
	if t.Value == "" {
		return t.Key + ":" + string(t.Effect)
	}
	return t.Key + "=" + t.Value + ":" + string(t.Effect)
}

func tolerated(ts []corev1.Toleration, t corev1.Taint) bool {
	for _, o := range ts {
		if o.Effect != "" && o.Effect != t.Effect {
			continue
		}
		if o.Key == "" && o.Operator == corev1.TolerationOpExists {
			return true
		}
		if o.Key == t.Key && (o.Operator == corev1.TolerationOpExists || o.Value == t.Value) {
			return true
		}
	}
	return false
}

// matchTerms reports whether any term of a node selector matches, as the scheduler reads them.
func matchTerms(terms []corev1.NodeSelectorTerm, n *corev1.Node) bool {
	for _, t := range terms {
		if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
			continue
		}
		if matchRequirements(t.MatchExpressions, labels.Set(n.Labels)) && matchRequirements(t.MatchFields, labels.Set{"metadata.name": n.Name}) {
			return true
		}
	}
	return false
}

func matchRequirements(rs []corev1.NodeSelectorRequirement, set labels.Set) bool {
	ops := map[corev1.NodeSelectorOperator]selection.Operator{corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
		corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan}
	for _, r := range rs {
		req, err := labels.NewRequirement(r.Key, ops[r.Operator], r.Values)
		if err != nil || !req.Matches(set) {
			return false
		}
	}
	return true
}

func nodeCondition(n *corev1.Node, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func hostPorts(s *corev1.PodSpec) string {
	var out []string
	for _, c := range s.Containers {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				out = append(out, itoa(int(p.HostPort)))
			}
		}
	}
	return strings.Join(out, ", ")
}

func describeAffinity(a *corev1.Affinity) string {
	var out []string
	if a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		out = append(out, describeTerms(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms))
	}
	if a != nil && a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			out = append(out, "not with "+metav1.FormatLabelSelector(t.LabelSelector)+" on one "+t.TopologyKey)
		}
	}
	if a != nil && a.PodAffinity != nil {
		for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			out = append(out, "with "+metav1.FormatLabelSelector(t.LabelSelector)+" on one "+t.TopologyKey)
		}
	}
	return strings.Join(out, "; ")
}

func describeTerms(terms []corev1.NodeSelectorTerm) string {
	var out []string
	for _, t := range terms {
		for _, r := range slices.Concat(t.MatchExpressions, t.MatchFields) {
			out = append(out, r.Key+" "+string(r.Operator)+" "+strings.Join(r.Values, ","))
		}
	}
	return strings.Join(out, "; ")
}
