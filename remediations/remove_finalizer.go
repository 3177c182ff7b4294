package remediations

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func removeFinalizer() Action {
	return Action{
		Name: incident.RemoveFinalizer, Risk: incident.RiskIrreversible, Window: time.Minute,
		Kinds:   []string{"Pod", "PersistentVolumeClaim", "PersistentVolume", "Service", "Job", "Deployment", "StatefulSet", "DaemonSet"},
		Summary: "remove one finalizer from an object that is being deleted; refused unless the agent allows it",
		Undo:    "cannot be undone: the object goes away, and what the finalizer guarded may be left behind",
		Signal:  "the object is gone; the incident's signals resolved",
		Params:  []Param{need(incident.ParamFinalizer, "name of the finalizer", checkQualified)},
		Rules: []rbacv1.PolicyRule{rule("", []string{"pods", "persistentvolumeclaims", "persistentvolumes", "services"}, "get", "patch"),
			rule("batch", []string{"jobs"}, "get", "patch"), rule("apps", []string{"deployments", "statefulsets", "daemonsets"}, "get", "patch")},
		plan: func(_ context.Context, r *request) (plan, error) {
			if !r.bounds.AllowFinalize {
				return plan{}, incident.Invalidf("removing finalizers is not allowed here (bounds.allowFinalize)")
			}
			if r.object.GetDeletionTimestamp() == nil {
				return plan{}, incident.Invalidf("%s is not being deleted", r.target)
			}
			i := slices.Index(r.object.GetFinalizers(), r.params[incident.ParamFinalizer])
			if i < 0 {
				return plan{}, incident.Invalidf("%s has no finalizer %q", r.target, r.params[incident.ParamFinalizer])
			}
			return fieldPatch(edit(r.object).set(nil, "metadata", "finalizers", strconv.Itoa(i)))
		},
		health: gone,
	}
}
