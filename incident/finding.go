package incident

import "time"

// Evidence is a bounded excerpt of what was seen. Observed, Expected and Text are untrusted and
// at most 4 KiB each.
type Evidence struct {
	ID       string        `json:"id"`               // unique inside its finding: e1, e2, …
	Source   string        `json:"source"`           // objects/pods, logs, metrics, alerts, probes, events
	Object   *Entity       `json:"object,omitempty"` // nil: the signal's own entity
	Path     string        `json:"path,omitempty"`   // field path, e.g. spec.containers[0].image
	Observed UntrustedText `json:"observed,omitempty"`
	Expected UntrustedText `json:"expected,omitempty"`
	Text     UntrustedText `json:"text,omitempty"`
	Time     *time.Time    `json:"time,omitempty"`
}

// Explained is a symptom that a hypothesis accounts for; it is not reported beside it.
type Explained struct {
	Entity Entity `json:"entity"`
	Reason string `json:"reason"` // the symptom's reason or the generic cause's name
}

// Hypothesis is a cause blamed on an entity.
type Hypothesis struct {
	Rank       int         `json:"rank"` // 1 is the best
	Cause      CauseName   `json:"cause"`
	Cluster    ClusterName `json:"cluster,omitempty"`
	Object     Entity      `json:"object"`
	Confidence float64     `json:"confidence"` // calibrated share of such answers that are right, 0..1
	Severity   Severity    `json:"severity,omitempty"`
	Summary    string      `json:"summary"` // one line for a person
	Explains   []Explained `json:"explains"`
	Related    []Entity    `json:"related"`
	Evidence   []Evidence  `json:"evidence"`
	Proposals  []Proposal  `json:"proposals"`
	Since      *time.Time  `json:"since,omitempty"`   // first sign; nil: not known
	Missing    []string    `json:"missing,omitempty"` // what was not seen and would decide
	Factors    Factors     `json:"factors,omitempty"` // of Object
}

// SourceState says how much of one source was seen.
type SourceState string

// Source states.
const (
	Seen       SourceState = "seen"
	Partial    SourceState = "partial"
	NotSeen    SourceState = "not-seen"
	NotAllowed SourceState = "not-allowed" // permission missing
)

// SourceCoverage is what was seen of one source in one cluster.
type SourceCoverage struct {
	Source string      `json:"source"` // objects/pods, logs, events, alerts, metrics, probes, collectors/kube, …
	State  SourceState `json:"state"`
	Detail string      `json:"detail,omitempty"`
}

// ClusterCoverage is what was seen of one cluster. LastSeen is zero when it was never seen.
type ClusterCoverage struct {
	Cluster  ClusterName      `json:"cluster"`
	LastSeen time.Time        `json:"lastSeen,omitzero"`
	Silent   bool             `json:"silent,omitempty"` // not seen for longer than its heartbeat allows
	Sources  []SourceCoverage `json:"sources,omitempty"`
}

// Coverage is which clusters, sources and times were seen and which were not. "Not seen" is
// never "healthy".
type Coverage struct {
	From     time.Time         `json:"from,omitzero"`
	To       time.Time         `json:"to,omitzero"`
	Clusters []ClusterCoverage `json:"clusters,omitempty"`
	Gaps     []string          `json:"gaps,omitempty"` // one line each, for a person
}

// RunbookHit is a runbook section that was found for an incident.
type RunbookHit struct {
	Path      string        `json:"path"`
	Title     string        `json:"title"`
	Section   string        `json:"section,omitempty"` // heading path, " › " between
	Score     float64       `json:"score"`             // comparable inside one result only
	Applies   bool          `json:"applies"`           // preconditions were checked and hold
	Why       []string      `json:"why"`               // reasons for and against, best first
	Commands  []string      `json:"commands,omitempty"`
	Excerpt   UntrustedText `json:"excerpt,omitempty"`
	Actions   []ActionName  `json:"actions,omitempty"`
	Confident bool          `json:"confident"`
}

// Finding is the ranked hypotheses of an incident and what they rest on. No hypotheses means
// that the evidence was not enough; Missing then says what would be.
type Finding struct {
	Incident   ID           `json:"incident"`
	At         time.Time    `json:"at"`
	Revision   uint64       `json:"revision"` // of the incident it was made from
	Hypotheses []Hypothesis `json:"hypotheses"`
	Missing    []string     `json:"missing,omitempty"`
	Coverage   Coverage     `json:"coverage"`
	Runbooks   []RunbookHit `json:"runbooks"`
	Proposals  []Proposal   `json:"proposals"`
	Similar    string       `json:"similar,omitempty"` // what happened the last times, for a person
	Model      *ModelUse    `json:"model,omitempty"`   // nil: no model took part
}

// ModelUse records which model took part in a finding and what it was given.
type ModelUse struct {
	Name     string   `json:"name"`
	Prompt   Digest   `json:"prompt"`
	Sections []string `json:"sections,omitempty"`
	Error    string   `json:"error,omitempty"` // why its answer was not used
}
