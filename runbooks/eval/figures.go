package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/runbooks"
)

// styles of queries that have a right page.
var styles = []string{"alert", "anonymous", "symptom"}

// figure is what one style reaches; shares, 0..1.
type figure struct {
	N       int     `json:"n"`
	Recall1 float64 `json:"recall1"`
	Recall3 float64 `json:"recall3"`
	MRR     float64 `json:"mrr10"`
	Cover   float64 `json:"cover"`
	Right   float64 `json:"right"`
}

type score struct {
	Styles  map[string]figure `json:"styles"`
	Cover   float64           `json:"cover"`    // of all answerable queries
	Right   float64           `json:"right"`    // of those answered
	NoMatch int               `json:"no_match"` // queries without a right page
	False   int               `json:"false"`    // of those answered
}

// figures scores the examples by their candidates, best first, and their claims.
func figures(ex []example) score {
	s := score{Styles: map[string]figure{}}
	answerable, answered, right := 0.0, 0.0, 0.0
	for _, style := range styles {
		var f figure
		conf, good := 0.0, 0.0
		for _, e := range ex {
			if e.q.Style != style {
				continue
			}
			f.N++
			f.add(rankOf(e.q, e.list))
			if e.confident {
				conf++
				if e.q.has(e.first) {
					good++
				}
			}
		}
		if f.N == 0 {
			continue
		}
		n := float64(f.N)
		f.Recall1, f.Recall3, f.MRR, f.Cover, f.Right = f.Recall1/n, f.Recall3/n, f.MRR/n, conf/n, good/max(conf, 1)
		s.Styles[style] = f
		answerable, answered, right = answerable+n, answered+conf, right+good
	}
	for _, e := range ex {
		if len(e.q.Relevant) == 0 {
			s.NoMatch++
			if e.confident {
				s.False++
			}
		}
	}
	s.Cover, s.Right = answered/max(answerable, 1), right/max(answered, 1)
	return s
}

// add counts one query by the rank of its first right page; 0: not found.
func (f *figure) add(rank int) {
	if rank == 1 {
		f.Recall1++
	}
	if rank >= 1 && rank <= 3 {
		f.Recall3++
	}
	if rank >= 1 && rank <= 10 {
		f.MRR += 1 / float64(rank)
	}
}

func (s score) print() {
	fmt.Printf("%-11s %4s %9s %9s %7s %7s %7s\n", "style", "n", "recall@1", "recall@3", "MRR@10", "cover", "right")
	for _, style := range styles {
		f := s.Styles[style]
		fmt.Printf("%-11s %4d %9.3f %9.3f %7.3f %7.3f %7.3f\n", style, f.N, f.Recall1, f.Recall3, f.MRR, f.Cover, f.Right)
	}
	fmt.Printf("answered %.3f of the answerable, %.3f of those right; %d of %d without a right page answered\n", s.Cover, s.Right, s.False, s.NoMatch)
}

func (s score) write(path string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// tolerance is what a figure may fall without failing: rounding, not a query.
const tolerance = 0.0005

// compare fails when a figure fell below the recorded one.
func (s score) compare(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("no recorded figures at", path)
		return nil
	}
	if err != nil {
		return err
	}
	var want score
	if err := json.Unmarshal(b, &want); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var fell []string
	check := func(what string, got, want float64) {
		if got < want-tolerance {
			fell = append(fell, fmt.Sprintf("%s fell from %.3f to %.3f", what, want, got))
		}
	}
	for style, w := range want.Styles {
		g := s.Styles[style]
		check(style+" recall@1", g.Recall1, w.Recall1)
		check(style+" recall@3", g.Recall3, w.Recall3)
	}
	check("cover", s.Cover, want.Cover)
	check("right", s.Right, want.Right)
	check("no-match queries left alone", -float64(s.False), -float64(want.False))
	if len(fell) > 0 {
		slices.Sort(fell)
		return errors.New(strings.Join(fell, "; "))
	}
	return nil
}

// rankOf returns the rank of the first right page, 0 when there is none.
func rankOf(q query, list []runbooks.Candidate) int {
	for i := range list {
		if q.has(list[i].Path) {
			return i + 1
		}
	}
	return 0
}

func printMisses(ex []example, n int) {
	for _, e := range ex {
		r := rankOf(e.q, e.list)
		if n == 0 || len(e.q.Relevant) == 0 || r == 1 {
			continue
		}
		n--
		fmt.Printf("%s rank %d: %.300q\n  want %v\n", e.q.ID, r, e.q.Text, e.q.Relevant)
		for _, c := range e.list[:min(3, len(e.list))] {
			fmt.Printf("  got %6.2f %s\n", c.Score, c.Path)
		}
	}
}
