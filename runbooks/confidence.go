package runbooks

import (
	"fmt"
	"math"
	"slices"
)

// sign is one number by which the claim "the first page applies" is judged.
type sign int

const (
	sBias     sign = iota
	sScore         // the ranking score of the first page, tens
	sMargin        // its distance to the best page of another name, 0..1
	sExact         // the alert's name is the page's
	sLike          // likeness of the names by letters
	sCover         // share of the query's words the page has
	sUnknown       // share of the query's words that no page has
	sRare          // share of the query's five rarest words that the page has
	sTitle         // share of the page name's words that the query has
	sSubject       // the page has (1) or lacks (-1) the first words of the metrics; 0: no metrics
	sNamed         // the query has an alert name
	sNameLack      // share of the alert name's words that the page's name lacks
	sSpoken        // known messages named by the page's name
	sDense         // cosine
	sConcept       // concepts of the page's name that the query lacks
	sNameRare      // the alert name's rarest word is not in the page
	signs
)

var signNames = [signs]string{"bias", "score", "margin", "exact", "like", "cover", "unknown", "rare", "title", "subject", "named", "name lack", "spoken", "dense", "concept miss", "name rare"}

// signWeights are fitted with `go run ./runbooks/eval -fit`.
var signWeights = [signs]float64{-4.82, 3.25, 2.80, 0.34, 1.34, -0.88, -2.19, 0.63, 0.84, 0.59, 1.12, -1.18, 1.61, 0.29, 0.36, -0.45}

// answerCut is the confidence from which a result claims an answer.
const answerCut = 0.6

// judgeAnswer computes the signs of the first of the ranked candidates.
func (c *corpus) judgeAnswer(qt *queryTerms, list []candidate) [signs]float64 {
	var s [signs]float64
	top := &list[0]
	s[sBias], s[sScore] = 1, top.score/10
	s[sMargin] = 1
	for i := range list {
		if list[i].doc.group != top.doc.group {
			s[sMargin] = math.Min(1, (top.score-list[i].score)/5)
			break
		}
	}
	f := &top.f
	s[sExact], s[sLike], s[sCover], s[sTitle], s[sSpoken], s[sDense], s[sConcept] = f[fExact], top.like, top.cover, top.title, f[fMessage], f[fDense], f[fConceptLack]
	if len(qt.keys) > 0 {
		s[sNamed], s[sNameLack] = 1, c.nameLack(qt, top.doc)
	}
	known, unknown := 0.0, 0.0
	for _, p := range []int{ofName, ofText, ofMetric} {
		unknown += float64(qt.unknown[p])
		for _, id := range termIDs(qt.words[p]) {
			known += float64(c.idf[id])
		}
	}
	s[sUnknown] = unknown / (known + unknown + 1)
	s[sRare] = c.rareShare(qt, top.doc)
	if len(qt.subject) > 0 {
		has := 0.0
		for _, id := range qt.subject {
			if c.has(id, top.doc.n) {
				has++
			}
		}
		s[sSubject] = 2*has/float64(len(qt.subject)) - 1
	}
	best := float32(0)
	for _, id := range termIDs(qt.words[ofName]) {
		if c.idf[id] > best {
			best, s[sNameRare] = c.idf[id], 1
			if c.has(id, top.doc.n) {
				s[sNameRare] = 0
			}
		}
	}
	if qt.unknown[ofName] > 0 {
		s[sNameRare] = 1
	}
	return s
}

// has reports whether page n has the term.
func (c *corpus) has(term, n int32) bool {
	_, ok := slices.BinarySearchFunc(c.posts[term], n, func(p posting, n int32) int { return int(p.doc - n) })
	return ok
}

// rareShare is the share of the query's five rarest words that page d has; words no page has
// count among them.
func (c *corpus) rareShare(qt *queryTerms, d *doc) float64 {
	type word struct {
		idf float32
		id  int32
	}
	var ws []word
	for id := range qt.known {
		ws = append(ws, word{c.idf[id], id})
	}
	for range qt.strange {
		ws = append(ws, word{c.rarest, -1})
	}
	slices.SortFunc(ws, func(a, b word) int {
		if a.idf != b.idf {
			if a.idf > b.idf {
				return -1
			}
			return 1
		}
		return int(a.id - b.id)
	})
	ws = ws[:min(5, len(ws))]
	all, has := 0.0, 0.0
	for _, w := range ws {
		all += float64(w.idf)
		if w.id >= 0 && c.has(w.id, d.n) {
			has += float64(w.idf)
		}
	}
	if all == 0 {
		return 0
	}
	return has / all
}

// confidence returns the calibrated chance that the first candidate applies, and the reasons.
func (c *corpus) confidence(qt *queryTerms, list []candidate) (float64, []string) {
	if len(list) == 0 {
		return 0, []string{"no page shares a word with the incident"}
	}
	s := c.judgeAnswer(qt, list)
	z := 0.0
	for i, w := range signWeights {
		z += w * s[i]
	}
	p := 1 / (1 + math.Exp(-z))
	return p, append(reasons(&s), fmt.Sprintf("confidence %.2f, answers from %.2f", p, answerCut))
}

// reasons says in words which signs speak for and against the first page.
func reasons(s *[signs]float64) []string {
	var out []string
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	say(s[sExact] > 0, "the page is named after the alert")
	say(s[sMargin] >= 0.6, "it is well ahead of the next")
	say(s[sMargin] < 0.15, "the next page is nearly as likely")
	say(s[sRare] > 0, "it has %.0f %% of the incident's rarest words", 100*s[sRare])
	say(s[sUnknown] > 0.4, "%.0f %% of the incident's words are in no page", 100*s[sUnknown])
	say(s[sSubject] < 0, "it does not speak of what the metrics are about")
	say(s[sNamed] > 0 && s[sExact] == 0 && s[sNameLack] > 0.6, "its name is not that of the alert")
	return out
}

// nameLack is the share of the alert name's words, by weight, that the page's name lacks.
func (c *corpus) nameLack(qt *queryTerms, d *doc) float64 {
	all, lack := float64(qt.unknown[ofName]), float64(qt.unknown[ofName])
	for _, id := range termIDs(qt.words[ofName]) {
		all += float64(c.idf[id])
		if !slices.ContainsFunc(d.names, func(name []int32) bool { return slices.Contains(name, id) }) {
			lack += float64(c.idf[id])
		}
	}
	if all == 0 {
		return 0
	}
	return lack / all
}

// SignNames returns the names of the signs that Explain gives, in order.
func SignNames() []string { return signNames[:] }
