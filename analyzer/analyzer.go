// Package analyzer makes the finding of an incident: ranked hypotheses with evidence from the
// clusters concerned, what was seen and what was not, the runbooks that apply, and the proposals.
// It works without a model.
//
// It reads through two small interfaces (the clusters' agents, the runbook index), stores nothing
// and changes nothing. A source that does not answer in time costs its part of the finding, never
// the finding: the gap is named in its coverage.
package analyzer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/incident"
)

// Answer is what one cluster's agent knows about entities: its hypotheses that blame or explain
// them, best first, and what it can see.
type Answer struct {
	Hypotheses []incident.Hypothesis    `json:"hypotheses"`
	Coverage   incident.ClusterCoverage `json:"coverage"`
}

// Evidence asks the agent of one cluster. Entities without an answer are simply not in it.
type Evidence interface {
	Evidence(ctx context.Context, c incident.ClusterName, about []incident.Entity) (Answer, error)
}

// Runbooks finds the runbook sections for an incident, best first; gap names what was not
// searched ("" when everything was).
type Runbooks interface {
	Find(ctx context.Context, inc incident.Incident, hyps []incident.Hypothesis) (hits []incident.RunbookHit, gap string, err error)
}

// Limits of one finding. An incident over 1,000 clusters has one cause: a few agents asked tell
// it; the proposals of the others are asked for when the fix goes there.
const (
	askAtOnce     = 16
	askClusters   = 64
	askEntities   = 20
	answerIn      = 2 * time.Second
	maxHypotheses = 20
	maxProposals  = 100
)

// Analyzer makes findings. Make it with New; it is safe for concurrent use.
type Analyzer struct {
	evidence Evidence
	runbooks Runbooks
}

// New returns an analyzer. runbooks may be nil: findings then say that none were searched.
func New(evidence Evidence, runbooks Runbooks) *Analyzer {
	return &Analyzer{evidence: evidence, runbooks: runbooks}
}

// Analyze makes the finding of inc at now. It takes at most about
// answerIn for every askAtOnce clusters, plus the runbook search.
func (a *Analyzer) Analyze(ctx context.Context, inc incident.Incident, now time.Time) incident.Finding {
	f := incident.Finding{Incident: inc.ID, At: now, Revision: inc.Revision, Hypotheses: []incident.Hypothesis{}, Runbooks: []incident.RunbookHit{}, Proposals: []incident.Proposal{},
		Coverage: incident.Coverage{From: inc.OpenedAt, To: now}}
	hyps := a.ask(ctx, inc, &f)
	f.Hypotheses = rank(inc, hyps)
	if len(f.Hypotheses) == 0 {
		f.Hypotheses = fromMembers(inc)
	}
	if len(f.Hypotheses) == 0 {
		f.Missing = append(f.Missing, "no detector named a cause; the evidence of the members is all there is")
	}
	for _, c := range inc.Silent {
		f.Coverage.Gaps = append(f.Coverage.Gaps, fmt.Sprintf("%s not seen since %s: not counted as unaffected", c.Cluster, c.LastSeen.Format("15:04")))
	}
	f.Proposals = proposals(inc, f.Hypotheses)
	a.search(ctx, inc, &f)
	return f
}

// ask collects the hypotheses of the clusters concerned, in the incident's order of clusters.
func (a *Analyzer) ask(ctx context.Context, inc incident.Incident, f *incident.Finding) []incident.Hypothesis {
	about := map[incident.ClusterName][]incident.Entity{}
	for _, m := range inc.Members {
		if len(about[m.Cluster]) < askEntities {
			about[m.Cluster] = append(about[m.Cluster], m.Entity)
		}
	}
	if inc.Root != nil && !slices.Contains(about[inc.Root.Cluster], inc.Root.Entity) {
		about[inc.Root.Cluster] = append(about[inc.Root.Cluster], inc.Root.Entity)
	}
	clusters := slices.Clone(inc.Clusters)
	if inc.Root != nil { // the root's cluster is asked first, however many there are
		if i := slices.Index(clusters, inc.Root.Cluster); i > 0 {
			clusters = slices.Insert(slices.Delete(clusters, i, i+1), 0, inc.Root.Cluster)
		}
	}
	if len(clusters) > askClusters {
		f.Coverage.Gaps = append(f.Coverage.Gaps, fmt.Sprintf("evidence was asked of %d of %d clusters", askClusters, len(clusters)))
		clusters = clusters[:askClusters]
	}
	answers := make([]Answer, len(clusters))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for i, c := range clusters {
		g.Go(func() error {
			actx, cancel := context.WithTimeout(ctx, answerIn)
			defer cancel()
			ans, err := a.evidence.Evidence(actx, c, about[c])
			if err != nil {
				mu.Lock()
				f.Coverage.Gaps = append(f.Coverage.Gaps, fmt.Sprintf("agent of %s did not answer: its evidence is that of its signals (%s)", c, incident.UntrustedText(err.Error()).Plain(120)))
				mu.Unlock()
				return nil
			}
			ans.Coverage.Cluster = c
			answers[i] = ans
			return nil
		})
	}
	_ = g.Wait() // no errors: they stand in the gaps
	slices.Sort(f.Coverage.Gaps)
	var out []incident.Hypothesis
	for i, ans := range answers {
		if ans.Coverage.Cluster == "" {
			continue
		}
		f.Coverage.Clusters = append(f.Coverage.Clusters, ans.Coverage)
		for _, h := range ans.Hypotheses {
			h.Cluster = clusters[i]
			out = append(out, h)
		}
	}
	return out
}

// rank orders hypotheses: those of the incident's own cause first, then by confidence; the order
// of the clusters decides between equals.
func rank(inc incident.Incident, hyps []incident.Hypothesis) []incident.Hypothesis {
	score := func(h incident.Hypothesis) float64 {
		s := h.Confidence
		if h.Cause == inc.Cause {
			s++
		}
		if inc.Root != nil && inc.Root.Cluster == h.Cluster && inc.Root.Entity.Key() == h.Object.Key() {
			s += 0.5
		}
		return s
	}
	slices.SortStableFunc(hyps, func(x, y incident.Hypothesis) int { return cmp.Compare(score(y), score(x)) })
	if len(hyps) > maxHypotheses {
		hyps = hyps[:maxHypotheses]
	}
	for i := range hyps {
		hyps[i].Rank = i + 1
	}
	return slices.Clone(hyps)
}

// fromMembers is what the signals alone tell, when no agent answered.
func fromMembers(inc incident.Incident) []incident.Hypothesis {
	out := []incident.Hypothesis{}
	for _, m := range inc.Members {
		if m.Cause == "" || m.Symptom {
			continue
		}
		line := string(m.Cause)
		if c, ok := incident.LookupCause(m.Cause); ok {
			line = c.Line
		}
		out = append(out, incident.Hypothesis{Rank: len(out) + 1, Cause: m.Cause, Cluster: m.Cluster, Object: m.Entity, Confidence: m.Confidence, Severity: m.Severity,
			Summary: fmt.Sprintf("%s: %s", m.Entity, line), Explains: []incident.Explained{}, Related: []incident.Entity{}, Evidence: inc.Evidence, Proposals: []incident.Proposal{},
			Missing: []string{"the agent's evidence"}})
		if len(out) == maxHypotheses {
			break
		}
	}
	return out
}

// proposals collects those of the hypotheses that share the first one's cause: the same fix in
// every cluster, best hypothesis first. Each is named by its content.
func proposals(inc incident.Incident, hyps []incident.Hypothesis) []incident.Proposal {
	out := []incident.Proposal{}
	seen := map[incident.ProposalID]bool{}
	for _, h := range hyps {
		if h.Cause != hyps[0].Cause {
			continue
		}
		for _, p := range h.Proposals {
			p.Incident, p.Target.Cluster, p.Cause, p.Confidence = inc.ID, h.Cluster, h.Cause, h.Confidence
			p.ID = incident.NewProposalID(p)
			if p.Action == "" {
				p.ID = incident.ProposalID("step-" + string(incident.HashParts(p.Step))[:12]) // the same words for every cluster: once
			}
			if !seen[p.ID] && len(out) < maxProposals {
				seen[p.ID] = true
				out = append(out, p)
			}
		}
	}
	return out
}

func (a *Analyzer) search(ctx context.Context, inc incident.Incident, f *incident.Finding) {
	if a.runbooks == nil {
		f.Coverage.Gaps = append(f.Coverage.Gaps, "no runbooks are configured")
		return
	}
	hits, gap, err := a.runbooks.Find(ctx, inc, f.Hypotheses)
	if err != nil {
		gap = "runbooks could not be searched: " + incident.UntrustedText(err.Error()).Plain(160)
	}
	if gap != "" {
		f.Coverage.Gaps = append(f.Coverage.Gaps, gap)
	}
	f.Runbooks = append(f.Runbooks, hits...)
}
