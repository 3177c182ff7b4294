package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Options of an Index; the zero value is complete.
type Options struct {
	Embedder Embedder         // nil: the built-in one, learnt from the pages (see LSA)
	Store    Store            // nil: vectors are kept in the index, searched exactly
	Bias     Bias             // nil: no feedback
	Reranker Reranker         // nil: the index's own order
	Now      func() time.Time // nil: time.Now; for expiry
}

// Bias is how people's feedback moves a page: topic is the cause, or an alert's name where no
// cause is known. The result is added to the ranking score and is cut to ±MaxBias.
type Bias interface {
	Bias(topic, path string) float64
}

// MaxBias bounds what feedback can do. Right and wrong pages lie about 3 apart in the median.
const MaxBias = 1.5

// Index finds runbooks. All methods are safe for concurrent use; while Replace or Reembed work,
// searches are answered from what was there before.
type Index struct {
	opt  Options
	ans  sync.Pool  // of *analyzer
	work sync.Mutex // held by the one Replace or Reembed that runs
	flat bool       // by words only
	mu   sync.RWMutex
	st   *state
}

// state is one generation of the index; it is never changed.
type state struct {
	c        *corpus
	vectors  *vectors
	degraded string // why vectors do not take part; empty: they do
}

// NewIndex returns an empty index; see Replace.
func NewIndex(opt Options) *Index {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	x := &Index{opt: opt, ans: sync.Pool{New: func() any { return newAnalyzer() }}}
	x.st = &state{c: newCorpus(nil)}
	return x
}

// Replace makes pages the content of the index. Of two pages with one path the first stays. Only
// sections whose text changed are embedded again. When embedding or the store fails, the pages
// are searched by words alone, results say so, and the error is returned; call Replace again.
func (x *Index) Replace(ctx context.Context, pages []Runbook) error {
	x.work.Lock()
	defer x.work.Unlock()
	seen := make(map[string]bool, len(pages))
	list := make([]*Runbook, 0, len(pages))
	for i := range pages {
		if !seen[pages[i].Path] {
			seen[pages[i].Path] = true
			list = append(list, &pages[i])
		}
	}
	return x.build(ctx, newCorpus(list))
}

// Reembed moves the index to another embedding: every section is embedded into the new space
// while the old one serves, then searches switch. On error the old one goes on serving. nil
// means the built-in embedding.
func (x *Index) Reembed(ctx context.Context, e Embedder) error {
	x.work.Lock()
	defer x.work.Unlock()
	old := x.state()
	v, err := buildVectors(ctx, old.c, old.vectors, e, x.opt.Store)
	if err != nil {
		return fmt.Errorf("runbooks: embedding anew: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.opt.Embedder = e
	x.st = &state{c: old.c, vectors: v}
	return nil
}

func (x *Index) build(ctx context.Context, c *corpus) error {
	st := &state{c: c}
	if x.flat {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.st = st
		return nil
	}
	var err error
	st.vectors, err = buildVectors(ctx, c, x.state().vectors, x.opt.Embedder, x.opt.Store)
	if err != nil {
		st.vectors = nil
		st.degraded = "by words only: " + incident.Clip(err.Error(), 300)
		err = fmt.Errorf("runbooks: vectors: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.st = st
	return err
}

func (x *Index) state() *state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.st
}

// Len returns the number of pages and of sections.
func (x *Index) Len() (pages, sections int) {
	c := x.state().c
	for _, d := range c.docs {
		sections += len(d.secs)
	}
	return len(c.docs), sections
}

// Show returns the page at path, or an error that wraps ErrNotFound.
func (x *Index) Show(path string) (Runbook, error) {
	for _, d := range x.state().c.docs {
		if d.rb.Path == path {
			return *d.rb, nil
		}
	}
	return Runbook{}, fmt.Errorf("runbook %q: %w", incident.Clip(path, 200), incident.ErrNotFound)
}

// Result is the answer to one query.
type Result struct {
	ID         string                `json:"id,omitempty"`
	Hits       []incident.RunbookHit `json:"hits"`               // best first, at most Limit; no precondition fails
	Rejected   []incident.RunbookHit `json:"rejected,omitempty"` // found, but a precondition fails; Why says which first
	Confident  bool                  `json:"confident"`          // the claim that Hits[0] applies
	Confidence float64               `json:"confidence"`         // calibrated chance that it does, 0..1
	Reasons    []string              `json:"reasons"`            // why confident or why not, for a person
	Degraded   string                `json:"degraded,omitempty"` // what did not take part, e.g. a store that is down
}

// Limit is the number of hits of a result.
const Limit = 10

// maxRejected is how many rejected pages a result lists.
const maxRejected = 5

// Search ranks the pages for q, checks their preconditions and says whether the first applies.
// It fails only when ctx ends. The same index and query give the same result.
func (x *Index) Search(ctx context.Context, q Query) (Result, error) {
	an := x.ans.Get().(*analyzer)
	defer x.ans.Put(an)
	st := x.state()
	qt := st.c.terms(&q, an)
	dense, degraded := x.dense(ctx, st, &q)
	list := st.c.candidates(qt, dense)
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	res := Result{ID: q.ID, Degraded: degraded}
	kept, rejected := x.judge(ctx, &q, list)
	for i := range rejected {
		res.Rejected = append(res.Rejected, hit(&rejected[i]))
	}
	res.Confidence, res.Reasons = st.c.confidence(qt, kept)
	if len(kept) > 0 && kept[0].j.forCause {
		// The page was written for this cause by a person: it applies as surely as the cause is
		// the right one. Zero means that nobody said how sure the cause is.
		sure := q.Facts.Confidence
		if sure == 0 {
			sure = 0.7
		}
		if sure > res.Confidence {
			res.Confidence = sure
			res.Reasons = append([]string{"it is written for cause " + q.Facts.Cause}, res.Reasons...)
		}
	}
	res.Confident = res.Confidence >= answerCut
	for i := range kept[:min(len(kept), Limit)] {
		res.Hits = append(res.Hits, hit(&kept[i]))
	}
	if len(res.Hits) > 0 {
		res.Hits[0].Confident = res.Confident
	}
	x.rerank(ctx, q, &res)
	if degraded != "" {
		res.Reasons = append(res.Reasons, degraded)
	}
	return res, nil
}

// What structure adds to a ranking score. They are set, not fitted: the development queries have
// no causes. A page written for the cause goes before any that merely uses the same words; one
// that names another cause goes behind.
const (
	supportWeight    = 3.0
	causeClashWeight = 4.0
	expiredWeight    = 1.0
)

// judge applies preconditions, the cause and feedback to the ranked candidates.
func (x *Index) judge(ctx context.Context, q *Query, list []candidate) (kept, rejected []candidate) {
	facts := q.Facts.activation()
	now := x.opt.Now()
	cause := incident.CauseName(q.Facts.Cause)
	for _, c := range list {
		c.j = c.doc.judge(ctx, &q.Facts, facts, now)
		if len(c.j.against) > 0 {
			if len(rejected) < maxRejected {
				rejected = append(rejected, c)
			}
			continue
		}
		c.score += supportWeight * float64(min(len(c.j.support), 2))
		if c.j.expired {
			c.score -= expiredWeight
		}
		if len(c.doc.rb.Front.Causes) == 0 && cause != "" && len(c.doc.causes) > 0 && !slices.Contains(c.doc.causes, cause) {
			c.score -= causeClashWeight
			c.j.open = append(c.j.open, fmt.Sprintf("its name says %s; this is %s", causeList(c.doc.causes), cause))
		}
		if x.opt.Bias != nil {
			c.score += x.bias(q, c.doc.rb.Path)
		}
		kept = append(kept, c)
	}
	sortCandidates(kept)
	return kept, rejected
}

// bias sums the feedback on a page for the query's cause, or for its alerts without one.
func (x *Index) bias(q *Query, path string) float64 {
	topics := q.Names
	if q.Facts.Cause != "" {
		topics = []string{q.Facts.Cause}
	}
	sum := 0.0
	for _, t := range topics {
		sum += x.opt.Bias.Bias(t, path)
	}
	return min(MaxBias, max(-MaxBias, sum))
}

// hit makes the form other stages read.
func hit(cand *candidate) incident.RunbookHit {
	rb := cand.doc.rb
	sec := &rb.Sections[min(cand.best, len(rb.Sections)-1)]
	j := &cand.j
	h := incident.RunbookHit{Path: rb.Path, Title: rb.Title, Section: sec.Name(), Score: cand.score, Applies: len(j.against) == 0,
		Commands: slices.Clone(sec.Commands), Excerpt: incident.UntrustedText(incident.Clip(sec.Text, 2048))}
	h.Why = slices.Concat(j.against, j.support, because(cand), j.open)
	for _, a := range rb.Front.Actions {
		if !slices.Contains(h.Actions, a.Name) {
			h.Actions = append(h.Actions, a.Name)
		}
	}
	return h
}

// because says in words which features speak for a page.
func because(cand *candidate) []string {
	var out []string
	if cand.f[fExact] > 0 {
		out = append(out, "is named after the alert")
	} else if cand.like > 0.75 {
		out = append(out, "its name is close to the alert's")
	}
	if cand.title > 0.6 && cand.f[fExact] == 0 {
		out = append(out, fmt.Sprintf("%.0f %% of its name's words are in the incident", 100*cand.title))
	}
	if cand.f[fJoined] > 0.15 {
		out = append(out, "names the same metrics or objects")
	}
	if cand.cover > 0 {
		out = append(out, fmt.Sprintf("has %.0f %% of the incident's words by weight", 100*cand.cover))
	}
	return out
}

// dense returns how near each page's best section is to the query, 0..1 relative to the nearest
// of all, or nil and the reason why not.
func (x *Index) dense(ctx context.Context, st *state, q *Query) ([]float32, string) {
	if st.vectors == nil {
		return nil, st.degraded
	}
	text := strings.Join(q.Names, "\n") + "\n" + q.withoutInstances() + "\n" + strings.Join(q.Metrics, "\n")
	out, err := st.vectors.near(ctx, st.c, text)
	if err != nil {
		return nil, "by words only: " + incident.Clip(err.Error(), 300)
	}
	if d, ok := x.opt.Store.(interface{ Degraded() string }); ok {
		return out, d.Degraded()
	}
	return out, ""
}

// Explain returns the ranked shortlist of q with its features, before preconditions, and the
// signs by which the claim for the first is judged (nil: nothing found), for evaluation.
func (x *Index) Explain(ctx context.Context, q Query) (list []Candidate, signs []float64) {
	an := x.ans.Get().(*analyzer)
	defer x.ans.Put(an)
	st := x.state()
	qt := st.c.terms(&q, an)
	dense, _ := x.dense(ctx, st, &q)
	cands := st.c.candidates(qt, dense)
	for i := range cands {
		list = append(list, Candidate{cands[i].doc.rb.Path, cands[i].f[:], cands[i].score})
	}
	if len(cands) > 0 {
		s := st.c.judgeAnswer(qt, cands)
		signs = s[:]
	}
	return list, signs
}
