package incident

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func sampleEvents(t testing.TB) [][]byte {
	at := time.Date(2026, 3, 1, 10, 0, 0, 123e6, time.UTC)
	own := Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"}
	events := []Event{
		{Signal: &Signal{ID: "a1", Source: "/clusters/c/collectors/kube", Time: at, Cluster: "c", Entity: Entity{Kind: "Pod", Namespace: "shop", Name: "cart-1", UID: "u"}, Kind: Symptom, Status: Firing, Severity: Warning, Reason: "OOMKilled",
			Owner: &own, Message: "said \"no\"\n<é>", Cause: "OOMKilled", Confidence: 0.75, Factors: Factors{FactorImage: "r/c:1"}, Related: []Entity{{Kind: "Node", Name: "n1"}}, Labels: map[string]string{"a": "b"},
			Evidence: []Evidence{{ID: "e1", Source: "logs", Text: "x"}}}},
		{Inventory: &Inventory{ID: "i1", Source: "s", Time: at, Cluster: "c", Workloads: 3, Factors: map[FactorName]map[string]int{FactorImage: {"r/c:1": 2}}}},
		{Topology: &Topology{ID: "t1", Source: "s", Time: at, Cluster: "c", Edges: []Edge{{From: own, To: Entity{Kind: "Node", Name: "n1"}, Kind: RunsOn}}}},
	}
	var out [][]byte
	for _, ev := range events {
		b, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// same fails unless the fast decoder and the generic one agree on b.
func same(t *testing.T, d *Decoder, b []byte) {
	t.Helper()
	var want Event
	werr := want.UnmarshalJSON(b)
	got, gerr := d.Decode(b)
	if (werr == nil) != (gerr == nil) {
		t.Fatalf("%q: generic says %v, fast says %v", b, werr, gerr)
	}
	if werr == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\n got %+v\nwant %+v", b, got, want)
	}
}

func TestDecoderAgreesWithTheGenericOne(t *testing.T) {
	var d Decoder
	for _, b := range sampleEvents(t) {
		same(t, &d, b)
		same(t, &d, b) // again, with everything known
		for i := range b {
			same(t, &d, b[:i])
			for _, c := range []byte(`x"{}[],:0 \`) {
				m := append([]byte(nil), b...)
				m[i] = c
				same(t, &d, m)
			}
		}
	}
}

func FuzzDecoder(f *testing.F) {
	for _, b := range sampleEvents(f) {
		f.Add(b)
	}
	f.Add([]byte(`{"specversion":"1.0","ID":"x","id":"y","source":"s","type":"tocsin.signal.v1","time":"2026-01-01T00:00:00Z","data":null}`))
	f.Add([]byte(`{"specversion":"1.0","id":"y","source":"s","type":"tocsin.inventory.v1","time":"2026-01-01T00:00:00Z","data":{"cluster":"c","workloads":01,"factors":{"a":{"b":1.0}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		same(t, &d, b)
		same(t, &d, b)
	})
}

func BenchmarkDecoder(b *testing.B) {
	line := sampleEvents(b)[0]
	b.SetBytes(int64(len(line)))
	var d Decoder
	for b.Loop() {
		if _, err := d.Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}
