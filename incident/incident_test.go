package incident

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func sample() *Signal {
	s := &Signal{Source: "/clusters/eu-1/collectors/kube", Time: time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC), Cluster: "eu-1",
		Entity: Entity{Kind: "Pod", Namespace: "shop", Name: "cart-7d9f"}, Kind: Symptom, Status: Firing, Severity: Warning,
		Reason: "ImagePullBackOff", Owner: &Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"},
		Factors: Factors{FactorImage: "ghcr.io/acme/cart:v9"}}
	s.ID = NewSignalID(s)
	return s
}

func TestEventRoundTrip(t *testing.T) {
	events := []Event{{Signal: sample()},
		{Inventory: &Inventory{ID: "i", Source: "/clusters/eu-1/agent", Time: sample().Time, Cluster: "eu-1", Workloads: 3,
			Factors: map[FactorName]map[string]int{FactorZone: {"eu-1a": 3}}}},
		{Topology: &Topology{ID: "t", Source: "/clusters/eu-1/agent", Time: sample().Time, Cluster: "eu-1",
			Edges: []Edge{{From: Entity{Kind: "Pod", Namespace: "a", Name: "b"}, To: Entity{Kind: "Node", Name: "n"}, Kind: RunsOn}}}}}
	b, err := EncodeBatch(events)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EncodeBatch(got)
	if err != nil || string(again) != string(b) {
		t.Fatalf("round trip changed the batch: %v\n%s\n%s", err, b, again)
	}
}

func TestDecodeRefusesWithFieldName(t *testing.T) {
	good, err := json.Marshal(Event{Signal: sample()})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, names string }{
		"an unknown kind":         {`"kind":"symptom"`, `"kind":"panic"`, "kind"},
		"an empty cluster":        {`"cluster":"eu-1"`, `"cluster":""`, "cluster"},
		"a bad time":              {`"time":"2026-11-20T20:00:00Z"`, `"time":"yesterday"`, "time"},
		"a year that overflows":   {`"time":"2026-11-20T20:00:00Z"`, `"time":"9999-11-20T20:00:00Z"`, "year"},
		"a control character":     {`"name":"cart-7d9f"`, `"name":"cart\u001b[2J"`, "entity.name"},
		"an unknown type":         {TypeSignal, "tocsin.shell.v1", "type"},
		"an unknown spec version": {`"specversion":"1.0"`, `"specversion":"0.3"`, "specversion"},
	} {
		t.Run(name, func(t *testing.T) {
			var e Event
			err := json.Unmarshal([]byte(strings.Replace(string(good), c.old, c.new, 1)), &e)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.names) {
				t.Fatalf("got %v, want ErrInvalid naming %q", err, c.names)
			}
		})
	}
}

func TestSignalIDDependsOnEveryPart(t *testing.T) {
	base := NewSignalID(sample())
	if base != NewSignalID(sample()) {
		t.Fatal("not deterministic")
	}
	for name, change := range map[string]func(*Signal){
		"status":  func(s *Signal) { s.Status = Resolved },
		"entity":  func(s *Signal) { s.Entity.Name = "x" },
		"cluster": func(s *Signal) { s.Cluster = "eu-2" },
		"reason":  func(s *Signal) { s.Reason = "x" },
		"time":    func(s *Signal) { s.Time = s.Time.Add(time.Millisecond) },
	} {
		s := sample()
		change(s)
		if NewSignalID(s) == base {
			t.Errorf("%s does not change the ID", name)
		}
	}
}

func TestStrictestIsSafeByDefault(t *testing.T) {
	if Strictest(nil) != Deny || Strictest([]Verdict{{}}) != Deny {
		t.Fatal("no verdict or a zero verdict must deny")
	}
	if Strictest([]Verdict{{Decision: Allow}, {Decision: Ask}}) != Ask || Strictest([]Verdict{{Decision: Allow}}) != Allow {
		t.Fatal("order of decisions")
	}
}

func TestPlainRemovesTerminalEscapes(t *testing.T) {
	got := UntrustedText("a\x1b[31mred\u202e\nb").Plain(100)
	if strings.ContainsAny(got, "\x1b\n\u202e") {
		t.Fatalf("%q", got)
	}
	if c := Clip("äääää", 6); c != "ä…" {
		t.Fatalf("clip cut a rune: %q", c)
	}
}

func FuzzEvent(f *testing.F) {
	good, _ := json.Marshal(Event{Signal: sample()})
	f.Add(good)
	f.Add([]byte(`{"specversion":"1.0","type":"tocsin.topology.v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Event
		if err := json.Unmarshal(b, &e); err != nil {
			return
		}
		if _, err := json.Marshal(e); err != nil {
			t.Fatalf("accepted but cannot be written: %v", err)
		}
	})
}

func FuzzBatch(f *testing.F) {
	good, _ := EncodeBatch([]Event{{Signal: sample()}})
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = DecodeBatch(b) })
}
