package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func uncordonNode() Action {
	return Action{
		Name: incident.UncordonNode, Kinds: []string{"Node"}, Risk: incident.RiskReversible, Window: 2 * time.Minute,
		Summary: "let new pods be placed on a node again",
		Undo:    "the node is cordoned again",
		Signal:  "the node is schedulable; the incident's signals resolved",
		Rules:   patchNodes(),
		plan: func(_ context.Context, r *request) (plan, error) {
			pl, err := fieldPatch(edit(r.object).set(nil, "spec", "unschedulable"))
			pl.Nodes = 1
			return pl, err
		},
		health: field(func(map[string]string) any { return false }, "spec", "unschedulable"),
	}
}
