package main

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/runbooks"
)

// Settings of the fits, chosen by cross-validated loss.
const (
	folds      = 10
	rankL2     = 0.3
	signL2     = 0.5
	noMatchTo1 = 3.0 // weight of a no-match query: an answer to it is the worse fault
	symptomTo1 = 2.0 // weight of a symptom query: they are few
)

// fold puts all queries of a group into one fold.
func fold(q query) int {
	h := fnv.New32a()
	h.Write([]byte(q.Group))
	return int(h.Sum32()>>4) % folds
}

// head is which set of weights a query uses.
func head(q query) int {
	if q.Labels["alertname"] != "" {
		return 1
	}
	return 0
}

func dot(w, f []float64) float64 {
	s := 0.0
	for i := range w {
		s += w[i] * f[i]
	}
	return s
}

// adam minimises a function given its gradient.
func adam(dim, steps int, rate float64, gradient func(w, g []float64)) []float64 {
	w, g, m, v := make([]float64, dim), make([]float64, dim), make([]float64, dim), make([]float64, dim)
	for t := 1; t <= steps; t++ {
		clear(g)
		gradient(w, g)
		for j := range w {
			m[j] = 0.9*m[j] + 0.1*g[j]
			v[j] = 0.999*v[j] + 0.001*g[j]*g[j]
			w[j] -= rate / math.Sqrt(1+float64(t)/50) * (m[j] / (1 - math.Pow(0.9, float64(t)))) / (math.Sqrt(v[j]/(1-math.Pow(0.999, float64(t)))) + 1e-8)
		}
	}
	return w
}

// chances returns the softmax over the candidates and how much of it is on right pages.
func chances(e example, w []float64) (p []float64, right float64) {
	p = make([]float64, len(e.list))
	top := math.Inf(-1)
	for i := range e.list {
		p[i] = dot(w, e.list[i].Features)
		top = max(top, p[i])
	}
	sum := 0.0
	for i := range p {
		p[i] = math.Exp(p[i] - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
		if e.q.has(e.list[i].Path) {
			right += p[i]
		}
	}
	return p, right
}

// fitRank minimises the listwise logistic loss with L2.
func fitRank(ex []example, off int) []float64 {
	dim := len(runbooks.FeatureNames())
	w := adam(dim, 300, 0.3, func(w, g []float64) {
		for _, e := range ex {
			p, right := chances(e, w)
			if right == 0 {
				continue
			}
			weight := 1.0
			if e.q.Style == "symptom" {
				weight = symptomTo1
			}
			for i := range p {
				d := p[i]
				if e.q.has(e.list[i].Path) {
					d -= p[i] / right
				}
				if math.Abs(d) < 1e-6 {
					continue
				}
				for j, x := range e.list[i].Features {
					if j != off {
						g[j] += weight * d * x
					}
				}
			}
		}
		for j := range w {
			g[j] += rankL2 * w[j]
		}
	})
	return w
}

// crossRank returns the examples ordered by weights fitted without their fold, and the mean loss.
// Feature off takes no part; -1: all do.
func crossRank(ex []example, off int) ([]example, float64) {
	var w [2][folds][]float64
	for h := range w {
		for f := range folds {
			var train []example
			for _, e := range ex {
				if head(e.q) == h && fold(e.q) != f && len(e.q.Relevant) > 0 {
					train = append(train, e)
				}
			}
			w[h][f] = fitRank(train, off)
		}
	}
	out := slices.Clone(ex)
	loss, n := 0.0, 0.0
	for i := range out {
		e := &out[i]
		weights := w[head(e.q)][fold(e.q)]
		if len(e.q.Relevant) > 0 {
			_, right := chances(*e, weights)
			loss -= math.Log(max(right, 1e-4))
			n++
		}
		e.list = slices.Clone(e.list)
		for j := range e.list {
			e.list[j].Score = dot(weights, e.list[j].Features)
		}
		slices.SortStableFunc(e.list, func(a, b runbooks.Candidate) int {
			if a.Score > b.Score {
				return -1
			}
			if a.Score < b.Score {
				return 1
			}
			return 0
		})
	}
	return out, loss / n
}

// fitSigns fits the confidence by logistic regression with L2 (the bias is free).
func fitSigns(ex []example) []float64 {
	dim := len(runbooks.SignNames())
	return adam(dim, 800, 0.3, func(w, g []float64) {
		for _, e := range ex {
			if e.signs == nil {
				continue
			}
			y, weight := 0.0, 1.0
			if e.q.has(e.list[0].Path) {
				y = 1
			}
			if len(e.q.Relevant) == 0 {
				weight = noMatchTo1
			}
			p := 1 / (1 + math.Exp(-dot(w, e.signs)))
			for j := range w {
				g[j] += weight * (p - y) * e.signs[j]
			}
		}
		for j := 1; j < dim; j++ {
			g[j] += signL2 * w[j]
		}
	})
}

// crossSigns sets each example's claim by a confidence fitted without its fold.
func crossSigns(ex []example, cut float64) []example {
	out := slices.Clone(ex)
	for f := range folds {
		var train []example
		for _, e := range ex {
			if fold(e.q) != f {
				train = append(train, e)
			}
		}
		w := fitSigns(train)
		for i := range out {
			if e := &out[i]; fold(e.q) == f && e.signs != nil {
				e.confident = 1/(1+math.Exp(-dot(w, e.signs))) >= cut
				e.first = e.list[0].Path
			}
		}
	}
	return out
}

func fitAll(ex []example) {
	ranked, loss := crossRank(ex, -1)
	fmt.Printf("ranking, %d-fold over groups: loss %.4f\n", folds, loss)
	figures(ranked).print()
	for _, cut := range []float64{0.5, 0.6, 0.7} {
		fmt.Printf("confidence, %d-fold over groups, cut %.1f\n", folds, cut)
		figures(crossSigns(ex, cut)).print()
	}
	fmt.Println("weights for rank.go, fitted on all")
	for h := range 2 {
		var train []example
		for _, e := range ex {
			if head(e.q) == h && len(e.q.Relevant) > 0 {
				train = append(train, e)
			}
		}
		fmt.Println(literal(fitRank(train, -1)))
	}
	fmt.Println("weights for confidence.go (fit again after changing rank.go)")
	fmt.Println(literal(fitSigns(ex)))
}

func literal(w []float64) string {
	s := "{"
	for i := range w {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%.2f", w[i])
	}
	return s + "}"
}

func ablate(ex []example) {
	all, loss := crossRank(ex, -1)
	tableRow("all", all, 0)
	for i, name := range runbooks.FeatureNames() {
		without, l := crossRank(ex, i)
		tableRow("without "+name, without, l-loss)
	}
}

func tableRow(name string, ex []example, loss float64) {
	f := figures(ex).Styles
	fmt.Printf("| %s | %.3f / %.3f | %.3f / %.3f | %.3f / %.3f | %+.4f |\n", name, f["alert"].Recall1, f["alert"].Recall3,
		f["anonymous"].Recall1, f["anonymous"].Recall3, f["symptom"].Recall1, f["symptom"].Recall3, loss)
}
