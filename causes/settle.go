package causes

import (
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// settle ranks the suspects, folds those that others explain and gives the result.
func (c *scan) settle() Result {
	r := Result{Cluster: c.Name, CollectedAt: c.At, Verdict: Insufficient, Hypotheses: []incident.Hypothesis{}, Coverage: c.Coverage()}
	slices.SortStableFunc(c.suspects, func(a, b *suspect) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	for _, s := range c.suspects {
		h := incident.Hypothesis{Rank: len(r.Hypotheses) + 1, Cause: s.cause, Cluster: c.Name, Object: s.object, Confidence: s.score, Severity: s.severity,
			Summary: s.summary, Explains: s.explained, Related: s.rel, Evidence: s.ev, Proposals: s.props, Missing: s.miss}
		if !s.since.IsZero() {
			at := s.since
			h.Since = &at
		}
		r.Hypotheses = append(r.Hypotheses, h)
	}
	return r
}
