package remediations

import (
	"context"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Parameters of PatchScheduling.
const (
	paramNodeSelector = "nodeSelector"
	paramDropAffinity = "dropNodeAffinity"
	paramDropAnti     = "dropPodAntiAffinity"
	paramToleration   = "toleration"
)

func patchScheduling() Action {
	return Action{
		Name: incident.PatchScheduling, Kinds: templated, Risk: incident.RiskReversible, Touches: true, Window: rollWindow, AnyOf: true,
		Summary: "set node selector, affinity or toleration to what some node has",
		Undo:    "the scheduling fields that were there before are put back",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Params: []Param{may(paramNodeSelector, "k=v,k=v sorted by key, the whole selector; - removes it", func(v string) error {
			if v == "-" {
				return nil
			}
			return checkLabels(v)
		}), may(paramDropAffinity, "true", oneOf("true")), may(paramDropAnti, "true", oneOf("true")),
			may(paramToleration, "key[=value]:Effect", func(v string) error { _, _, _, _, err := parseToleration(v); return err })},
		Rules: patchApps("deployments", "statefulsets", "daemonsets"),
		plan:  planScheduling,
	}
}

func planScheduling(ctx context.Context, r *request) (plan, error) {
	nodes, err := list[corev1.Node](ctx, r, "Node", "")
	if err != nil {
		return plan{}, err
	}
	base := []string{"spec", "template", "spec"}
	p := edit(r.object)
	switch v := r.params[paramNodeSelector]; v {
	case "":
	case "-":
		p.set(nil, under(base, "nodeSelector")...)
	default:
		sel, err := parseLabels(v)
		if err != nil {
			return plan{}, err
		}
		if !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return labels.SelectorFromSet(sel).Matches(labels.Set(n.Labels)) }) {
			return plan{}, incident.Invalidf("no node has the labels %s", v)
		}
		value := map[string]any{}
		for k, x := range sel {
			value[k] = x
		}
		p.set(value, under(base, "nodeSelector")...)
	}
	if r.params[paramDropAffinity] != "" {
		p.set(nil, under(base, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")...)
	}
	if r.params[paramDropAnti] != "" {
		// The pods that run keep their own anti-affinity, which keeps the new ones off their
		// nodes: a rolling update would stand still.
		if v, _ := at(r.object.Object, "/spec/strategy/type"); r.target.Kind != "Deployment" || v != "Recreate" {
			return plan{}, incident.Invalidf("%s replaces its pods in turn, and those that run keep the new ones out: scale it to the nodes there are", r.target)
		}
		p.set(nil, under(base, "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")...)
	}
	if v := r.params[paramToleration]; v != "" {
		if err := addToleration(r.object, p, nodes, v); err != nil {
			return plan{}, err
		}
	}
	return patched(ctx, r, p)
}

// addToleration tolerates exactly one taint that a node has; taints by which Kubernetes marks a
// sick node are not to be tolerated.
func addToleration(o *Object, p *patch, nodes []corev1.Node, v string) error {
	key, value, effect, hasValue, err := parseToleration(v)
	if err != nil {
		return err
	}
	if slices.Contains([]string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure,
		corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable,
		corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeOutOfService}, key) {
		return incident.Invalidf("taint %s marks a node that is not fit: it is not to be tolerated", key)
	}
	has := slices.ContainsFunc(nodes, func(n corev1.Node) bool {
		return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key == key && string(t.Effect) == effect && (!hasValue || t.Value == value)
		})
	})
	if !has {
		return incident.Invalidf("no node has the taint %s", v)
	}
	t := map[string]any{"key": key, "effect": effect, "operator": "Exists"}
	if hasValue {
		t["operator"], t["value"] = "Equal", value
	}
	items, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "tolerations")
	p.set(append(items, t), "spec", "template", "spec", "tolerations")
	return nil
}
