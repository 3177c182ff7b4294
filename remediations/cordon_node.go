package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func patchNodes() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("", []string{"nodes"}, "get", "patch")}
}

func cordonNode() Action {
	return Action{
		Name: incident.CordonNode, Kinds: []string{"Node"}, Risk: incident.RiskReversible, Contains: true, Window: time.Minute,
		Summary: "place no new pods on a node; the pods on it stay",
		Undo:    "the node is made schedulable again",
		Signal:  "the node is unschedulable",
		Rules:   patchNodes(),
		plan: func(_ context.Context, r *request) (plan, error) {
			pl, err := fieldPatch(edit(r.object).set(true, "spec", "unschedulable"))
			pl.Nodes = 1
			return pl, err
		},
		health: field(func(map[string]string) any { return true }, "spec", "unschedulable"),
	}
}
