package runbooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// pagesOf parses pages given as path, text, path, text, …
func pagesOf(t testing.TB, files ...string) []Runbook {
	t.Helper()
	var out []Runbook
	for i := 0; i < len(files); i += 2 {
		rb, err := Parse(files[i], strings.NewReader(files[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rb)
	}
	return out
}

func indexed(t testing.TB, opt Options, files ...string) *Index {
	t.Helper()
	x := NewIndex(opt)
	if err := x.Replace(t.Context(), pagesOf(t, files...)); err != nil {
		t.Fatal(err)
	}
	return x
}

func search(t testing.TB, x *Index, q Query) Result {
	t.Helper()
	res, err := x.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func found(res Result) []string {
	out := []string{}
	for _, h := range res.Hits {
		out = append(out, h.Path)
	}
	return out
}

var small = []string{
	"mem.md", "---\ncauses: [OOMKilled]\nactions: [RolloutUndo]\n---\n# Container killed for memory\n## Symptoms\nThe container is OOMKilled, exit code 137.\n## Fix\n```sh\nkubectl rollout undo deploy/x\n```\n",
	"quota.md", "---\ncauses: [QuotaExceededMemory]\n---\n# Memory quota of the namespace is used up\nPods are not created: exceeded quota, memory.\n",
	"fleet.md", "---\nwhen: 'clusters > 1 && factor == \"image\"'\n---\n# One image breaks many clusters: memory\nContainers of one image are OOMKilled in several clusters.\n",
	"prod.md", "---\nlabels: {env: prod}\nnot_when: 'labels.tier == \"free\"'\n---\n# Memory trouble of production\nContainers are OOMKilled in production.\n",
	"disk.md", "# NodeDiskPressure\n## Meaning\nThe node runs out of disk space and evicts pods.\n",
	"dns.md", "# CoreDNSDown\n## Meaning\nNames do not resolve.\n",
}

func TestPreconditionsRejectWithTheirReason(t *testing.T) {
	x := indexed(t, Options{}, small...)
	tests := []struct {
		name  string
		facts Facts
		text  string
		first string
		why   map[string]string // of the rejected
	}{
		{"the page for the cause comes first, that for another is rejected", Facts{Cause: "OOMKilled", Confidence: 0.9}, "memory OOMKilled quota", "mem.md",
			map[string]string{"quota.md": "needs cause QuotaExceededMemory; this is OOMKilled", "fleet.md": `needs clusters > 1 && factor == "image", which does not hold`, "prod.md": `needs label env=prod; here it is ""`}},
		{"likeness does not beat the cause", Facts{Cause: "QuotaExceededMemory", Confidence: 0.9}, "container killed for memory OOMKilled exit code 137", "quota.md",
			map[string]string{"mem.md": "needs cause OOMKilled; this is QuotaExceededMemory"}},
		{"a condition that holds lets a page in", Facts{Clusters: []string{"a", "b"}, Factor: "image"}, "one image OOMKilled in several clusters", "fleet.md", nil},
		{"a condition that fails to evaluate does not hold", Facts{Labels: map[string]string{"env": "prod"}}, "production OOMKilled", "mem.md",
			map[string]string{"prod.md": "cannot be told"}},
		{"a condition against it holds", Facts{Labels: map[string]string{"env": "prod", "tier": "free"}}, "production OOMKilled", "mem.md", map[string]string{"prod.md": "which holds"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := search(t, x, Query{Text: tt.text, Labels: tt.facts.Labels, Facts: tt.facts})
			if len(res.Hits) == 0 || res.Hits[0].Path != tt.first {
				t.Errorf("found %v, want %s first", found(res), tt.first)
			}
			for path, why := range tt.why {
				i := slices.IndexFunc(res.Rejected, func(h incident.RunbookHit) bool { return h.Path == path })
				if i < 0 || res.Rejected[i].Applies || !strings.Contains(res.Rejected[i].Why[0], why) {
					t.Errorf("%s is not rejected with %q: %+v", path, why, res.Rejected)
				}
			}
		})
	}
}

func TestConditionsAreBounded(t *testing.T) {
	facts := Facts{}
	for i := range 2000 {
		facts.Reasons = append(facts.Reasons, fmt.Sprint("reason", i))
	}
	// On a busy machine the deadline comes before the cost limit; both stop it.
	tests := []struct{ name, src, want string }{
		{"a nested loop hits the cost limit or the deadline", `reasons.all(a, reasons.all(b, a != b || a == b))`, "exceeded"},
		{"a missing key is an error", `labels["nope"] == "x"`, "no such key"},
		{"a division by zero is an error", `members / 0 == 1`, "division by zero"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prg, err := compileCondition(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			ok, err := holds(t.Context(), prg, facts.activation())
			if ok || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("holds = %v, %v; want an error with %q", ok, err, tt.want)
			}
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	if _, err := compileCondition(strings.Repeat("!", maxConditionBytes) + "true"); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("an over-long condition: %v, want ErrInvalid", err)
	}
}

func TestAHitShowsTheSectionAndItsCommandsAndActions(t *testing.T) {
	x := indexed(t, Options{}, small...)
	res := search(t, x, Query{Text: "how to undo the rollout: kubectl rollout undo", Facts: Facts{Cause: "OOMKilled"}})
	h := res.Hits[0]
	if h.Section != "Container killed for memory › Fix" || !slices.Equal(h.Commands, []string{"kubectl rollout undo deploy/x"}) ||
		!slices.Equal(h.Actions, []incident.ActionName{"RolloutUndo"}) || !h.Applies {
		t.Errorf("hit %+v", h)
	}
}

func TestNothingIsClaimedWhenNothingApplies(t *testing.T) {
	x, _ := libraryIndex(t)
	for _, text := range []string{"", "Inlet temperature of chassis blade-14 reads 41 degrees, fans at 100%", "MySQL InnoDB force recovery is enabled",
		"Der Drucker im dritten Stock hat kein Papier", "GET /health 200 OK"} {
		if res := search(t, x, QueryOfText("", text, nil)); res.Confident {
			t.Errorf("%q is answered with %s (%.2f)", text, res.Hits[0].Path, res.Confidence)
		}
	}
	empty := NewIndex(Options{})
	if res := search(t, empty, QueryOfText("", "OOMKilled", nil)); res.Confident || len(res.Hits) > 0 || len(res.Reasons) == 0 {
		t.Errorf("an empty index answered %+v", res)
	}
}

func TestAPageThatNamesAnotherCauseGoesBehind(t *testing.T) {
	x := indexed(t, Options{}, "a/ImageNotFound.md", "# ImageNotFound\nThe container does not start, waiting in the cluster.\n", "b/Start.md", "# Container does not start\nThe container does not start.\n")
	q := Query{Text: "the container does not start and is waiting for its image"}
	score := func() (float64, []string) {
		for _, h := range search(t, x, q).Hits {
			if h.Path == "a/ImageNotFound.md" {
				return h.Score, h.Why
			}
		}
		return 0, nil
	}
	before, _ := score()
	q.Facts.Cause = "SecretMissing"
	after, why := score()
	if before-after < causeClashWeight-0.01 || !slices.Contains(why, "its name says ImageNotFound; this is SecretMissing") {
		t.Errorf("score %.2f without a cause, %.2f with another: %v", before, after, why)
	}
}

func TestTheSamePagesAndQueryGiveTheSameResult(t *testing.T) {
	x, pages := libraryIndex(t)
	y := NewIndex(Options{})
	if err := y.Replace(t.Context(), pages); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"pod pending insufficient memory", "x509 certificate has expired", "no space left on device"} {
		q := QueryOfText("", text, nil)
		a, b := search(t, x, q), search(t, y, q)
		if !slices.Equal(found(a), found(b)) || a.Confidence != b.Confidence {
			t.Errorf("%q: %v and %v", text, found(a), found(b))
		}
	}
}

// fakeEmbedder embeds a text by whether it holds its word; it counts texts and can fail.
type fakeEmbedder struct {
	name, word string
	mu         sync.Mutex
	texts      int
	fail       bool
}

func (f *fakeEmbedder) Name() string { return f.name }

func (f *fakeEmbedder) Embed(_ context.Context, texts []string) ([][]float32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return nil, errors.New("endpoint is away")
	}
	f.texts += len(texts)
	out := make([][]float32, len(texts))
	for i, s := range texts {
		out[i] = []float32{0.1, 1}
		if strings.Contains(s, f.word) {
			out[i] = []float32{1, 0.1}
		}
	}
	return out, nil
}

func TestOnlyChangedSectionsAreEmbeddedAgain(t *testing.T) {
	e := &fakeEmbedder{name: "m-2", word: "disk"}
	x := indexed(t, Options{Embedder: e}, small...)
	e.texts = 0
	changed := slices.Clone(small)
	changed[len(changed)-1] += "One more line.\n"
	if err := x.Replace(t.Context(), pagesOf(t, changed...)); err != nil {
		t.Fatal(err)
	}
	if e.texts != 1 {
		t.Errorf("%d sections were embedded after one changed, want 1", e.texts)
	}
}

func TestWithoutItsEmbeddingAnIndexSearchesByWordsAndSaysSo(t *testing.T) {
	e := &fakeEmbedder{name: "m-2", word: "disk", fail: true}
	x := NewIndex(Options{Embedder: e})
	if err := x.Replace(t.Context(), pagesOf(t, small...)); err == nil {
		t.Error("a failed embedding gave no error")
	}
	res := search(t, x, QueryOfText("", "node out of disk space", nil))
	if got := found(res); got[0] != "disk.md" || !strings.Contains(res.Degraded, "away") {
		t.Errorf("found %v, degraded %q", got, res.Degraded)
	}
	e.fail = false
	if err := x.Replace(t.Context(), pagesOf(t, small...)); err != nil {
		t.Fatal(err)
	}
	if res := search(t, x, QueryOfText("", "node out of disk space", nil)); res.Degraded != "" {
		t.Errorf("still degraded: %s", res.Degraded)
	}
	e.fail = true
	if res := search(t, x, QueryOfText("", "node out of disk space", nil)); found(res)[0] != "disk.md" || res.Degraded == "" {
		t.Errorf("with the query's embedding failing: %v, degraded %q", found(res), res.Degraded)
	}
}

func TestTheOldEmbeddingServesUntilTheNewOneIsReady(t *testing.T) {
	a := &fakeEmbedder{name: "a-2", word: "disk"}
	x := indexed(t, Options{Embedder: a}, small...)
	bad := &fakeEmbedder{name: "b-2", word: "disk", fail: true}
	if err := x.Reembed(t.Context(), bad); err == nil {
		t.Error("a failed change of the embedding gave no error")
	}
	a.texts = 0
	if res := search(t, x, QueryOfText("", "disk", nil)); res.Degraded != "" || a.texts != 1 {
		t.Errorf("after the failed change: degraded %q, old embedding asked %d times; want it to serve", res.Degraded, a.texts)
	}
	b := &fakeEmbedder{name: "b-2", word: "resolve"}
	if err := x.Reembed(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	a.texts, b.texts = 0, 0
	search(t, x, QueryOfText("", "disk", nil))
	if a.texts != 0 || b.texts != 1 {
		t.Errorf("after the change old and new were asked %d and %d times, want 0 and 1", a.texts, b.texts)
	}
}

func TestSearchLinesAnswersEveryLineInOrder(t *testing.T) {
	x := indexed(t, Options{}, small...)
	var out strings.Builder
	err := x.SearchLines(t.Context(), strings.NewReader(`{"id":"1","text":"node disk pressure","labels":{"alertname":"NodeDiskPressure"}}`+"\n\n"+`{"id":"2","text":"zzz"}`+"\n"), &out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `{"id":"1","ranked":["disk.md"`) || !strings.HasPrefix(lines[1], `{"id":"2","ranked":[`) || !strings.Contains(lines[1], `"confident":false`) {
		t.Errorf("answered %q", lines)
	}
	if err := x.SearchLines(t.Context(), strings.NewReader("{\"id\":1}\n"), &out); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("a wrong line: %v, want ErrInvalid", err)
	}
}

func TestSearchesMayRunWhilePagesAreReplaced(t *testing.T) {
	x := indexed(t, Options{}, small...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if res := search(t, x, QueryOfText("", "node disk pressure", nil)); len(res.Hits) == 0 {
					t.Error("nothing found while pages are replaced")
				}
			}
		})
	}
	for range 10 {
		if err := x.Replace(t.Context(), pagesOf(t, small...)); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestPagesNobodyCanFindAreReported(t *testing.T) {
	x := indexed(t, Options{}, append(slices.Clone(small), "never.md", "---\nwhen: 'cause == \"OOMKilled\" && cause != \"OOMKilled\"'\n---\n# Never found\nx\n")...)
	problems, err := x.Unreachable(t.Context())
	if err != nil || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Path == "never.md" }) || slices.ContainsFunc(problems, func(p Problem) bool { return p.Path == "disk.md" }) {
		t.Errorf("reported %v, %v; want never.md and not disk.md", problems, err)
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	pages := pagesOf(t, "old.md", "---\nexpires: 2026-01-01\n---\n# Old\n", "used.md", "# Used\n")
	report := Report(pages, map[string]Use{"used.md": {Shown: 1, Last: now}}, now.AddDate(0, -3, 0), now, 365*24*time.Hour)
	if len(report) != 2 || report[0].Path != "old.md" || report[1].Path != "old.md" {
		t.Errorf("report %v, want old.md expired and unused", report)
	}
}

func TestANewPageIsValidOnceFilledIn(t *testing.T) {
	for _, c := range incident.Causes() {
		text, err := New(c.Name, "platform")
		if err != nil {
			t.Fatal(err)
		}
		rb := pagesOf(t, "x.md", text)[0]
		if rb.Front.Causes[0] != c.Name || rb.Front.Owner != "platform" {
			t.Errorf("%s: %+v", c.Name, rb.Front)
		}
		if p := Lint([]Runbook{rb}, time.Now()); len(p) > 0 {
			t.Errorf("%s: %v", c.Name, p)
		}
	}
	if _, err := New("OOMKiled", ""); !errors.Is(err, incident.ErrInvalid) || !strings.Contains(err.Error(), `"OOMKilled"`) {
		t.Errorf("an unknown cause: %v", err)
	}
}
