package remediations

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func drainNode() Action {
	return Action{
		Name: incident.DrainNode, Kinds: []string{"Node"}, Risk: incident.RiskDisruptive, Contains: true, Window: 10 * time.Minute,
		Summary: "cordon a node and evict its pods through the eviction API, a bounded number, respecting disruption budgets",
		Undo:    "the node is made schedulable again; the pods stay where they were placed since",
		Signal:  "the node is unschedulable and none of the evicted pods is on it",
		Rules: []rbacv1.PolicyRule{rule("", []string{"nodes"}, "get", "patch"), rule("", []string{"pods"}, "get", "list"),
			rule("", []string{"pods/eviction"}, "create")},
		plan:   planDrain,
		health: drained,
	}
}

// planDrain cordons first, so that what is evicted does not come back. Pods of DaemonSets and
// static pods stay; a pod that nothing would replace stops the plan.
func planDrain(ctx context.Context, r *request) (plan, error) {
	pods, err := drainable(ctx, r, r.target.Name)
	if err != nil {
		return plan{}, err
	}
	if len(pods) > r.bounds.MaxDrainPods {
		return plan{}, incident.Invalidf("%s has %d pods to evict, the bound is %d", r.target, len(pods), r.bounds.MaxDrainPods)
	}
	pl := plan{Nodes: 1, Pods: pods, AtOnce: readyCount(pods), Disrupts: true}
	cordon := edit(r.object).set(true, "spec", "unschedulable")
	if v, _ := at(r.object.Object, "/spec/unschedulable"); v != true {
		if pl.Writes, err = cordon.write(); err != nil {
			return plan{}, err
		}
	}
	pl.Notes = []string{"emptyDir volumes of the evicted pods are lost"}
	for _, p := range pods {
		pl.Writes = append(pl.Writes, Write{Verb: VerbEvict, Target: incident.Entity{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}})
	}
	if len(pl.Writes) == 0 {
		return plan{}, incident.Invalidf("%s: nothing to change, it is drained already", r.target)
	}
	return pl, nil
}

func drainable(ctx context.Context, r Reader, node string) ([]corev1.Pod, error) {
	all, err := list[corev1.Pod](ctx, r, "Pod", "")
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, p := range all {
		if p.Spec.NodeName != node || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		c := metav1.GetControllerOf(&p)
		if c == nil {
			return nil, incident.Invalidf("pod %s/%s on %s has no controller: nothing would replace it", p.Namespace, p.Name, node)
		}
		if c.Kind == "DaemonSet" || c.Kind == "Node" {
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b corev1.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return out, nil
}

func drained(ctx context.Context, r Reader, p *probe) (Health, error) {
	h, err := field(func(map[string]string) any { return true }, "spec", "unschedulable")(ctx, r, p)
	if err != nil || !h.OK {
		return h, err
	}
	left, err := drainable(ctx, r, p.target.Name)
	if err != nil {
		return Health{}, err
	}
	if len(left) > 0 {
		return Health{Ready: -1, Detail: left[0].Name + " is still on the node"}, nil
	}
	return h, nil
}
