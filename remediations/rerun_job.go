package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func rerunJob() Action {
	return Action{
		Name: incident.RerunJob, Kinds: []string{"Job"}, Risk: incident.RiskDisruptive, Contains: true, Window: 10 * time.Minute,
		Summary: "run a failed Job again as a new Job beside it",
		Undo:    "none: what the Job does outside the cluster is not known here; the old Job stays as it was",
		Signal:  "the new Job completes",
		Rules:   []rbacv1.PolicyRule{rule("batch", []string{"jobs"}, "get", "create")},
		plan: func(_ context.Context, r *request) (plan, error) {
			if err := failedJob(r.object); err != nil {
				return plan{}, err
			}
			if c := controllerOf(r.object); c != nil && c.Kind != "CronJob" {
				return plan{}, incident.Invalidf("%s belongs to %s, which makes its Jobs itself", r.target, c)
			}
			src := entityOf(r.object)
			return plan{Writes: []Write{{Verb: VerbCreate, Source: &src,
				Target: incident.Entity{Kind: "Job", Namespace: src.Namespace, Name: rerunName(src, r.id)}}}}, nil
		},
		health: func(ctx context.Context, r Reader, p *probe) (Health, error) {
			return healthOf(ctx, r, &probe{target: incident.Entity{Kind: "Job", Namespace: p.target.Namespace, Name: rerunName(p.target, p.id)}})
		},
	}
}

// rerunName is made from the execution, so that one execution makes one Job at most.
func rerunName(e incident.Entity, id string) string {
	name := e.Name
	if len(name) > 40 {
		name = name[:40]
	}
	return name + "-rerun-" + string(incident.HashParts(e.Name, e.UID, id))[:8]
}
