package incident

import (
	"time"
)

// Kind says what a signal is.
type Kind string

// Kinds of signal.
const (
	Symptom  Kind = "symptom"  // something observed to be wrong
	Alert    Kind = "alert"    // a signal its source already judged
	Change   Kind = "change"   // somebody or something changed the entity: a fact, always info
	Found    Kind = "finding"  // a detector named a cause
	Covering Kind = "coverage" // a collector started, lagged or fell silent
)

// Status says whether what a signal reports is going on.
type Status string

// Statuses.
const (
	Firing   Status = "firing"
	Resolved Status = "resolved"
)

// Severity orders signals and incidents: info < warning < critical.
type Severity string

// Severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Rank returns 0 for info and unknown values, 1 for warning, 2 for critical.
func (s Severity) Rank() int {
	switch s {
	case Critical:
		return 2
	case Warning:
		return 1
	}
	return 0
}

// Signal is one immutable observation of one entity at one time. Cluster, Entity, Kind, Status,
// Severity and Reason are always set; everything after Reason may be zero.
type Signal struct {
	ID       SignalID    `json:"-"` // CloudEvents id
	Source   string      `json:"-"` // CloudEvents source, e.g. /clusters/eu-1/collectors/kube
	Time     time.Time   `json:"-"` // the source's clock, UTC
	Cluster  ClusterName `json:"cluster"`
	Entity   Entity      `json:"entity"`
	Kind     Kind        `json:"kind"`
	Status   Status      `json:"status"`
	Severity Severity    `json:"severity"`
	Reason   string      `json:"reason"` // CamelCase: ImagePullBackOff, an alert's name, …

	Owner      *Entity           `json:"owner,omitempty"` // the top of the owner chain; nil: none known
	Message    UntrustedText     `json:"message,omitempty"`
	Cause      CauseName         `json:"cause,omitempty"`
	Confidence float64           `json:"confidence,omitempty"` // of Cause, 0..1
	Factors    Factors           `json:"factors,omitempty"`
	Related    []Entity          `json:"related,omitempty"` // nearest first
	Labels     map[string]string `json:"labels,omitempty"`  // untrusted
	Evidence   []Evidence        `json:"evidence,omitempty"`
}

// Subject returns the CloudEvents subject: the entity as "Kind/namespace/name".
func (s *Signal) Subject() string { return s.Entity.String() }

// Validate refuses a signal that no stage could use. The error wraps ErrInvalid and names the
// field. It does not check the clock: late and early times are the correlator's business.
func (s *Signal) Validate() error {
	if err := s.Cluster.Validate(); err != nil {
		return err
	}
	if err := s.Entity.Validate(); err != nil {
		return err
	}
	if s.Owner != nil {
		if err := s.Owner.Validate(); err != nil {
			return Invalidf("owner: %v", err)
		}
	}
	switch s.Kind {
	case Symptom, Alert, Change, Found, Covering:
	default:
		return Invalidf("kind %q: want symptom, alert, change, finding or coverage", Clip(string(s.Kind), 40))
	}
	if s.Status != Firing && s.Status != Resolved {
		return Invalidf("status %q: want firing or resolved", Clip(string(s.Status), 40))
	}
	switch s.Severity {
	case Info, Warning, Critical:
	default:
		return Invalidf("severity %q: want info, warning or critical", Clip(string(s.Severity), 40))
	}
	if err := checkName("reason", s.Reason, maxName, true); err != nil {
		return err
	}
	if err := checkName("id", string(s.ID), 128, true); err != nil {
		return err
	}
	if s.Time.IsZero() {
		return Invalidf("time is missing")
	}
	if !(s.Confidence >= 0 && s.Confidence <= 1) {
		return Invalidf("confidence %v: want 0..1", s.Confidence)
	}
	return s.checkSizes()
}

func (s *Signal) checkSizes() error {
	switch {
	case len(s.Factors) > maxFactors:
		return Invalidf("%d factors, limit %d", len(s.Factors), maxFactors)
	case len(s.Related) > maxRelated:
		return Invalidf("%d related entities, limit %d", len(s.Related), maxRelated)
	case len(s.Evidence) > maxEvid:
		return Invalidf("%d pieces of evidence, limit %d", len(s.Evidence), maxEvid)
	case len(s.Labels) > 128:
		return Invalidf("%d labels, limit 128", len(s.Labels))
	case len(s.Message) > 4*maxText:
		return Invalidf("message is %d bytes long, limit %d", len(s.Message), 4*maxText)
	}
	for i := range s.Related {
		if err := s.Related[i].Validate(); err != nil {
			return Invalidf("related[%d]: %v", i, err)
		}
	}
	for n, v := range s.Factors {
		if len(n) > maxKind || len(v) > 1024 {
			return Invalidf("factor %q: name or value too long", Clip(string(n), 40))
		}
	}
	return nil
}

// Inventory counts the workloads of one cluster, so that the unaffected can be counted.
// Factors maps a factor to its values and each value to the number of workloads that have it.
type Inventory struct {
	ID        SignalID                      `json:"-"`
	Source    string                        `json:"-"`
	Time      time.Time                     `json:"-"`
	Cluster   ClusterName                   `json:"cluster"`
	Workloads int                           `json:"workloads"`
	Factors   map[FactorName]map[string]int `json:"factors,omitempty"`
}

// EdgeKind says how one entity depends on another.
type EdgeKind string

// Edge kinds; each reads "From <kind> To".
const (
	Calls    EdgeKind = "calls"
	RunsOn   EdgeKind = "runs-on"
	Mounts   EdgeKind = "mounts"
	RoutesTo EdgeKind = "routes-to"
	Owns     EdgeKind = "owns"
)

// Edge is one dependency inside a cluster.
type Edge struct {
	From Entity   `json:"from"`
	To   Entity   `json:"to"`
	Kind EdgeKind `json:"kind"`
}

// Topology is the edges of one cluster, as far as its source knows them; a later one replaces
// an earlier one of the same source.
type Topology struct {
	ID      SignalID    `json:"-"`
	Source  string      `json:"-"`
	Time    time.Time   `json:"-"`
	Cluster ClusterName `json:"cluster"`
	Edges   []Edge      `json:"edges"`
}
