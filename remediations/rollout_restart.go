package remediations

import (
	"context"

	"github.com/tocsin-io/tocsin/incident"
)

// AnnotationRestarted on a pod template makes the workload replace its pods.
const AnnotationRestarted = "tocsin.io/restarted-by"

func rolloutRestart() Action {
	return Action{
		Name: incident.RolloutRestart, Kinds: templated, Risk: incident.RiskDisruptive, Window: rollWindow,
		Summary: "replace all pods of a workload, by its own rollout strategy",
		Undo:    "the template annotation is removed, which replaces the pods again; nothing else changed",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Rules:   patchApps("deployments", "statefulsets", "daemonsets"),
		plan: func(ctx context.Context, r *request) (plan, error) {
			return patched(ctx, r, edit(r.object).set(r.id, "spec", "template", "metadata", "annotations", AnnotationRestarted))
		},
	}
}
