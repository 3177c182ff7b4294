package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func pauseRollout() Action {
	return Action{
		Name: incident.PauseRollout, Kinds: []string{"Deployment"}, Risk: incident.RiskReversible, Contains: true, Touches: true, Window: time.Minute,
		Summary: "stop a rollout where it is; the pods that run stay",
		Undo:    "the rollout goes on",
		Signal:  "the Deployment is paused",
		Rules:   patchApps("deployments"),
		plan: func(_ context.Context, r *request) (plan, error) {
			return fieldPatch(edit(r.object).set(true, "spec", "paused"))
		},
		health: field(func(map[string]string) any { return true }, "spec", "paused"),
	}
}
