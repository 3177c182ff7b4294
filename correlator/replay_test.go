package correlator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/correlator/simulate"
	"github.com/tocsin-io/tocsin/incident"
)

func TestReplayGroupsAFile(t *testing.T) {
	events, truth, err := simulate.Generate(simulate.Config{Seed: 5, Clusters: 10, Kinds: []string{"image-waves"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := correlator.Replay(context.Background(), bytes.NewReader(jsonLines(events)), correlator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var rep []simulate.Reported
	for _, inc := range got.Incidents {
		rep = append(rep, simulate.Reported{Signals: inc.Signals, Severity: inc.Severity, Shared: inc.Shared, Root: inc.Root, Cause: inc.Cause})
	}
	if s := simulate.Compare(truth, rep); s.Found != s.True || s.F1 < 0.95 || s.FactorOK != s.FactorTrue {
		t.Errorf("score %+v", s)
	}
	if got.Stats.Signals == 0 || got.Stats.Seconds <= 0 || got.Stats.PeakBytes == 0 || got.Stats.Skipped != 0 {
		t.Errorf("stats %+v", got.Stats)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"incidents":[`, `"sharedFactor":`, `"root":`, `"closedAt":`, `"peakBytes":`} {
		if !strings.Contains(string(b), field) {
			t.Errorf("the reply lacks %s", field)
		}
	}
}

func TestReplayOfUnusableInput(t *testing.T) {
	good := string(jsonLines([]incident.Event{{Inventory: &incident.Inventory{ID: "i", Source: "s", Time: simTime, Cluster: "c"}}}))
	cases := []struct {
		name, in string
		skipped  int
		err      error
	}{
		{"nothing at all", "", 0, nil},
		{"blank lines", "\n\n" + good + "\n", 0, nil},
		{"one bad line among good ones", good + "{not json\n" + good, 1, nil},
		{"an unknown type", good + `{"specversion":"1.0","id":"x","source":"s","type":"other.v1","time":"2026-01-01T00:00:00Z","data":{}}` + "\n" + good, 1, nil},
		{"some other file", "hello\n" + good, 0, incident.ErrInvalid},
		{"mostly rubbish", good + strings.Repeat("rubbish\n", 5), 0, incident.ErrInvalid},
		{"a line without end", good + strings.Repeat("x", incident.MaxEventBytes+10), 0, incident.ErrInvalid},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := correlator.Replay(context.Background(), strings.NewReader(tc.in), correlator.Config{})
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil && got.Stats.Skipped != tc.skipped {
				t.Errorf("skipped %d (%s), want %d", got.Stats.Skipped, got.Stats.FirstSkipped, tc.skipped)
			}
		})
	}
}

func TestReplayStopsWhenTold(t *testing.T) {
	events, _, err := simulate.Generate(simulate.Config{Seed: 5, Clusters: 20, Kinds: []string{"image-waves"}, Noise: 40})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := correlator.Replay(ctx, bytes.NewReader(jsonLines(events)), correlator.Config{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

func FuzzReplay(f *testing.F) {
	events, _, err := simulate.Generate(simulate.Config{Seed: 3, Clusters: 2, Kinds: []string{"oom"}, Noise: 1})
	if err != nil {
		f.Fatal(err)
	}
	b := jsonLines(events)
	f.Add(b[:min(len(b), 1<<14)])
	f.Add([]byte("{}\n[]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := correlator.Replay(context.Background(), bytes.NewReader(b), correlator.Config{})
		if err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatalf("error of another kind: %v", err)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	c := correlator.New(correlator.Config{})
	b, err := c.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := correlator.New(correlator.Config{})
		if err := c.Restore(b); err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatalf("error of another kind: %v", err)
		}
		c.Changed()
	})
}
