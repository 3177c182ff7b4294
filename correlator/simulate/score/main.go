// Score runs the correlator on generated fleets and prints how well it does.
//
//	go run ./correlator/simulate/score -clusters 10,100,1000 -seeds 5
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/correlator/simulate"
	"github.com/tocsin-io/tocsin/incident"
)

type options struct {
	clusters, kinds, out string
	seeds                int
	first                uint64
	drain                time.Duration
	apart                time.Duration
	verbose              bool
	mix                  int
}

func main() {
	var o options
	flag.StringVar(&o.clusters, "clusters", "10", "fleet sizes, comma-separated")
	flag.StringVar(&o.kinds, "kinds", "", "kinds, comma-separated; all when empty")
	flag.IntVar(&o.seeds, "seeds", 5, "number of seeds")
	flag.Uint64Var(&o.first, "first", 1, "first seed")
	flag.DurationVar(&o.drain, "drain", 10*time.Minute, "event time between drains, as a hub would")
	flag.IntVar(&o.mix, "mix", 0, "so many kinds at once, chosen by the seed, instead of one run a kind")
	flag.DurationVar(&o.apart, "apart", 10*time.Minute, "time between kinds in a mixed run")
	flag.BoolVar(&o.verbose, "v", false, "say what went wrong")
	flag.StringVar(&o.out, "out", "", "write the files (signals, truth) into this folder")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "score:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	names := simulate.Kinds()
	if o.kinds != "" {
		names = strings.Split(o.kinds, ",")
	}
	fmt.Println("| kind | clusters | ARI | pair F1 | found | split | merged | spurious | noise absorbed | factor | false factor | root | cause | signals/s |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, size := range strings.Split(o.clusters, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return fmt.Errorf("-clusters %q: %w", size, err)
		}
		var all sum
		var sets [][]string
		for _, k := range names {
			sets = append(sets, []string{k})
		}
		if o.mix > 0 {
			sets = [][]string{nil}
		}
		for _, set := range sets {
			var part sum
			for i := range o.seeds {
				kinds, seed := set, o.first+uint64(i)
				if o.mix > 0 {
					kinds = choose(names, o.mix, seed)
				}
				s, err := one(o, kinds, n, seed)
				if err != nil {
					return err
				}
				part.add(s)
				all.add(s)
			}
			if o.mix == 0 {
				part.print(set[0], n)
			}
		}
		all.print("**all**", n)
	}
	return nil
}

// choose picks n kinds for a seed.
func choose(names []string, n int, seed uint64) []string {
	rnd := rand.New(rand.NewPCG(seed, 99))
	var out []string
	for range n {
		out = append(out, names[rnd.IntN(len(names))])
	}
	return out
}

type result struct {
	simulate.Score
	n    int
	took time.Duration
}

func one(o options, kinds []string, clusters int, seed uint64) (result, error) {
	events, truth, err := simulate.Generate(simulate.Config{Seed: seed, Clusters: clusters, Kinds: kinds, Apart: o.apart})
	if err != nil {
		return result{}, err
	}
	if o.out != "" {
		if err := write(o.out, fmt.Sprintf("%s-%d-%d", kinds[0], clusters, seed), events, truth); err != nil {
			return result{}, err
		}
	}
	begin := time.Now()
	c := correlator.New(correlator.Config{Listed: -1, Points: 1 << 30})
	var next time.Time
	for _, ev := range events {
		if err := c.Apply(ev); err != nil {
			return result{}, err
		}
		if t := ev.Time(); t.After(next) {
			if !next.IsZero() {
				c.Changed()
			}
			next = t.Add(o.drain)
		}
	}
	var got []simulate.Reported
	for _, inc := range c.Incidents() {
		if inc.State != incident.Merged {
			got = append(got, simulate.Reported{Signals: inc.Signals, Severity: inc.Severity, Shared: inc.Shared, Root: inc.Root, Cause: inc.Cause})
		}
	}
	took := time.Since(begin)
	s := simulate.Compare(truth, got)
	if o.verbose {
		for _, w := range s.Wrong {
			fmt.Printf("  seed %d, %d clusters, %v: %s\n", seed, clusters, kinds, w)
		}
		if s.Spurious+s.Absorbed > 0 {
			fmt.Printf("  seed %d, %d clusters, %v: %d spurious, %d absorbed\n", seed, clusters, kinds, s.Spurious, s.Absorbed)
		}
	}
	return result{s, len(events), took}, nil
}

type sum struct {
	runs, withTruth int
	s               simulate.Score
	events          int
	took            time.Duration
}

func (t *sum) add(r result) {
	t.runs++
	if r.True > 0 {
		t.withTruth++
		t.s.ARI += r.ARI
		t.s.F1 += r.F1
	}
	t.s.True += r.True
	t.s.Found += r.Found
	t.s.Split += r.Split
	t.s.Merged += r.Merged
	t.s.Spurious += r.Spurious
	t.s.Absorbed += r.Absorbed
	t.s.Noise += r.Noise
	t.s.FactorTrue += r.FactorTrue
	t.s.FactorOK += r.FactorOK
	t.s.FactorNone += r.FactorNone
	t.s.FactorFake += r.FactorFake
	t.s.RootTrue += r.RootTrue
	t.s.RootOK += r.RootOK
	t.s.CauseOK += r.CauseOK
	t.events += r.n
	t.took += r.took
}

func (t *sum) print(name string, clusters int) {
	n := float64(max(1, t.withTruth))
	s := t.s
	fmt.Printf("| %s | %d | %.3f | %.3f | %d/%d | %d | %d | %d | %d/%d | %d/%d | %d/%d | %d/%d | %d/%d | %.0f |\n", name, clusters, s.ARI/n, s.F1/n, s.Found, s.True, s.Split, s.Merged, s.Spurious, s.Absorbed, s.Noise,
		s.FactorOK, s.FactorTrue, s.FactorFake, s.FactorNone, s.RootOK, s.RootTrue, s.CauseOK, s.True, float64(t.events)/t.took.Seconds())
}

// write stores a run as files that `tocsin replay` reads.
func write(dir, name string, events []incident.Event, truth simulate.Truth) (err error) {
	f, err := os.Create(filepath.Join(dir, name+".signals.jsonl"))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	enc := json.NewEncoder(f)
	for _, ev := range events {
		if err := enc.Encode(ev); err != nil {
			return err
		}
	}
	b, err := json.Marshal(truth)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".truth.json"), b, 0o644)
}
