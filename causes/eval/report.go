package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"time"
)

// unpack reads a .tar.gz into memory, so that the time measured is that of the reader alone.
func unpack(path string) (io.Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(z)
	return bytes.NewReader(b), err
}

type report struct{ cases []outcome }

// scoreFile is the recorded score. Times are of the machine that recorded it and not compared.
type scoreFile struct {
	Date     string  `json:"date"`
	Cases    int     `json:"cases"`
	A1       float64 `json:"a1"`
	A3       float64 `json:"a3"`
	Object   float64 `json:"object"`
	Cause    float64 `json:"cause"`
	ECE      float64 `json:"ece"`
	MedianMS float64 `json:"medianMs"`
	P99MS    float64 `json:"p99Ms"`
	PeakMiB  float64 `json:"peakMiB"`
}

func share(cases []outcome, ok func(outcome) bool) float64 {
	n := 0
	for _, c := range cases {
		if ok(c) {
			n++
		}
	}
	return float64(n) / float64(max(len(cases), 1))
}

func first(c outcome) bool  { return c.rank == 1 }
func third(c outcome) bool  { return c.rank >= 1 && c.rank <= 3 }
func object(c outcome) bool { return c.objectRank == 1 }
func cause(c outcome) bool  { return c.causeRank == 1 }

// calibration returns the expected calibration error over ten bins of the first answer's
// confidence; a case without an answer counts with confidence 0.
func calibration(cases []outcome) float64 {
	var n, right, conf [10]float64
	for _, c := range cases {
		b := min(int(c.confidence*10), 9)
		n[b]++
		conf[b] += c.confidence
		if first(c) {
			right[b]++
		}
	}
	e := 0.0
	for b := range n {
		if n[b] > 0 {
			e += math.Abs(right[b]-conf[b]) / float64(len(cases))
		}
	}
	return e
}

func (r report) score() scoreFile {
	spent := make([]time.Duration, 0, len(r.cases))
	peak := uint64(0)
	for _, c := range r.cases {
		spent = append(spent, c.spent)
		peak = max(peak, c.heap)
	}
	slices.Sort(spent)
	at := func(q float64) float64 {
		if len(spent) == 0 {
			return 0
		}
		return float64(spent[min(int(q*float64(len(spent))), len(spent)-1)].Microseconds()) / 1000
	}
	round := func(x float64) float64 { return math.Round(x*1e4) / 1e4 }
	return scoreFile{Date: time.Now().UTC().Format(time.DateOnly), Cases: len(r.cases), A1: round(share(r.cases, first)), A3: round(share(r.cases, third)),
		Object: round(share(r.cases, object)), Cause: round(share(r.cases, cause)), ECE: round(calibration(r.cases)),
		MedianMS: at(0.5), P99MS: at(0.99), PeakMiB: math.Round(float64(peak) / (1 << 20))}
}

func (r report) print(verbose bool) {
	if verbose {
		for _, c := range r.cases {
			if !first(c) {
				fmt.Printf("%-28s want %s %s, rank %d (object %d, cause %d), got %s %.2f (%s)\n", c.label.ID, mapping[c.label.RootCause], c.label.Object.Name,
					c.rank, c.objectRank, c.causeRank, c.first, c.confidence, c.verdict)
			}
		}
	}
	groups := map[string][]outcome{}
	for _, c := range r.cases {
		for _, g := range []string{c.label.Category, c.label.Category + "/" + c.label.RootCause, "~" + c.label.System} {
			groups[g] = append(groups[g], c)
		}
	}
	fmt.Printf("%-56s %5s %6s %6s %6s %6s\n", "", "cases", "A@1", "A@3", "object", "cause")
	line := func(name string, cs []outcome) {
		fmt.Printf("%-56s %5d %6.3f %6.3f %6.3f %6.3f\n", name, len(cs), share(cs, first), share(cs, third), share(cs, object), share(cs, cause))
	}
	for _, g := range slices.SortedFunc(maps.Keys(groups), cmp.Compare[string]) {
		line(g, groups[g])
	}
	line("all", r.cases)
	s := r.score()
	fmt.Printf("calibration error %.3f; per case median %.1f ms, p99 %.1f ms; peak memory of the process %.0f MiB\n", s.ECE, s.MedianMS, s.P99MS, s.PeakMiB)
}

// checkScore writes the score or compares it with the recorded one; false means it fell.
func checkScore(name string, s scoreFile, record bool) bool {
	if record {
		b, _ := json.MarshalIndent(s, "", "  ")
		if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "eval:", err)
			return false
		}
		return true
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("eval: no recorded score to compare with")
		return true
	}
	var old scoreFile
	if err == nil {
		err = json.Unmarshal(b, &old)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		return false
	}
	ok := true
	for _, m := range []struct {
		name     string
		now, was float64
	}{{"A@1", s.A1, old.A1}, {"A@3", s.A3, old.A3}, {"object", s.Object, old.Object}, {"cause", s.Cause, old.Cause}, {"calibration", -s.ECE, -max(old.ECE, 0.05)}} {
		if m.now < m.was-1e-9 {
			fmt.Printf("eval: %s fell from %.4f to %.4f\n", m.name, math.Abs(m.was), math.Abs(m.now))
			ok = false
		}
	}
	return ok
}
