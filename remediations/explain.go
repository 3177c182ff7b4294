package remediations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// Explain describes one action and what a policy says of it in typical places. ErrNotFound:
// there is no such action.
func Explain(ctx context.Context, pol *policy.Policy, name incident.ActionName) (string, error) {
	a, ok := Catalogue()[name]
	if !ok {
		return "", fmt.Errorf("action %q: %w", incident.Clip(string(name), 60), incident.ErrNotFound)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nacts on   %s\nrisk      %s\nundo      %s\nverified  %s, within %s\nrole      %s\n", a.Name, a.Summary, strings.Join(a.Kinds, ", "), a.Risk,
		a.Undo, a.Signal, a.Window, ActRoleName(a.Name))
	for _, p := range a.Params {
		need := "optional"
		if p.Required {
			need = "required"
		}
		fmt.Fprintf(&b, "parameter %s (%s): %s\n", p.Name, need, p.Form)
	}
	fmt.Fprintf(&b, "\npolicy %s (version %s)\n", pol.Source().Name, incident.Clip(string(pol.Version()), 12))
	kind, namespaces := a.Kinds[0], []string{"shop", "kube-system"}
	if k := kinds[kind]; !k.namespaced {
		namespaces = []string{""}
	}
	for _, ns := range namespaces {
		for _, clusters := range []int{1, 3} {
			in := policy.Input{Action: a.Name, Risk: a.Risk, Kind: kind, Namespace: ns, Name: "example", Cluster: "example", Clusters: clusters,
				Severity: incident.Critical, Confidence: 0.9, Requester: Requester, Now: time.Now().UTC()}
			ans, steps := pol.Trace(ctx, in)
			where := ns
			if ns == "" {
				where = "cluster scope"
			}
			fmt.Fprintf(&b, "  %-14s %d cluster(s): %s", where, clusters, ans.Decision)
			if ans.Decision == incident.Ask {
				fmt.Fprintf(&b, " %d of %s", ans.Approvals, strings.Join(ans.Roles, "/"))
			}
			fmt.Fprintf(&b, " by rule %q: %s\n", ans.Rule, ans.Reason)
			for _, s := range steps {
				if s.Error != "" {
					fmt.Fprintf(&b, "      rule %q failed: %s\n", s.Rule, s.Error)
				}
			}
		}
	}
	return b.String(), nil
}
