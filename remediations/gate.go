package remediations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	policyv1 "k8s.io/api/policy/v1"
)

// gateCase is what the agent's gates judge: one plan against the cluster as it is now.
type gateCase struct {
	action   Action
	proposal incident.Proposal
	id       string
	approved *Prepared // nil while preparing

	object  *Object
	seen    Seen
	plan    plan
	planErr error // the planner's reason why not
	effect  []incident.FieldChange
	dryErr  error
	blast   incident.BlastRadius
	budgets []policyv1.PodDisruptionBudget
	seal    incident.Digest
}

// gate is one named check. An empty reason for a denial is a bug; an error denies as well, with
// the error as reason: what cannot be checked is not allowed.
type gate struct {
	name  string
	check func(ctx context.Context, a *Agent, c *gateCase) (ok bool, reason string, err error)
}

// agentGates all run, in this order, at preparation and again right before the write.
var agentGates = []gate{
	{"agent-policy", gateLocalPolicy},
	{"stop-switch", gateStop},
	{"identity", gateIdentity},
	{"owner", gateOwner},
	{"plan", gatePlan},
	{"permission", gatePermission},
	{"dry-run", gateDryRun},
	{"disruption", gateDisruption},
	{"blast-radius", gateBlast},
	{"lock", gateLock},
	{"rate", gateRate},
}

// runGates returns a verdict of every gate.
func (a *Agent) runGates(ctx context.Context, c *gateCase) []incident.Verdict {
	out := make([]incident.Verdict, 0, len(agentGates))
	for _, g := range agentGates {
		ok, reason, err := g.check(ctx, a, c)
		v := incident.Verdict{Gate: g.name, Decision: incident.Allow, Reason: reason, At: time.Now().UTC()}
		if err != nil {
			v.Decision, v.Reason = incident.Deny, "could not be checked: "+err.Error()
		} else if !ok {
			v.Decision = incident.Deny
		}
		v.Reason = incident.UntrustedText(v.Reason).Plain(500)
		out = append(out, v)
	}
	return out
}

func gateLocalPolicy(_ context.Context, a *Agent, c *gateCase) (bool, string, error) {
	return a.cfg.Local.permits(c.proposal)
}

func gateStop(ctx context.Context, a *Agent, c *gateCase) (bool, string, error) {
	if why := a.stop.stopped(ctx, c.proposal.Target); why != "" {
		return false, why, nil
	}
	return true, "no stop switch is on", nil
}

func gateIdentity(_ context.Context, _ *Agent, c *gateCase) (bool, string, error) {
	if c.object == nil {
		return false, c.proposal.Target.Entity.String() + " does not exist", nil
	}
	if want := c.proposal.Target.Entity.UID; want != "" && want != c.seen.UID {
		return false, fmt.Sprintf("it was recreated (UID %s, proposed for %s)", c.seen.UID, want), nil
	}
	if c.approved != nil {
		if why := c.approved.Seen.differs(c.seen); why != "" {
			return false, why + " since it was shown", nil
		}
	}
	return true, fmt.Sprintf("UID %s, resourceVersion %s, generation %d", c.seen.UID, c.seen.ResourceVersion, c.seen.Generation), nil
}

func gateOwner(_ context.Context, _ *Agent, c *gateCase) (bool, string, error) {
	own := c.seen.Owner
	switch {
	case own.System == OwnedByNobody:
		return true, "no GitOps controller or operator owns it", nil
	case !c.action.Touches:
		return true, fmt.Sprintf("owned by %s (%s); the action changes nothing it keeps", own, own.Why), nil
	case c.action.Name == incident.GitChange:
		return true, fmt.Sprintf("owned by %s; the change goes through Git", own), nil
	case own.Heals:
		return false, fmt.Sprintf("owned by %s (%s), which would revert a live patch: change Git (%s) or act on the controller's own resource (%s, %s)",
			own, own.Why, incident.GitChange, incident.GitOpsRollback, incident.GitOpsResync), nil
	case own.System == OwnedByArgo || own.System == OwnedByFlux:
		return true, fmt.Sprintf("owned by %s, which does not heal now; the change differs from Git until it is made there too", own), nil
	}
	return true, fmt.Sprintf("owned by %s: the next upgrade overwrites the change", own), nil
}

func gatePlan(_ context.Context, _ *Agent, c *gateCase) (bool, string, error) {
	if c.planErr != nil {
		return false, c.planErr.Error(), nil
	}
	return true, fmt.Sprintf("%d writes", len(c.plan.Writes)), nil
}

func gatePermission(ctx context.Context, a *Agent, c *gateCase) (bool, string, error) {
	for _, w := range c.plan.Writes {
		ok, why, err := a.cfg.Actor.Allowed(ctx, w)
		if err != nil {
			return false, "", err
		}
		if !ok {
			return false, fmt.Sprintf("the actor may not %s %s: bind the role of %s (deploy/rbac) %s", w.Verb, w.Target, c.action.Name, why), nil
		}
	}
	return true, "the actor's identity is allowed every write", nil
}

func gateDryRun(_ context.Context, _ *Agent, c *gateCase) (bool, string, error) {
	switch {
	case c.planErr != nil:
		return false, "there is no plan to try", nil
	case c.dryErr != nil:
		return false, "the server refuses it: " + c.dryErr.Error(), nil
	case c.approved != nil && c.approved.Seal != c.seal:
		return false, "the writes or their effect are no longer what was shown", nil
	}
	return true, fmt.Sprintf("the server accepts it: %d fields change", len(c.effect)), nil
}

// gateDisruption counts evictions and deletes of ready pods against the budgets now.
func gateDisruption(_ context.Context, _ *Agent, c *gateCase) (bool, string, error) {
	if !c.plan.Disrupts {
		return true, "no pod is evicted or deleted", nil
	}
	for _, b := range c.budgets {
		hit := 0
		for i := range c.plan.Pods {
			p := &c.plan.Pods[i]
			if p.Namespace == b.Namespace && podReady(p) && budgetSelects(&b, p.Labels) {
				hit++
			}
		}
		// One drain may evict more than the budget allows at once: the eviction API then
		// stops it in the middle, so it is not begun.
		if hit > int(b.Status.DisruptionsAllowed) {
			return false, fmt.Sprintf("disruption budget %s/%s allows %d disruptions now, the action needs %d", b.Namespace, b.Name, b.Status.DisruptionsAllowed, hit), nil
		}
	}
	return true, fmt.Sprintf("%d disruption budgets allow it", len(c.budgets)), nil
}

func gateBlast(_ context.Context, a *Agent, c *gateCase) (bool, string, error) {
	b, caps := c.blast, a.cfg.Local.Caps.withDefaults()
	switch {
	case b.Pods > caps.MaxPods:
		return false, fmt.Sprintf("%d pods, the cap is %d", b.Pods, caps.MaxPods), nil
	case b.Share > caps.MaxShare:
		return false, fmt.Sprintf("%.0f %% of the ready pods may be gone at once, the cap is %.0f %%", 100*b.Share, 100*caps.MaxShare), nil
	case b.Nodes > caps.MaxNodes:
		return false, fmt.Sprintf("%d nodes, the cap is %d", b.Nodes, caps.MaxNodes), nil
	}
	return true, fmt.Sprintf("%d pods, %.0f %% of the ready ones at once, %d nodes", b.Pods, 100*b.Share, b.Nodes), nil
}

func gateLock(ctx context.Context, a *Agent, c *gateCase) (bool, string, error) {
	holder, err := lockedBy(ctx, a.cfg.KV, c.proposal.Target.Entity, c.id)
	if err != nil {
		return false, "", err
	}
	if holder != "" {
		return false, "execution " + holder + " acts on it now", nil
	}
	return true, "nothing else acts on it", nil
}

func gateRate(ctx context.Context, a *Agent, c *gateCase) (bool, string, error) {
	why, err := a.rates.peek(ctx, c.proposal.Target, c.id)
	return why == "", cmpOr(why, "within the limits of target and cluster"), err
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// LocalPolicy is what an agent itself allows, whatever the hub says. The zero value enables
// nothing and writes nothing.
type LocalPolicy struct {
	// Act true lets the agent write; otherwise everything ends after the server-side dry run.
	Act bool `json:"act,omitempty"`
	// Actions that are enabled; nil: none.
	Actions []incident.ActionName `json:"actions,omitempty"`
	// Namespaces in which the agent may act; nil: none. "*" is every namespace but kube-* ones,
	// which have to be named.
	Namespaces []string `json:"namespaces,omitempty"`
	// ClusterScoped lets actions target nodes and other objects without a namespace.
	ClusterScoped bool `json:"clusterScoped,omitempty"`
	Caps          Caps
	Bounds        Bounds
}

func (l LocalPolicy) permits(p incident.Proposal) (bool, string, error) {
	if !slices.Contains(l.Actions, p.Action) {
		return false, fmt.Sprintf("%s is not enabled in this cluster", p.Action), nil
	}
	ns := p.Target.Entity.Namespace
	if p.Target.Entity.Kind == "Namespace" {
		ns = p.Target.Entity.Name
	}
	if !l.namespace(ns) {
		return false, fmt.Sprintf("acting in %s is not enabled in this cluster", cmpOr(ns, "cluster scope")), nil
	}
	if from := p.Params[paramFromNamespace]; from != "" && !l.namespace(from) {
		return false, fmt.Sprintf("copying from %s is not enabled in this cluster", from), nil
	}
	if !l.Act {
		return true, "enabled, as a dry run only", nil
	}
	return true, "enabled", nil
}

func (l LocalPolicy) namespace(ns string) bool {
	if ns == "" {
		return l.ClusterScoped
	}
	return slices.Contains(l.Namespaces, ns) || (slices.Contains(l.Namespaces, "*") && !strings.HasPrefix(ns, "kube-"))
}

// reasonable says whether an error is a reason to refuse rather than a failure to look.
func reasonable(err error) bool {
	return errors.Is(err, incident.ErrInvalid) || errors.Is(err, incident.ErrStale) || errors.Is(err, incident.ErrNotFound) || errors.Is(err, incident.ErrDenied)
}
