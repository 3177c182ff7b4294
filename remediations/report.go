package remediations

import (
	"context"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Report says what was done and how it went, of one incident or over a span of time.
type Report struct {
	From      time.Time                     `json:"from,omitzero"`
	To        time.Time                     `json:"to,omitzero"`
	Incident  incident.ID                   `json:"incident,omitempty"` // empty: all
	Proposed  int                           `json:"proposed"`           // with an action; steps for people are not counted
	Asked     int                           `json:"asked"`              // got as far as a question
	Approved  int                           `json:"approved"`
	ByPolicy  int                           `json:"byPolicy"` // of Approved: without asking anybody
	Denied    int                           `json:"denied"`
	Refused   int                           `json:"refused"` // by a gate or the agent
	Expired   int                           `json:"expired"`
	Outcomes  map[incident.OutcomeState]int `json:"outcomes"`
	ToDecide  time.Duration                 `json:"toDecide"` // median from question to the last approval; 0: none
	ToVerify  time.Duration                 `json:"toVerify"` // median from question to verified outcome
	ByAction  map[incident.ActionName]Tally `json:"byAction"`
	ByPerson  map[string]int                `json:"byPerson"`        // approvals and denials
	Lines     []ReportLine                  `json:"lines,omitempty"` // of one incident, in order of time
	decisions []time.Duration
	cures     []time.Duration
}

// Tally is how often an action was proposed and verified.
type Tally struct {
	Proposed int `json:"proposed"`
	Verified int `json:"verified"`
}

// ReportLine is one proposal of an incident.
type ReportLine struct {
	At       time.Time             `json:"at"`
	Proposal incident.ProposalID   `json:"proposal"`
	Action   incident.ActionName   `json:"action"`
	Target   incident.Ref          `json:"target"`
	State    State                 `json:"state"`
	By       []string              `json:"by,omitempty"`
	Outcome  incident.OutcomeState `json:"outcome,omitempty"`
	Detail   string                `json:"detail,omitempty"`
}

// Report counts the proposals of one incident (or of all, when inc is empty) that were made in
// from..to; a zero time is no bound.
func (d *Desk) Report(ctx context.Context, inc incident.ID, from, to time.Time) (Report, error) {
	records, err := d.List(ctx, inc)
	if err != nil {
		return Report{}, err
	}
	rep := Report{From: from, To: to, Incident: inc, Outcomes: map[incident.OutcomeState]int{}, ByAction: map[incident.ActionName]Tally{}, ByPerson: map[string]int{}}
	slices.Reverse(records) // oldest first
	for i := range records {
		r := &records[i]
		if r.Proposal.Action == "" || (!from.IsZero() && r.Created.Before(from)) || (!to.IsZero() && !r.Created.Before(to)) {
			continue
		}
		rep.add(r)
		if inc != "" {
			rep.Lines = append(rep.Lines, lineOf(r))
		}
	}
	rep.ToDecide, rep.ToVerify = median(rep.decisions), median(rep.cures)
	return rep, nil
}

func (rep *Report) add(r *Record) {
	rep.Proposed++
	t := rep.ByAction[r.Proposal.Action]
	t.Proposed++
	if r.Bound != nil && incident.Strictest(r.Verdicts) == incident.Ask {
		rep.Asked++
	}
	switch r.State {
	case Denied:
		rep.Denied++
	case Refused:
		rep.Refused++
	case Expired:
		rep.Expired++
	case Approved, Dispatched, Finished:
		rep.Approved++
		rep.ByPolicy += count(len(r.Approvals) > 0 && r.Approvals[0].Via == ViaPolicy)
	}
	for _, a := range r.Approvals {
		rep.ByPerson[a.By]++
	}
	if r.Decision != nil {
		rep.ByPerson[r.Decision.By]++
	}
	if n := len(r.Approvals); n > 0 && r.Bound != nil {
		rep.decisions = append(rep.decisions, r.Approvals[n-1].At.Sub(r.Bound.Prepared.At))
	}
	if o := r.Outcome; o != nil {
		rep.Outcomes[o.State]++
		if o.State == incident.OutcomeVerified && r.Bound != nil {
			t.Verified++
			rep.cures = append(rep.cures, o.At.Sub(r.Bound.Prepared.At))
		}
	}
	rep.ByAction[r.Proposal.Action] = t
}

func lineOf(r *Record) ReportLine {
	l := ReportLine{At: r.Created, Proposal: r.ID, Action: r.Proposal.Action, Target: r.Proposal.Target, State: r.State, Detail: r.Why}
	for _, a := range r.Approvals {
		l.By = append(l.By, a.By)
	}
	if r.Decision != nil {
		l.By = append(l.By, r.Decision.By)
	}
	if r.Outcome != nil {
		l.Outcome, l.Detail = r.Outcome.State, r.Outcome.Detail
	}
	return l
}

func median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}
