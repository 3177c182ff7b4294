package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

// The recording goes through the real pipeline and gives what the README promises.
func TestTheDemoTellsTheOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("plays for 15 s")
	}
	var out bytes.Buffer
	if err := Demo(t.Context(), Options{Out: &out, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"are dry", "opened", "grew", "2 of 2 holders in 2 clusters", "OOMKilled", "RolloutUndo on eu-1", "RolloutUndo on us-1", "on a live cluster", "OOMKilled.md"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not say %q:\n%s", want, out.String())
		}
	}
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Error("colour outside of a terminal")
	}
}

func TestHappenedNamesWhatIsWorthALine(t *testing.T) {
	i := incident.Incident{State: incident.Open, Clusters: []incident.ClusterName{"a"}}
	what, key := Happened("", i)
	if what != "opened" {
		t.Fatal(what)
	}
	if what, _ = Happened(key, i); what != "" {
		t.Fatalf("nothing happened, but %q", what)
	}
	i.Clusters = append(i.Clusters, "b")
	if what, key = Happened(key, i); what != "grew" {
		t.Fatal(what)
	}
	i.State = incident.Closed
	if what, _ = Happened(key, i); what != "closed" {
		t.Fatal(what)
	}
	if what, _ = Happened("", i); what != "" {
		t.Fatal("a closed incident of the past is no news")
	}
}
