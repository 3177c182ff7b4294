package incident

import (
	"encoding/json"
	"time"
)

// Risk is the class of an action.
type Risk string

// Risk classes, least first. The zero value is treated as the worst.
const (
	RiskReversible   Risk = "reversible"   // its undo restores what was there
	RiskDisruptive   Risk = "disruptive"   // interrupts requests or pods, no state is lost
	RiskIrreversible Risk = "irreversible" // cannot be undone
)

// Proposal is a catalogued action with exact parameters, or a step for a person where no safe
// action exists (Action is then empty and Step says what to do). The zero value runs nothing.
type Proposal struct {
	ID         ProposalID        `json:"id,omitempty"`
	Incident   ID                `json:"incident,omitempty"`
	Action     ActionName        `json:"action,omitempty"`
	Target     Ref               `json:"target"`
	Params     map[string]string `json:"params,omitempty"` // exact, all of them; nil: the action has none
	Summary    string            `json:"summary"`          // "roll back Deployment/shop/cart to revision 3 (image v1)"
	Why        string            `json:"why,omitempty"`    // which cause or runbook it comes from
	Step       string            `json:"step,omitempty"`   // for a person, when Action is empty
	Cause      CauseName         `json:"cause,omitempty"`
	Confidence float64           `json:"confidence,omitempty"`
	Evidence   []string          `json:"evidence,omitempty"` // evidence IDs
	Risk       Risk              `json:"risk,omitempty"`
	Undo       string            `json:"undo,omitempty"` // how it is undone, for a person
	Blast      *BlastRadius      `json:"blast,omitempty"`
}

// Canonical returns the byte form that NewProposalID and approvals hash: action, target and
// parameters only. Keys are sorted.
func (p Proposal) Canonical() []byte {
	b, err := json.Marshal(struct {
		Incident ID                `json:"incident"`
		Action   ActionName        `json:"action"`
		Target   Ref               `json:"target"`
		Params   map[string]string `json:"params"`
	}{p.Incident, p.Action, p.Target, p.Params})
	if err != nil {
		panic("incident: proposal cannot be marshalled: " + err.Error())
	}
	return b
}

// NewProposalID derives the ID of p from its canonical form.
func NewProposalID(p Proposal) ProposalID {
	return ProposalID("p-" + string(HashParts(string(p.Canonical())))[:12])
}

// BlastRadius is what an action can change or interrupt, counted before it runs.
type BlastRadius struct {
	Entities   []Entity `json:"entities,omitempty"` // bounded; the counts below are not
	Pods       int      `json:"pods"`
	Workloads  int      `json:"workloads"`
	Nodes      int      `json:"nodes"`
	Share      float64  `json:"share"` // of the target's ready replicas that may be gone at once, 0..1
	Services   []string `json:"services,omitempty"`
	Budgets    []string `json:"budgets,omitempty"` // PodDisruptionBudgets that apply
	Incomplete string   `json:"incomplete,omitempty"`
}

// Decision is what a gate says. The zero value denies.
type Decision string

// Decisions, strictest first.
const (
	Deny  Decision = "deny"
	Ask   Decision = "ask"
	Allow Decision = "allow"
)

// Verdict is one gate's answer.
type Verdict struct {
	Gate     string    `json:"gate"`
	Decision Decision  `json:"decision"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// Strictest returns the strictest decision of the verdicts: Deny when there are none.
func Strictest(vs []Verdict) Decision {
	if len(vs) == 0 {
		return Deny
	}
	d := Allow
	for _, v := range vs {
		switch v.Decision {
		case Allow:
		case Ask:
			if d == Allow {
				d = Ask
			}
		default:
			return Deny
		}
	}
	return d
}

// Approval is a recorded decision by a named person (or, where Policy is set, by the policy).
type Approval struct {
	Proposal ProposalID `json:"proposal"`
	Digest   Digest     `json:"digest"` // of the exact action shown
	Approve  bool       `json:"approve"`
	By       string     `json:"by"`
	Via      string     `json:"via"` // cli, slack, console, policy
	Reason   string     `json:"reason,omitempty"`
	At       time.Time  `json:"at"`
}

// OutcomeState is what was measured after an action.
type OutcomeState string

// Outcome states.
const (
	OutcomeVerified OutcomeState = "verified"
	OutcomeNoEffect OutcomeState = "no-effect"
	OutcomeWorse    OutcomeState = "worse"
	OutcomeUndone   OutcomeState = "undone"
	OutcomeFailed   OutcomeState = "failed"  // the cluster refused the write; nothing changed
	OutcomeRefused  OutcomeState = "refused" // a gate or the agent said no before any write
	OutcomeUnknown  OutcomeState = "unknown" // it may or may not have run; somebody must look
	OutcomeDryRun   OutcomeState = "dry-run" // the server accepted the write as a dry run; nothing changed
)

// FieldChange is one field of an object before and after an action, secrets masked. An empty
// Before means that the field was not there, an empty After that it is gone.
type FieldChange struct {
	Object Entity `json:"object"`
	Path   string `json:"path"` // spec.template.spec.containers[app].image
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Outcome is what an action led to.
type Outcome struct {
	Proposal ProposalID   `json:"proposal"`
	Incident ID           `json:"incident"`
	Action   ActionName   `json:"action"`
	Target   Ref          `json:"target"`
	State    OutcomeState `json:"state"`
	Detail   string       `json:"detail"`
	At       time.Time    `json:"at"`

	Execution string        `json:"execution,omitempty"` // the one execution this is the result of
	Digest    Digest        `json:"digest,omitempty"`    // of what was approved
	Started   time.Time     `json:"started,omitzero"`    // of the first write; zero: none was sent
	Effect    []FieldChange `json:"effect,omitempty"`    // what the writes changed
	Undone    bool          `json:"undone,omitempty"`    // the undo was written
}
