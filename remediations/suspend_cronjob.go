package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func patchCronJobs() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("batch", []string{"cronjobs"}, "get", "patch")}
}

func suspendCronJob() Action {
	return Action{
		Name: incident.SuspendCronJob, Kinds: []string{"CronJob"}, Risk: incident.RiskReversible, Contains: true, Touches: true, Window: time.Minute,
		Summary: "start no new Jobs of a CronJob; Jobs that run go on",
		Undo:    "the CronJob is resumed",
		Signal:  "the CronJob is suspended",
		Rules:   patchCronJobs(),
		plan: func(_ context.Context, r *request) (plan, error) {
			return fieldPatch(edit(r.object).set(true, "spec", "suspend"))
		},
		health: field(func(map[string]string) any { return true }, "spec", "suspend"),
	}
}
