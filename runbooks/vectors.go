package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// vectors is the dense side of one generation of the index: which sections are in which space,
// and where. It is never changed.
type vectors struct {
	embed  Embedder
	lsa    *LSA // embed, when it is the built-in one
	store  Store
	doc    map[string]int32     // section ID → page
	hashes map[string]string    // section ID → hash
	local  map[string][]float32 // hash → vector, when there is no store
	flat   []float32            // the same in page order, for the scan
	of     []int32              // page of each row of flat
	dim    int
}

const (
	embedBytes    = 2000 // of a section's text; what follows adds little to its meaning
	embedBatch    = 64
	nearSections  = 300              // asked of the store
	embedDeadline = 3 * time.Second  // of one query
	relearnShare  = 0.8              // the built-in embedding is learnt anew when fewer of its sections remain
	spaceName     = "runbooks/"      // spaces are named by use and embedding
	batchDeadline = 60 * time.Second // of one batch of sections
)

// buildVectors embeds what the previous generation did not have.
func buildVectors(ctx context.Context, c *corpus, old *vectors, e Embedder, store Store) (*vectors, error) {
	v := &vectors{embed: e, store: store, doc: map[string]int32{}, hashes: map[string]string{}}
	var recs []Record
	for _, d := range c.docs {
		for i, s := range d.rb.Sections {
			text := d.rb.Title + "\n" + s.Name() + "\n" + incident.Clip(s.Text, embedBytes)
			id := d.rb.Path + "#" + strconv.Itoa(i)
			r := Record{ID: id, Source: d.rb.Source, Text: text, Hash: string(incident.HashParts(text))[:32]}
			v.doc[id], v.hashes[id] = d.n, r.Hash
			recs = append(recs, r)
		}
	}
	if len(recs) == 0 {
		return v, nil
	}
	if e == nil {
		v.learn(old, recs)
	}
	if store == nil {
		return v, v.keep(ctx, old, recs)
	}
	return v, v.sync(ctx, recs)
}

// learn takes the previous built-in embedding when most of what it was learnt from is still
// there, so that a changed page costs its own sections only; else it learns a new one.
func (v *vectors) learn(old *vectors, recs []Record) {
	if old != nil && old.lsa != nil {
		same := 0
		for _, r := range recs {
			if old.lsa.learnt[r.Hash] {
				same++
			}
		}
		if n := max(len(recs), len(old.lsa.learnt)); float64(same) >= relearnShare*float64(n) {
			v.lsa, v.embed = old.lsa, old.lsa
			return
		}
	}
	texts := make([]string, len(recs))
	for i := range recs {
		texts[i] = recs[i].Text
	}
	v.lsa = LearnLSA(texts)
	for _, r := range recs {
		v.lsa.learnt[r.Hash] = true
	}
	v.embed = v.lsa
}

func (v *vectors) space() string { return spaceName + v.embed.Name() }

// keep holds the vectors in the index itself.
func (v *vectors) keep(ctx context.Context, old *vectors, recs []Record) error {
	v.local = make(map[string][]float32, len(recs))
	var missing []Record
	for _, r := range recs {
		if old != nil && old.local[r.Hash] != nil && old.space() == v.space() {
			v.local[r.Hash] = old.local[r.Hash]
		} else if _, ok := v.local[r.Hash]; !ok {
			v.local[r.Hash] = nil
			missing = append(missing, r)
		}
	}
	if err := v.fill(ctx, missing, func(done []Record) error {
		for _, r := range done {
			v.local[r.Hash] = unitOf(r.Vector)
		}
		return nil
	}); err != nil {
		return err
	}
	v.dim = len(v.local[recs[0].Hash])
	v.flat = make([]float32, 0, len(recs)*v.dim)
	for _, r := range recs {
		vec := v.local[r.Hash]
		if len(vec) != v.dim {
			return incident.Invalidf("embedding %s gave %d and %d dimensions", v.embed.Name(), v.dim, len(vec))
		}
		at := len(v.flat)
		v.flat = append(v.flat, vec...)
		v.local[r.Hash] = v.flat[at:len(v.flat):len(v.flat)] // one copy of each vector
		v.of = append(v.of, v.doc[r.ID])
	}
	return nil
}

func unitOf(v []float32) []float32 {
	u := slices.Clone(v)
	unit(u)
	return u
}

// sync brings the store's space to recs, embedding only what it does not have.
func (v *vectors) sync(ctx context.Context, recs []Record) error {
	have, err := v.store.Hashes(ctx, v.space())
	if err != nil {
		return err
	}
	var missing []Record
	for _, r := range recs {
		if have[r.ID] != r.Hash {
			missing = append(missing, r)
		}
	}
	if err := v.fill(ctx, missing, func(done []Record) error { return v.store.Apply(ctx, v.space(), done, nil) }); err != nil {
		return err
	}
	var gone []string
	for id := range have {
		if _, ok := v.hashes[id]; !ok {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	if len(gone) == 0 {
		return nil
	}
	return v.store.Apply(ctx, v.space(), nil, gone)
}

// fill embeds recs batch by batch and hands each group of batches on.
func (v *vectors) fill(ctx context.Context, recs []Record, done func([]Record) error) error {
	for group := range slices.Chunk(recs, 16*embedBatch) {
		for batch := range slices.Chunk(group, embedBatch) {
			texts := make([]string, len(batch))
			for i := range batch {
				texts[i] = batch[i].Text
			}
			bctx, cancel := context.WithTimeout(ctx, batchDeadline)
			vecs, err := v.embed.Embed(bctx, texts)
			cancel()
			if err != nil {
				return fmt.Errorf("embedding with %s: %w", v.embed.Name(), err)
			}
			if len(vecs) != len(batch) {
				return incident.Invalidf("embedding %s gave %d vectors for %d texts", v.embed.Name(), len(vecs), len(batch))
			}
			for i := range batch {
				batch[i].Vector = vecs[i]
			}
		}
		if err := done(group); err != nil {
			return err
		}
	}
	return nil
}

// near returns how near each page's best section is, 0..1: 1 for the nearest of all, 0 for pages
// without a section among the nearSections nearest. Only the order and the gaps inside one
// result count, so that embeddings with different ranges of cosines weigh alike.
func (v *vectors) near(ctx context.Context, c *corpus, text string) ([]float32, error) {
	if len(v.doc) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, embedDeadline)
	defer cancel()
	q, err := v.embed.Embed(ctx, []string{strings.TrimSpace(text)})
	if err != nil {
		return nil, fmt.Errorf("embedding with %s: %w", v.embed.Name(), err)
	}
	if len(q) != 1 || !nonZero(q[0]) {
		return nil, nil
	}
	unit(q[0])
	out := make([]float32, len(c.docs))
	if v.store == nil {
		return out, v.scan(q[0], out)
	}
	found, err := v.store.Nearest(ctx, v.space(), Probe{Vector: q[0], Limit: nearSections})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, nil
	}
	best, low := found[0].Cosine, found[len(found)-1].Cosine
	if len(found) < nearSections {
		low = min(low, 0)
	}
	for _, m := range found {
		if n, ok := v.doc[m.ID]; ok {
			out[n] = max(out[n], (m.Cosine-low)/(best-low+nearSmooth))
		}
	}
	return out, nil
}

// nearSmooth keeps a result in which all is equally near from looking decided.
const nearSmooth = 0.05

// scan is near over the vectors in the index.
func (v *vectors) scan(q []float32, out []float32) error {
	if len(q) != v.dim {
		return incident.Invalidf("embedding %s gave %d dimensions, the index has %d", v.embed.Name(), len(q), v.dim)
	}
	cos := make([]float32, len(v.of))
	for i := range cos {
		cos[i] = dot(v.flat[i*v.dim:(i+1)*v.dim], q)
	}
	best, low := slices.Max(cos), float32(0)
	if len(cos) > nearSections {
		low = nthLargest(slices.Clone(cos), nearSections)
	}
	for i, n := range v.of {
		out[n] = max(out[n], (cos[i]-low)/(best-low+nearSmooth))
	}
	return nil
}

// nthLargest returns the n-th largest of a (1..len(a)) and disorders it.
func nthLargest(a []float32, n int) float32 {
	for lo, hi := 0, len(a)-1; ; {
		if lo == hi {
			return a[lo]
		}
		pivot := a[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for a[i] > pivot {
				i++
			}
			for a[j] < pivot {
				j--
			}
			if i <= j {
				a[i], a[j] = a[j], a[i]
				i, j = i+1, j-1
			}
		}
		switch k := n - 1; {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return a[k]
		}
	}
}

func nonZero(v []float32) bool { return slices.ContainsFunc(v, func(x float32) bool { return x != 0 }) }

// dot is unrolled by four: the compiler does not, and this is where the time goes.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
