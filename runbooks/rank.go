package runbooks

import (
	"slices"
)

// weights of the features in the ranking, fitted with `go run ./runbooks/eval -fit`
// (listwise logistic loss, L2); see docs/runbooks.md.
var weights = [features]float64{
	fName: 1, fText: 6, fTextName: 1, fTextLead: 1, fPairs: 2, fMetricWhole: 2, fMetricWords: 2, fLabel: 0.5, fExact: 4, fNameShare: 1,
	fTitleByName: 1, fTitleByAll: 2, fCover: 1, fTrigram: 2, fSection: 0, fDense: 0,
}

// shortlist is how many pages get the costlier features and the final order.
const shortlist = 64

// candidate is a page with its features and score.
type candidate struct {
	doc   *doc
	f     [features]float64
	score float64
	best  int // section shown
	j     judgement
}

func score(f *[features]float64) float64 {
	sum := 0.0
	for i, w := range weights {
		sum += w * f[i]
	}
	return sum
}

// candidates returns the best pages by their lexical features, best first, at most shortlist.
func (c *corpus) candidates(qt *queryTerms) []candidate {
	s := c.newScores()
	c.lexical(qt, s)
	all := make([]candidate, 0, 256)
	for n, d := range c.docs {
		if s[fText][n] == 0 && s[fName][n] == 0 && s[fMetricWords][n] == 0 && s[fExact][n] == 0 && s[fTrigram][n] < 0.3 {
			continue
		}
		cand := candidate{doc: d}
		for f := range s {
			cand.f[f] = float64(s[f][n])
		}
		cand.score = score(&cand.f)
		all = append(all, cand)
	}
	sortCandidates(all)
	if len(all) > shortlist {
		all = all[:shortlist]
	}
	for i := range all {
		c.sections(qt, &all[i])
		all[i].score = score(&all[i].f)
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

// sections chooses the section to show and fills the feature of the best section.
func (c *corpus) sections(qt *queryTerms, cand *candidate) {
	for i := range cand.doc.secs {
		sec := &cand.doc.secs[i]
		sum := float32(0)
		for _, tc := range sec.terms {
			w, ok := qt.words[ofText][tc.term]
			if m, also := qt.words[ofMetric][tc.term]; also {
				w, ok = w+m, true
			}
			if ok {
				tf := float32(tc.n) / (0.3 + 0.7*sec.words/120)
				sum += w * c.idf[tc.term] * tf / (k1 + tf)
			}
		}
		if v := float64(sum / (qt.allText + 1)); v > cand.f[fSection] {
			cand.f[fSection], cand.best = v, i
		}
	}
}
