package runbooks

import (
	"fmt"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks/library"
)

func libraryIndex(t testing.TB) (*Index, []Runbook) {
	t.Helper()
	pages, problems, err := Load(t.Context(), library.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if len(pages) == 0 {
		t.Fatal("the library is empty")
	}
	x := NewIndex(Options{})
	if err := x.Replace(t.Context(), pages); err != nil {
		t.Fatal(err)
	}
	return x, pages
}

func TestTheStarterLibraryIsClean(t *testing.T) {
	_, pages := libraryIndex(t)
	for _, p := range Lint(pages, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)) {
		t.Error(p)
	}
}

func TestAnIncidentWithACauseGetsThePageForThatCause(t *testing.T) {
	x, pages := libraryIndex(t)
	byCause := map[incident.CauseName]bool{}
	for _, rb := range pages {
		for _, c := range rb.Front.Causes {
			byCause[c] = true
		}
	}
	for _, info := range incident.Causes() {
		if !byCause[info.Name] {
			continue
		}
		e := incident.Entity{Kind: info.Blames, Namespace: "shop", Name: "cart"}
		if info.Blames == "Workload" {
			e.Kind = "Deployment"
		}
		inc := incident.Incident{ID: "inc-a", Title: e.String() + ": " + info.Line, Cause: info.Name, Confidence: 0.9, Clusters: []incident.ClusterName{"eu-1"},
			Root: &incident.Ref{Cluster: "eu-1", Entity: e}}
		hyps := []incident.Hypothesis{{Rank: 1, Cause: info.Name, Object: e, Confidence: 0.9, Summary: inc.Title}}
		res, err := x.Search(t.Context(), QueryOf(inc, hyps))
		if err != nil {
			t.Fatal(err)
		}
		if err := wantPageFor(res, pages, info.Name); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
	}
}

func wantPageFor(res Result, pages []Runbook, cause incident.CauseName) error {
	if len(res.Hits) == 0 {
		return fmt.Errorf("nothing found; rejected %v", res.Rejected)
	}
	for _, rb := range pages {
		if rb.Path != res.Hits[0].Path {
			continue
		}
		for _, c := range rb.Front.Causes {
			if c == cause {
				if !res.Confident {
					return fmt.Errorf("%s is found but not confidently (%.2f: %v)", rb.Path, res.Confidence, res.Reasons)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("found %s first (%v)", res.Hits[0].Path, res.Hits[0].Why)
}
