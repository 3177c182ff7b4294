package app

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
	"github.com/tocsin-io/tocsin/runbooks/library"
)

// nearHit is the share of the first page's score from which a further one is worth showing.
const nearHit = 0.6

// pages finds runbooks in the built-in library and the configured folders.
type pages struct{ index *runbooks.Index }

// loadRunbooks reads the library, the folders and the Git repositories (cloned into cache); a page that cannot be taken is a problem, a
// folder that cannot be read an error.
func loadRunbooks(ctx context.Context, dirs []string, cache string) ([]runbooks.Runbook, []runbooks.Problem, error) {
	all, problems, err := loadLibrary(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range dirs {
		var more []runbooks.Runbook
		var probs []runbooks.Problem
		if isGit(d) {
			more, probs, err = (&runbooks.Git{ID: d, URL: d, Cache: filepath.Join(cache, string(incident.HashParts(d))[:16])}).Load(ctx)
		} else {
			more, probs, err = runbooks.LoadDir(ctx, d)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("runbooks of %s: %w", d, err)
		}
		// A page of the operator's own comes before one of the library with the same path.
		all = slices.DeleteFunc(all, func(r runbooks.Runbook) bool {
			return slices.ContainsFunc(more, func(m runbooks.Runbook) bool { return m.Path == r.Path })
		})
		all, problems = append(all, more...), append(problems, probs...)
	}
	return all, problems, nil
}

func loadLibrary(ctx context.Context) ([]runbooks.Runbook, []runbooks.Problem, error) {
	var root fs.FS = library.FS
	all, problems, err := runbooks.Load(ctx, root)
	if err != nil {
		return nil, nil, fmt.Errorf("built-in runbooks: %w", err)
	}
	return slices.DeleteFunc(all, func(r runbooks.Runbook) bool { return r.Path == "README.md" }), problems, nil
}

// Find implements analyzer.Runbooks.
func (p pages) Find(ctx context.Context, inc incident.Incident, hyps []incident.Hypothesis) ([]incident.RunbookHit, string, error) {
	res, err := p.index.Search(ctx, runbooks.QueryOf(inc, hyps))
	if err != nil {
		return nil, "", err
	}
	if !res.Confident || len(res.Hits) == 0 {
		return nil, res.Degraded, nil // no page is better than a wrong one at 3 a.m.
	}
	hits := res.Hits[:1]
	for _, h := range res.Hits[1:min(len(res.Hits), 3)] {
		if h.Score >= nearHit*hits[0].Score {
			hits = append(hits, h)
		}
	}
	return hits, res.Degraded, nil
}

// indexOf indexes the pages with the built-in embedding.
func indexOf(ctx context.Context, books []runbooks.Runbook) (*runbooks.Index, error) {
	x := runbooks.NewIndex(runbooks.Options{})
	if err := x.Replace(ctx, books); err != nil {
		return nil, fmt.Errorf("index runbooks: %w", err)
	}
	return x, nil
}
