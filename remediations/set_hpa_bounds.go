package remediations

import (
	"context"
	"strconv"

	"github.com/tocsin-io/tocsin/incident"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	rbacv1 "k8s.io/api/rbac/v1"
)

// Parameters of SetHPABounds.
const (
	paramMin = "min"
	paramMax = "max"
)

func setHPABounds() Action {
	return Action{
		Name: incident.SetHPABounds, Kinds: []string{"HorizontalPodAutoscaler"}, Risk: incident.RiskReversible, Touches: true,
		Window: rollWindow, AnyOf: true,
		Summary: "set the least or the most replicas of an autoscaler",
		Undo:    "the bounds that were there before are put back",
		Signal:  "the current replicas lie within the bounds; the incident's signals resolved",
		Params:  []Param{may(paramMin, "number of replicas", checkCount(1, 10000)), may(paramMax, "number of replicas", checkCount(1, 10000))},
		Rules:   []rbacv1.PolicyRule{rule("autoscaling", []string{"horizontalpodautoscalers"}, "get", "patch")},
		plan:    planHPABounds,
	}
}

func planHPABounds(_ context.Context, r *request) (plan, error) {
	h, err := as[autoscalingv2.HorizontalPodAutoscaler](r.object)
	if err != nil {
		return plan{}, err
	}
	lo, hi := int(replicaMin(&h)), int(h.Spec.MaxReplicas)
	p := edit(r.object)
	if v, ok := r.params[paramMin]; ok {
		if lo, err = strconv.Atoi(v); err != nil {
			return plan{}, incident.Invalidf("min %q", v)
		}
		p.set(int64(lo), "spec", "minReplicas")
	}
	if v, ok := r.params[paramMax]; ok {
		if hi, err = strconv.Atoi(v); err != nil {
			return plan{}, incident.Invalidf("max %q", v)
		}
		p.set(int64(hi), "spec", "maxReplicas")
	}
	switch {
	case lo > hi:
		return plan{}, incident.Invalidf("%s: min %d would be above max %d", r.target, lo, hi)
	case hi > r.bounds.MaxReplicas:
		return plan{}, incident.Invalidf("%s: max %d, the bound is %d", r.target, hi, r.bounds.MaxReplicas)
	case float64(hi) > float64(h.Spec.MaxReplicas)*r.bounds.MaxRaise:
		return plan{}, incident.Invalidf("%s: max from %d to %d is more than the bound of %g times", r.target, h.Spec.MaxReplicas, hi, r.bounds.MaxRaise)
	}
	return fieldPatch(p)
}
