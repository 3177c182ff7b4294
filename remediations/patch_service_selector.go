package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func patchServices() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("", []string{"services"}, "get", "patch")}
}

func patchServiceSelector() Action {
	return Action{
		Name: incident.PatchServiceSelector, Kinds: []string{"Service"}, Risk: incident.RiskReversible, Touches: true, Window: 2 * time.Minute,
		Summary: "set the selector of a Service to labels that pods have",
		Undo:    "the selector that was there before is put back",
		Signal:  "the Service has ready endpoints; the incident's signals resolved",
		Params:  []Param{need(incident.ParamSelector, "k=v,k=v sorted by key, the whole selector", checkLabels)},
		Rules:   patchServices(),
		plan:    planServiceSelector,
	}
}

func planServiceSelector(ctx context.Context, r *request) (plan, error) {
	sel, err := parseLabels(r.params[incident.ParamSelector])
	if err != nil {
		return plan{}, err
	}
	pods, err := podsMatching(ctx, r, r.target.Namespace, &metav1.LabelSelector{MatchLabels: sel})
	if err != nil {
		return plan{}, err
	}
	if len(pods) == 0 {
		return plan{}, incident.Invalidf("no pod in %s has the labels %s", r.target.Namespace, r.params[incident.ParamSelector])
	}
	value := make(map[string]any, len(sel))
	for k, v := range sel {
		value[k] = v
	}
	pl, err := fieldPatch(edit(r.object).set(value, "spec", "selector"))
	if err != nil {
		return plan{}, err
	}
	// Whoever is served now may lose its endpoints.
	old, _, _ := unstructured.NestedStringMap(r.object.Object, "spec", "selector")
	if len(old) > 0 {
		pl.Pods, err = podsMatching(ctx, r, r.target.Namespace, &metav1.LabelSelector{MatchLabels: old})
		pl.AtOnce = readyCount(pl.Pods)
	}
	return pl, err
}
