package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func deletePod() Action {
	return Action{
		Name: incident.DeletePod, Kinds: []string{"Pod"}, Risk: incident.RiskDisruptive, Window: 3 * time.Minute,
		Summary: "delete a pod that a controller will replace",
		Undo:    "none: the controller makes a new pod; nothing is to be put back",
		Signal:  "the pod is gone and its controller complete; the incident's signals resolved",
		Rules:   []rbacv1.PolicyRule{rule("", []string{"pods"}, "get", "delete")},
		plan: func(ctx context.Context, r *request) (plan, error) {
			return removePod(ctx, r, VerbDelete)
		},
		health: replaced,
	}
}

// removePod plans the delete or eviction of one pod; a pod that nothing would replace is refused.
func removePod(ctx context.Context, r *request, verb Verb) (plan, error) {
	pod, err := as[corev1.Pod](r.object)
	if err != nil {
		return plan{}, err
	}
	owner := controllerOf(r.object)
	if owner == nil {
		return plan{}, incident.Invalidf("%s has no controller: nothing would replace it", r.target)
	}
	if owner.Kind == "Node" {
		return plan{}, incident.Invalidf("%s is a static pod of its node: deleting it changes nothing", r.target)
	}
	if pod.DeletionTimestamp != nil {
		return plan{}, incident.Invalidf("%s is being deleted already", r.target)
	}
	pl := plan{Writes: []Write{{Verb: verb, Target: entityOf(r.object)}}, Pods: []corev1.Pod{pod}, Disrupts: true}
	pl.AtOnce = count(podReady(&pod))
	// Its siblings count for the share: a ready pod of three is a third, the only one is all.
	if o, err := r.Get(ctx, *owner); err == nil && pl.AtOnce > 0 {
		siblings, err := podsOf(ctx, r, o)
		if err != nil {
			return plan{}, err
		}
		pl.Of = readyCount(siblings)
	}
	return pl, nil
}
