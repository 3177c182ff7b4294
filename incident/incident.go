package incident

import "time"

// State is the life of an incident.
type State string

// Incident states.
const (
	Open   State = "open"
	Closed State = "closed"
	Merged State = "merged" // see Incident.MergedInto
)

// SharedFactor is a property that the affected have and the unaffected do not.
type SharedFactor struct {
	Name     FactorName `json:"name"`
	Value    string     `json:"value"`
	Affected int        `json:"affected"` // workloads with the factor that are affected
	Total    int        `json:"total"`    // workloads with the factor in the fleet
	Others   int        `json:"others"`   // affected workloads without the factor
	OthersOf int        `json:"othersOf"` // workloads without the factor in the fleet
	Clusters int        `json:"clusters"` // clusters with an affected holder
}

// Member is one affected entity. Entity is the owner where one is known.
type Member struct {
	Cluster    ClusterName `json:"cluster"`
	Entity     Entity      `json:"entity"`
	First      time.Time   `json:"first"`
	Last       time.Time   `json:"last"`
	Status     Status      `json:"status"`
	Severity   Severity    `json:"severity"`
	Reasons    []string    `json:"reasons"` // distinct, in order of appearance, bounded
	Cause      CauseName   `json:"cause,omitempty"`
	Confidence float64     `json:"confidence,omitempty"`
	Symptom    bool        `json:"symptom,omitempty"` // affected by the root, not a root itself
	Signals    int         `json:"signals"`           // count, also of those no longer kept
	Flapping   bool        `json:"flapping,omitempty"`
}

// Step is one entry of an incident's timeline.
type Step struct {
	Time    time.Time   `json:"time"`
	Kind    StepKind    `json:"kind"`
	Cluster ClusterName `json:"cluster,omitempty"`
	Entity  *Entity     `json:"entity,omitempty"`
	Text    string      `json:"text"`
}

// StepKind names what happened in a Step.
type StepKind string

// Step kinds.
const (
	StepOpened   StepKind = "opened"
	StepJoined   StepKind = "joined"  // an entity or cluster became affected
	StepChange   StepKind = "change"  // a suspected change
	StepCause    StepKind = "cause"   // the cause or shared factor became known or changed
	StepLeft     StepKind = "left"    // an entity recovered
	StepMerged   StepKind = "merged"  // another incident was found to be this one
	StepSplit    StepKind = "split"   // members were found to be another incident
	StepClosed   StepKind = "closed"  // quiet for long enough
	StepReopened StepKind = "reopen"  // fired again after closing
	StepAction   StepKind = "action"  // proposal, verdict, approval, execution, outcome
	StepNote     StepKind = "note"    // a person's word
	StepSilent   StepKind = "silent"  // coverage was lost
	StepDropped  StepKind = "dropped" // detail was dropped to stay within limits
)

// SuspectedChange is a change shortly before the first symptom.
type SuspectedChange struct {
	Signal  SignalID      `json:"signal"`
	Cluster ClusterName   `json:"cluster"`
	Entity  Entity        `json:"entity"`
	Time    time.Time     `json:"time"`
	Reason  string        `json:"reason"`
	Message UntrustedText `json:"message,omitempty"`
	Before  Seconds       `json:"beforeSeconds"` // from the change to the first symptom
}

// Seconds is a duration in seconds on the wire.
type Seconds float64

// Incident is a set of signals held to share a cause. Lists are bounded; the counts beside them
// are not.
type Incident struct {
	ID         ID            `json:"id"`
	Title      string        `json:"title"`
	State      State         `json:"state"`
	Severity   Severity      `json:"severity"`
	OpenedAt   time.Time     `json:"openedAt"` // first symptom, source clock
	UpdatedAt  time.Time     `json:"updatedAt"`
	ClosedAt   *time.Time    `json:"closedAt"` // nil: open
	Revision   uint64        `json:"revision"` // grows by one with every published change
	Signals    []SignalID    `json:"signals"`
	Count      int           `json:"signalCount"` // of all signals, also those no longer listed
	Clusters   []ClusterName `json:"clusters"`    // in the order of spread
	Shared     *SharedFactor `json:"sharedFactor"`
	Root       *Ref          `json:"root"`
	Cause      CauseName     `json:"cause"`
	Confidence float64       `json:"confidence,omitempty"`

	Members      []Member          `json:"members,omitempty"` // roots first, then in order of spread
	MembersTotal int               `json:"membersTotal,omitempty"`
	Changes      []SuspectedChange `json:"changes,omitempty"` // most likely first
	Timeline     []Step            `json:"timeline,omitempty"`
	Evidence     []Evidence        `json:"evidence,omitempty"`
	Proposals    []Proposal        `json:"proposals,omitempty"`
	Silent       []ClusterCoverage `json:"silent,omitempty"` // clusters that could not be seen
	MergedInto   ID                `json:"mergedInto,omitempty"`
	Ambiguous    []string          `json:"ambiguous,omitempty"` // alerts whose entity could not be told
	Flapping     bool              `json:"flapping,omitempty"`
	Notes        []string          `json:"notes,omitempty"`
	Finding      *Finding          `json:"finding,omitempty"`
}
