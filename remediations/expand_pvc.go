package remediations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func expandPVC() Action {
	return Action{
		Name: incident.ExpandPVC, Kinds: []string{"PersistentVolumeClaim"}, Risk: incident.RiskIrreversible, Touches: true, Window: 10 * time.Minute,
		Summary: "ask for a larger volume, where the storage class allows it, within bounds",
		Undo:    "cannot be undone: volumes do not shrink",
		Signal:  "the claim's capacity has the new size; the incident's signals resolved",
		Params:  []Param{need(incident.ParamSize, "Kubernetes quantity", checkQuantity)},
		Rules:   []rbacv1.PolicyRule{rule("", []string{"persistentvolumeclaims"}, "get", "patch")},
		plan:    planExpandPVC,
		health: func(ctx context.Context, r Reader, p *probe) (Health, error) {
			o, err := r.Get(ctx, p.target)
			if errors.Is(err, incident.ErrNotFound) {
				return Health{Ready: -1, Detail: p.target.String() + " does not exist"}, nil
			}
			if err != nil {
				return Health{}, err
			}
			c, err := as[corev1.PersistentVolumeClaim](o)
			have, want := c.Status.Capacity[corev1.ResourceStorage], resource.MustParse(p.params[incident.ParamSize])
			return Health{OK: have.Cmp(want) >= 0, Ready: -1, Detail: fmt.Sprintf("capacity is %s, wanted %s", have.String(), want.String())}, err
		},
	}
}

func planExpandPVC(ctx context.Context, r *request) (plan, error) {
	c, err := as[corev1.PersistentVolumeClaim](r.object)
	if err != nil {
		return plan{}, err
	}
	have, want := c.Spec.Resources.Requests[corev1.ResourceStorage], resource.MustParse(r.params[incident.ParamSize])
	if want.Cmp(have) <= 0 {
		return plan{}, incident.Invalidf("%s asks for %s already", r.target, have.String())
	}
	if want.AsApproximateFloat64() > have.AsApproximateFloat64()*r.bounds.MaxRaise {
		return plan{}, incident.Invalidf("%s from %s to %s is more than the bound of %g times", r.target, have.String(), want.String(), r.bounds.MaxRaise)
	}
	if c.Spec.StorageClassName == nil || *c.Spec.StorageClassName == "" {
		return plan{}, incident.Invalidf("%s has no storage class: its volume cannot grow", r.target)
	}
	o, err := r.Get(ctx, incident.Entity{Kind: "StorageClass", Name: *c.Spec.StorageClassName})
	if err != nil {
		return plan{}, err
	}
	sc, err := as[storagev1.StorageClass](o)
	if err != nil {
		return plan{}, err
	}
	if sc.AllowVolumeExpansion == nil || !*sc.AllowVolumeExpansion {
		return plan{}, incident.Invalidf("storage class %s does not allow volumes to grow", sc.Name)
	}
	return fieldPatch(edit(r.object).set(want.String(), "spec", "resources", "requests", "storage"))
}
