// Command eval measures the ranking of runbooks on a benchmark folder: corpus/ with the pages and
// queries-dev.jsonl with the queries (id, style, text, labels, relevant, group). It prints recall,
// cover and right answers by style, compares them with a recorded score file, and fits the weights.
//
//	go run ./runbooks/eval -bench DIR              figures; exit 1 when one fell below scores.json
//	go run ./runbooks/eval -bench DIR -record      writes scores.json
//	go run ./runbooks/eval -bench DIR -fit         cross-validated figures and weights for rank.go and confidence.go
//	go run ./runbooks/eval -bench DIR -ablate      what each feature brings, cross-validated
//	go run ./runbooks/eval -bench DIR -misses 20   queries whose first page is wrong
//
// Without the folder it says so and exits 0: the benchmark is not part of this repository.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/runbooks"
)

// query is a line of the benchmark.
type query struct {
	ID       string            `json:"id"`
	Style    string            `json:"style"`
	Text     string            `json:"text"`
	Labels   map[string]string `json:"labels"`
	Relevant []string          `json:"relevant"`
	Group    string            `json:"group"`
}

func (q query) has(path string) bool { return slices.Contains(q.Relevant, path) }

// example is a query with what the index made of it.
type example struct {
	q         query
	list      []runbooks.Candidate
	signs     []float64
	first     string // path of the first hit after preconditions; "": none
	confident bool
}

type options struct {
	bench, scores       string
	record, fit, ablate bool
	misses              int
}

func main() {
	var o options
	flag.StringVar(&o.bench, "bench", "", "benchmark folder")
	flag.StringVar(&o.scores, "scores", "runbooks/eval/scores.json", "recorded figures")
	flag.BoolVar(&o.record, "record", false, "write the recorded figures")
	flag.BoolVar(&o.fit, "fit", false, "fit weights and print them")
	flag.BoolVar(&o.ablate, "ablate", false, "measure each feature")
	flag.IntVar(&o.misses, "misses", 0, "print up to so many misses")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	qs, err := readQueries(filepath.Join(o.bench, "queries-dev.jsonl"))
	if o.bench == "" || errors.Is(err, fs.ErrNotExist) {
		fmt.Println("no benchmark folder (-bench DIR): nothing measured")
		return nil
	}
	if err != nil {
		return err
	}
	x, err := index(ctx, filepath.Join(o.bench, "corpus"))
	if err != nil {
		return err
	}
	ex, err := examples(ctx, x, qs)
	if err != nil {
		return err
	}
	if o.fit {
		fitAll(ex)
		return nil
	}
	if o.ablate {
		ablate(ex)
		return nil
	}
	printMisses(ex, o.misses)
	got := figures(ex)
	got.print()
	if o.record {
		return got.write(o.scores)
	}
	return got.compare(o.scores)
}

func readQueries(path string) ([]query, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var qs []query
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var q query
		if err := json.Unmarshal(sc.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		qs = append(qs, q)
	}
	return qs, sc.Err()
}

func index(ctx context.Context, dir string) (*runbooks.Index, error) {
	start := time.Now()
	pages, problems, err := runbooks.LoadDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	loaded := time.Now()
	x := runbooks.NewIndex(runbooks.Options{})
	if err := x.Replace(ctx, pages); err != nil {
		return nil, err
	}
	indexed := time.Now()
	if err := x.Replace(ctx, pages); err != nil {
		return nil, err
	}
	again := time.Now()
	n, sections := x.Len()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%d pages, %d sections: read in %.2f s, indexed in %.2f s, again in %.2f s; heap %d MiB\n", n, sections,
		loaded.Sub(start).Seconds(), indexed.Sub(loaded).Seconds(), again.Sub(indexed).Seconds(), m.HeapAlloc>>20)
	return x, nil
}

func examples(ctx context.Context, x *runbooks.Index, qs []query) ([]example, error) {
	var ex []example
	var took []time.Duration
	for _, q := range qs {
		rq := runbooks.QueryOfText(q.ID, q.Text, q.Labels)
		start := time.Now()
		res, err := x.Search(ctx, rq)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
		e := example{q: q, confident: res.Confident}
		if len(res.Hits) > 0 {
			e.first = res.Hits[0].Path
		}
		e.list, e.signs = x.Explain(ctx, rq)
		ex = append(ex, e)
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		fmt.Printf("%d searches: median %.1f ms, p99 %.1f ms\n", n, took[n/2].Seconds()*1e3, took[n*99/100].Seconds()*1e3)
	}
	return ex, nil
}
