package remediations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// commandLife is how long an agent may take to get a command. It is short: what was approved is
// to run now or not at all.
const commandLife = 5 * time.Minute

// dispatch checks everything once more, writes the intention to the audit trail, and sends the
// signed command. A refusal ends the record and is returned with its reason.
func (d *Desk) dispatch(ctx context.Context, r *Record) error {
	why := d.whyNot(ctx, r)
	if why == "" {
		why = d.approversStill(ctx, r)
	}
	if why == "" {
		var err error
		if why, err = d.rates.take(ctx, r.Proposal.Target, executionOf(r)); err != nil {
			return err
		} else if why != "" {
			why = "rate: " + why
		}
	}
	if why == "" {
		until := time.Now().Add(commandLife + r.Bound.Prepared.Window + 10*time.Minute)
		holder, err := lockKeyed(ctx, d.cfg.KV, hubLockKey(r.Proposal.Target), executionOf(r), until)
		if err != nil {
			return err
		}
		if holder != "" {
			why = "lock: execution " + holder + " acts on it now"
		}
	}
	if why != "" {
		if err := d.end(ctx, r, Refused, Requester, why); err != nil {
			return err
		}
		return fmt.Errorf("proposal %s: %s: %w", r.ID, why, incident.ErrStale)
	}
	if err := d.note(ctx, r, "dispatch", Requester, "command to the agent of "+string(r.Proposal.Target.Cluster), struct {
		Execution string          `json:"execution"`
		Digest    incident.Digest `json:"digest"`
	}{executionOf(r), r.Digest}); err != nil {
		return err
	}
	r.State, r.Dispatched, r.Sent = Dispatched, time.Now().UTC(), false
	if err := d.put(ctx, r); err != nil {
		return err
	}
	return d.send(ctx, r)
}

// approversStill asks again whether those who approved may, and enough of them.
func (d *Desk) approversStill(ctx context.Context, r *Record) string {
	if r.Plan != "" || (len(r.Approvals) == 1 && r.Approvals[0].Via == ViaPolicy) {
		return ""
	}
	for _, a := range r.Approvals {
		if err := d.mustBe(ctx, a.By, r.Bound.Need.Roles); err != nil {
			return "approver: " + err.Error()
		}
	}
	return ""
}

// send signs the command and gives it to the queue; again after a crash, which the agent's
// ledger makes harmless.
func (d *Desk) send(ctx context.Context, r *Record) error {
	cmd := Command{Kind: CommandExecute, Cluster: r.Proposal.Target.Cluster, Bound: *r.Bound, Digest: r.Digest, Approvals: r.Approvals,
		Issued: r.Dispatched, Expires: earlier(r.Bound.Expires, r.Dispatched.Add(commandLife))}
	if r.Plan != "" {
		p, err := d.Plan(ctx, r.Plan)
		if err != nil {
			return err
		}
		cmd.Plan = p.proof()
	}
	env, err := cmd.Seal(d.cfg.Key)
	if err != nil {
		return err
	}
	if err := d.cfg.Commands.Send(ctx, cmd.Cluster, executionOf(r), env); err != nil {
		return fmt.Errorf("send the command of proposal %s (it will be sent again): %w", r.ID, err)
	}
	r.Sent = true
	return d.put(ctx, r)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Outcome takes an agent's report; from is the cluster its authenticated stream belongs to.
// Reporting again changes nothing. ErrDenied: the report is not this cluster's to make.
func (d *Desk) Outcome(ctx context.Context, from incident.ClusterName, o incident.Outcome) error {
	for range casTries {
		r, err := d.Get(ctx, o.Proposal)
		if err != nil {
			return err
		}
		if r.Proposal.Target.Cluster != from || o.Target.Cluster != from {
			return fmt.Errorf("outcome of proposal %s from cluster %s: %w", o.Proposal, from, incident.ErrDenied)
		}
		if o.Execution != executionOf(&r) || o.Digest != r.Digest {
			return fmt.Errorf("outcome of proposal %s is of execution %s, not of this attempt: %w", o.Proposal, incident.Clip(o.Execution, 40), incident.ErrStale)
		}
		if !news(&r, o) {
			return nil
		}
		err = d.takeOutcome(ctx, &r, o)
		if !errors.Is(err, incident.ErrStale) {
			return err
		}
	}
	return fmt.Errorf("outcome of proposal %s: %w", o.Proposal, incident.ErrStale)
}

// news says whether o adds to what is known: the first outcome, a real one after "unknown", or
// an undo after anything else.
func news(r *Record, o incident.Outcome) bool {
	switch {
	case r.State == Dispatched:
		return true
	case r.State != Finished || r.Outcome == nil:
		return false
	case r.Outcome.State == incident.OutcomeUnknown && r.Outcome.Execution == "":
		return true
	}
	return o.At.After(r.Outcome.At) && o.State != r.Outcome.State
}

func (d *Desk) takeOutcome(ctx context.Context, r *Record, o incident.Outcome) error {
	if err := d.note(ctx, r, "outcome", "agent:"+string(o.Target.Cluster), string(o.State)+": "+o.Detail, o); err != nil {
		return err
	}
	r.State, r.Outcome, r.Why = Finished, &o, o.Detail
	if err := d.put(ctx, r); err != nil {
		return err
	}
	if err := unlockKeyed(ctx, d.cfg.KV, hubLockKey(r.Proposal.Target), executionOf(r)); err != nil {
		return err
	}
	switch o.State {
	case incident.OutcomeRefused, incident.OutcomeDryRun, incident.OutcomeFailed:
		if err := d.rates.release(ctx, executionOf(r)); err != nil {
			return err
		}
	}
	return d.tally(ctx, r, o)
}

// Run does what time brings: expiry, escalation, commands that were not sent, agents that went
// silent, waves of plans. It blocks until ctx ends and returns nil then. Several replicas may run it.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Poll)
	defer tick.Stop()
	for {
		if err := d.Step(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("proposals not advanced", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step does what is due now, once.
func (d *Desk) Step(ctx context.Context) error {
	keys, err := d.cfg.KV.Keys(ctx)
	if err != nil {
		return fmt.Errorf("proposals: %w", err)
	}
	var failed []error
	for _, k := range keys {
		plan, isPlan := strings.CutPrefix(k, keyPlan+".")
		if !isPlan && !strings.HasPrefix(k, keyProposal+".") || d.resting(k) {
			continue
		}
		var open bool
		if isPlan {
			open, err = d.stepPlanKey(ctx, plan)
		} else {
			open, err = d.stepRecordKey(ctx, k)
		}
		if err != nil && !errors.Is(err, incident.ErrStale) {
			failed = append(failed, err)
		}
		if err == nil && !open {
			d.mu.Lock()
			d.rest[k] = time.Now().Add(restFor)
			d.mu.Unlock()
		}
	}
	return errors.Join(failed...)
}

func (d *Desk) resting(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.rest[key])
}

func (d *Desk) stepRecordKey(ctx context.Context, key string) (open bool, err error) {
	r, rev, found, err := load[Record](ctx, d.cfg.KV, key)
	if err != nil || !found || !r.State.Open() {
		return false, err
	}
	r.rev = rev
	return true, d.stepOne(ctx, &r)
}

func (d *Desk) stepOne(ctx context.Context, r *Record) error {
	now := time.Now()
	switch r.State {
	case Asking:
		if !now.Before(r.Bound.Expires) {
			return d.end(ctx, r, Expired, Requester, "nobody answered in time")
		}
		return d.escalate(ctx, r, now)
	case Approved:
		return d.dispatch(ctx, r)
	case Dispatched:
		if !r.Sent {
			return d.send(ctx, r)
		}
		if now.Sub(r.Dispatched) > commandLife+r.Bound.Prepared.Window+d.cfg.Silence {
			return d.takeOutcome(ctx, r, incident.Outcome{Proposal: r.ID, Incident: r.Proposal.Incident, Action: r.Proposal.Action, Target: r.Proposal.Target,
				State: incident.OutcomeUnknown, Detail: "no word from the cluster's agent: somebody must look", At: now.UTC(), Digest: r.Digest})
		}
	}
	return nil
}

// escalate tells more people when nobody answered, once. It does not change what is needed.
func (d *Desk) escalate(ctx context.Context, r *Record, now time.Time) error {
	if len(r.Escalated) > 0 {
		return nil
	}
	pol, err := d.cfg.Policy.Current(ctx)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	e := pol.Source().Escalate
	if e.After <= 0 || len(e.To) == 0 || now.Sub(r.Updated) < time.Duration(e.After) {
		return nil
	}
	if err := d.note(ctx, r, "escalation", Requester, fmt.Sprintf("no answer for %s: telling %v", now.Sub(r.Updated).Round(time.Second), e.To), nil); err != nil {
		return err
	}
	r.Escalated = e.To
	return d.put(ctx, r)
}
