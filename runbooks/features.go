package runbooks

import (
	"math/bits"
	"slices"
)

// feature is one number by which a page is ranked, 0 when nothing speaks for it. Which features
// stay was decided by backward elimination over cross-validated loss: docs/runbooks.md.
type feature int

const (
	fName         feature = iota // BM25F of the alert name's words
	fText                        // BM25F of the text's words
	fTextName                    // words of text and metrics in title and file name
	fPairs                       // BM25F of adjacent words
	fJoined                      // BM25F of identifiers kept whole: metrics, reasons, object names
	fLabel                       // BM25F of the labels that say what is concerned
	fExact                       // the alert's name is the page's name
	fTitle                       // share of the page name's words that the alert name has
	fSection                     // BM25 of the best section
	fDense                       // nearness of the best section's vector, 1 for the nearest of all
	fKind                        // the page's name says the entity's kind (1) or another (-1)
	fFirst                       // BM25F of the first line's words
	fConceptLack                 // concepts of the page's name that the query lacks, thirds
	fConceptFirst                // share of the first line's concepts that the page's name has
	fMissing                     // idf of the page name's words that the query lacks, tens
	fStale                       // the path says deprecated, or it is an index page
	fMessage                     // words for known messages in title and file name
	fPurpose                     // the page is for trouble (1) or a procedure (-1), by its name
	fAlertPage                   // its headings are those of a page for an alert
	features
)

var featureNames = [features]string{"name", "text", "text in name", "pairs", "joined names", "labels", "exact name", "title", "best section", "dense", "kind",
	"first line", "concepts lacking", "concepts of first line", "words missing", "stale", "message", "purpose", "alert page"}

// FeatureNames returns the names of Candidate.Features, in order.
func FeatureNames() []string { return featureNames[:] }

// scores holds the features of all pages for one query: scores[feature][page], and cover, the
// share of the text's words a page has.
type scores struct {
	f     [features][]float32
	cover []float32
	title []float32 // share of the page name's words that the query has
}

func (c *corpus) newScores() *scores {
	n := len(c.docs)
	all := make([]float32, (int(features)+2)*n)
	s := &scores{}
	for f := range s.f {
		s.f[f] = all[f*n : (f+1)*n]
	}
	s.cover, s.title = all[int(features)*n:(int(features)+1)*n], all[(int(features)+1)*n:]
	return s
}

// saturated is the BM25F contribution of one term in one page, without its idf, 0..1.
func (c *corpus) saturated(p *posting) float32 {
	d := c.docs[p.doc]
	w := float32(0)
	for f := range p.tf {
		if p.tf[f] > 0 {
			w += fieldWeight[f] * float32(p.tf[f]) / (1 - fieldB[f] + fieldB[f]*d.length[f]/c.avg[f])
		}
	}
	return w / (k1 + w)
}

// inField is the BM25 contribution of one term in one field.
func (c *corpus) inField(p *posting, f field) float32 {
	if p.tf[f] == 0 {
		return 0
	}
	w := float32(p.tf[f]) / (1 - fieldB[f] + fieldB[f]*c.docs[p.doc].length[f]/c.avg[f])
	return w * 2 / (k1 + w)
}

// bm25f adds the weighted terms to one feature, divided by what a page with all of them could
// reach plus smooth, so that long and short queries compare.
func (c *corpus) bm25f(s *scores, f feature, terms map[int32]float32, smooth float32) {
	mass := smooth
	ids := termIDs(terms)
	for _, id := range ids {
		mass += terms[id] * c.idf[id]
	}
	for _, id := range ids {
		w := terms[id] * c.idf[id] / mass
		for i := range c.posts[id] {
			p := &c.posts[id][i]
			s.f[f][p.doc] += w * c.saturated(p)
		}
	}
}

// inNames adds the weighted terms found in page names to one feature.
func (c *corpus) inNames(s *scores, f feature, terms map[int32]float32, mass float32) {
	for _, id := range termIDs(terms) {
		w := terms[id] * c.idf[id] / mass
		for i := range c.posts[id] {
			if p := &c.posts[id][i]; p.tf[inName] > 0 {
				s.f[f][p.doc] += w * c.inField(p, inName)
			}
		}
	}
}

// lexical fills the features that come from words and names.
func (c *corpus) lexical(qt *queryTerms, s *scores) {
	// Half of the unknown words' weight counts against every page: they show that the query is
	// about something else, but many are mere names of instances.
	c.bm25f(s, fName, qt.words[ofName], 0.5*qt.unknown[ofName])
	c.bm25f(s, fText, qt.words[ofText], 0.5*qt.unknown[ofText])
	c.bm25f(s, fLabel, qt.words[ofLabel], 0.5*qt.unknown[ofLabel])
	c.bm25f(s, fFirst, qt.first, 3)
	c.bm25f(s, fPairs, qt.pairs, 10)
	c.bm25f(s, fJoined, qt.joints, 3)
	both := c.mass(qt.words[ofText]) + c.mass(qt.words[ofMetric]) + 0.5*(qt.unknown[ofText]+qt.unknown[ofMetric])
	c.inNames(s, fTextName, qt.words[ofText], both)
	c.inNames(s, fTextName, qt.words[ofMetric], both)
	c.inNames(s, fMessage, qt.message, 3+c.mass(qt.message))
	text := c.mass(qt.words[ofText]) + 0.5*qt.unknown[ofText]
	for _, id := range termIDs(qt.words[ofText]) {
		w := qt.words[ofText][id] * c.idf[id] / text
		for i := range c.posts[id] {
			s.cover[c.posts[id][i].doc] += w
		}
	}
	c.names(qt, s)
}

func (c *corpus) mass(terms map[int32]float32) float32 {
	sum := float32(0)
	for _, id := range termIDs(terms) {
		sum += terms[id] * c.idf[id]
	}
	return sum
}

// names fills the features that compare what the query and the page are about.
func (c *corpus) names(qt *queryTerms, s *scores) {
	for _, k := range qt.keys {
		for _, n := range c.byKey[k] {
			s.f[fExact][n] = 1
		}
	}
	first := float32(bits.OnesCount64(uint64(qt.firstConcepts)))
	for n, d := range c.docs {
		s.f[fMissing][n] = missingAll
		for _, name := range d.names {
			all, byAll, byName := c.shares(qt, name)
			if all > 0 {
				s.f[fTitle][n], s.title[n] = max(s.f[fTitle][n], byName/all), max(s.title[n], byAll/all)
				s.f[fMissing][n] = min(s.f[fMissing][n], (all-byAll)/10)
			}
		}
		s.f[fConceptLack][n] = float32(bits.OnesCount64(uint64(d.concepts&^qt.concepts))) / 3
		if first > 0 {
			s.f[fConceptFirst][n] = float32(bits.OnesCount64(uint64(d.concepts&qt.firstConcepts))) / first
		}
		if d.kinds != 0 && qt.kinds != 0 {
			s.f[fKind][n] = -1
			if d.kinds&qt.kinds != 0 {
				s.f[fKind][n] = 1
			}
		}
		s.f[fPurpose][n] = d.purpose
		if d.alertPage {
			s.f[fAlertPage][n] = 1
		}
		if d.stale {
			s.f[fStale][n] = 1
		}
	}
}

// missingAll is fMissing of a page whose name has no words.
const missingAll = 2

// shares returns the weight of a name's words, and of those that the query and that its alert
// name have.
func (c *corpus) shares(qt *queryTerms, name []int32) (all, byAll, byName float32) {
	for _, id := range name {
		all += c.idf[id]
		if qt.known[id] {
			byAll += c.idf[id]
		}
		if _, ok := qt.words[ofName][id]; ok {
			byName += c.idf[id]
		}
	}
	return all, byAll, byName
}

// termIDs returns the keys in order, so that sums do not depend on the order of a map.
func termIDs[V any](m map[int32]V) []int32 {
	out := make([]int32, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// trigramLikeness is the Dice coefficient of the letter trigrams of two names, 0..1.
func trigramLikeness(a, b string) float64 {
	if len(a) < 3 || len(b) < 3 {
		return 0
	}
	set := make(map[string]bool, len(a))
	for i := 0; i+3 <= len(a); i++ {
		set[a[i:i+3]] = false
	}
	n, common := 0, 0
	for i := 0; i+3 <= len(b); i++ {
		n++
		if seen, ok := set[b[i:i+3]]; ok && !seen {
			set[b[i:i+3]] = true
			common++
		}
	}
	return 2 * float64(common) / float64(len(set)+n)
}
