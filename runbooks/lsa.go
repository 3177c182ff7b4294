package runbooks

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// LSA is the built-in embedding: latent semantic analysis learnt from the runbooks themselves,
// without network and without weights to download. It is immutable and safe for concurrent use.
type LSA struct {
	name   string
	dim    int
	vocab  map[string]int32
	idf    []float32
	basis  []float32 // len(vocab) × dim
	an     chan *analyzer
	learnt map[string]bool // hashes of the sections it was learnt from
}

// LSA parameters: 128 dimensions by measurement (docs/runbooks.md); the sketch is a little wider
// and sharpened by power iterations, as randomised factorisation needs.
const (
	lsaDim    = 128
	lsaExtra  = 16
	lsaPower  = 2
	lsaMinDoc = 2
)

// sparse is a row of a sparse matrix.
type sparse struct {
	col []int32
	val []float32
}

// LearnLSA learns an embedding from texts. The same texts give the same embedding, and Name is
// derived from them.
func LearnLSA(texts []string) *LSA {
	l := &LSA{vocab: map[string]int32{}, an: make(chan *analyzer, 4), learnt: map[string]bool{}}
	an := newAnalyzer()
	rows := make([]sparse, len(texts))
	var df []int32
	for i, s := range texts {
		rows[i] = l.row(an, s, func(w string) int32 {
			id, ok := l.vocab[w]
			if !ok {
				id = int32(len(l.vocab))
				l.vocab[w] = id
				df = append(df, 0)
			}
			return id
		})
		for _, c := range rows[i].col {
			df[c]++
		}
	}
	l.prune(rows, df, len(texts))
	for i := range rows {
		l.weigh(&rows[i])
	}
	l.dim = max(1, min(lsaDim, len(texts), len(l.idf)))
	l.basis = factorise(rows, len(l.idf), l.dim)
	l.name = fmt.Sprintf("lsa-%d-%s", l.dim, string(incident.HashParts(texts...))[:16])
	return l
}

// prune leaves out words of fewer than lsaMinDoc texts, which connect nothing and are half of all,
// and weighs the others.
func (l *LSA) prune(rows []sparse, df []int32, texts int) {
	to := make([]int32, len(df))
	for i, n := range df {
		to[i] = -1
		if n >= lsaMinDoc {
			to[i] = int32(len(l.idf))
			l.idf = append(l.idf, float32(math.Log(float64(1+texts)/float64(n))))
		}
	}
	for w, id := range l.vocab {
		if to[id] < 0 {
			delete(l.vocab, w)
		} else {
			l.vocab[w] = to[id]
		}
	}
	for i := range rows {
		r := &rows[i]
		kept := 0
		for j, c := range r.col {
			if to[c] >= 0 {
				r.col[kept], r.val[kept] = to[c], r.val[j]
				kept++
			}
		}
		r.col, r.val = r.col[:kept], r.val[:kept]
	}
}

// Name names the dimension and the texts it was learnt from.
func (l *LSA) Name() string { return l.name }

// row counts the words of one text.
func (l *LSA) row(an *analyzer, s string, id func(string) int32) sparse {
	var t terms
	an.read(s, &t)
	counts := map[int32]float32{}
	for _, w := range t.Words {
		if w != "" {
			if i := id(w); i >= 0 {
				counts[i]++
			}
		}
	}
	var r sparse
	r.col = termIDs(counts)
	r.val = make([]float32, len(r.col))
	for i, c := range r.col {
		r.val[i] = counts[c]
	}
	return r
}

// weigh turns counts into unit tf-idf.
func (l *LSA) weigh(r *sparse) {
	norm := 0.0
	for i, c := range r.col {
		r.val[i] = (1 + float32(math.Log(float64(r.val[i])))) * l.idf[c]
		norm += float64(r.val[i] * r.val[i])
	}
	if norm > 0 {
		n := float32(1 / math.Sqrt(norm))
		for i := range r.val {
			r.val[i] *= n
		}
	}
}

// Embed returns a unit vector of each text; the zero vector for one without a known word.
func (l *LSA) Embed(_ context.Context, texts []string) ([][]float32, error) {
	var an *analyzer
	select {
	case an = <-l.an:
	default:
		an = newAnalyzer()
	}
	out := make([][]float32, len(texts))
	for i, s := range texts {
		r := l.row(an, s, func(w string) int32 {
			if id, ok := l.vocab[w]; ok {
				return id
			}
			return -1
		})
		l.weigh(&r)
		v := make([]float32, l.dim)
		for j, c := range r.col {
			axpy(v, r.val[j], l.basis[int(c)*l.dim:][:l.dim])
		}
		unit(v)
		out[i] = v
	}
	select {
	case l.an <- an:
	default:
	}
	return out, nil
}

func axpy(y []float32, a float32, x []float32) {
	for i := range y {
		y[i] += a * x[i]
	}
}

func unit(v []float32) {
	n := 0.0
	for _, x := range v {
		n += float64(x) * float64(x)
	}
	if n > 0 {
		s := float32(1 / math.Sqrt(n))
		for i := range v {
			v[i] *= s
		}
	}
}

// factorise returns the right singular vectors (cols × k, row-major) of the sparse matrix by
// randomised range finding (Halko, Martinsson, Tropp 2011, algorithm 4.4). The random numbers
// are seeded: the result is reproducible.
func factorise(rows []sparse, cols, k int) []float32 {
	w := min(k+lsaExtra, cols)
	rnd := rand.New(rand.NewPCG(1, 2))
	q := make([]float32, cols*w)
	for i := range q {
		q[i] = float32(rnd.NormFloat64())
	}
	orthonormal(q, cols, w)
	for range lsaPower + 1 {
		q = gram(rows, q, cols, w)
		orthonormal(q, cols, w)
	}
	// Rotate the sketch onto the leading directions: eigenvectors of qᵀ AᵀA q.
	z := gram(rows, q, cols, w)
	small := make([]float64, w*w)
	for c := range cols {
		for i := range w {
			qi := float64(q[c*w+i])
			if qi == 0 {
				continue
			}
			for j := range w {
				small[i*w+j] += qi * float64(z[c*w+j])
			}
		}
	}
	vecs := eigen(small, w)
	out := make([]float32, cols*k)
	for c := range cols {
		for i := range w {
			x := q[c*w+i]
			for j := range k {
				out[c*k+j] += x * float32(vecs[i*w+j])
			}
		}
	}
	return out
}

// gram returns AᵀA q.
func gram(rows []sparse, q []float32, cols, w int) []float32 {
	out := make([]float32, cols*w)
	t := make([]float32, w)
	for i := range rows {
		clear(t)
		for j, c := range rows[i].col {
			axpy(t, rows[i].val[j], q[int(c)*w:][:w])
		}
		for j, c := range rows[i].col {
			axpy(out[int(c)*w:][:w], rows[i].val[j], t)
		}
	}
	return out
}

// orthonormal makes the w columns of q (n × w, row-major) orthonormal by Cholesky of its Gram
// matrix, twice for accuracy. Columns that vanish become zero.
func orthonormal(q []float32, n, w int) {
	for range 2 {
		g := make([]float64, w*w)
		for r := range n {
			row := q[r*w:][:w]
			for i, x := range row {
				if x == 0 {
					continue
				}
				for j := 0; j <= i; j++ {
					g[i*w+j] += float64(x) * float64(row[j])
				}
			}
		}
		l := cholesky(g, w)
		// Solve row · L⁻ᵀ for every row.
		for r := range n {
			row := q[r*w:][:w]
			for i := range w {
				sum := float64(row[i])
				for j := range i {
					sum -= l[i*w+j] * float64(row[j])
				}
				if l[i*w+i] > 0 {
					row[i] = float32(sum / l[i*w+i])
				} else {
					row[i] = 0
				}
			}
		}
	}
}

// cholesky returns the lower factor; a pivot that is not positive gives a zero column.
func cholesky(g []float64, w int) []float64 {
	l := make([]float64, w*w)
	for i := range w {
		for j := 0; j <= i; j++ {
			sum := g[i*w+j]
			for k := range j {
				sum -= l[i*w+k] * l[j*w+k]
			}
			switch {
			case i == j && sum > 1e-12*g[i*w+i]:
				l[i*w+i] = math.Sqrt(sum)
			case i != j && l[j*w+j] > 0:
				l[i*w+j] = sum / l[j*w+j]
			}
		}
	}
	return l
}

// eigen returns the eigenvectors of a symmetric matrix as columns, largest eigenvalue first, by
// cyclic Jacobi rotations.
func eigen(a []float64, w int) []float64 {
	v := make([]float64, w*w)
	for i := range w {
		v[i*w+i] = 1
	}
	for range 30 {
		off, diag := 0.0, 0.0
		for i := range w {
			diag += a[i*w+i] * a[i*w+i]
			for j := range i {
				off += a[i*w+j] * a[i*w+j]
			}
		}
		if off <= 1e-14*diag {
			break
		}
		for p := range w {
			for q := p + 1; q < w; q++ {
				rotate(a, v, w, p, q)
			}
		}
	}
	order := make([]int, w)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		if a[x*w+x] > a[y*w+y] {
			return -1
		}
		return 1
	})
	out := make([]float64, w*w)
	for j, o := range order {
		for i := range w {
			out[i*w+j] = v[i*w+o]
		}
	}
	return out
}

func rotate(a, v []float64, w, p, q int) {
	if a[p*w+q] == 0 {
		return
	}
	theta := (a[q*w+q] - a[p*w+p]) / (2 * a[p*w+q])
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for i := range w {
		x, y := a[i*w+p], a[i*w+q]
		a[i*w+p], a[i*w+q] = c*x-s*y, s*x+c*y
	}
	for i := range w {
		x, y := a[p*w+i], a[q*w+i]
		a[p*w+i], a[q*w+i] = c*x-s*y, s*x+c*y
		x, y = v[i*w+p], v[i*w+q]
		v[i*w+p], v[i*w+q] = c*x-s*y, s*x+c*y
	}
}
