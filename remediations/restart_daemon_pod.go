package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
)

func restartDaemonPod() Action {
	return Action{
		Name: incident.RestartDaemonPod, Kinds: []string{"Pod"}, Risk: incident.RiskDisruptive, Window: 3 * time.Minute,
		Summary: "replace the pod of a DaemonSet on one node (kube-proxy, network plugin, DNS)",
		Undo:    "none: the DaemonSet makes a new pod; nothing is to be put back",
		Signal:  "the pod is gone and its DaemonSet complete; the incident's signals resolved",
		Rules:   []rbacv1.PolicyRule{rule("", []string{"pods"}, "get", "delete")},
		plan: func(ctx context.Context, r *request) (plan, error) {
			if c := controllerOf(r.object); c == nil || c.Kind != "DaemonSet" {
				return plan{}, incident.Invalidf("%s is not a DaemonSet's pod", r.target)
			}
			return removePod(ctx, r, VerbDelete)
		},
		health: replaced,
	}
}
