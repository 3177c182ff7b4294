package remediations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func raiseQuota() Action {
	return Action{
		Name: incident.RaiseQuota, Kinds: []string{"ResourceQuota"}, Risk: incident.RiskReversible, Touches: true, Window: 3 * time.Minute,
		Summary: "raise one limit of a ResourceQuota, within bounds",
		Undo:    "the limit that was there before is put back; what was created since stays",
		Signal:  "the quota has the new limit; the incident's signals resolved",
		Params:  []Param{need(incident.ParamResource, "e.g. requests.cpu, pods", checkQualified), need(incident.ParamHard, "Kubernetes quantity", checkQuantity)},
		Rules:   []rbacv1.PolicyRule{rule("", []string{"resourcequotas"}, "get", "patch")},
		plan:    planRaiseQuota,
		health: func(ctx context.Context, r Reader, p *probe) (Health, error) {
			o, err := r.Get(ctx, p.target)
			if errors.Is(err, incident.ErrNotFound) {
				return Health{Ready: -1, Detail: p.target.String() + " does not exist"}, nil
			}
			if err != nil {
				return Health{}, err
			}
			q, err := as[corev1.ResourceQuota](o)
			have, want := q.Spec.Hard[corev1.ResourceName(p.params[incident.ParamResource])], resource.MustParse(p.params[incident.ParamHard])
			return Health{OK: have.Cmp(want) >= 0, Ready: -1, Detail: fmt.Sprintf("the limit is %s, wanted %s", have.String(), want.String())}, err
		},
	}
}

func planRaiseQuota(_ context.Context, r *request) (plan, error) {
	q, err := as[corev1.ResourceQuota](r.object)
	if err != nil {
		return plan{}, err
	}
	name := r.params[incident.ParamResource]
	have, ok := q.Spec.Hard[corev1.ResourceName(name)]
	if !ok {
		return plan{}, incident.Invalidf("%s does not limit %s", r.target, name)
	}
	want := resource.MustParse(r.params[incident.ParamHard])
	if want.Cmp(have) <= 0 {
		return plan{}, incident.Invalidf("%s allows %s of %s already", r.target, have.String(), name)
	}
	if was := have.AsApproximateFloat64(); was > 0 && want.AsApproximateFloat64() > was*r.bounds.MaxRaise {
		return plan{}, incident.Invalidf("%s of %s from %s to %s is more than the bound of %g times", name, r.target, have.String(), want.String(), r.bounds.MaxRaise)
	}
	return fieldPatch(edit(r.object).set(want.String(), "spec", "hard", name))
}
