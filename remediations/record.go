package remediations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// State is where a proposal stands at the desk.
type State string

// States. Asking, Approved and Dispatched are open; the others are final, and the same proposal
// may then be asked again as a new attempt with a new digest.
const (
	Asking     State = "asking"     // waits for approvals
	Approved   State = "approved"   // enough approvals; not sent yet
	Dispatched State = "dispatched" // the signed command is on its way or at work
	Finished   State = "finished"   // Outcome is set
	Refused    State = "refused"    // a gate, the policy or the agent said no; Why says which
	Denied     State = "denied"     // a person said no
	Withdrawn  State = "withdrawn"
	Expired    State = "expired" // nobody answered in time
	Step       State = "step"    // for a person: there is no safe action
)

// Open says whether something can still come of it.
func (s State) Open() bool { return s == Asking || s == Approved || s == Dispatched }

// Refusal is an answer that did not count, and why.
type Refusal struct {
	By  string    `json:"by"`
	Via string    `json:"via"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

// Record is everything about one proposal: what is shown, asked, decided and measured.
type Record struct {
	ID       incident.ProposalID `json:"id"`
	Proposal incident.Proposal   `json:"proposal"`
	Attempt  int                 `json:"attempt"` // counts from 1
	State    State               `json:"state"`
	Why      string              `json:"why,omitempty"` // of the state, for a person

	Title    string             `json:"title"` // of the incident
	Severity incident.Severity  `json:"severity,omitempty"`
	Bound    *Bound             `json:"bound,omitempty"`  // nil: could not be prepared
	Digest   incident.Digest    `json:"digest,omitempty"` // what an approval names
	Verdicts []incident.Verdict `json:"verdicts,omitempty"`
	Plan     string             `json:"plan,omitempty"` // fleet plan it is part of; approve that

	Approvals []incident.Approval `json:"approvals,omitempty"`
	Decision  *incident.Approval  `json:"decision,omitempty"` // the denial or withdrawal
	Refusals  []Refusal           `json:"refusals,omitempty"` // bounded, latest last
	Escalated []string            `json:"escalated,omitempty"`
	Outcome   *incident.Outcome   `json:"outcome,omitempty"`

	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	Dispatched time.Time `json:"dispatched,omitzero"`
	Sent       bool      `json:"sent,omitempty"` // the queue has the command

	rev uint64
}

const maxRefusals = 20

func proposalKey(id incident.ProposalID) string { return keyOf(keyProposal, string(id)) }

// Get returns the record of one proposal; ErrNotFound when there is none.
func (d *Desk) Get(ctx context.Context, id incident.ProposalID) (Record, error) {
	r, rev, found, err := load[Record](ctx, d.cfg.KV, proposalKey(id))
	if err != nil {
		return Record{}, err
	}
	if !found {
		return Record{}, fmt.Errorf("proposal %s: %w", incident.Clip(string(id), 40), incident.ErrNotFound)
	}
	r.rev = rev
	return r, nil
}

// List returns the records of one incident, or of all when inc is empty; newest first.
func (d *Desk) List(ctx context.Context, inc incident.ID) ([]Record, error) {
	keys, err := d.cfg.KV.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("proposals: %w", err)
	}
	var out []Record
	for _, k := range keys {
		if !strings.HasPrefix(k, keyProposal+".") {
			continue
		}
		r, rev, found, err := load[Record](ctx, d.cfg.KV, k)
		if err != nil {
			return nil, err
		}
		if r.rev = rev; found && (inc == "" || r.Proposal.Incident == inc) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Record) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out, nil
}

// put stores r over the revision it was read at and tells the others.
func (d *Desk) put(ctx context.Context, r *Record) error {
	r.Updated = time.Now().UTC()
	rev, err := save(ctx, d.cfg.KV, proposalKey(r.ID), r, r.rev)
	if err != nil {
		return err
	}
	r.rev = rev
	d.mu.Lock()
	delete(d.rest, proposalKey(r.ID))
	d.mu.Unlock()
	if d.cfg.Notify != nil {
		d.cfg.Notify.Changed(ctx, *r)
	}
	return nil
}

// end moves r to a final state, audited first.
func (d *Desk) end(ctx context.Context, r *Record, state State, actor, why string) error {
	if err := d.note(ctx, r, string(state), actor, why, nil); err != nil {
		return err
	}
	r.State, r.Why = state, why
	return d.put(ctx, r)
}

// refused says no to an answer: audited, kept on the record, returned as an error that wraps
// sentinel and names the reason.
func (d *Desk) refused(ctx context.Context, r *Record, dec Decision, sentinel error, why string) error {
	err := fmt.Errorf("proposal %s: %s: %w", r.ID, why, sentinel)
	if aerr := d.note(ctx, r, "answer-refused", dec.By, why, nil); aerr != nil {
		return errors.Join(err, aerr)
	}
	r.Refusals = append(r.Refusals, Refusal{By: dec.By, Via: dec.Via, Why: why, At: time.Now().UTC()})
	if n := len(r.Refusals); n > maxRefusals {
		r.Refusals = r.Refusals[n-maxRefusals:]
	}
	if perr := d.put(ctx, r); perr != nil && !errors.Is(perr, incident.ErrStale) {
		return errors.Join(err, perr)
	}
	return err
}
