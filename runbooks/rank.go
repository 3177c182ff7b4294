package runbooks

import (
	"cmp"
	"slices"
)

// weights of the features in the ranking, without ([0]) and with ([1]) an alert name in the
// query. Fitted with `go run ./runbooks/eval -fit` (listwise logistic loss, L2); see
// docs/runbooks.md.
var weights = [2][features]float64{
	{0.00, 2.88, 2.20, 2.72, 3.32, 2.45, 0.00, 0.00, 3.91, 3.81, 1.34, 3.35, -2.46, 2.40, -2.43, -1.90, 5.06, 0.15, 1.56},
	{3.46, 1.74, 2.13, 2.07, 2.71, 1.69, 2.23, 2.52, 1.16, 1.68, 0.00, 1.42, -1.29, 0.10, -2.15, -0.91, 0.81, 1.26, 0.61},
}

// shortlist is how many pages get the costlier features and the final order.
const shortlist = 64

// candidate is a page with its features and score.
type candidate struct {
	doc   *doc
	f     [features]float64
	score float64
	best  int     // section shown
	cover float64 // share of the text's words it has
	title float64 // share of its name's words that the query has
	like  float64 // likeness of alert name and page name, for the shortlist
	j     judgement
}

func score(f *[features]float64, w *[features]float64) float64 {
	sum := 0.0
	for i, w := range w {
		sum += w * f[i]
	}
	return sum
}

// candidates returns the best pages, best first, at most shortlist. dense is the nearness of
// each page's best section (0: none of its sections is near); nil: no vectors.
func (c *corpus) candidates(qt *queryTerms, dense []float32) []candidate {
	w := &weights[0]
	if len(qt.keys) > 0 {
		w = &weights[1]
	}
	s := c.newScores()
	c.lexical(qt, s)
	copy(s.f[fDense], dense)
	total := make([]float64, len(c.docs))
	for f := range s.f {
		if w[f] == 0 {
			continue
		}
		for n, v := range s.f[f] {
			total[n] += w[f] * float64(v)
		}
	}
	order := make([]int32, 0, len(c.docs))
	for n := range c.docs {
		if s.any(n) {
			order = append(order, int32(n))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(total[b], total[a]), cmp.Compare(a, b)) })
	all := make([]candidate, min(len(order), shortlist))
	for i := range all {
		n := order[i]
		all[i] = candidate{doc: c.docs[n], cover: float64(s.cover[n]), title: float64(s.title[n])}
		for f := range s.f {
			all[i].f[f] = float64(s.f[f][n])
		}
	}
	mass := c.mass(qt.words[ofText]) + 1
	for i := range all {
		c.sections(qt, &all[i], mass)
		all[i].score = score(&all[i].f, w)
		for _, k := range qt.keys {
			for _, dk := range all[i].doc.keys {
				all[i].like = max(all[i].like, trigramLikeness(k, dk))
			}
		}
	}
	sortCandidates(all)
	return all
}

func sortCandidates(list []candidate) {
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.doc.n, b.doc.n)) })
}

// any reports whether page n shares anything with the query.
func (s *scores) any(n int) bool {
	return s.f[fText][n] > 0 || s.f[fName][n] > 0 || s.f[fTextName][n] > 0 || s.f[fJoined][n] > 0 || s.f[fExact][n] > 0 || s.f[fDense][n] > 0
}

// sections chooses the section to show and fills the feature of the best section. mass is the
// weight of the text's words.
func (c *corpus) sections(qt *queryTerms, cand *candidate, mass float32) {
	for i := range cand.doc.secs {
		sec := &cand.doc.secs[i]
		sum := float32(0)
		for _, tc := range sec.terms {
			if w := qt.words[ofText][tc.term] + qt.words[ofMetric][tc.term]; w > 0 {
				tf := float32(tc.n) / (0.3 + 0.7*sec.words/120)
				sum += w * c.idf[tc.term] * tf / (k1 + tf)
			}
		}
		if v := float64(sum / mass); v > cand.f[fSection] {
			cand.f[fSection], cand.best = v, i
		}
	}
}

// Candidate is a page with the features it was ranked by, for evaluation.
type Candidate struct {
	Path     string
	Features []float64
	Score    float64
}
