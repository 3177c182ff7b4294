package runbooks

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// corpus is the lexical index: pages, their terms by field, and the statistics over them. It is
// built once and then only read.
type corpus struct {
	docs   []*doc
	vocab  map[string]int32
	posts  [][]posting // by term
	idf    []float32   // by term
	avg    [fields]float32
	rarest float32            // idf of a word no page has
	byKey  map[string][]int32 // joint form of a title, file name or alert name → pages
}

// doc is one page in the index.
type doc struct {
	rb     *Runbook
	n      int32           // place in corpus.docs
	group  int32           // the same for pages of one name
	length [fields]float32 // words by field
	names  [][]int32       // distinct terms of title and of file name
	keys   []string        // joint forms of its names
	secs   []section
	conds  []condition

	causes    []incident.CauseName // that its name says
	concepts  conceptSet           // of its name
	kinds     kindSet              // of its name
	purpose   float32              // 1: trouble, -1: a procedure
	alertPage bool
	stale     bool
}

// section is the term list of one section, for choosing the section to show.
type section struct {
	terms []termCount
	words float32
}

type termCount struct {
	term int32
	n    uint8
}

// leadHeading matches headings of sections that say what a page is about.
var leadHeading = regexp.MustCompile(`(?i)^(meaning|summary|description|overview|about|symptoms?|what|alert|intro|background|context|when|problem|details?)\b`)

// leadBytes is how much of such a section counts as lead.
const leadBytes = 700

type builder struct {
	*corpus
	an *analyzer

	causeWords map[incident.CauseName][]string
}

type docTerms map[int32]*[fields]uint8

// newCorpus indexes the pages in the order given.
func newCorpus(pages []*Runbook) *corpus {
	b := &builder{corpus: &corpus{vocab: map[string]int32{}, byKey: map[string][]int32{}}, an: newAnalyzer()}
	for _, rb := range pages {
		b.add(rb)
	}
	b.finish()
	return b.corpus
}

func (b *builder) add(rb *Runbook) {
	d := &doc{rb: rb, n: int32(len(b.docs)), conds: compileConditions(rb.Front)}
	dt := docTerms{}
	b.docs = append(b.docs, d)
	b.names(d, dt)
	b.put(d, dt, inPath, strings.ReplaceAll(path.Dir(rb.Path), "/", "\n"))
	heads := map[string]bool{}
	lead := leadBytes
	for i, s := range rb.Sections {
		b.section(d, s)
		last := ""
		if len(s.Headings) > 0 {
			last = s.Headings[len(s.Headings)-1]
		}
		for _, h := range s.Headings {
			if !heads[h] {
				heads[h] = true
				b.put(d, dt, inHead, h)
			}
		}
		prose, code := separate(s.Text)
		b.put(d, dt, inCode, code)
		if lead > 0 && (i == 0 || leadHeading.MatchString(last)) {
			cut := min(lead, len(prose))
			for cut < len(prose) && cut > 0 && prose[cut] != ' ' && prose[cut] != '\n' {
				cut--
			}
			b.put(d, dt, inLead, prose[:cut])
			lead -= cut
			prose = prose[cut:]
		}
		b.put(d, dt, inBody, prose)
	}
	for len(b.posts) < len(b.vocab) {
		b.posts = append(b.posts, nil)
	}
	for _, id := range termIDs(dt) {
		b.posts[id] = append(b.posts[id], posting{d.n, *dt[id]})
	}
}

// names reads title and file name, which say what the page is about, and the alert names of its
// front matter, which are only other ways to it: their words count, but a page is not expected
// to be about all of them at once.
func (b *builder) names(d *doc, dt docTerms) {
	var own, all terms
	texts := append([]string{d.rb.Title, baseName(d.rb.Path)}, d.rb.Front.Alerts...)
	for i, s := range texts {
		var t terms
		b.an.read(s, &t)
		if k := jointKey(s); k != "" && !slices.Contains(d.keys, k) {
			d.keys = append(d.keys, k)
			b.byKey[k] = append(b.byKey[k], d.n)
		}
		all.Words = append(append(all.Words, t.Words...), "")
		all.Joint = append(all.Joint, t.Joint...)
		if i < 2 {
			own.Words = append(append(own.Words, t.Words...), "")
			d.names = append(d.names, b.distinct(t.Words))
		}
	}
	d.describe(own.Words)
	d.causes = b.causesNamed(own.Words)
	d.group = d.n
	for _, k := range d.keys[:min(len(d.keys), 2)] {
		if first := b.byKey[k][0]; first < d.group {
			d.group = b.docs[first].group
		}
	}
	b.count(d, dt, inName, &all)
}

// distinct returns the terms of the words, each once.
func (b *builder) distinct(words []string) []int32 {
	var out []int32
	for _, w := range words {
		if w == "" {
			continue
		}
		if id := b.id(w); !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// causesNamed returns the causes all of whose words a name has: "KubeContainerOOMKilled-pod" names
// OOMKilled.
func (b *builder) causesNamed(words []string) []incident.CauseName {
	if b.causeWords == nil {
		b.causeWords = map[incident.CauseName][]string{}
		for _, c := range incident.Causes() {
			var t terms
			b.an.read(string(c.Name), &t)
			b.causeWords[c.Name] = t.Words
		}
	}
	var out []incident.CauseName
	for _, c := range incident.Causes() {
		all := len(b.causeWords[c.Name]) > 0
		for _, w := range b.causeWords[c.Name] {
			all = all && slices.Contains(words, w)
		}
		if all {
			out = append(out, c.Name)
		}
	}
	return out
}

// jointKey is the form in which names are compared: letters and digits only, lower case.
func jointKey(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, s)
}

func (b *builder) put(d *doc, dt docTerms, f field, text string) {
	var t terms
	b.an.read(text, &t)
	b.count(d, dt, f, &t)
}

// count adds words, adjacent pairs and joint names to the page's terms.
func (b *builder) count(d *doc, dt docTerms, f field, t *terms) {
	hit := func(id int32) {
		c := dt[id]
		if c == nil {
			c = new([fields]uint8)
			dt[id] = c
		}
		if c[f] < math.MaxUint8 {
			c[f]++
		}
	}
	prev := ""
	for _, w := range t.Words {
		if w == "" {
			prev = ""
			continue
		}
		hit(b.id(w))
		d.length[f]++
		if prev != "" {
			hit(b.id(prev + " " + w))
		}
		prev = w
	}
	for _, j := range t.Joint {
		hit(b.id(j))
	}
}

func (b *builder) id(w string) int32 {
	id, ok := b.vocab[w]
	if !ok {
		id = int32(len(b.vocab))
		b.vocab[strings.Clone(w)] = id
	}
	return id
}

func (b *builder) section(d *doc, s Section) {
	var t terms
	b.an.read(strings.Join(s.Headings, "\n"), &t)
	b.an.read(s.Text, &t)
	counts := map[int32]uint8{}
	words := float32(0)
	for _, w := range t.Words {
		if w == "" {
			continue
		}
		words++
		if id := b.id(w); counts[id] < math.MaxUint8 {
			counts[id]++
		}
	}
	for _, j := range t.Joint {
		if id := b.id(j); counts[id] < math.MaxUint8 {
			counts[id]++
		}
	}
	sec := section{words: words, terms: make([]termCount, 0, len(counts))}
	for _, id := range termIDs(counts) {
		sec.terms = append(sec.terms, termCount{id, counts[id]})
	}
	d.secs = append(d.secs, sec)
}

func (b *builder) finish() {
	b.idf = make([]float32, len(b.posts))
	total := float64(len(b.docs))
	b.rarest = float32(math.Log(1 + total/0.5))
	for id, p := range b.posts {
		df := float64(len(p))
		b.idf[id] = float32(math.Log(1 + (total-df+0.5)/(df+0.5)))
	}
	for _, d := range b.docs {
		for f := range d.length {
			b.avg[f] += d.length[f] / float32(len(b.docs))
		}
	}
	for f := range b.avg {
		b.avg[f] = max(b.avg[f], 1)
	}
}

// separate cuts a section's Markdown into prose and code (fenced blocks and inline code; inline
// code stays in the prose too, as it is read with it).
func separate(text string) (prose, code string) {
	var p, c strings.Builder
	fence := ""
	for line := range strings.SplitSeq(text, "\n") {
		if fence != "" {
			if t := strings.TrimLeft(line, " \t>"); strings.HasPrefix(t, fence) {
				fence = ""
				continue
			}
			c.WriteString(line)
			c.WriteByte('\n')
			continue
		}
		if f := fenceOf(line); f != "" {
			fence = f
			continue
		}
		p.WriteString(line)
		p.WriteByte('\n')
	}
	return p.String(), c.String()
}
