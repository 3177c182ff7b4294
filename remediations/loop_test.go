package remediations

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func TestLoop(t *testing.T) {
	t.Run("an approved rollback is executed, verified and audited", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1", "eu-2")
			r.sides["eu-1"].cluster.onWrite = healthy
			rec := r.ask(t, ctx, undoProposal("eu-1"))
			if got := changeOf(rec, "spec.template.spec.containers[cart].image"); got != bad+" -> "+good {
				t.Errorf("shown image change is %q", got)
			}
			if got := changeOf(rec, "spec.template.spec.containers[cart].env[DB_PASSWORD].value"); strings.Contains(got, "hunter2") || strings.Contains(got, "horse") {
				t.Errorf("a secret is shown: %q", got)
			}
			rec, err := r.desk.Approve(ctx, by("ann", rec))
			if err != nil || rec.State != Dispatched {
				t.Fatalf("approve: %v, state %s", err, rec.State)
			}
			r.setSignal(SignalState{Known: true, Resolved: true})
			r.settle(ctx, 10*time.Minute)
			rec = r.get(t, ctx, rec.ID)
			if rec.State != Finished || rec.Outcome.State != incident.OutcomeVerified {
				t.Fatalf("state %s (%s), outcome %+v", rec.State, rec.Why, rec.Outcome)
			}
			o, _ := r.sides["eu-1"].cluster.Get(ctx, cart)
			if images(o) != good || o.GetAnnotations()[AnnotationExecution] != rec.Bound.Prepared.Execution {
				t.Errorf("image %s, annotations %v", images(o), o.GetAnnotations())
			}
			if n := len(r.sides["eu-2"].cluster.landed); n != 0 {
				t.Errorf("%d writes in the other cluster", n)
			}
			if r.sides["eu-1"].cluster.events != 1 {
				t.Errorf("%d events, want 1", r.sides["eu-1"].cluster.events)
			}
			r.intact(t, ctx)
			for _, e := range r.log.entries {
				if strings.Contains(string(e), "hunter2") || strings.Contains(string(e), "correct-horse") {
					t.Errorf("a secret is in the audit trail: %s", e)
				}
			}
		})
	})
	t.Run("what makes things worse is undone once", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			rec := r.ask(t, ctx, undoProposal("eu-1"))
			if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
				t.Fatal(err)
			}
			r.setSignal(SignalState{Known: true, Worse: true})
			r.settle(ctx, 20*time.Minute)
			rec = r.get(t, ctx, rec.ID)
			if rec.Outcome == nil || rec.Outcome.State != incident.OutcomeUndone {
				t.Fatalf("outcome %+v", rec.Outcome)
			}
			f := r.sides["eu-1"].cluster
			o, _ := f.Get(ctx, cart)
			if images(o) != bad || len(f.landed) != 2 {
				t.Errorf("image %s after %d writes", images(o), len(f.landed))
			}
			if v, _ := at(o.Object, "/spec/template/spec/containers/0/env/1/value"); v != "hunter2" {
				t.Errorf("the old value was not put back: %v", v)
			}
		})
	})
	t.Run("worse that is seen long after the window is not undone", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			rec, env := r.approved(t, ctx, undoProposal("eu-1"))
			if err := r.sides["eu-1"].agent.Handle(ctx, env); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Minute)
			r.setSignal(SignalState{Known: true, Worse: true})
			r.settle(ctx, time.Minute)
			if o := r.get(t, ctx, rec.ID).Outcome; o == nil || o.State != incident.OutcomeWorse || len(r.sides["eu-1"].cluster.landed) != 1 {
				t.Fatalf("outcome %+v", o)
			}
		})
	})
	t.Run("no effect is said to be none", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			r.sides["eu-1"].cluster.onWrite = healthy
			rec := r.ask(t, ctx, undoProposal("eu-1"))
			if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
				t.Fatal(err)
			}
			r.settle(ctx, 20*time.Minute)
			if o := r.get(t, ctx, rec.ID).Outcome; o == nil || o.State != incident.OutcomeNoEffect {
				t.Fatalf("outcome %+v", o)
			}
		})
	})
	t.Run("signals that are not seen never verify", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			r.sides["eu-1"].cluster.onWrite = healthy
			rec := r.ask(t, ctx, undoProposal("eu-1"))
			r.setSignal(SignalState{Known: false, Resolved: true})
			if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
				t.Fatal(err)
			}
			r.settle(ctx, 20*time.Minute)
			if o := r.get(t, ctx, rec.ID).Outcome; o == nil || o.State != incident.OutcomeNoEffect {
				t.Fatalf("outcome %+v", o)
			}
		})
	})
	t.Run("an agent that enables nothing writes nothing", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			s.cfg.Local = LocalPolicy{}
			s.restart(t)
			rs, err := r.desk.Propose(ctx, r.incs["inc-1"], []incident.Proposal{undoProposal("eu-1")})
			if err != nil || rs[0].State != Refused || !strings.Contains(rs[0].Why, "not enabled") {
				t.Fatalf("%v %s %s", err, rs[0].State, rs[0].Why)
			}
		})
	})
	t.Run("an agent in dry run tries out and writes nothing", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			s.cfg.Local.Act = false
			s.restart(t)
			rec := r.ask(t, ctx, undoProposal("eu-1"))
			if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
				t.Fatal(err)
			}
			r.settle(ctx, time.Minute)
			if o := r.get(t, ctx, rec.ID).Outcome; o == nil || o.State != incident.OutcomeDryRun || len(s.cluster.landed) != 0 {
				t.Fatalf("outcome %+v after %d writes", o, len(s.cluster.landed))
			}
		})
	})
}

func changeOf(r Record, path string) string {
	for _, c := range r.Bound.Prepared.Changes {
		if c.Path == path {
			return c.Before + " -> " + c.After
		}
	}
	return "none"
}
