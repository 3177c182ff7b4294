package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func deleteJob() Action {
	return Action{
		Name: incident.DeleteJob, Kinds: []string{"Job"}, Risk: incident.RiskIrreversible, Window: time.Minute,
		Summary: "delete a Job that has failed, with its pods",
		Undo:    "cannot be undone: the Job's record and the logs of its pods are gone",
		Signal:  "the Job is gone; the incident's signals resolved",
		Rules:   []rbacv1.PolicyRule{rule("batch", []string{"jobs"}, "get", "delete")},
		plan: func(ctx context.Context, r *request) (plan, error) {
			if err := failedJob(r.object); err != nil {
				return plan{}, err
			}
			return plan{Writes: []Write{{Verb: VerbDelete, Target: entityOf(r.object)}}}, nil
		},
		health: gone,
	}
}

// failedJob refuses a Job that has not failed: its work may be going on.
func failedJob(o *Object) error {
	j, err := as[batchv1.Job](o)
	if err != nil {
		return err
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return incident.Invalidf("%s has not failed", entityOf(o))
}
