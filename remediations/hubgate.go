package remediations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// hubCase is what the hub's gates judge.
type hubCase struct {
	record   *Record
	incident incident.Incident
	policy   *policy.Policy
	answer   policy.Answer
}

type hubGate struct {
	name  string
	check func(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error)
}

// hubGates all run when a question is prepared, at every answer and right before dispatch.
var hubGates = []hubGate{
	{"policy", hubPolicy},
	{"hub-stop-switch", hubStop},
	{"incident", hubIncident},
	{"coverage", hubCoverage},
	{"freeze", hubFreeze},
	{"breaker", hubBreaker},
	{"hub-rate", hubRate},
	{"other-proposal", hubOther},
}

func (d *Desk) runGates(ctx context.Context, c *hubCase) []incident.Verdict {
	out := make([]incident.Verdict, 0, len(hubGates))
	for _, g := range hubGates {
		dec, reason, err := g.check(ctx, d, c)
		if err != nil {
			dec, reason = incident.Deny, "could not be checked: "+err.Error()
		}
		out = append(out, incident.Verdict{Gate: g.name, Decision: dec, Reason: incident.UntrustedText(reason).Plain(500), At: time.Now().UTC()})
	}
	return out
}

func hubPolicy(_ context.Context, _ *Desk, c *hubCase) (incident.Decision, string, error) {
	switch c.answer.Decision {
	case incident.Allow:
		return incident.Allow, c.answer.Reason, nil
	case incident.Ask:
		return incident.Ask, fmt.Sprintf("%d of %v must agree: %s", c.answer.Approvals, c.answer.Roles, c.answer.Reason), nil
	}
	return incident.Deny, c.answer.Reason, nil
}

func hubStop(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error) {
	if why := d.stop.stopped(ctx, c.record.Proposal.Target); why != "" {
		return incident.Deny, why, nil
	}
	return incident.Allow, "no stop switch is on", nil
}

// hubIncident wants the incident open, with the cause the proposal was made for, and the target
// still affected.
func hubIncident(_ context.Context, _ *Desk, c *hubCase) (incident.Decision, string, error) {
	inc, p := c.incident, c.record.Proposal
	if inc.State != incident.Open {
		return incident.Deny, fmt.Sprintf("incident %s is %s: there is nothing to repair", inc.ID, inc.State), nil
	}
	if b := c.record.Bound; b != nil && b.Evidence != evidenceOf(inc, p) {
		return incident.Deny, fmt.Sprintf("the incident's cause is %s now; the proposal was made for another", inc.Cause), nil
	}
	members, resolved := 0, 0
	for _, m := range inc.Members {
		if m.Cluster == p.Target.Cluster && m.Entity.Key() == p.Target.Entity.Key() {
			members++
			resolved += count(m.Status == incident.Resolved)
		}
	}
	if members > 0 && members == resolved {
		return incident.Deny, fmt.Sprintf("%s has recovered by itself", p.Target), nil
	}
	return incident.Allow, "the incident is open", nil
}

func hubCoverage(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error) {
	ok, detail, err := d.cfg.Coverage.Fresh(ctx, c.record.Proposal.Target.Cluster)
	if err != nil || ok {
		return incident.Allow, cmpOr(detail, "the cluster is seen"), err
	}
	return incident.Deny, "the cluster is not seen: " + detail, nil
}

func hubFreeze(_ context.Context, _ *Desk, c *hubCase) (incident.Decision, string, error) {
	p := c.record.Proposal
	if why := c.policy.Frozen(policy.Input{Action: p.Action, Cluster: p.Target.Cluster, Now: time.Now().UTC()}); why != "" {
		return incident.Deny, why, nil
	}
	return incident.Allow, "no freeze window", nil
}

func hubBreaker(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error) {
	b, err := d.Breaker(ctx, c.record.Proposal.Cause)
	if err != nil {
		return incident.Deny, "", err
	}
	if b.Open() {
		return incident.Deny, fmt.Sprintf("%d actions for %s did not help; somebody has to look and close the breaker", b.Failed, b.Cause), nil
	}
	return incident.Allow, "the breaker is closed", nil
}

func hubRate(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error) {
	why, err := d.rates.peek(ctx, c.record.Proposal.Target, executionOf(c.record))
	if err != nil || why == "" {
		return incident.Allow, "within the limits of target, cluster and fleet", err
	}
	return incident.Deny, why, nil
}

// hubOther wants no other execution under way on the target. It asks the records, as the lock
// is the agent's.
func hubOther(ctx context.Context, d *Desk, c *hubCase) (incident.Decision, string, error) {
	t := c.record.Proposal.Target
	busy, _, found, err := load[lockValue](ctx, d.cfg.KV, hubLockKey(t))
	if err != nil {
		return incident.Deny, "", err
	}
	if found && busy.Execution != executionOf(c.record) && time.Now().Before(busy.Until) {
		return incident.Deny, "execution " + busy.Execution + " acts on it now", nil
	}
	return incident.Allow, "no other action on the target is under way", nil
}

func hubLockKey(t incident.Ref) string {
	return keyOf(keyLock, string(t.Cluster), t.Entity.Kind, t.Entity.Namespace, t.Entity.Name)
}

func executionOf(r *Record) string {
	if r.Bound == nil {
		return ""
	}
	return r.Bound.Prepared.Execution
}

// breakerLimit is how many verifications in a row may fail for a cause before it is left to people.
const breakerLimit = 2

// Breaker counts what did not help for one cause.
type Breaker struct {
	Cause  incident.CauseName  `json:"cause"`
	Failed int                 `json:"failed"` // verifications in a row
	Last   incident.ProposalID `json:"last,omitempty"`
	At     time.Time           `json:"at,omitzero"`
	By     string              `json:"by,omitempty"` // who closed it last
}

// Open says whether actions for the cause are refused.
func (b Breaker) Open() bool { return b.Failed >= breakerLimit }

func breakerKey(c incident.CauseName) string { return keyOf(keyBreaker, string(c)) }

// Breaker returns the breaker of a cause; a closed one when nothing failed.
func (d *Desk) Breaker(ctx context.Context, cause incident.CauseName) (Breaker, error) {
	b, _, _, err := load[Breaker](ctx, d.cfg.KV, breakerKey(cause))
	b.Cause = cause
	return b, err
}

// CloseBreaker lets actions for a cause run again. by needs the admin role.
func (d *Desk) CloseBreaker(ctx context.Context, cause incident.CauseName, by, reason string) error {
	if err := d.mustBe(ctx, by, []string{RoleAdmin}); err != nil {
		return fmt.Errorf("close the breaker of %s: %w", cause, err)
	}
	if err := d.note(ctx, &Record{}, "breaker-closed", by, string(cause)+": "+reason, nil); err != nil {
		return err
	}
	_, err := update(ctx, d.cfg.KV, breakerKey(cause), func(b *Breaker) error {
		*b = Breaker{Cause: cause, By: by, At: time.Now().UTC()}
		return nil
	})
	return err
}

var errCounted = errors.New("counted already")

// tally counts an outcome for the breaker, once per proposal attempt.
func (d *Desk) tally(ctx context.Context, r *Record, o incident.Outcome) error {
	_, err := update(ctx, d.cfg.KV, breakerKey(r.Proposal.Cause), func(b *Breaker) error {
		if b.Last == r.ID && b.At.Equal(o.At) {
			return errCounted
		}
		b.Cause, b.Last, b.At = r.Proposal.Cause, r.ID, o.At
		switch o.State {
		case incident.OutcomeVerified:
			b.Failed = 0
		case incident.OutcomeNoEffect, incident.OutcomeWorse, incident.OutcomeUndone, incident.OutcomeUnknown:
			b.Failed++
		}
		return nil
	})
	if errors.Is(err, errCounted) {
		return nil
	}
	return err
}

// SetStop turns a stop switch on or off. Whoever may approve may stop; only an admin starts
// again. It works on the next write at the latest.
func (d *Desk) SetStop(ctx context.Context, s Stop) error {
	roles := []string{RoleAdmin}
	if s.On {
		roles = append(roles, RoleApprover)
	}
	if err := d.mustBe(ctx, s.By, roles); err != nil {
		return fmt.Errorf("stop switch of %s: %w", s.Scope, err)
	}
	// Stopping comes first and is audited after; starting again is audited before.
	if s.On {
		if err := d.stop.Set(ctx, s); err != nil {
			return err
		}
		return d.note(ctx, &Record{}, "stop", s.By, s.Scope.String()+": "+s.Reason, s)
	}
	if err := d.note(ctx, &Record{}, "start", s.By, s.Scope.String()+": "+s.Reason, s); err != nil {
		return err
	}
	return d.stop.Set(ctx, s)
}

// Stops returns the stop switches that were ever set.
func (d *Desk) Stops(ctx context.Context) ([]Stop, error) { return d.stop.List(ctx) }
