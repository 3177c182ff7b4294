package remediations

import (
	"context"

	"github.com/tocsin-io/tocsin/incident"
)

func resumeRollout() Action {
	return Action{
		Name: incident.ResumeRollout, Kinds: []string{"Deployment"}, Risk: incident.RiskReversible, Touches: true, Window: rollWindow,
		Summary: "let a paused rollout go on",
		Undo:    "the rollout is paused again",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Rules:   patchApps("deployments"),
		plan: func(ctx context.Context, r *request) (plan, error) {
			return patched(ctx, r, edit(r.object).set(nil, "spec", "paused"))
		},
	}
}
