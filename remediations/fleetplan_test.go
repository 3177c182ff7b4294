package remediations

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

var fleet = []incident.ClusterName{"c1", "c2", "c3", "c4"}

// fleetRig has the same fault in four clusters, whose rollouts heal but for those named.
func fleetRig(t *testing.T, ctx context.Context, sick ...incident.ClusterName) (*rig, FleetPlan) {
	t.Helper()
	r := newRig(t, fleet...)
	var ps []incident.Proposal
	for _, c := range fleet {
		s := r.sides[c]
		s.cluster.onWrite = healthy
		s.cfg.Signals = r
		for _, x := range sick {
			if x == c {
				s.cluster.onWrite = nil
				s.cfg.Signals = worse{}
			}
		}
		s.restart(t)
		ps = append(ps, undoProposal(c))
	}
	r.setSignal(SignalState{Known: true, Resolved: true})
	p, err := r.desk.ProposePlan(ctx, r.incs["inc-1"], ps, "")
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

type worse struct{}

func (worse) State(context.Context, incident.ID, incident.Ref) (SignalState, error) {
	return SignalState{Known: true, Worse: true}, nil
}

func (r *rig) pass(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Second) {
		r.desk.Step(ctx)
		r.deliver(ctx)
		for _, s := range r.sides {
			s.agent.Step(ctx)
		}
	}
}

func (r *rig) approvePlan(t *testing.T, ctx context.Context, p FleetPlan) {
	t.Helper()
	for _, who := range []string{"ann", "ben"} {
		if _, err := r.desk.ApprovePlan(ctx, p.ID, Decision{Digest: p.Digest, By: who, Via: "cli"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFleetPlan(t *testing.T) {
	t.Run("canary first, then waves, until all are verified", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r, p := fleetRig(t, ctx)
			if len(p.Waves) != 3 || p.Waves[0] != 1 || p.Need.Approvals != 1 && p.Need.Approvals != 2 {
				t.Fatalf("waves %v, need %+v", p.Waves, p.Need)
			}
			r.pass(ctx, 10*time.Second)
			if n := len(r.queue.all()); n != 0 {
				t.Fatalf("%d commands before approval", n)
			}
			r.approvePlan(t, ctx, p)
			r.pass(ctx, 6*time.Second)
			if n := len(r.queue.all()); n != 1 || r.queue.all()[0].cluster != "c1" {
				t.Fatalf("%d commands in the canary's wave", n)
			}
			r.pass(ctx, 5*time.Minute)
			p, _ = r.desk.Plan(ctx, p.ID)
			if p.State != PlanDone {
				t.Fatalf("plan is %s: %s", p.State, p.Why)
			}
			for _, c := range fleet {
				if o, _ := r.sides[c].cluster.Get(ctx, cart); images(o) != good {
					t.Errorf("%s runs %s", c, images(o))
				}
			}
			r.intact(t, ctx)
		})
	})
	t.Run("a canary that gets worse stops it and is undone", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r, p := fleetRig(t, ctx, "c1")
			r.approvePlan(t, ctx, p)
			r.pass(ctx, 15*time.Minute)
			p, _ = r.desk.Plan(ctx, p.ID)
			if p.State != PlanStopped || !strings.Contains(p.Why, "c1: undone") {
				t.Fatalf("plan is %s: %s", p.State, p.Why)
			}
			for _, c := range fleet[1:] {
				if n := len(r.sides[c].cluster.landed); n != 0 {
					t.Errorf("%d writes in %s", n, c)
				}
			}
		})
	})
	t.Run("a regression in a wave takes back what the plan did", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r, p := fleetRig(t, ctx, "c3")
			r.approvePlan(t, ctx, p)
			r.pass(ctx, 20*time.Minute)
			p, _ = r.desk.Plan(ctx, p.ID)
			if p.State != PlanStopped || !strings.Contains(p.Why, "c3") {
				t.Fatalf("plan is %s: %s", p.State, p.Why)
			}
			for i, c := range fleet {
				o, _ := r.sides[c].cluster.Get(ctx, cart)
				if images(o) != bad {
					t.Errorf("%s runs %s", c, images(o))
				}
				want := []int{2, 2, 2, 0}[i]
				if n := len(r.sides[c].cluster.landed); n != want {
					t.Errorf("%d writes in %s, want %d", n, c, want)
				}
				rec := r.get(t, ctx, p.Members[i])
				if i < 3 && (rec.Outcome == nil || rec.Outcome.State != incident.OutcomeUndone) {
					t.Errorf("%s: outcome %+v", c, rec.Outcome)
				}
			}
			r.intact(t, ctx)
		})
	})
	t.Run("a member cannot be approved by itself, nor the plan by another digest", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r, p := fleetRig(t, ctx)
			if _, err := r.desk.Approve(ctx, by("ann", r.get(t, ctx, p.Members[0]))); !errors.Is(err, incident.ErrDenied) {
				t.Errorf("member: %v", err)
			}
			if _, err := r.desk.ApprovePlan(ctx, p.ID, Decision{Digest: p.Digests[0], By: "ann"}); !errors.Is(err, incident.ErrStale) {
				t.Errorf("digest: %v", err)
			}
			if _, err := r.desk.ApprovePlan(ctx, p.ID, Decision{Digest: p.Digest, By: "eve"}); !errors.Is(err, incident.ErrDenied) {
				t.Errorf("role: %v", err)
			}
		})
	})
	t.Run("an approver who loses the role stops the next wave", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r, p := fleetRig(t, ctx)
			r.approvePlan(t, ctx, p)
			r.pass(ctx, 20*time.Second)
			r.roles["ann"] = nil
			r.pass(ctx, 10*time.Minute)
			p, _ = r.desk.Plan(ctx, p.ID)
			if p.State != PlanStopped || !strings.Contains(p.Why, "none of the roles") || len(r.queue.all()) != 1 {
				t.Fatalf("plan is %s: %s, %d commands", p.State, p.Why, len(r.queue.all()))
			}
		})
	})
	t.Run("a cluster whose gates deny is left out and named", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, fleet...)
			r.sides["c2"].cfg.Local = LocalPolicy{}
			r.sides["c2"].restart(t)
			p, err := r.desk.ProposePlan(ctx, r.incs["inc-1"], []incident.Proposal{undoProposal("c1"), undoProposal("c2")}, "")
			if err != nil || len(p.Members) != 1 || len(p.Left) != 1 || !strings.Contains(p.Left[0], "c2") {
				t.Fatalf("%v %+v", err, p)
			}
		})
	})
}
