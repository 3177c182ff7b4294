package runbooks

import (
	"slices"
)

// weights of the features in the ranking, without ([0]) and with ([1]) an alert name in the
// query. Fitted with `go run ./runbooks/eval -fit` (listwise logistic loss, L2); see
// docs/runbooks.md.
var weights = [2][features]float64{
	{0.00, 2.98, 2.46, 2.45, 3.75, 2.64, 0.00, 0.00, 3.82, 3.72, 1.25, 3.55, -2.42, 2.41, -2.68, -1.48, 3.95, 0.12, 1.29},
	{3.98, 1.74, 2.24, 2.04, 2.81, 1.62, 2.31, 2.63, 1.18, 1.44, 0.00, 1.40, -1.18, 0.02, -1.61, -0.78, 0.75, 1.11, 0.26},
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
	all := make([]candidate, 0, 256)
	for n, d := range c.docs {
		if s.f[fText][n] == 0 && s.f[fName][n] == 0 && s.f[fTextName][n] == 0 && s.f[fJoined][n] == 0 && s.f[fExact][n] == 0 && s.f[fDense][n] == 0 {
			continue
		}
		cand := candidate{doc: d, cover: float64(s.cover[n]), title: float64(s.title[n])}
		for f := range s.f {
			cand.f[f] = float64(s.f[f][n])
		}
		cand.score = score(&cand.f, w)
		all = append(all, cand)
	}
	sortCandidates(all)
	all = all[:min(len(all), shortlist)]
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
	slices.SortFunc(list, func(a, b candidate) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return int(a.doc.n - b.doc.n)
	})
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
