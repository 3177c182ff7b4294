package remediations

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tocsin-io/tocsin/incident"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func scale() Action {
	return Action{
		Name: incident.Scale, Kinds: []string{"Deployment", "StatefulSet"}, Risk: incident.RiskReversible, Touches: true, Window: rollWindow,
		Summary: "set the number of replicas",
		Undo:    "the number of replicas that was there before is put back",
		Signal:  "every replica available; the incident's signals of the workload resolved",
		Params: []Param{need(incident.ParamReplicas, "number of replicas", checkCount(0, 10000)),
			need(incident.ParamFrom, "the number it was proposed at", checkCount(0, 10000))},
		Rules: patchApps("deployments", "statefulsets"),
		plan:  planScale,
	}
}

func planScale(ctx context.Context, r *request) (plan, error) {
	live, ok, _ := unstructured.NestedInt64(r.object.Object, "spec", "replicas")
	if !ok {
		live = 1
	}
	if from := r.params[incident.ParamFrom]; from != fmt.Sprint(live) {
		return plan{}, fmt.Errorf("%s has %d replicas, the proposal was made at %s: %w", r.target, live, from, incident.ErrStale)
	}
	want, err := strconv.Atoi(r.params[incident.ParamReplicas])
	if err != nil || want > r.bounds.MaxReplicas {
		return plan{}, incident.Invalidf("%s: %s replicas, the bound is %d", r.target, r.params[incident.ParamReplicas], r.bounds.MaxReplicas)
	}
	hpas, err := list[autoscalingv2.HorizontalPodAutoscaler](ctx, r, "HorizontalPodAutoscaler", r.target.Namespace)
	if err != nil {
		return plan{}, err
	}
	for _, h := range hpas {
		// An autoscaler does not act on a target at zero, so waking one up is no fight.
		if ref := h.Spec.ScaleTargetRef; ref.Kind == r.target.Kind && ref.Name == r.target.Name && live != 0 {
			return plan{}, incident.Invalidf("%s is scaled by HorizontalPodAutoscaler %s: use %s", r.target, h.Name, incident.SetHPABounds)
		}
	}
	pl, err := fieldPatch(edit(r.object).set(int64(want), "spec", "replicas"))
	if err != nil || want >= int(live) {
		return pl, err
	}
	pl.Pods, err = podsOf(ctx, r, r.object)
	pl.AtOnce = max(readyCount(pl.Pods)-want, 0) // those that are not ready go first
	return pl, err
}
