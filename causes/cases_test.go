package causes

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// expectation is the header of a case: what the engine must and must not say about it.
type expectation struct {
	file    string
	want    *blamed // rank 1; with also, one of the first
	also    []blamed
	not     []incident.CauseName
	fix     []string // "Action Kind/ns/name k=v …", parameters in name order, of the wanted cause
	verdict Verdict  // Healthy or Insufficient; empty: faulty
}

// blamed is a cause with its object.
type blamed struct {
	cause  incident.CauseName
	object incident.Entity
}

func (b blamed) String() string { return string(b.cause) + " " + b.object.String() }

func (b blamed) is(h incident.Hypothesis) bool {
	return h.Cause == b.cause && h.Object.Key() == b.object.Key()
}

func TestCases(t *testing.T) {
	for _, file := range caseFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, exp := readCase(t, file)
			files := fstest.MapFS{}
			for _, f := range ar.Files {
				files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			st, err := cluster.ReadFS(context.Background(), files, "case")
			if err != nil {
				t.Fatalf("the snapshot cannot be read: %v", err)
			}
			if len(st.Gaps()) > 0 {
				t.Errorf("the snapshot was read with gaps: %q", st.Gaps())
			}
			exp.check(t, Analyze(st))
		})
	}
}

// check compares a result with the header and prints the whole ranking when they differ.
func (exp expectation) check(t *testing.T, r Result) {
	t.Helper()
	bad := exp.differences(r)
	if len(bad) == 0 {
		return
	}
	var b strings.Builder
	for _, h := range r.Hypotheses {
		fmt.Fprintf(&b, "\n\t%d. %s %s %.2f %s: %s", h.Rank, h.Cause, h.Object, h.Confidence, h.Severity, h.Summary)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "\n\tmissing: %s", m)
	}
	t.Errorf("%s\n\tverdict %s%s", strings.Join(bad, "\n\t"), r.Verdict, b.String())
}

func (exp expectation) differences(r Result) (bad []string) {
	said := func(p func(incident.Hypothesis) bool) bool {
		for _, h := range r.Hypotheses {
			if p(h) {
				return true
			}
		}
		return false
	}
	verdict := Faulty
	if exp.verdict != "" {
		verdict = exp.verdict
	}
	if r.Verdict != verdict {
		bad = append(bad, fmt.Sprintf("verdict is %s, want %s", r.Verdict, verdict))
	}
	if exp.want != nil {
		bad = append(bad, exp.notFirst(r.Hypotheses)...)
		bad = append(bad, exp.notProposed(r.Hypotheses)...)
	}
	for _, n := range exp.not {
		if said(func(h incident.Hypothesis) bool { return h.Cause == n }) {
			bad = append(bad, "must not say "+string(n))
		}
	}
	if exp.verdict == Healthy && said(func(h incident.Hypothesis) bool { return h.Severity != incident.Info }) {
		bad = append(bad, "a healthy cluster gives nothing above info")
	}
	for _, h := range r.Hypotheses {
		if len(h.Evidence) == 0 {
			bad = append(bad, fmt.Sprintf("%s %s cites no evidence", h.Cause, h.Object))
		}
	}
	return bad
}

// notFirst returns which of the wanted causes are not among the first; independent faults may
// come in any order, but before everything else.
func (exp expectation) notFirst(hs []incident.Hypothesis) (bad []string) {
	wanted := append([]blamed{*exp.want}, exp.also...)
	for _, w := range wanted {
		if !slices.ContainsFunc(hs[:min(len(hs), len(wanted))], w.is) {
			bad = append(bad, "want first: "+w.String())
		}
	}
	return bad
}

// notProposed returns which fixes the wanted cause does not propose, with those it does.
func (exp expectation) notProposed(hs []incident.Hypothesis) (bad []string) {
	var have []string
	for _, h := range hs {
		if !exp.want.is(h) {
			continue
		}
		for _, p := range h.Proposals {
			s := string(p.Action) + " " + p.Target.Entity.String()
			for _, k := range slices.Sorted(maps.Keys(p.Params)) {
				s += " " + k + "=" + p.Params[k]
			}
			have = append(have, s)
		}
	}
	for _, f := range exp.fix {
		if !slices.Contains(have, f) {
			bad = append(bad, fmt.Sprintf("want the fix %q among %q", f, have))
		}
	}
	return bad
}

// TestEveryCauseHasItsCases holds the catalogue to its tests: outside the family of fleets, which
// no single cluster shows, every cause is wanted by one case at least and ruled out by another.
func TestEveryCauseHasItsCases(t *testing.T) {
	positive, negative := map[incident.CauseName]int{}, map[incident.CauseName]int{}
	healthy, insufficient, double := 0, 0, 0
	for _, file := range caseFiles(t) {
		_, exp := readCase(t, file)
		if exp.want != nil {
			positive[exp.want.cause]++
		}
		for _, n := range exp.not {
			negative[n]++
		}
		switch {
		case exp.verdict == Healthy:
			healthy++
		case exp.verdict == Insufficient:
			insufficient++
		case len(exp.also) > 0:
			double++
		}
	}
	for _, c := range incident.Causes() {
		if c.Family == incident.FamilyFleet {
			continue
		}
		if positive[c.Name] == 0 {
			t.Errorf("%s: no case wants it", c.Name)
		}
		if negative[c.Name] == 0 {
			t.Errorf("%s: no near miss rules it out", c.Name)
		}
	}
	if healthy < 10 || insufficient < 5 || double < 12 {
		t.Errorf("%d healthy, %d insufficient and %d double faults: want 10, 5 and 12", healthy, insufficient, double)
	}
}

func caseFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "cases", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/cases: %v", err)
	}
	return files
}

func readCase(t testing.TB, file string) (*txtar.Archive, expectation) {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	exp, err := parseExpectation(string(ar.Comment))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	exp.file = file
	return ar, exp
}

// parseExpectation reads "want: CAUSE Kind/ns/name", "also: …", "not: CAUSE", "fix: ACTION Kind/ns/name k=v …",
// "healthy" and "insufficient"; every other line is a description.
func parseExpectation(header string) (expectation, error) {
	var exp expectation
	for line := range strings.Lines(header) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "healthy":
			exp.verdict = Healthy
		case "insufficient":
			exp.verdict = Insufficient
		case "fix":
			exp.fix = append(exp.fix, value)
		case "not":
			if _, ok := incident.LookupCause(incident.CauseName(value)); !ok {
				return exp, fmt.Errorf("not: unknown cause %q", value)
			}
			exp.not = append(exp.not, incident.CauseName(value))
		case "want", "also":
			cause, object, _ := strings.Cut(value, " ")
			if _, ok := incident.LookupCause(incident.CauseName(cause)); !ok {
				return exp, fmt.Errorf("%s: unknown cause %q", key, cause)
			}
			e, err := incident.ParseEntity(strings.TrimSpace(object))
			if err != nil {
				return exp, err
			}
			if b := (blamed{incident.CauseName(cause), e}); key == "want" {
				exp.want = &b
			} else {
				exp.also = append(exp.also, b)
			}
		}
	}
	if exp.want == nil && exp.verdict == "" {
		return exp, fmt.Errorf("the header wants nothing")
	}
	return exp, nil
}
