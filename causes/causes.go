package causes

import (
	"time"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// Verdict is the short answer about a cluster. The zero value is Insufficient.
type Verdict string

// Verdicts.
const (
	Faulty       Verdict = "faulty"       // something is wrong and a cause is named
	Healthy      Verdict = "healthy"      // what had to be seen was seen, and nothing is wrong
	Insufficient Verdict = "insufficient" // something is wrong without a cause, or too little was seen
)

// Result is the analysis of one state, in the wire form of `tocsin analyze`.
type Result struct {
	Cluster     incident.ClusterName  `json:"cluster"`
	CollectedAt time.Time             `json:"collectedAt"`
	Verdict     Verdict               `json:"verdict"`
	Hypotheses  []incident.Hypothesis `json:"hypotheses"` // best first, Rank from 1; those of severity info last
	Missing     []string              `json:"missing,omitempty"`
	Coverage    incident.Coverage     `json:"coverage"`

	unexplained []*symptom
}

// Analyze names the causes of what is wrong in st, best first. It is deterministic and safe to
// call concurrently with others on the same state.
func Analyze(st *cluster.State) Result {
	c := newScan(st)
	c.look()
	for _, d := range detectors() {
		d.run(c)
	}
	return c.settle()
}
