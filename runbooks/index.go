package runbooks

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Index finds runbooks. Search is safe for concurrent use; Replace swaps the pages while
// searches go on with the old ones.
type Index struct {
	now func() time.Time
	mu  sync.RWMutex
	c   *corpus
	ans sync.Pool // of *analyzer
}

// NewIndex indexes the pages. Paths must be unique; of two pages with one path the first stays.
func NewIndex(pages []Runbook) *Index {
	x := &Index{now: time.Now, ans: sync.Pool{New: func() any { return newAnalyzer() }}}
	x.Replace(pages)
	return x
}

// Replace makes pages the content of the index.
func (x *Index) Replace(pages []Runbook) {
	seen := make(map[string]bool, len(pages))
	list := make([]*Runbook, 0, len(pages))
	for i := range pages {
		if !seen[pages[i].Path] {
			seen[pages[i].Path] = true
			list = append(list, &pages[i])
		}
	}
	c := newCorpus(list)
	x.mu.Lock()
	x.c = c
	x.mu.Unlock()
}

func (x *Index) corpus() *corpus {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.c
}

// Len returns the number of pages and of sections.
func (x *Index) Len() (pages, sections int) {
	c := x.corpus()
	for _, d := range c.docs {
		sections += len(d.secs)
	}
	return len(c.docs), sections
}

// Show returns the page at path, or ErrNotFound.
func (x *Index) Show(path string) (Runbook, error) {
	for _, d := range x.corpus().docs {
		if d.rb.Path == path {
			return *d.rb, nil
		}
	}
	return Runbook{}, fmt.Errorf("runbook %q: %w", path, incident.ErrNotFound)
}

// Result is the answer to one query.
type Result struct {
	ID         string                `json:"id,omitempty"`
	Hits       []incident.RunbookHit `json:"hits"`               // best first, at most Limit; preconditions hold or are none
	Rejected   []incident.RunbookHit `json:"rejected,omitempty"` // found, but preconditions fail; Why says which
	Confident  bool                  `json:"confident"`          // the claim that Hits[0] applies
	Confidence float64               `json:"confidence"`         // calibrated chance that it does, 0..1
	Reasons    []string              `json:"reasons"`            // why confident or why not, for a person
	Degraded   string                `json:"degraded,omitempty"` // what did not take part, e.g. a store that is down
}

// Limit is the number of hits of a result.
const Limit = 10

// Search ranks the pages for q, checks their preconditions and says whether the first applies.
// It fails only when ctx ends. The same index and query give the same result.
func (x *Index) Search(ctx context.Context, q Query) (Result, error) {
	an := x.ans.Get().(*analyzer)
	defer x.ans.Put(an)
	c := x.corpus()
	qt := c.terms(q, an)
	list := c.candidates(qt)
	res := Result{ID: q.ID}
	facts := q.Facts.activation()
	now := x.now()
	var kept []candidate
	for i := range list {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		j := list[i].doc.judge(ctx, &q.Facts, facts, now)
		if len(j.against) > 0 {
			if len(res.Rejected) < Limit {
				res.Rejected = append(res.Rejected, c.hit(&list[i], j))
			}
			continue
		}
		list[i].score += 3 * float64(len(j.support))
		list[i].j = j
		kept = append(kept, list[i])
	}
	sortCandidates(kept)
	res.Confidence, res.Reasons = confidence(kept)
	res.Confident = res.Confidence >= answerCut
	for i := range kept[:min(len(kept), Limit)] {
		res.Hits = append(res.Hits, c.hit(&kept[i], kept[i].j))
	}
	if len(res.Hits) > 0 {
		res.Hits[0].Confident = res.Confident
	}
	return res, nil
}

// hit makes the form other stages read.
func (c *corpus) hit(cand *candidate, j judgement) incident.RunbookHit {
	rb := cand.doc.rb
	sec := &rb.Sections[min(cand.best, len(rb.Sections)-1)]
	h := incident.RunbookHit{Path: rb.Path, Title: rb.Title, Section: sec.Name(), Score: cand.score, Applies: len(j.against) == 0,
		Commands: slices.Clone(sec.Commands), Excerpt: incident.UntrustedText(incident.Clip(sec.Text, 2048))}
	h.Why = slices.Concat(j.against, j.support, because(cand), j.open)
	for _, a := range rb.Front.Actions {
		h.Actions = append(h.Actions, a.Name)
	}
	return h
}

// because says in words which features speak for a page.
func because(cand *candidate) []string {
	var out []string
	f := &cand.f
	if f[fExact] > 0 {
		out = append(out, "is named after the alert")
	} else if f[fTrigram] > 0.75 {
		out = append(out, "its name is close to the alert's")
	}
	if f[fTitleByAll] > 0.6 && f[fExact] == 0 {
		out = append(out, fmt.Sprintf("%.0f %% of its name's words are in the incident", 100*f[fTitleByAll]))
	}
	if f[fMetricWhole] > 0.15 {
		out = append(out, "names the same metrics or objects")
	}
	if f[fCover] > 0 {
		out = append(out, fmt.Sprintf("has %.0f %% of the incident's words by weight", 100*f[fCover]))
	}
	return out
}
