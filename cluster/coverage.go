package cluster

import (
	"maps"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// Coverage returns which sources were seen, in name order, and what was left out.
func (s *State) Coverage() incident.Coverage {
	c := incident.ClusterCoverage{Cluster: s.Name, LastSeen: s.At}
	for _, k := range slices.Sorted(maps.Keys(s.sources)) {
		c.Sources = append(c.Sources, s.sources[k])
	}
	return incident.Coverage{To: s.At, Clusters: []incident.ClusterCoverage{c}, Gaps: slices.Clone(s.gaps)}
}
