package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/runbooks"
)

// Search is what `tocsin runbooks search` asks.
type Search struct {
	Dirs    []string // none: the built-in library
	Text    string   // one query, or
	Queries string   // a file of queries, one JSON object a line; "-": standard input
	JSON    bool
}

// RunbooksSearch answers one query for a person, or a file of queries for a machine.
func RunbooksSearch(ctx context.Context, s Search, out io.Writer) error {
	books, err := pagesOf(ctx, s.Dirs)
	if err != nil {
		return err
	}
	index, err := indexOf(ctx, books)
	if err != nil {
		return err
	}
	if s.Queries != "" {
		in := io.Reader(os.Stdin)
		if s.Queries != "-" {
			f, err := os.Open(s.Queries)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		return index.SearchLines(ctx, in, out)
	}
	res, err := index.Search(ctx, runbooks.QueryOfText("", s.Text, nil))
	if err != nil {
		return err
	}
	if s.JSON {
		return json.NewEncoder(out).Encode(res)
	}
	w := text.To(out)
	if !res.Confident {
		w.Printf("No runbook is sure to apply (%s).", strings.Join(res.Reasons, "; "))
		if len(res.Hits) > 0 {
			w.Printf("The nearest:")
		}
	}
	for _, h := range res.Hits[:min(len(res.Hits), 5)] {
		w.Printf("%5.2f  %s  %s", h.Score, h.Path, h.Title)
		if len(h.Why) > 0 {
			w.Printf("       %s", strings.Join(h.Why, "; "))
		}
	}
	for _, h := range res.Rejected[:min(len(res.Rejected), 3)] {
		w.Printf("  no   %s: %s", h.Path, strings.Join(h.Why, "; "))
	}
	return nil
}

// pagesOf reads the folders alone, or the library when there are none.
func pagesOf(ctx context.Context, dirs []string) ([]runbooks.Runbook, error) {
	if len(dirs) == 0 {
		books, _, err := loadLibrary(ctx)
		return books, err
	}
	var all []runbooks.Runbook
	for _, d := range dirs {
		more, _, err := runbooks.LoadDir(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("runbook folder %s: %w", d, err)
		}
		all = append(all, more...)
	}
	return all, nil
}

// RunbooksLint names what is wrong with the pages of the folders (none: the library). The error
// is not nil when a page cannot be taken.
func RunbooksLint(ctx context.Context, dirs []string, out io.Writer) error {
	w, pages, fatal := text.To(out), 0, 0
	check := func(books []runbooks.Runbook, problems []runbooks.Problem, err error) error {
		if err != nil {
			return err
		}
		pages += len(books)
		for _, p := range problems {
			w.Printf("%s", p)
			if p.Fatal {
				fatal++
			}
		}
		return nil
	}
	if len(dirs) == 0 {
		if err := check(loadLibrary(ctx)); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := check(runbooks.LoadDir(ctx, d)); err != nil {
			return fmt.Errorf("runbook folder %s: %w", d, err)
		}
	}
	w.Printf("%d pages, %d cannot be taken", pages, fatal)
	if fatal > 0 {
		return fmt.Errorf("%d pages cannot be taken", fatal)
	}
	return nil
}

// RunbooksShow prints one page.
func RunbooksShow(ctx context.Context, dirs []string, path string, asJSON bool, out io.Writer) error {
	books, err := pagesOf(ctx, dirs)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(books, func(r runbooks.Runbook) bool { return r.Path == path })
	if i < 0 {
		return fmt.Errorf("runbook %s: %w: tocsin runbooks search finds one", incident.UntrustedText(path).Plain(120), incident.ErrNotFound)
	}
	page := books[i]
	if asJSON {
		return json.NewEncoder(out).Encode(page)
	}
	w := text.To(out)
	w.Printf("%s  (%s)", page.Title, page.Path)
	for _, s := range page.Sections {
		w.Printf("\n## %s", s.Name())
		for _, line := range strings.Split(s.Text, "\n") {
			w.Printf("%s", plainLine(line))
		}
	}
	return nil
}
