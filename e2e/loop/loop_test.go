//go:build e2e

package loop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/e2e/lab"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// Two clusters that run the same shop.
func shop(t *testing.T) (eu, us *lab.Cluster, kubeconfig string) {
	t.Helper()
	ctx := t.Context()
	if _, err := lab.Binaries(ctx, logTo{t}); err != nil {
		t.Fatal(err)
	}
	eu, us = lab.New(t, "eu-1", lab.Options{}), lab.New(t, "us-1", lab.Options{})
	for _, c := range []*lab.Cluster{eu, us} {
		must(t, c.Kwok(ctx, 2))
		for _, name := range []string{"cart", "checkout", "frontend", "payments"} {
			must(t, c.Apply(ctx, lab.Deployment("shop", name, 3, "ghcr.io/acme/"+name+":v1")))
		}
		must(t, c.Apply(ctx, lab.Deployment("jobs", "reports", 1, "ghcr.io/acme/reports:v3")))
		must(t, c.WaitReady(ctx, "shop", "cart", 3))
		must(t, c.WaitReady(ctx, "shop", "payments", 3))
		must(t, c.WaitReady(ctx, "jobs", "reports", 1))
	}
	kubeconfig, err := lab.Kubeconfig(t.TempDir(), eu, us)
	must(t, err)
	return eu, us, kubeconfig
}

type logTo struct{ t *testing.T }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// breakShop rolls the same image that does not exist out in both clusters while one workload of
// one cluster runs out of memory.
func breakShop(t *testing.T, eu, us *lab.Cluster) {
	t.Helper()
	ctx := t.Context()
	for _, c := range []*lab.Cluster{eu, us} {
		must(t, c.Apply(ctx, lab.Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v2-missing")))
	}
	must(t, us.Apply(ctx, lab.Deployment("jobs", "reports", 1, "ghcr.io/acme/reports:v3", lab.AnnotationNeedsMi+`: "100"`)))
}

// twoIncidents is what breakShop must lead to: exactly these.
func twoIncidents(p *process) (image, memory incident.Incident, err error) {
	got, err := p.incidents()
	if err != nil {
		return image, memory, err
	}
	if len(got) != 2 {
		var titles []string
		for _, i := range got {
			titles = append(titles, fmt.Sprintf("%s %s %s", i.ID, i.Severity, i.Title))
		}
		return image, memory, fmt.Errorf("%d incidents, want 2: %s", len(got), strings.Join(titles, "; "))
	}
	for _, i := range got {
		if len(i.Clusters) == 2 {
			image = i
		} else {
			memory = i
		}
	}
	switch {
	case image.ID == "" || memory.ID == "":
		return image, memory, fmt.Errorf("want one incident over two clusters and one over one")
	case image.Shared == nil || image.Shared.Name != incident.FactorImage || image.Shared.Value != "ghcr.io/acme/cart:v2-missing":
		return image, memory, fmt.Errorf("shared factor %+v", image.Shared)
	case image.Shared.Affected != 2 || image.Shared.Total != 2:
		return image, memory, fmt.Errorf("counts of the shared factor %+v, want 2 of 2", image.Shared)
	case memory.Cause != "OOMKilled" || memory.Root == nil || memory.Root.String() != "us-1: Deployment/jobs/reports":
		return image, memory, fmt.Errorf("memory incident: cause %s, root %v", memory.Cause, memory.Root)
	case image.Finding == nil || memory.Finding == nil || len(image.Finding.Hypotheses) < 2 || len(memory.Finding.Hypotheses) == 0:
		return image, memory, fmt.Errorf("not explained yet")
	case image.Finding.Hypotheses[0].Cause != "ImageNotFound":
		return image, memory, fmt.Errorf("hypothesis %s", image.Finding.Hypotheses[0].Cause)
	}
	return image, memory, nil
}

func (p *process) actions() ([]remediations.Record, error) {
	return ask[[]remediations.Record](p, "actions")
}

// asking returns the open proposals by cluster and action.
func (p *process) asking(inc incident.ID) (map[string]remediations.Record, error) {
	rs, err := p.actions()
	if err != nil {
		return nil, err
	}
	out := map[string]remediations.Record{}
	for _, r := range rs {
		if r.Proposal.Incident == inc && r.State == remediations.Asking {
			out[string(r.Proposal.Target.Cluster)+" "+string(r.Proposal.Action)] = r
		}
	}
	return out, nil
}

func imageOf(t *testing.T, c *lab.Cluster, name string) string {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments("shop").Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	return d.Spec.Template.Spec.Containers[0].Image
}

func generation(t *testing.T, c *lab.Cluster, name string) int64 {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments("shop").Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	return d.Generation
}

const window = 30 * time.Second

// TestTheLoop: fault in two clusters → two incidents → right cause, runbook and proposal → one
// approval → undone on the right cluster only → verified → audit intact.
func TestTheLoop(t *testing.T) {
	eu, us, kubeconfig := shop(t)
	p := up(t, kubeconfig, "--allow-actions", "RolloutUndo,PatchResources", "--allow-namespaces", "shop,jobs", "--verify-window", window.String())
	eventually(t, time.Minute, "both clusters are watched", func() error {
		out, err := p.tocsin("doctor", "--kubeconfig", kubeconfig)
		if err != nil {
			return fmt.Errorf("%w %s", err, out)
		}
		return nil
	})
	if got, err := p.incidents(); err != nil || len(got) != 0 {
		t.Fatalf("healthy clusters gave incidents %v %v", got, err)
	}
	breakShop(t, eu, us)
	var image, memory incident.Incident
	eventually(t, time.Minute, "two incidents, explained", func() (err error) { image, memory, err = twoIncidents(p); return err })
	checkRunbooks(t, image, memory)

	var open map[string]remediations.Record
	eventually(t, 30*time.Second, "a roll-back is proposed in each cluster", func() (err error) {
		if open, err = p.asking(image.ID); err == nil && (open["eu-1 RolloutUndo"].ID == "" || open["us-1 RolloutUndo"].ID == "") {
			err = fmt.Errorf("proposals: %v", open)
		}
		return err
	})
	euUndo := open["eu-1 RolloutUndo"]
	if _, err := p.tocsin("approve", string(euUndo.ID), "--digest", strings.Repeat("0", 64)); err == nil {
		t.Fatal("an approval of another digest was taken")
	}
	usGeneration := generation(t, us, "cart")
	if _, err := p.tocsin("approve", string(euUndo.ID), "--digest", string(euUndo.Digest), "--reason", "known bad tag"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the roll-back is verified", func() error { return finished(p, euUndo.ID, incident.OutcomeVerified) })
	if got := imageOf(t, eu, "cart"); got != "ghcr.io/acme/cart:v1" {
		t.Errorf("eu-1 runs %s", got)
	}
	if got := imageOf(t, us, "cart"); got != "ghcr.io/acme/cart:v2-missing" || generation(t, us, "cart") != usGeneration {
		t.Errorf("us-1 was touched: %s", got)
	}
	// Deny: nothing happens to the cluster.
	usUndo := open["us-1 RolloutUndo"]
	if _, err := p.tocsin("deny", string(usUndo.ID), "--reason", "we fix forward"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.tocsin("approve", string(usUndo.ID), "--digest", string(usUndo.Digest)); err == nil {
		t.Error("a denied action was approved")
	}
	if generation(t, us, "cart") != usGeneration {
		t.Error("a denied action changed the cluster")
	}
	auditIntact(t, p)
	eventually(t, 30*time.Second, "the incident's timeline tells it", func() error {
		i, err := ask[incident.Incident](p, "incidents", "show", string(image.ID))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(i.Timeline, func(s incident.Step) bool {
			return s.Kind == incident.StepAction && strings.Contains(s.Text, "verified")
		}) {
			return fmt.Errorf("timeline: %+v", i.Timeline)
		}
		return nil
	})
}

func checkRunbooks(t *testing.T, image, memory incident.Incident) {
	t.Helper()
	for want, i := range map[string]incident.Incident{"OOMKilled.md": memory, "SharedImageRegression.md ImageNotFound.md": image} {
		if len(i.Finding.Runbooks) == 0 || !strings.Contains(want, i.Finding.Runbooks[0].Path) {
			t.Errorf("%s: runbooks %+v, want %s first", i.Title, i.Finding.Runbooks, want)
		}
	}
	if len(memory.Finding.Proposals) == 0 || memory.Finding.Proposals[0].Action != incident.PatchResources {
		t.Errorf("proposals for memory: %+v", memory.Finding.Proposals)
	}
}

func finished(p *process, id incident.ProposalID, want incident.OutcomeState) error {
	r, err := ask[remediations.Record](p, "actions", string(id))
	if err != nil {
		return err
	}
	if r.State != remediations.Finished || r.Outcome == nil || r.Outcome.State != want {
		return fmt.Errorf("state %s (%s), outcome %+v", r.State, r.Why, r.Outcome)
	}
	return nil
}

func auditIntact(t *testing.T, p *process) {
	t.Helper()
	c, err := ask[struct{ Number int }](p, "audit", "verify")
	if err != nil || c.Number < 4 {
		t.Fatalf("audit: %+v %v", c, err)
	}
}

// TestKilledInEveryStage kills the process (-9) before and after every stage; nothing is lost and
// nothing runs twice.
func TestKilledInEveryStage(t *testing.T) {
	eu, us, kubeconfig := shop(t)
	p := up(t, kubeconfig, "--allow-actions", "RolloutUndo", "--allow-namespaces", "shop", "--verify-window", window.String())
	p.crash() // while it reads the clusters
	<-time.After(2 * time.Second)
	breakShop(t, eu, us)
	p.crash() // while signals are made
	<-time.After(1500 * time.Millisecond)
	p.crash() // while they are correlated
	var image incident.Incident
	eventually(t, 90*time.Second, "two incidents, explained", func() (err error) { image, _, err = twoIncidents(p); return err })
	p.crash() // after the finding
	var again incident.Incident
	eventually(t, 90*time.Second, "the same two incidents", func() (err error) {
		if again, _, err = twoIncidents(p); err == nil && again.ID != image.ID {
			err = fmt.Errorf("another id: %s, was %s", again.ID, image.ID)
		}
		return err
	})
	var undo remediations.Record
	eventually(t, 150*time.Second, "a roll-back is proposed", func() error {
		open, err := p.asking(image.ID)
		if undo = open["eu-1 RolloutUndo"]; err == nil && undo.ID == "" {
			rs, _ := p.actions()
			err = fmt.Errorf("none: %d records %v", len(rs), states(rs))
		}
		return err
	})
	p.crash() // while it waits for approval
	eventually(t, time.Minute, "it can be approved", func() error {
		_, err := p.tocsin("approve", string(undo.ID), "--digest", string(undo.Digest))
		return err
	})
	before := generation(t, eu, "cart")
	p.crash() // right after the approval
	// A command whose receiver died comes again after its lease of 45 s, and then the agent looks first.
	eventually(t, 150*time.Second, "the write", func() error {
		if imageOf(t, eu, "cart") != "ghcr.io/acme/cart:v1" {
			rs, _ := p.actions()
			return fmt.Errorf("not rolled back yet: %v", states(rs))
		}
		return nil
	})
	p.crash() // during verification
	eventually(t, 3*time.Minute, "verified", func() error { return finished(p, undo.ID, incident.OutcomeVerified) })
	if got := generation(t, eu, "cart"); got != before+1 && got != before {
		t.Errorf("generation %d after one action, was %d: it ran more than once", got, before)
	}
	auditIntact(t, p)
}

// TestExpiryDoesNothing lets a question expire: its digest approves nothing any more, and the
// cluster is as it was.
func TestExpiryDoesNothing(t *testing.T) {
	eu, us, kubeconfig := shop(t)
	text := strings.Replace(string(policy.DefaultSource()), "expiry: 30m", "expiry: 5s", 1)
	if !strings.Contains(text, "expiry: 5s") {
		t.Fatal("the default policy has no expiry to shorten")
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	p := up(t, kubeconfig, "--allow-actions", "RolloutUndo", "--allow-namespaces", "shop", "--policy", file)
	eventually(t, time.Minute, "both clusters are watched", func() error { _, err := p.tocsin("doctor", "--kubeconfig", kubeconfig); return err })
	breakShop(t, eu, us)
	var asked remediations.Record
	eventually(t, time.Minute, "a roll-back is proposed", func() error {
		rs, err := p.actions()
		for _, r := range rs {
			if r.Proposal.Action == incident.RolloutUndo && r.Proposal.Target.Cluster == "eu-1" && r.Digest != "" {
				asked = r
				return nil
			}
		}
		return fmt.Errorf("none in %v %v", states(rs), err)
	})
	before := generation(t, eu, "cart")
	<-time.After(time.Until(asked.Bound.Expires) + time.Second)
	if out, err := p.tocsin("approve", string(asked.ID), "--digest", string(asked.Digest)); err == nil {
		t.Fatalf("an expired question was approved: %s", out)
	}
	<-time.After(3 * time.Second)
	if got := generation(t, eu, "cart"); got != before || imageOf(t, eu, "cart") != "ghcr.io/acme/cart:v2-missing" {
		t.Fatalf("the cluster was changed: generation %d, was %d", got, before)
	}
}

func states(rs []remediations.Record) []string {
	var out []string
	for _, r := range rs {
		out = append(out, string(r.Proposal.Action)+" "+string(r.State)+" "+r.Why)
	}
	return out
}

// TestVisibleWithinASecond measures from a pod's status in the API server to the incident.
func TestVisibleWithinASecond(t *testing.T) {
	eu, _, kubeconfig := shop(t)
	ctx := t.Context()
	const n = 40
	for i := range n {
		must(t, eu.Apply(ctx, lab.Deployment("lots", fmt.Sprintf("app-%02d", i), 1, fmt.Sprintf("ghcr.io/acme/app-%02d:v1", i))))
	}
	for i := range n {
		must(t, eu.WaitReady(ctx, "lots", fmt.Sprintf("app-%02d", i), 1))
	}
	p := up(t, kubeconfig)
	eventually(t, time.Minute, "both clusters are watched", func() error { _, err := p.tocsin("doctor", "--kubeconfig", kubeconfig); return err })
	seen := watchMembers(t, p)
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("app-%02d", i)
		start := time.Now() // before the request that makes the pod fail: the simulated kubelet's time is in it
		must(t, eu.Fail(ctx, "lots", name, lab.FailOOMKilled))
		select {
		case at := <-seen(name):
			took = append(took, at.Sub(start))
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is in no incident after 10 s", name)
		}
	}
	slices.Sort(took)
	t.Logf("object change → incident visible: p50 %s, p99 %s, max %s of %d", took[n/2], took[n*99/100], took[n-1], n)
	if p99 := took[n*99/100]; p99 > time.Second {
		t.Errorf("p99 %s, budget 1 s", p99)
	}
}

// watchMembers follows the incidents and tells when a workload first is in one.
func watchMembers(t *testing.T, p *process) func(name string) <-chan time.Time {
	t.Helper()
	f := newFirstSeen()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.follow(ctx, p) }()
	t.Cleanup(func() { cancel(); <-done })
	return f.of
}
