package vector_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/vector"
	"github.com/tocsin-io/tocsin/internal/vector/vectortest"
	"github.com/tocsin-io/tocsin/runbooks"
)

// clustered returns n vectors around 200 centres, as sections of pages on like subjects are.
func clustered(rnd *rand.Rand, n, dim int) []runbooks.Record {
	centres := make([][]float32, 200)
	for i := range centres {
		centres[i] = gauss(rnd, dim, nil, 1)
	}
	out := make([]runbooks.Record, n)
	for i := range out {
		id := fmt.Sprintf("p%05d.md#%d", i/7, i%7)
		out[i] = runbooks.Record{ID: id, Source: fmt.Sprint("s", i%10), Hash: id, Text: "section " + id, Vector: gauss(rnd, dim, centres[rnd.IntN(len(centres))], 0.6)}
	}
	return out
}

func gauss(rnd *rand.Rand, dim int, around []float32, spread float32) []float32 {
	v := make([]float32, dim)
	for j := range v {
		v[j] = spread * float32(rnd.NormFloat64())
		if around != nil {
			v[j] += around[j]
		}
	}
	return v
}

// TestMeasureStores prints time and recall@10 against exact search, for the number of sections in
// TOCSIN_MEASURE_SECTIONS: a measurement for docs/runbooks.md, not a check.
func TestMeasureStores(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("TOCSIN_MEASURE_SECTIONS"))
	if n == 0 {
		t.Skip("TOCSIN_MEASURE_SECTIONS is not set")
	}
	const dim, queries = 128, 200
	rnd := rand.New(rand.NewPCG(1, 1))
	recs := clustered(rnd, n, dim)
	mem := vector.NewMemory()
	pg, err := vector.OpenPostgres(t.Context(), vector.Config{DSN: vectortest.Postgres(t), StatementTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	for _, s := range []runbooks.Store{mem, pg} {
		start := time.Now()
		for chunk := range slices.Chunk(recs, 100_000) {
			if err := s.Apply(t.Context(), "measure", chunk, nil); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%T: %d sections stored in %.1f s", s, n, time.Since(start).Seconds())
	}
	var probes []runbooks.Probe
	for range queries {
		probes = append(probes, runbooks.Probe{Vector: gauss(rnd, dim, recs[rnd.IntN(n)].Vector, 0.3), Limit: 10})
	}
	want := measure(t, mem, probes, nil)
	measure(t, pg, probes, want)
	for i := range probes {
		probes[i].Sources = []string{"s3"}
	}
	measure(t, pg, probes, measure(t, mem, probes, nil))
}

// measure asks every probe twice, the first time to warm up, and compares with want.
func measure(t *testing.T, s runbooks.Store, probes []runbooks.Probe, want [][]runbooks.Match) [][]runbooks.Match {
	t.Helper()
	var took []time.Duration
	var out [][]runbooks.Match
	hit, all := 0, 0
	for round := range 2 {
		for i, p := range probes {
			start := time.Now()
			m, err := s.Nearest(t.Context(), "measure", p)
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				continue
			}
			took = append(took, time.Since(start))
			out = append(out, m)
			if want != nil {
				for _, w := range want[i] {
					all++
					if slices.ContainsFunc(m, func(m runbooks.Match) bool { return m.ID == w.ID }) {
						hit++
					}
				}
			}
		}
	}
	slices.Sort(took)
	recall := ""
	if all > 0 {
		recall = fmt.Sprintf(", recall@10 %.4f", float64(hit)/float64(all))
	}
	t.Logf("%T, filter %v: median %.2f ms, p99 %.2f ms%s", s, probes[0].Sources, took[len(took)/2].Seconds()*1e3, took[len(took)*99/100].Seconds()*1e3, recall)
	return out
}
