package correlator

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func inventoryOf(cluster string, workloads int, factors map[incident.FactorName]map[string]int) incident.Event {
	return incident.Event{Inventory: &incident.Inventory{ID: incident.SignalID("inv-" + cluster), Source: "/clusters/" + cluster + "/agent", Time: t0.Add(-time.Hour), Cluster: incident.ClusterName(cluster), Workloads: workloads, Factors: factors}}
}

func topologyOf(cluster string, edges ...incident.Edge) incident.Event {
	return incident.Event{Topology: &incident.Topology{ID: incident.SignalID("topo-" + cluster), Source: "/clusters/" + cluster + "/agent", Time: t0.Add(-time.Hour), Cluster: incident.ClusterName(cluster), Edges: edges}}
}

func entity(s string) incident.Entity {
	e, err := incident.ParseEntity(s)
	if err != nil {
		panic(err)
	}
	return e
}

func relatedTo(s string) sigOpt {
	return func(x *incident.Signal) { x.Related = append(x.Related, entity(s)) }
}

func kind(k incident.Kind) sigOpt { return func(x *incident.Signal) { x.Kind = k } }

func open(t *testing.T, c *Correlator) []incident.Incident {
	t.Helper()
	var out []incident.Incident
	for _, inc := range c.Incidents() {
		if inc.State != incident.Merged && len(inc.Signals) > 0 {
			out = append(out, inc)
		}
	}
	return out
}

func TestIncidentClosesAfterQuietAndReopens(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, crashing("c", "shop", "cart", 0)...)
	for i := range 2 {
		mustApply(t, c, sig("c", fmt.Sprintf("Pod/shop/cart-7d9f8c6b5-x%dk2z", i), "CrashLoopBackOff", 8*time.Minute, owner("Deployment/shop/cart"), resolved))
	}
	id := c.Changed()[0].ID
	c.Advance(t0.Add(15 * time.Minute))
	if got := c.Changed(); len(got) != 0 {
		t.Fatalf("seven quiet minutes changed %+v", got[0])
	}
	c.Advance(t0.Add(20 * time.Minute))
	got := c.Changed()
	if len(got) != 1 || got[0].State != incident.Closed || got[0].ClosedAt == nil || !got[0].ClosedAt.Equal(t0.Add(8*time.Minute)) || got[0].Revision != 2 {
		t.Fatalf("after the quiet time: %+v", got)
	}
	mustApply(t, c, crashing("c", "shop", "cart", 40*time.Minute)...)
	got = c.Changed()
	if len(got) != 1 || got[0].ID != id || got[0].State != incident.Open || !hasStep(got[0], incident.StepReopened) {
		t.Fatalf("fired again: %+v", got)
	}
}

func hasStep(inc incident.Incident, k incident.StepKind) bool {
	for _, s := range inc.Timeline {
		if s.Kind == k {
			return true
		}
	}
	return false
}

func TestMergedIncidentRedirectsAndNotesFollow(t *testing.T) {
	c := New(Config{})
	var ids []incident.ID
	for i := range 2 {
		cl := fmt.Sprintf("c%d", i)
		mustApply(t, c, inventoryOf(cl, 30, map[incident.FactorName]map[string]int{"image": {"r/cart:v2": 1}, "zone": {"z": 30}}))
		mustApply(t, c, crashing(cl, "shop", "cart", time.Duration(i)*3*time.Minute)...) // the image is not known yet
	}
	for _, inc := range c.Changed() {
		ids = append(ids, inc.ID)
		if err := c.Note(inc.ID, incident.Step{Time: t0, Text: "looking at " + string(inc.ID)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) != 2 {
		t.Fatalf("%d incidents before the image is known, want 2", len(ids))
	}
	for i := range 2 {
		mustApply(t, c, crashing(fmt.Sprintf("c%d", i), "shop", "cart", time.Duration(10+i)*time.Minute, factor("image", "r/cart:v2"))...)
	}
	got := open(t, c)
	if len(got) != 1 || got[0].Shared == nil || got[0].Shared.Value != "r/cart:v2" {
		t.Fatalf("got %+v", got)
	}
	for _, id := range ids {
		inc, ok := c.Incident(id)
		if !ok || inc.ID != got[0].ID {
			t.Errorf("%s leads to %s (%v), want %s", id, inc.ID, ok, got[0].ID)
		}
	}
	if len(got[0].Notes) != 2 || !hasStep(got[0], incident.StepMerged) {
		t.Errorf("notes %q, timeline %+v", got[0].Notes, got[0].Timeline)
	}
	if err := c.Note("inc-unknown", incident.Step{Text: "x"}); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("note on an unknown incident: %v", err)
	}
}

func TestSilentClusterIsShownAndKeepsTheIncidentOpen(t *testing.T) {
	c := New(Config{})
	beat := func(at time.Duration) incident.Event {
		return sig("c", "Cluster/c", "Heartbeat", at, kind(incident.Covering), resolved, func(s *incident.Signal) {
			s.Severity, s.Labels = incident.Info, map[string]string{"every": "30s"}
		})
	}
	mustApply(t, c, beat(0))
	mustApply(t, c, crashing("c", "shop", "cart", 0)...)
	mustApply(t, c, beat(4*time.Minute))
	c.Advance(t0.Add(5 * time.Minute))
	if inc := open(t, c)[0]; len(inc.Silent) != 0 {
		t.Fatalf("silent while beating: %+v", inc.Silent)
	}
	c.Advance(t0.Add(3 * time.Hour))
	inc := open(t, c)[0]
	if len(inc.Silent) != 1 || inc.Silent[0].Cluster != "c" || !inc.Silent[0].Silent || inc.State != incident.Open {
		t.Fatalf("state %s, silent %+v", inc.State, inc.Silent)
	}
	cov := c.Coverage()
	if len(cov) != 1 || !cov[0].Silent || cov[0].Sources[0].Source != "collectors/kube" {
		t.Errorf("coverage %+v", cov)
	}
}

func TestNodeTakesItsPodsAndLeavesTheOther(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, inventoryOf("c", 12, map[incident.FactorName]map[string]int{"node": {"n1": 3, "n2": 9}}))
	node := func(s *incident.Signal) { s.Severity = incident.Critical }
	for i := range 3 {
		mustApply(t, c, sig("c", "Node/n1", "NodeNotReady", time.Duration(i)*2*time.Minute, node))
	}
	for _, w := range []string{"a", "b", "d"} {
		mustApply(t, c, sig("c", "Pod/shop/"+w+"-7d9f8c6b5-xk2zq", "NodeLost", time.Minute, owner("Deployment/shop/"+w), relatedTo("Node/n1")))
	}
	mustApply(t, c, crashing("c", "shop", "lonely", time.Minute, factor("node", "n2"))...)
	got := open(t, c)
	if len(got) != 2 {
		t.Fatalf("%d incidents, want 2: %+v", len(got), got)
	}
	byRoot := map[string]incident.Incident{}
	for _, inc := range got {
		byRoot[inc.Root.Entity.String()] = inc
	}
	n, ok := byRoot["Node/n1"]
	if !ok || n.MembersTotal != 4 || n.Shared == nil || n.Shared.Name != incident.FactorNode || n.Shared.Affected != 3 || n.Shared.Total != 3 {
		t.Errorf("the node's incident: %+v", n)
	}
	if _, ok := byRoot["Deployment/shop/lonely"]; !ok {
		t.Errorf("roots %v", byRoot)
	}
}

func TestCallerIsASymptomOfWhatItCalls(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, topologyOf("c",
		incident.Edge{From: entity("Deployment/shop/web"), To: entity("Service/shop/cart"), Kind: incident.Calls},
		incident.Edge{From: entity("Service/shop/cart"), To: entity("Deployment/shop/cart"), Kind: incident.RoutesTo}))
	mustApply(t, c, crashing("c", "shop", "cart", 0)...)
	for i := range 3 {
		mustApply(t, c, sig("c", "Deployment/shop/web", "UpstreamRequestFailed", time.Duration(1+i)*time.Minute))
	}
	got := open(t, c)
	if len(got) != 1 || got[0].Root.Entity.Name != "cart" || len(got[0].Members) != 2 || got[0].Members[0].Symptom || !got[0].Members[1].Symptom {
		t.Fatalf("got %+v", got)
	}
}

func TestChangeBeforeTheFirstSymptomIsSuspected(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, sig("c", "Application/argocd/cart", "Synced", -3*time.Minute, kind(incident.Change), relatedTo("Deployment/shop/cart"), func(s *incident.Signal) { s.Severity = incident.Info }))
	mustApply(t, c, sig("c", "Deployment/shop/other", "Synced", -2*time.Minute, kind(incident.Change), func(s *incident.Signal) { s.Severity = incident.Info }))
	mustApply(t, c, crashing("c", "shop", "cart", 0)...)
	got := open(t, c)
	if len(got) != 1 || len(got[0].Changes) != 1 || got[0].Changes[0].Entity.Name != "cart" || got[0].Changes[0].Before != 180 {
		t.Fatalf("changes %+v", got[0].Changes)
	}
}

func TestWhatPassesOpensNothing(t *testing.T) {
	cases := []struct {
		name   string
		events []incident.Event
	}{
		{"one warning that goes away", []incident.Event{sig("c", "Pod/a/b-1", "OOMKilled", 0), sig("c", "Pod/a/b-1", "OOMKilled", time.Minute, resolved)}},
		{"one that nobody resolves", []incident.Event{sig("c", "Pod/a/b-1", "OOMKilled", 0)}},
		{"a change", []incident.Event{sig("c", "Deployment/a/b", "Synced", 0, kind(incident.Change), func(s *incident.Signal) { s.Severity = incident.Info })}},
		{"info, however often", crashing("c", "a", "b", 0, func(s *incident.Signal) { s.Severity = incident.Info })},
		{"the same alert sent again within seconds", []incident.Event{sig("c", "Service/a/b", "LatencyHigh", 0, kind(incident.Alert)), sig("c", "Service/a/b", "LatencyHigh", time.Second, kind(incident.Alert)), sig("c", "Service/a/b", "LatencyHigh", 2*time.Second, kind(incident.Alert)), sig("c", "Service/a/b", "LatencyHigh", 3*time.Second, kind(incident.Alert)), sig("c", "Service/a/b", "LatencyHigh", 4*time.Minute, kind(incident.Alert), resolved)}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := New(Config{})
			mustApply(t, c, tc.events...)
			c.Advance(t0.Add(time.Hour))
			if got := c.Changed(); len(got) != 0 {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

func TestFlappingIsShown(t *testing.T) {
	c := New(Config{})
	for i := range 6 {
		at := time.Duration(i) * 3 * time.Minute
		for p := range 2 {
			pod := fmt.Sprintf("Pod/shop/cart-7d9f8c6b5-x%dk2z", p)
			mustApply(t, c, sig("c", pod, "Unhealthy", at, owner("Deployment/shop/cart")), sig("c", pod, "Unhealthy", at+time.Minute, owner("Deployment/shop/cart"), resolved))
		}
	}
	got := open(t, c)
	if len(got) != 1 || !got[0].Flapping || !got[0].Members[0].Flapping {
		t.Fatalf("got %+v", got)
	}
}

func TestAnAlertThatFitsSeveralEntitiesSaysSo(t *testing.T) {
	c := New(Config{})
	for _, ns := range []string{"a", "b"} {
		mustApply(t, c, sig("c", "Deployment/"+ns+"/redis", "Synced", -time.Hour, kind(incident.Change), func(s *incident.Signal) { s.Severity = incident.Info }))
	}
	for i := range 4 {
		mustApply(t, c, sig("c", "Alert/RedisDown", "RedisDown", time.Duration(i)*5*time.Minute, kind(incident.Alert), func(s *incident.Signal) {
			s.Severity, s.Labels = incident.Critical, map[string]string{"service": "redis"}
		}))
	}
	got := open(t, c)
	if len(got) != 1 || len(got[0].Ambiguous) != 1 || !strings.Contains(got[0].Ambiguous[0], "a/redis, b/redis") {
		t.Fatalf("got %+v", got)
	}
}

func TestSignalsBeyondTheMemoryAreRefused(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, sig("c", "Pod/a/b-1", "OOMKilled", 0))
	err := c.Apply(sig("c", "Pod/a/b-1", "OOMKilled", -6*time.Hour))
	if !errors.Is(err, incident.ErrStale) || c.Stats().TooLate != 1 {
		t.Fatalf("error %v, stats %+v", err, c.Stats())
	}
	if err := c.Apply(incident.Event{}); !errors.Is(err, incident.ErrInvalid) {
		t.Fatalf("empty event: %v", err)
	}
}

func TestAClockFarAheadDoesNotMoveTheOthers(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, sig("a", "Pod/x/y-1", "OOMKilled", 0), sig("b", "Pod/x/y-1", "OOMKilled", 0))
	mustApply(t, c, sig("b", "Pod/x/y-1", "OOMKilled", 48*time.Hour)) // its clock is wrong
	mustApply(t, c, sig("a", "Pod/x/y-1", "OOMKilled", time.Minute))
	if got := fromMillis(c.now()); !got.Equal(t0.Add(time.Minute)) {
		t.Errorf("time is %v", got)
	}
}

func TestLimitsDropAndCount(t *testing.T) {
	c := New(Config{PerCluster: 10, Points: 8})
	for i := range 50 {
		mustApply(t, c, sig("c", fmt.Sprintf("Pod/a/p-%d", i), "OOMKilled", time.Duration(i)*time.Second))
	}
	if st := c.Stats(); st.Tracks != 10 || st.Dropped != 40 {
		t.Errorf("stats %+v", st)
	}
	mustApply(t, c, crashing("d", "shop", "cart", 0)...)
	for i := range 100 {
		mustApply(t, c, sig("d", "Pod/shop/cart-7d9f8c6b5-x0k2z", "CrashLoopBackOff", time.Duration(5+i)*time.Minute, owner("Deployment/shop/cart")))
	}
	for _, inc := range open(t, c) {
		if inc.Clusters[0] == "d" && (inc.Count != 104 || len(inc.Signals) > 12) {
			t.Errorf("count %d, listed %d", inc.Count, len(inc.Signals))
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Config{Quiet: -1}).Validate(); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("negative duration: %v", err)
	}
	if err := (Config{Tracks: -1}).Validate(); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("negative limit: %v", err)
	}
}

func TestSilentDependencyInTheClusterIsTheRoot(t *testing.T) {
	c := New(Config{})
	mustApply(t, c, inventoryOf("c", 40, map[incident.FactorName]map[string]int{"dependency": {"shop/redis": 4, "shop/other": 6}, "zone": {"z": 40}}))
	mustApply(t, c, topologyOf("c", incident.Edge{From: entity("Service/shop/redis"), To: entity("StatefulSet/shop/redis"), Kind: incident.RoutesTo}))
	for _, w := range []string{"a", "b", "d", "e"} {
		for i := range 4 {
			mustApply(t, c, sig("c", "Pod/shop/"+w+"-7d9f8c6b5-xk2zq", "UpstreamRequestFailed", time.Duration(i)*2*time.Minute, owner("Deployment/shop/"+w), factor("dependency", "shop/redis")))
		}
	}
	got := open(t, c)
	if len(got) != 1 || got[0].Root == nil || got[0].Root.Entity.Name != "redis" || got[0].Shared != nil || got[0].MembersTotal != 4 {
		t.Fatalf("got %+v", got)
	}
}
