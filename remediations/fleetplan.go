package remediations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/audit"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// PlanState is where a fleet plan stands.
type PlanState string

// Plan states.
const (
	PlanAsking    PlanState = "asking"
	PlanRunning   PlanState = "running"
	PlanDone      PlanState = "done"
	PlanStopped   PlanState = "stopped" // a cluster did not get better; Why says which
	PlanDenied    PlanState = "denied"
	PlanWithdrawn PlanState = "withdrawn"
	PlanExpired   PlanState = "expired"
	PlanRefused   PlanState = "refused"
)

// FleetPlan is the same repair for several clusters: a canary, then waves, stopping where it
// does not help. One approval covers it exactly as shown.
type FleetPlan struct {
	ID        string                `json:"id"` // "plan-" and 12 hex digits
	Incident  incident.ID           `json:"incident"`
	Members   []incident.ProposalID `json:"members"`        // in the order they run
	Digests   []incident.Digest     `json:"digests"`        // of the members
	Left      []string              `json:"left,omitempty"` // clusters that are not part of it, and why
	Waves     []int                 `json:"waves"`          // sizes; the first is the canary
	Pause     time.Duration         `json:"pause"`          // after each wave
	Digest    incident.Digest       `json:"digest"`         // what an approval names
	Policy    incident.Digest       `json:"policy"`
	Need      Need                  `json:"need"`
	Requester string                `json:"requester"`
	Expires   time.Time             `json:"expires"` // of the question
	State     PlanState             `json:"state"`
	Why       string                `json:"why,omitempty"`
	Wave      int                   `json:"wave"` // the one at work, from 0
	WaveDone  time.Time             `json:"waveDone,omitzero"`
	Approvals []incident.Approval   `json:"approvals,omitempty"`
	Undoing   []incident.ProposalID `json:"undoing,omitempty"` // members that are taken back
	Created   time.Time             `json:"created"`

	rev uint64
}

func (p *FleetPlan) stages() incident.Digest {
	raw, err := json.Marshal([]any{p.Members, p.Waves, p.Pause, p.Need, p.Requester, p.Expires})
	if err != nil {
		panic("remediations: plan cannot be marshalled: " + err.Error())
	}
	return incident.HashParts("tocsin.stages.v1", string(raw))
}

func (p *FleetPlan) proof() *PlanProof {
	return &PlanProof{ID: p.ID, Members: p.Digests, Stages: p.stages()}
}

// wave returns the members of wave i.
func (p *FleetPlan) wave(i int) []incident.ProposalID {
	from := 0
	for _, n := range p.Waves[:i] {
		from += n
	}
	return p.Members[from : from+p.Waves[i]]
}

// Plan returns one fleet plan; ErrNotFound when there is none.
func (d *Desk) Plan(ctx context.Context, id string) (FleetPlan, error) {
	p, rev, found, err := load[FleetPlan](ctx, d.cfg.KV, keyOf(keyPlan, id))
	if err != nil {
		return FleetPlan{}, err
	}
	if !found {
		return FleetPlan{}, fmt.Errorf("plan %s: %w", incident.Clip(id, 40), incident.ErrNotFound)
	}
	p.rev = rev
	return p, nil
}

// Plans returns all fleet plans, newest first.
func (d *Desk) Plans(ctx context.Context) ([]FleetPlan, error) {
	keys, err := d.cfg.KV.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("plans: %w", err)
	}
	var out []FleetPlan
	for _, k := range keys {
		if id, ok := strings.CutPrefix(k, keyPlan+"."); ok {
			p, err := d.Plan(ctx, id)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b FleetPlan) int { return b.Created.Compare(a.Created) })
	return out, nil
}

func (d *Desk) putPlan(ctx context.Context, p *FleetPlan) error {
	rev, err := save(ctx, d.cfg.KV, keyOf(keyPlan, p.ID), p, p.rev)
	if err == nil {
		p.rev = rev
		d.mu.Lock()
		delete(d.rest, keyOf(keyPlan, p.ID))
		d.mu.Unlock()
	}
	return err
}

func (d *Desk) notePlan(ctx context.Context, p *FleetPlan, kind, actor, text string, data any) error {
	e := audit.Entry{Kind: kind, Actor: actor, Incident: p.Incident, Text: incident.UntrustedText(p.ID + ": " + text).Plain(1000)}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		e.Data = raw
	}
	_, err := d.chain.Append(ctx, e)
	return err
}

// ProposePlan makes one question of the same repair in several clusters, in the order given:
// the first is the canary. Clusters whose gates deny are left out and named.
func (d *Desk) ProposePlan(ctx context.Context, inc incident.Incident, proposals []incident.Proposal, by string) (FleetPlan, error) {
	pol, err := d.cfg.Policy.Current(ctx)
	if err != nil {
		return FleetPlan{}, fmt.Errorf("plan: policy: %w", err)
	}
	p := FleetPlan{ID: "plan-" + randomHex(6), Incident: inc.ID, Requester: cmpOr(by, Requester), Created: time.Now().UTC(), State: PlanAsking,
		Pause: pol.Source().Waves.PauseOrDefault(), Expires: time.Now().UTC().Add(pol.Expiry()).Truncate(time.Second), Policy: pol.Version()}
	clusters := map[incident.ClusterName]bool{}
	var records []Record
	for _, prop := range proposals {
		if prop.Action != proposals[0].Action || clusters[prop.Target.Cluster] {
			return FleetPlan{}, incident.Invalidf("plan: one action, once per cluster (%s in %s)", prop.Action, prop.Target.Cluster)
		}
		clusters[prop.Target.Cluster] = true
		r, err := d.member(ctx, inc, prop, &p, pol, len(proposals))
		if err != nil {
			return FleetPlan{}, err
		}
		if r == nil {
			continue
		}
		records = append(records, *r)
	}
	if len(records) == 0 {
		return FleetPlan{}, fmt.Errorf("plan: no cluster can take part: %s: %w", strings.Join(p.Left, "; "), incident.ErrDenied)
	}
	p.Waves = pol.Source().Waves.Stages(len(records))
	if err := d.bindMembers(ctx, &p, records); err != nil {
		return FleetPlan{}, err
	}
	p.Digest = p.proof().Digest()
	if err := d.notePlan(ctx, &p, "plan", p.Requester, fmt.Sprintf("%s in %d clusters, waves %v", proposals[0].Action, len(records), p.Waves), p); err != nil {
		return FleetPlan{}, err
	}
	return p, d.putPlan(ctx, &p)
}

// member prepares one cluster's part; nil when its gates deny.
func (d *Desk) member(ctx context.Context, inc incident.Incident, prop incident.Proposal, p *FleetPlan, pol *policy.Policy, clusters int) (*Record, error) {
	prop.Incident = inc.ID
	prop.ID = incident.NewProposalID(prop)
	r, err := d.Get(ctx, prop.ID)
	if err != nil && !errors.Is(err, incident.ErrNotFound) {
		return nil, err
	}
	if r.State.Open() {
		p.Left = append(p.Left, fmt.Sprintf("%s: asked already as %s", prop.Target.Cluster, prop.ID))
		return nil, nil
	}
	r = Record{ID: prop.ID, Created: time.Now().UTC(), Attempt: r.Attempt + 1, rev: r.rev, Proposal: prop, Title: inc.Title, Severity: inc.Severity, Plan: p.ID}
	if err := d.prepare(ctx, inc, &r, p.Requester); err != nil {
		return nil, err
	}
	if r.Bound == nil || incident.Strictest(r.Verdicts) == incident.Deny {
		p.Left = append(p.Left, fmt.Sprintf("%s: %s", prop.Target.Cluster, denials(r.Verdicts)))
		return nil, nil
	}
	answer := pol.Evaluate(ctx, d.input(&r, &r.Bound.Prepared, inc.Severity, p.Requester, clusters))
	if answer.Decision == incident.Deny {
		p.Left = append(p.Left, fmt.Sprintf("%s: policy: %s", prop.Target.Cluster, answer.Reason))
		return nil, nil
	}
	// The strictest member decides for all; a plan is always asked.
	if n := max(answer.Approvals, 1); n > p.Need.Approvals {
		p.Need = Need{Approvals: n, Roles: answer.Roles, Rule: answer.Rule}
	}
	return &r, nil
}

// bindMembers gives every member the plan's need and enough time for its wave, and stores it.
func (d *Desk) bindMembers(ctx context.Context, p *FleetPlan, records []Record) error {
	var window time.Duration
	for _, r := range records {
		window = max(window, r.Bound.Prepared.Window)
	}
	until := p.Expires.Add(time.Duration(len(p.Waves)) * (window + p.Pause + commandLife))
	for i := range records {
		r := &records[i]
		r.Bound.Need, r.Bound.Expires, r.State = p.Need, until, Asking
		r.Digest = r.Bound.Digest()
		if err := d.note(ctx, r, "proposal", p.Requester, r.Proposal.Summary, auditProposal(r)); err != nil {
			return err
		}
		if err := d.put(ctx, r); err != nil {
			return err
		}
		p.Members, p.Digests = append(p.Members, r.ID), append(p.Digests, r.Digest)
	}
	return nil
}

// ApprovePlan counts an approval of a whole plan; see Approve for the errors.
func (d *Desk) ApprovePlan(ctx context.Context, id string, dec Decision) (FleetPlan, error) {
	p, err := d.Plan(ctx, id)
	if err != nil {
		return p, err
	}
	refuse := func(sentinel error, why string) (FleetPlan, error) {
		if err := d.notePlan(ctx, &p, "answer-refused", dec.By, why, nil); err != nil {
			return p, err
		}
		return p, fmt.Errorf("plan %s: %s: %w", id, why, sentinel)
	}
	pol, err := d.cfg.Policy.Current(ctx)
	switch {
	case err != nil:
		return p, fmt.Errorf("plan %s: policy: %w", id, err)
	case p.State != PlanAsking:
		return refuse(incident.ErrStale, "it is not asked any more: "+string(p.State))
	case !time.Now().Before(p.Expires):
		return refuse(incident.ErrStale, "the question expired at "+p.Expires.Format(time.RFC3339))
	case dec.Digest != p.Digest:
		return refuse(incident.ErrStale, "the digest is not that of the plan: look again")
	case dec.By == p.Requester || dec.Via == ViaPolicy:
		return refuse(incident.ErrDenied, dec.By+" asked for it and cannot approve it")
	case pol.Version() != p.Policy:
		return refuse(incident.ErrStale, "the policy changed since this was shown")
	case slices.ContainsFunc(p.Approvals, func(a incident.Approval) bool { return a.By == dec.By }):
		return refuse(incident.ErrStale, dec.By+" has approved already")
	}
	if err := d.mustBe(ctx, dec.By, p.Need.Roles); err != nil {
		return refuse(incident.ErrDenied, err.Error())
	}
	a := incident.Approval{Digest: p.Digest, Approve: true, By: dec.By, Via: dec.Via, Reason: dec.Reason, At: time.Now().UTC()}
	if err := d.notePlan(ctx, &p, "approval", dec.By, fmt.Sprintf("approved (%d of %d)", len(p.Approvals)+1, p.Need.Approvals), a); err != nil {
		return p, err
	}
	p.Approvals = append(p.Approvals, a)
	if len(p.Approvals) >= p.Need.Approvals {
		p.State = PlanRunning
	}
	return p, d.putPlan(ctx, &p)
}

// ClosePlan denies or withdraws a plan that is asked, or stops one that runs after its current
// wave's writes; what it did stays.
func (d *Desk) ClosePlan(ctx context.Context, id string, dec Decision, state PlanState) (FleetPlan, error) {
	p, err := d.Plan(ctx, id)
	if err != nil {
		return p, err
	}
	if err := d.mustBe(ctx, dec.By, append([]string{RoleApprover, RoleAdmin}, p.Need.Roles...)); err != nil {
		return p, fmt.Errorf("plan %s: %w", id, err)
	}
	ok := (p.State == PlanAsking && (state == PlanDenied || state == PlanWithdrawn)) || (p.State == PlanRunning && state == PlanStopped)
	if !ok {
		return p, fmt.Errorf("plan %s is %s: %w", id, p.State, incident.ErrStale)
	}
	return p, d.endPlan(ctx, &p, state, dec.By, dec.Reason)
}

// endPlan ends a plan and withdraws the members that have not run.
func (d *Desk) endPlan(ctx context.Context, p *FleetPlan, state PlanState, actor, why string) error {
	if err := d.notePlan(ctx, p, "plan-"+string(state), actor, why, nil); err != nil {
		return err
	}
	p.State, p.Why = state, why
	if err := d.putPlan(ctx, p); err != nil {
		return err
	}
	if state == PlanDone {
		return nil
	}
	for _, id := range p.Members {
		r, err := d.Get(ctx, id)
		if err != nil {
			return err
		}
		if r.Plan == p.ID && (r.State == Asking || r.State == Approved) {
			if err := d.end(ctx, &r, Withdrawn, actor, "plan "+p.ID+" "+string(state)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Desk) stepPlanKey(ctx context.Context, id string) (open bool, err error) {
	p, err := d.Plan(ctx, id)
	if err != nil {
		return false, err
	}
	switch p.State {
	case PlanAsking:
		if !time.Now().Before(p.Expires) {
			err = d.endPlan(ctx, &p, PlanExpired, Requester, "nobody answered in time")
		}
	case PlanRunning:
		err = d.stepPlan(ctx, &p)
	case PlanStopped:
		open = len(p.Undoing) > 0
		err = d.sendUndos(ctx, &p)
	}
	if err != nil {
		err = fmt.Errorf("plan %s: %w", p.ID, err)
	}
	return open || p.State == PlanAsking || p.State == PlanRunning, err
}

// stepPlan starts the members of the current wave, waits for them, and goes on after the pause;
// the first that did not get better stops it.
func (d *Desk) stepPlan(ctx context.Context, p *FleetPlan) error {
	waiting := 0
	for _, id := range p.wave(p.Wave) {
		r, err := d.Get(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case r.State == Asking:
			waiting++
			if err := d.startMember(ctx, p, &r); err != nil && !errors.Is(err, incident.ErrStale) {
				return err
			}
		case r.State == Approved || r.State == Dispatched:
			waiting++
		case r.State != Finished:
			return d.stopPlan(ctx, p, &r, fmt.Sprintf("%s: %s: %s", r.Proposal.Target.Cluster, r.State, r.Why))
		case r.Outcome.State != incident.OutcomeVerified && r.Outcome.State != incident.OutcomeDryRun:
			return d.stopPlan(ctx, p, &r, fmt.Sprintf("%s: %s: %s", r.Proposal.Target.Cluster, r.Outcome.State, r.Outcome.Detail))
		}
	}
	now := time.Now().UTC()
	switch {
	case waiting > 0:
		return nil
	case p.Wave == len(p.Waves)-1:
		return d.endPlan(ctx, p, PlanDone, Requester, fmt.Sprintf("verified in %d clusters", len(p.Members)))
	case p.WaveDone.IsZero():
		p.WaveDone = now
		return d.putPlan(ctx, p)
	case now.Sub(p.WaveDone) >= p.Pause:
		if err := d.notePlan(ctx, p, "wave", Requester, fmt.Sprintf("wave %d of %d: %d clusters", p.Wave+2, len(p.Waves), p.Waves[p.Wave+1]), nil); err != nil {
			return err
		}
		p.Wave, p.WaveDone = p.Wave+1, time.Time{}
		return d.putPlan(ctx, p)
	}
	return nil
}

// startMember gives a member the plan's approvals, if those who gave them still may, and
// dispatches it.
func (d *Desk) startMember(ctx context.Context, p *FleetPlan, r *Record) error {
	for _, a := range p.Approvals {
		if err := d.mustBe(ctx, a.By, p.Need.Roles); err != nil {
			return d.end(ctx, r, Refused, Requester, "approver: "+err.Error())
		}
	}
	r.Approvals = p.Approvals
	r.State = Approved
	if err := d.put(ctx, r); err != nil {
		return err
	}
	return d.dispatch(ctx, r)
}

// stopPlan stops after a member that did not get better, and takes back the others when it got
// worse.
func (d *Desk) stopPlan(ctx context.Context, p *FleetPlan, bad *Record, why string) error {
	if o := bad.Outcome; o != nil && (o.State == incident.OutcomeWorse || o.State == incident.OutcomeUndone) {
		for _, id := range p.Members {
			r, err := d.Get(ctx, id)
			if err != nil {
				return err
			}
			if r.ID != bad.ID && r.Plan == p.ID && (r.State == Dispatched || r.State == Finished && r.Outcome.State == incident.OutcomeVerified) {
				p.Undoing = append(p.Undoing, id)
			}
		}
	}
	return d.endPlan(ctx, p, PlanStopped, Requester, why)
}

// sendUndos tells the agents to take back what the plan did; once each, again after a crash.
func (d *Desk) sendUndos(ctx context.Context, p *FleetPlan) error {
	if len(p.Undoing) == 0 {
		return nil
	}
	for _, id := range p.Undoing {
		r, err := d.Get(ctx, id)
		if err != nil {
			return err
		}
		if r.State == Dispatched {
			return nil // wait for its outcome first
		}
		if r.Outcome == nil || r.Outcome.State != incident.OutcomeVerified {
			continue
		}
		if err := d.note(ctx, &r, "undo", Requester, "plan "+p.ID+" stopped: "+p.Why, nil); err != nil {
			return err
		}
		now := time.Now().UTC()
		cmd := Command{Kind: CommandUndo, Cluster: r.Proposal.Target.Cluster, Bound: *r.Bound, Digest: r.Digest, Plan: p.proof(),
			Approvals: p.Approvals, Issued: now, Expires: now.Add(commandLife)}
		env, err := cmd.Seal(d.cfg.Key)
		if err != nil {
			return err
		}
		if err := d.cfg.Commands.Send(ctx, cmd.Cluster, executionOf(&r)+"-undo", env); err != nil {
			return fmt.Errorf("send undo: %w", err)
		}
	}
	p.Undoing = nil
	return d.putPlan(ctx, p)
}
