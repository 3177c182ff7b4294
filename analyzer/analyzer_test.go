package analyzer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

type agents map[incident.ClusterName]Answer

func (a agents) Evidence(_ context.Context, c incident.ClusterName, _ []incident.Entity) (Answer, error) {
	ans, ok := a[c]
	if !ok {
		return Answer{}, errors.New("no agent")
	}
	return ans, nil
}

type pages struct {
	hits []incident.RunbookHit
	err  error
}

func (p pages) Find(context.Context, incident.Incident, []incident.Hypothesis) ([]incident.RunbookHit, string, error) {
	return p.hits, "", p.err
}

func cart(ns string) incident.Entity {
	return incident.Entity{Kind: "Deployment", Namespace: ns, Name: "cart"}
}

func hyp(cause incident.CauseName, conf float64) incident.Hypothesis {
	return incident.Hypothesis{Cause: cause, Object: cart("shop"), Confidence: conf,
		Proposals: []incident.Proposal{{Action: incident.RolloutUndo, Target: incident.Ref{Entity: cart("shop")}, Params: map[string]string{"revision": "3"}}}}
}

func fleet() incident.Incident {
	return incident.Incident{ID: "inc-1", Cause: "ImageNotFound", Clusters: []incident.ClusterName{"eu-1", "us-1"},
		Members: []incident.Member{{Cluster: "eu-1", Entity: cart("shop"), Cause: "ImageNotFound", Confidence: .9}, {Cluster: "us-1", Entity: cart("shop")}}}
}

var now = time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)

func TestOneProposalPerCluster(t *testing.T) {
	a := New(agents{"eu-1": {Hypotheses: []incident.Hypothesis{hyp("ImageNotFound", .9), hyp("BadRollout", .95)}}, "us-1": {Hypotheses: []incident.Hypothesis{hyp("ImageNotFound", .8)}}}, pages{})
	f := a.Analyze(context.Background(), fleet(), now)
	if f.Hypotheses[0].Cause != "ImageNotFound" || f.Hypotheses[0].Cluster != "eu-1" || f.Hypotheses[0].Rank != 1 {
		t.Fatalf("the incident's own cause must lead: %+v", f.Hypotheses[0])
	}
	if len(f.Proposals) != 2 || f.Proposals[0].Target.Cluster != "eu-1" || f.Proposals[1].Target.Cluster != "us-1" || f.Proposals[0].ID == f.Proposals[1].ID {
		t.Fatalf("got %+v", f.Proposals)
	}
}

func TestSilentAgentIsNamedAndSignalsStillTellTheCause(t *testing.T) {
	f := New(agents{}, pages{err: errors.New("index gone")}).Analyze(context.Background(), fleet(), now)
	if len(f.Hypotheses) != 1 || f.Hypotheses[0].Cause != "ImageNotFound" || len(f.Proposals) != 0 {
		t.Fatalf("got %+v", f)
	}
	gaps := strings.Join(f.Coverage.Gaps, "\n")
	for _, want := range []string{"eu-1", "us-1", "runbooks could not be searched"} {
		if !strings.Contains(gaps, want) {
			t.Errorf("gaps do not name %s: %s", want, gaps)
		}
	}
}

func TestNoCauseSaysWhatIsMissing(t *testing.T) {
	inc := fleet()
	inc.Members[0].Cause = ""
	f := New(agents{"eu-1": {}, "us-1": {}}, nil).Analyze(context.Background(), inc, now)
	if len(f.Hypotheses) != 0 || len(f.Missing) == 0 {
		t.Fatalf("got %+v", f)
	}
}
