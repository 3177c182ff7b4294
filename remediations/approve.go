package remediations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Decision is a person's answer. By is the authenticated identity, never text from a message.
type Decision struct {
	Proposal incident.ProposalID
	Digest   incident.Digest // of what the person was shown
	By       string
	Via      string // cli, slack, console
	Reason   string
}

// mustBe checks that who holds one of the roles right now. Admins hold every role but must not
// count twice. An error of the directory refuses.
func (d *Desk) mustBe(ctx context.Context, who string, roles []string) error {
	if who == "" {
		return fmt.Errorf("nobody is named: %w", incident.ErrDenied)
	}
	have, err := d.cfg.Directory.Roles(ctx, who)
	if err != nil {
		return fmt.Errorf("roles of %s cannot be told: %v: %w", who, err, incident.ErrDenied)
	}
	for _, r := range roles {
		if slices.Contains(have, r) {
			return nil
		}
	}
	return fmt.Errorf("%s has none of the roles %v: %w", who, roles, incident.ErrDenied)
}

// Approve counts an approval and dispatches when there are enough. The record says how it
// stands. ErrDenied: this person may not, or a gate said no; ErrStale: somebody decided before,
// or what was shown is no longer what would run. Every refusal is audited and on the record.
func (d *Desk) Approve(ctx context.Context, dec Decision) (Record, error) {
	if dec.Via == ViaPolicy {
		return Record{}, fmt.Errorf("approvals via %q are the policy's own: %w", ViaPolicy, incident.ErrDenied)
	}
	r, err := d.Get(ctx, dec.Proposal)
	if err != nil {
		return Record{}, err
	}
	if err := d.mayAnswer(ctx, &r, dec); err != nil {
		return r, err
	}
	if slices.ContainsFunc(r.Approvals, func(a incident.Approval) bool { return a.By == dec.By }) {
		return r, d.refused(ctx, &r, dec, incident.ErrStale, dec.By+" has approved already")
	}
	if why := d.whyNot(ctx, &r); why != "" {
		if err := d.end(ctx, &r, Refused, dec.By, why); err != nil {
			return r, err
		}
		return r, fmt.Errorf("proposal %s: %s: %w", r.ID, why, incident.ErrStale)
	}
	a := incident.Approval{Proposal: r.ID, Digest: r.Digest, Approve: true, By: dec.By, Via: dec.Via, Reason: dec.Reason, At: time.Now().UTC()}
	if err := d.note(ctx, &r, "approval", dec.By, fmt.Sprintf("approved (%d of %d)", len(r.Approvals)+1, r.Bound.Need.Approvals), a); err != nil {
		return r, err
	}
	r.Approvals = append(r.Approvals, a)
	if len(r.Approvals) >= r.Bound.Need.Approvals {
		r.State = Approved
	}
	if err := d.put(ctx, &r); err != nil {
		return d.lost(ctx, dec, err)
	}
	if r.State == Approved {
		err = d.dispatch(ctx, &r)
	}
	return r, err
}

// lost answers a decision that another one overtook.
func (d *Desk) lost(ctx context.Context, dec Decision, err error) (Record, error) {
	if !errors.Is(err, incident.ErrStale) {
		return Record{}, err
	}
	r, gerr := d.Get(ctx, dec.Proposal)
	if gerr != nil {
		return Record{}, gerr
	}
	return r, d.refused(ctx, &r, dec, incident.ErrStale, "another answer came first: "+decidedBy(&r))
}

// mayAnswer checks state, expiry, digest, requester and role of an approval, in this order.
func (d *Desk) mayAnswer(ctx context.Context, r *Record, dec Decision) error {
	switch {
	case r.State != Asking:
		return d.refused(ctx, r, dec, incident.ErrStale, "it is not asked any more: "+decidedBy(r))
	case r.Plan != "":
		return d.refused(ctx, r, dec, incident.ErrDenied, "it is part of plan "+r.Plan+": approve that")
	case !time.Now().Before(r.Bound.Expires):
		if err := d.end(ctx, r, Expired, dec.By, "nobody answered in time"); err != nil {
			return err
		}
		return d.refused(ctx, r, dec, incident.ErrStale, "the question expired at "+r.Bound.Expires.Format(time.RFC3339))
	case dec.Digest != r.Digest:
		return d.refused(ctx, r, dec, incident.ErrStale, fmt.Sprintf("digest %s is not what is asked now (%s): look again", incident.Clip(string(dec.Digest), 12), incident.Clip(string(r.Digest), 12)))
	case dec.By == r.Bound.Requester:
		return d.refused(ctx, r, dec, incident.ErrDenied, dec.By+" asked for it and cannot approve it")
	}
	if err := d.mustBe(ctx, dec.By, r.Bound.Need.Roles); err != nil {
		return d.refused(ctx, r, dec, incident.ErrDenied, err.Error())
	}
	return nil
}

func decidedBy(r *Record) string {
	if r.Decision != nil {
		return fmt.Sprintf("%s by %s at %s", r.State, r.Decision.By, r.Decision.At.Format("15:04:05"))
	}
	if n := len(r.Approvals); n > 0 {
		return fmt.Sprintf("%s, approved by %s at %s", r.State, r.Approvals[n-1].By, r.Approvals[n-1].At.Format("15:04:05"))
	}
	return string(r.State) + note(r.Why)
}

// whyNot runs the hub's gates as things are now; empty when the action may still run.
func (d *Desk) whyNot(ctx context.Context, r *Record) string {
	pol, err := d.cfg.Policy.Current(ctx)
	if err != nil {
		return "policy: it cannot be read: " + err.Error()
	}
	if pol.Version() != r.Bound.Policy {
		return fmt.Sprintf("policy: it changed since this was shown (version %s, was %s)", incident.Clip(string(pol.Version()), 12), incident.Clip(string(r.Bound.Policy), 12))
	}
	if !time.Now().Before(r.Bound.Expires) {
		return "expiry: the question expired at " + r.Bound.Expires.Format(time.RFC3339)
	}
	inc, err := d.cfg.Incidents.Incident(ctx, r.Proposal.Incident)
	if err != nil {
		return "incident: it cannot be read: " + err.Error()
	}
	answer := pol.Evaluate(ctx, d.input(r, &r.Bound.Prepared, r.Severity, r.Bound.Requester, 1))
	if r.Plan == "" && (answer.Approvals > r.Bound.Need.Approvals || answer.Decision == incident.Ask && r.Bound.Need.Approvals == 0) {
		return "policy: it asks more now than when this was shown: " + answer.Reason
	}
	var no []incident.Verdict
	for _, v := range d.runGates(ctx, &hubCase{record: r, incident: inc, policy: pol, answer: answer}) {
		if v.Decision != incident.Allow && v.Decision != incident.Ask {
			no = append(no, v)
		}
	}
	return denials(no)
}

// Deny ends a question with a person's no. One no is enough.
func (d *Desk) Deny(ctx context.Context, dec Decision) (Record, error) {
	r, err := d.Get(ctx, dec.Proposal)
	if err != nil {
		return Record{}, err
	}
	if r.State != Asking {
		return r, d.refused(ctx, &r, dec, incident.ErrStale, "it is not asked any more: "+decidedBy(&r))
	}
	if err := d.mustBe(ctx, dec.By, append([]string{RoleApprover, RoleAdmin}, r.Bound.Need.Roles...)); err != nil {
		return r, d.refused(ctx, &r, dec, incident.ErrDenied, err.Error())
	}
	return d.close(ctx, r, dec, Denied)
}

// Withdraw takes back a question, by who asked for it, or by somebody who approved it while it
// waits for more.
func (d *Desk) Withdraw(ctx context.Context, dec Decision) (Record, error) {
	r, err := d.Get(ctx, dec.Proposal)
	if err != nil {
		return Record{}, err
	}
	if r.State != Asking {
		return r, d.refused(ctx, &r, dec, incident.ErrStale, "it is not asked any more: "+decidedBy(&r))
	}
	approved := slices.ContainsFunc(r.Approvals, func(a incident.Approval) bool { return a.By == dec.By })
	if dec.By == "" || (dec.By != r.Bound.Requester && !approved) {
		if err := d.mustBe(ctx, dec.By, []string{RoleAdmin}); err != nil {
			return r, d.refused(ctx, &r, dec, incident.ErrDenied, dec.By+" neither asked for it nor approved it")
		}
	}
	return d.close(ctx, r, dec, Withdrawn)
}

func (d *Desk) close(ctx context.Context, r Record, dec Decision, state State) (Record, error) {
	r.Decision = &incident.Approval{Proposal: r.ID, Digest: r.Digest, By: dec.By, Via: dec.Via, Reason: dec.Reason, At: time.Now().UTC()}
	if err := d.end(ctx, &r, state, dec.By, dec.Reason); err != nil {
		return d.lost(ctx, dec, err)
	}
	return r, nil
}

// approveByPolicy records the policy's own decision and dispatches.
func (d *Desk) approveByPolicy(ctx context.Context, r *Record) error {
	a := incident.Approval{Proposal: r.ID, Digest: r.Digest, Approve: true, By: "policy:" + r.Bound.Need.Rule, Via: ViaPolicy,
		Reason: "allowed without asking by policy " + incident.Clip(string(r.Bound.Policy), 12), At: time.Now().UTC()}
	if err := d.note(ctx, r, "approval", a.By, a.Reason, a); err != nil {
		return err
	}
	r.Approvals, r.State = []incident.Approval{a}, Approved
	if err := d.put(ctx, r); err != nil {
		return err
	}
	return d.dispatch(ctx, r)
}
