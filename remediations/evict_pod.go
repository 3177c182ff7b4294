package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func evictPod() Action {
	return Action{
		Name: incident.EvictPod, Kinds: []string{"Pod"}, Risk: incident.RiskDisruptive, Window: 3 * time.Minute,
		Summary: "evict a pod through the eviction API, which respects disruption budgets",
		Undo:    "none: the controller makes a new pod; nothing is to be put back",
		Signal:  "the pod is gone and its controller complete; the incident's signals resolved",
		Rules:   []rbacv1.PolicyRule{rule("", []string{"pods"}, "get"), rule("", []string{"pods/eviction"}, "create")},
		plan: func(ctx context.Context, r *request) (plan, error) {
			return removePod(ctx, r, VerbEvict)
		},
		health: replaced,
	}
}
