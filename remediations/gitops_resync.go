package remediations

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func gitOpsResync() Action {
	return Action{
		Name: incident.GitOpsResync, Kinds: []string{"Application", "Kustomization", "HelmRelease"}, Risk: incident.RiskDisruptive, Window: 10 * time.Minute,
		Summary: "have the GitOps controller apply its source again",
		Undo:    "none: what Git says is put in place; nothing else changed",
		Signal:  "the controller reports success and health; the incident's signals resolved",
		Rules:   patchGitOps(),
		plan: func(_ context.Context, r *request) (plan, error) {
			p := edit(r.object)
			if r.target.Kind == "Application" {
				if _, busy := at(r.object.Object, "/operation"); busy {
					return plan{}, fmt.Errorf("%s: an operation is under way: %w", r.target, incident.ErrStale)
				}
				return fieldPatch(p.set(map[string]any{"initiatedBy": map[string]any{"username": FieldManager},
					"sync": map[string]any{"prune": false}}, "operation"))
			}
			return fieldPatch(p.set(r.id, "metadata", "annotations", "reconcile.fluxcd.io/requestedAt"))
		},
		health: gitOpsHealth,
	}
}
