package causes

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"testing/fstest"

	"github.com/tocsin-io/tocsin/cluster"
)

// TestSameAnswerEveryTime reads and analyses every case several times: no map order may show in
// an answer or a signal.
func TestSameAnswerEveryTime(t *testing.T) {
	for _, file := range caseFiles(t) {
		ar, _ := readCase(t, file)
		files := fstest.MapFS{}
		for _, f := range ar.Files {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
		var first []byte
		for range 3 {
			st, err := cluster.ReadFS(context.Background(), files, "case")
			if err != nil {
				t.Fatal(err)
			}
			r := Analyze(st)
			b, err := json.Marshal([]any{r, Signals(st, r)})
			if err != nil {
				t.Fatal(err)
			}
			if first != nil && !bytes.Equal(first, b) {
				t.Errorf("%s: two answers:\n%.1500s\n%.1500s", file, first, b)
				break
			}
			first = b
		}
	}
}

// TestAnswersKeepTheWireForm checks the fields that outside tools read, on every case.
func TestAnswersKeepTheWireForm(t *testing.T) {
	for _, file := range caseFiles(t) {
		ar, _ := readCase(t, file)
		files := fstest.MapFS{}
		for _, f := range ar.Files {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
		st, err := cluster.ReadFS(context.Background(), files, "case")
		if err != nil {
			t.Fatal(err)
		}
		r := Analyze(st)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Cluster, CollectedAt, Verdict string
			Hypotheses                    []map[string]json.RawMessage
			Coverage                      map[string]any
		}
		if err := json.Unmarshal(b, &out); err != nil || out.Cluster == "" || out.CollectedAt == "" || out.Verdict == "" || out.Hypotheses == nil || out.Coverage == nil {
			t.Fatalf("%s: %v: %.300s", file, err, b)
		}
		for _, h := range out.Hypotheses {
			for _, k := range []string{"rank", "cause", "object", "confidence", "summary", "explains", "related", "evidence", "proposals"} {
				if v := h[k]; len(v) == 0 || string(v) == "null" {
					t.Errorf("%s: %s lacks %s", file, h["cause"], k)
				}
			}
		}
		for _, s := range Signals(st, r) {
			s.ID, s.Source = "x", "/test"
			if err := s.Validate(); err != nil {
				t.Errorf("%s: signal %s: %v", file, s.Reason, err)
			}
		}
		for _, h := range r.Hypotheses {
			for _, p := range h.Proposals {
				if p.ID == "" || p.Target.Cluster == "" || p.Target.Entity.IsZero() || p.Summary == "" || p.Action == "" && p.Step == "" {
					t.Errorf("%s: %s proposes %+v", file, h.Cause, p)
				}
			}
		}
	}
}
