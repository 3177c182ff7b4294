package correlator

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

type sigOpt func(*incident.Signal)

func sig(cluster, entity, reason string, at time.Duration, opts ...sigOpt) incident.Event {
	e, err := incident.ParseEntity(entity)
	if err != nil {
		panic(err)
	}
	s := &incident.Signal{Source: "/clusters/" + cluster + "/collectors/kube", Time: t0.Add(at), Cluster: incident.ClusterName(cluster), Entity: e, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: reason}
	for _, o := range opts {
		o(s)
	}
	s.ID = incident.NewSignalID(s)
	return incident.Event{Signal: s}
}

func owner(s string) sigOpt {
	return func(x *incident.Signal) { e, _ := incident.ParseEntity(s); x.Owner = &e }
}
func resolved(s *incident.Signal) { s.Status = incident.Resolved }
func factor(name incident.FactorName, value string) sigOpt {
	return func(x *incident.Signal) {
		if x.Factors == nil {
			x.Factors = incident.Factors{}
		}
		x.Factors[name] = value
	}
}

func mustApply(t *testing.T, c *Correlator, evs ...incident.Event) {
	t.Helper()
	for _, ev := range evs {
		if err := c.Apply(ev); err != nil {
			t.Fatal(err)
		}
	}
}

func crashing(cluster, ns, name string, at time.Duration, opts ...sigOpt) []incident.Event {
	var out []incident.Event
	for i := range 4 {
		o := append([]sigOpt{owner("Deployment/" + ns + "/" + name)}, opts...)
		out = append(out, sig(cluster, fmt.Sprintf("Pod/%s/%s-7d9f8c6b5-x%dk2z", ns, name, i%2), "CrashLoopBackOff", at+time.Duration(i)*time.Minute, o...))
	}
	return out
}

func TestBadImageInThreeClustersIsOneIncident(t *testing.T) {
	c := New(Config{})
	for i := range 10 {
		cl := fmt.Sprintf("c%d", i)
		img := map[string]int{"reg/cart:v1": 1, "reg/other:v1": 30}
		if i < 3 {
			img = map[string]int{"reg/cart:v2": 1, "reg/other:v1": 30}
		}
		mustApply(t, c, incident.Event{Inventory: &incident.Inventory{ID: incident.SignalID("inv" + cl), Source: "s", Time: t0, Cluster: incident.ClusterName(cl), Workloads: 31, Factors: map[incident.FactorName]map[string]int{"image": img}}})
	}
	for i := range 3 {
		mustApply(t, c, crashing(fmt.Sprintf("c%d", i), "shop", "cart", time.Duration(i)*20*time.Minute, factor("image", "reg/cart:v2"))...)
	}
	got := c.Changed()
	if len(got) != 1 || got[0].Shared == nil || got[0].Shared.Value != "reg/cart:v2" || len(got[0].Clusters) != 3 || got[0].Shared.Affected != 3 || got[0].Shared.Total != 3 {
		t.Fatalf("got %+v", got)
	}
	if len(c.Changed()) != 0 {
		t.Fatal("a second drain without news returned incidents")
	}
}

func TestSnapshotOfANewerFormatIsRefused(t *testing.T) {
	c := New(Config{})
	if err := c.Restore([]byte("nonsense")); !errors.Is(err, incident.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}
