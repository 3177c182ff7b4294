package runbooks

import (
	"math"
	"slices"
	"strings"
)

// feature is one number by which a page is ranked, 0 when nothing speaks for it.
type feature int

const (
	fName        feature = iota // BM25F of the alert name's words
	fText                       // BM25F of the text's words
	fTextName                   // the text's words in title and file name
	fTextLead                   // the text's words in the lead
	fPairs                      // adjacent words of the text
	fMetricWhole                // metric and other joined names, whole
	fMetricWords                // words of metric names
	fLabel                      // words of the labels that say what is concerned
	fExact                      // the alert's name is the page's name
	fNameShare                  // share of the alert name's words that the page's name has
	fTitleByName                // share of the page name's words that the alert name has
	fTitleByAll                 // share of the page name's words that the query has
	fCover                      // share of the text's words that the page has
	fTrigram                    // likeness of alert name and page name by letters
	fSection                    // BM25 of the best section
	fDense                      // cosine of page and query vectors
	features
)

var featureNames = [features]string{"name", "text", "text in name", "text in lead", "pairs", "joined names", "metric words", "labels", "exact name",
	"name share", "title by name", "title by all", "cover", "trigrams", "best section", "dense"}

// parts of a query.
const (
	ofName = iota
	ofText
	ofMetric
	ofLabel
	queryParts
)

// queryTerms is a query in terms of the vocabulary.
type queryTerms struct {
	words   [queryParts]map[int32]float32 // weight by term: square root of its count
	pairs   map[int32]float32
	joints  map[int32]bool
	unknown [queryParts]float32 // idf mass of words no page has, at most
	keys    []string
	known   map[int32]bool // any part
	allText float32        // idf mass of the text's words
}

// telling are the labels whose values say what is concerned rather than which instance of it.
var telling = map[string]bool{"job": true, "service": true, "component": true, "namespace": true, "container": true, "kind": true, "reason": true, "type": true,
	"controller": true, "resource": true, "phase": true, "condition": true, "operation": true, "app": true, "team": true, "tier": true, "statefulset": true,
	"deployment": true, "daemonset": true, "eviction_signal": true, "state": true, "status": true, "queue": true, "route": true, "stage": true, "cloud": true, "handler": true}

// instanceText blanks the values of labels that name one instance wherever the text repeats them.
func instanceText(q Query) string {
	text := q.Text
	for k, v := range q.Labels {
		if k != "alertname" && !telling[k] && len(v) >= 4 && strings.ContainsAny(v, "0123456789-./") {
			text = strings.ReplaceAll(text, v, " ")
		}
	}
	return text
}

// terms maps the query to the vocabulary. Words no page has count as rare as a word can be: they
// are what a query has that no page speaks of.
func (c *corpus) terms(q Query, an *analyzer) *queryTerms {
	qt := &queryTerms{pairs: map[int32]float32{}, joints: map[int32]bool{}, known: map[int32]bool{}}
	var t [queryParts]terms
	for _, n := range q.Names {
		an.read(n, &t[ofName])
		qt.keys = append(qt.keys, jointKey(n))
	}
	an.read(instanceText(q), &t[ofText])
	for _, m := range q.Metrics {
		an.read(m, &t[ofMetric])
		t[ofMetric].Words = append(t[ofMetric].Words, "")
	}
	for _, k := range sortedKeys(q.Labels) {
		if telling[k] {
			an.read(q.Labels[k], &t[ofLabel])
			t[ofLabel].Words = append(t[ofLabel].Words, "")
		}
	}
	rare := float32(math.Log(1 + float64(len(c.docs))/0.5))
	for p := range t {
		qt.words[p] = map[int32]float32{}
		missing := map[string]bool{}
		prev := ""
		for _, w := range t[p].Words {
			if w == "" {
				prev = ""
				continue
			}
			if id, ok := c.vocab[w]; ok {
				qt.words[p][id]++
				qt.known[id] = true
			} else if !missing[w] {
				missing[w] = true
				qt.unknown[p] += rare
			}
			if prev != "" && p != ofLabel {
				if id, ok := c.vocab[prev+" "+w]; ok {
					qt.pairs[id] = 1
				}
			}
			prev = w
		}
		for id, n := range qt.words[p] {
			qt.words[p][id] = float32(math.Sqrt(float64(n)))
		}
		if p != ofLabel {
			for _, j := range t[p].Joint {
				if id, ok := c.vocab[j]; ok {
					qt.joints[id] = true
				}
			}
		}
	}
	return qt
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// scores holds the features of all pages for one query: scores[feature][page].
type scores [features][]float32

func (c *corpus) newScores() *scores {
	var s scores
	all := make([]float32, int(features)*len(c.docs))
	for f := range s {
		s[f] = all[f*len(c.docs) : (f+1)*len(c.docs)]
	}
	return &s
}

// saturated is the BM25F contribution of one term in one page, without its idf.
func (c *corpus) saturated(p *posting, d *doc) float32 {
	w := float32(0)
	for f := range p.tf {
		if p.tf[f] > 0 {
			w += fieldWeight[f] * float32(p.tf[f]) / (1 - fieldB[f] + fieldB[f]*d.length[f]/c.avg[f])
		}
	}
	return w / (k1 + w)
}

// inField is the BM25 contribution of one term in one field.
func (c *corpus) inField(p *posting, d *doc, f field) float32 {
	if p.tf[f] == 0 {
		return 0
	}
	w := float32(p.tf[f]) / (1 - fieldB[f] + fieldB[f]*d.length[f]/c.avg[f])
	return w * 2 / (k1 + w)
}

// lexical fills the features that come from postings. Each is divided by what a page with every
// word could reach, so that long and short queries compare.
func (c *corpus) lexical(qt *queryTerms, s *scores) {
	var mass [queryParts]float32
	for p := range qt.words {
		for _, id := range termIDs(qt.words[p]) {
			mass[p] += qt.words[p][id] * c.idf[id]
		}
		mass[p] += qt.unknown[p] * 0.5
	}
	qt.allText = mass[ofText]
	both := mass[ofText] + mass[ofMetric]
	for _, id := range termIDs(qt.words[ofName]) {
		w := qt.words[ofName][id] * c.idf[id] / mass[ofName]
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			s[fName][p.doc] += w * c.saturated(p, c.docs[p.doc])
			if p.tf[inName] > 0 {
				s[fNameShare][p.doc] += w
			}
		}
	}
	for _, id := range termIDs(qt.words[ofText]) {
		idf := qt.words[ofText][id] * c.idf[id]
		w := idf / mass[ofText]
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			d := c.docs[p.doc]
			s[fText][p.doc] += w * c.saturated(p, d)
			s[fCover][p.doc] += w
			s[fTextName][p.doc] += idf / both * c.inField(p, d, inName)
			s[fTextLead][p.doc] += idf / both * c.inField(p, d, inLead)
		}
	}
	for _, id := range termIDs(qt.words[ofMetric]) {
		idf := qt.words[ofMetric][id] * c.idf[id]
		w := idf / mass[ofMetric]
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			d := c.docs[p.doc]
			s[fMetricWords][p.doc] += w * c.saturated(p, d)
			s[fTextName][p.doc] += idf / both * c.inField(p, d, inName)
			s[fTextLead][p.doc] += idf / both * c.inField(p, d, inLead)
		}
	}
	for _, id := range termIDs(qt.words[ofLabel]) {
		w := qt.words[ofLabel][id] * c.idf[id] / mass[ofLabel]
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			s[fLabel][p.doc] += w * c.saturated(p, c.docs[p.doc])
		}
	}
	c.compounds(qt, s)
	c.titles(qt, s)
}

// compounds fills the features of word pairs and joined names.
func (c *corpus) compounds(qt *queryTerms, s *scores) {
	mass := float32(0)
	for id := range qt.pairs {
		mass += c.idf[id]
	}
	for _, id := range termIDs(qt.pairs) {
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			s[fPairs][p.doc] += c.idf[id] / (mass + 10) * c.saturated(p, c.docs[p.doc])
		}
	}
	mass = 0
	for id := range qt.joints {
		mass += c.idf[id]
	}
	for _, id := range termIDs(qt.joints) {
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			s[fMetricWhole][p.doc] += c.idf[id] / (mass + 3) * c.saturated(p, c.docs[p.doc])
		}
	}
}

// titles fills the features that compare names.
func (c *corpus) titles(qt *queryTerms, s *scores) {
	for _, k := range qt.keys {
		for _, n := range c.byKey[k] {
			s[fExact][n] = 1
		}
	}
	for n, d := range c.docs {
		all, byAll, byName := float32(0), float32(0), float32(0)
		for _, id := range d.name {
			all += c.idf[id]
			if qt.known[id] {
				byAll += c.idf[id]
			}
			if _, ok := qt.words[ofName][id]; ok {
				byName += c.idf[id]
			}
		}
		if all > 0 {
			s[fTitleByAll][n], s[fTitleByName][n] = byAll/all, byName/all
		}
		for _, k := range qt.keys {
			for _, dk := range d.keys {
				s[fTrigram][n] = max(s[fTrigram][n], trigramLikeness(k, dk))
			}
		}
	}
}

func termIDs[V any](m map[int32]V) []int32 {
	out := make([]int32, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// trigramLikeness is the Dice coefficient of the letter trigrams of two names, 0..1.
func trigramLikeness(a, b string) float32 {
	if len(a) < 3 || len(b) < 3 {
		return 0
	}
	set := make(map[string]bool, len(a))
	for i := 0; i+3 <= len(a); i++ {
		set[a[i:i+3]] = true
	}
	n, common := 0, 0
	seen := make(map[string]bool, len(b))
	for i := 0; i+3 <= len(b); i++ {
		g := b[i : i+3]
		if seen[g] {
			continue
		}
		seen[g] = true
		n++
		if set[g] {
			common++
		}
	}
	return 2 * float32(common) / float32(len(set)+n)
}

// FeatureNames returns the names of Candidate.Features, in order.
func FeatureNames() []string { return featureNames[:] }

// Candidate is a page with the features it was ranked by, for evaluation.
type Candidate struct {
	Path     string
	Features []float64
	Score    float64
}

// Candidates returns the ranked shortlist of q with its features, before preconditions.
func (x *Index) Candidates(q Query) []Candidate {
	an := x.ans.Get().(*analyzer)
	defer x.ans.Put(an)
	c := x.corpus()
	list := c.candidates(c.terms(q, an))
	out := make([]Candidate, len(list))
	for i := range list {
		out[i] = Candidate{list[i].doc.rb.Path, list[i].f[:], list[i].score}
	}
	return out
}
