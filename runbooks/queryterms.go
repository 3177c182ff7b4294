package runbooks

import (
	"math"
	"slices"
	"strings"
)

// Parts of a query whose words weigh differently.
const (
	ofName = iota
	ofText
	ofMetric
	ofLabel
	queryParts
)

// queryTerms is a query in terms of a corpus' vocabulary.
type queryTerms struct {
	words   [queryParts]map[int32]float32 // weight by term: square root of its count
	first   map[int32]float32             // words of the first line
	message map[int32]float32             // words for known messages
	pairs   map[int32]float32
	joints  map[int32]float32
	known   map[int32]bool      // any part
	unknown [queryParts]float32 // idf mass of words no page has
	strange int                 // distinct words no page has
	keys    []string            // joint forms of the alert names
	subject []int32             // first words of the metric names

	kinds                   kindSet
	concepts, firstConcepts conceptSet
}

// telling are the labels whose values say what is concerned rather than which instance of it.
var telling = map[string]bool{"job": true, "service": true, "component": true, "namespace": true, "container": true, "kind": true, "reason": true, "type": true,
	"controller": true, "resource": true, "phase": true, "condition": true, "operation": true, "app": true, "team": true, "tier": true, "statefulset": true,
	"deployment": true, "daemonset": true, "eviction_signal": true, "state": true, "status": true, "queue": true, "route": true, "stage": true, "cloud": true, "handler": true}

// withoutInstances blanks the values of labels that name one instance wherever the text repeats
// them.
func (q *Query) withoutInstances() string {
	text := q.Text
	for _, k := range sortedKeys(q.Labels) {
		if v := q.Labels[k]; k != "alertname" && !telling[k] && len(v) >= 4 && strings.ContainsAny(v, "0123456789-./") {
			text = strings.ReplaceAll(text, v, " ")
		}
	}
	return text
}

// terms maps the query to the vocabulary.
func (c *corpus) terms(q *Query, an *analyzer) *queryTerms {
	qt := &queryTerms{pairs: map[int32]float32{}, joints: map[int32]float32{}, known: map[int32]bool{}}
	var t [queryParts]terms
	text := q.withoutInstances()
	for _, n := range q.Names {
		an.read(n, &t[ofName])
		t[ofName].Words = append(t[ofName].Words, "")
		qt.keys = append(qt.keys, jointKey(n))
	}
	an.read(text, &t[ofText])
	for _, m := range q.Metrics {
		from := len(t[ofMetric].Words)
		an.read(m, &t[ofMetric])
		if len(t[ofMetric].Words) > from {
			if id, ok := c.vocab[t[ofMetric].Words[from]]; ok {
				qt.subject = append(qt.subject, id)
			}
		}
		t[ofMetric].Words = append(t[ofMetric].Words, "")
	}
	slices.Sort(qt.subject)
	qt.subject = slices.Compact(qt.subject)
	for _, k := range sortedKeys(q.Labels) {
		if telling[k] {
			an.read(q.Labels[k], &t[ofLabel])
			t[ofLabel].Words = append(t[ofLabel].Words, "")
		}
	}
	for p := range t {
		c.part(qt, p, &t[p])
	}
	c.sayings(qt, q, text, an)
	for _, k := range q.Facts.Kinds {
		var kt terms
		an.read(k, &kt)
		qt.kinds |= kindsOf(kt.Words)
	}
	return qt
}

// part takes the words, pairs and joined names of one part. Labels give words only: their values
// are not sentences.
func (c *corpus) part(qt *queryTerms, p int, t *terms) {
	qt.words[p] = map[int32]float32{}
	missing := map[string]bool{}
	prev := ""
	for _, w := range t.Words {
		if w == "" {
			prev = ""
			continue
		}
		if id, ok := c.vocab[w]; ok {
			qt.words[p][id]++
			qt.known[id] = true
		} else if !missing[w] {
			missing[w] = true
			qt.unknown[p] += c.rarest
			if p != ofLabel {
				qt.strange++
			}
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
	if p == ofLabel {
		return
	}
	qt.concepts |= conceptsOf(t.Words)
	for _, j := range t.Joint {
		if id, ok := c.vocab[j]; ok {
			qt.joints[id] = 1
		}
	}
}

// sayings takes what the first line says and the words for known messages.
func (c *corpus) sayings(qt *queryTerms, q *Query, text string, an *analyzer) {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	var first, message terms
	an.read(line, &first)
	an.read(spoken(q.Text), &message)
	qt.first, qt.message = c.lookup(first.Words), c.lookup(message.Words)
	for id := range qt.message {
		qt.known[id] = true
	}
	qt.firstConcepts = conceptsOf(first.Words)
	qt.concepts |= conceptsOf(message.Words)
}

// lookup returns the known words, each with weight 1.
func (c *corpus) lookup(words []string) map[int32]float32 {
	m := map[int32]float32{}
	for _, w := range words {
		if id, ok := c.vocab[w]; ok && w != "" {
			m[id] = 1
		}
	}
	return m
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
