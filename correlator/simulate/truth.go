package simulate

import "github.com/tocsin-io/tocsin/incident"

// Truth is what really happened in a generated sequence.
type Truth struct {
	Incidents []TrueIncident        `json:"incidents"`
	Noise     []incident.SignalID   `json:"noise"`
	Episodes  [][]incident.SignalID `json:"noiseEpisodes"` // one passing thing each
	Resolved  []incident.SignalID   `json:"noiseResolved"`
	Ignored   []incident.SignalID   `json:"ignored"` // sensible people differ
}

// TrueIncident is one thing to repair. Its signals are those that would not have been sent
// without it.
type TrueIncident struct {
	ID         string                 `json:"id"`
	Kind       string                 `json:"kind"`
	Signals    []incident.SignalID    `json:"signals"`
	Clusters   []incident.ClusterName `json:"clusters"`
	Shared     *Factor                `json:"sharedFactor"` // nil: one workload, namespace or cluster service is at fault
	SharedAlso []Factor               `json:"sharedFactorAlso"`
	Root       *Root                  `json:"root"` // nil: no entity of one cluster
	RootAlso   []Root                 `json:"rootAlso"`
	Cause      incident.CauseName     `json:"cause"`
	CauseAlso  []incident.CauseName   `json:"causeAlso"`
}

// Factor is a factor's name and value.
type Factor struct {
	Name  incident.FactorName `json:"name"`
	Value string              `json:"value"`
}

// Root is an entity of one cluster.
type Root struct {
	Cluster   incident.ClusterName `json:"cluster"`
	Kind      string               `json:"kind"`
	Namespace string               `json:"namespace"`
	Name      string               `json:"name"`
}
