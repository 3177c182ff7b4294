package remediations

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/policy"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestStale changes one thing between the question and its execution: every one is refused with
// its reason, where it was approved, and nothing is written.
func TestStale(t *testing.T) {
	edit := func(bump bool, f func(o *Object)) func(t *testing.T, ctx context.Context, r *rig, rec Record) {
		return func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.sides["eu-1"].cluster.change(cart, bump, f)
		}
	}
	setField := func(v any, path ...string) func(o *Object) {
		return func(o *Object) { _ = unstructured.SetNestedField(o.Object, v, path...) }
	}
	cases := []struct {
		name   string
		change func(t *testing.T, ctx context.Context, r *rig, rec Record)
		why    string
		hub    bool // refused by the hub: at approval
	}{
		{"the object was recreated", edit(true, func(o *Object) { o.SetUID("dep-2") }), "recreated", false},
		{"the object was deleted", func(t *testing.T, ctx context.Context, r *rig, rec Record) { r.sides["eu-1"].cluster.remove(cart) }, "does not exist", false},
		{"the object was scaled", edit(true, setField(int64(7), "spec", "replicas")), "scaled", false},
		{"the object was edited", edit(true, setField(int64(99), "spec", "minReadySeconds")), "edited", false},
		{"the object was edited without a new generation", edit(false, func(o *Object) { o.SetLabels(map[string]string{"app": "cart", "team": "b"}) }), "edited", false},
		{"the image was changed", edit(true, func(o *Object) {
			cs, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			cs[0].(map[string]any)["image"] = "ghcr.io/acme/cart:v10"
			_ = unstructured.SetNestedSlice(o.Object, cs, "spec", "template", "spec", "containers")
		}), "image changed", false},
		{"another controller took it over", edit(false, func(o *Object) {
			o.SetAnnotations(map[string]string{argoTracking: "cart:apps/Deployment:shop/cart"})
		}), "taken over", false},
		{"another action holds the target", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			if _, err := lock(ctx, r.sides["eu-1"].kv, cart, "a-other", time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}, "a-other acts on it", false},
		{"the agent's own policy tightened", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			s := r.sides["eu-1"]
			s.cfg.Local.Namespaces = []string{"other"}
			s.restart(t)
		}, "not enabled", false},
		{"the actor lost its permission", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.sides["eu-1"].cluster.deny = func(Write) bool { return true }
		}, "may not patch", false},
		{"the agent's approval key was replaced", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			s := r.sides["eu-1"]
			s.cfg.Trusted = nil
			s.restart(t)
		}, "", false},
		{"the agent's seal key was replaced", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			s := r.sides["eu-1"]
			s.cfg.Key = []byte(strings.Repeat("x", 32))
			s.restart(t)
		}, "since it was shown", false},
		{"the revision to go back to is gone", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.sides["eu-1"].cluster.remove(incident.Entity{Kind: "ReplicaSet", Namespace: "shop", Name: "cart-1"})
		}, "revision 1", false},
		{"the stop switch of the namespace is on", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			if err := r.desk.SetStop(ctx, Stop{Scope: Scope{"eu-1", "shop"}, On: true, By: "ann", Reason: "wait"}); err != nil {
				t.Fatal(err)
			}
		}, "is stopped by ann", true},
		{"the approver lost the role", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.roles["ann"] = []string{"viewer"}
		}, "none of the roles", true},
		{"the approver left", func(t *testing.T, ctx context.Context, r *rig, rec Record) { delete(r.roles, "ann") }, "cannot be told", true},
		{"the policy tightened", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.pol = mustPolicy(t, `{name: strict, rules: [{name: no, when: "true", then: deny}]}`)
		}, "policy: it changed", true},
		{"the incident resolved", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			inc := r.incs["inc-1"]
			inc.State = incident.Closed
			r.incs["inc-1"] = inc
		}, "nothing to repair", true},
		{"the target recovered by itself", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			inc := r.incs["inc-1"]
			inc.Members = []incident.Member{{Cluster: "eu-1", Entity: cart, Status: incident.Resolved}}
			r.incs["inc-1"] = inc
		}, "recovered", true},
		{"the incident's cause is another now", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			inc := r.incs["inc-1"]
			inc.Cause = "OOMKilled"
			r.incs["inc-1"] = inc
		}, "cause is OOMKilled", true},
		{"the cluster is not seen any more", func(t *testing.T, ctx context.Context, r *rig, rec Record) { r.fresh = false }, "not seen", true},
		{"the question expired", func(t *testing.T, ctx context.Context, r *rig, rec Record) { time.Sleep(31 * time.Minute) }, "expired", true},
		{"two verifications failed meanwhile", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			for range 2 {
				time.Sleep(time.Second)
				if err := r.desk.tally(ctx, &Record{Proposal: incident.Proposal{Cause: "ImageNotFound"}}, incident.Outcome{State: incident.OutcomeNoEffect, At: time.Now()}); err != nil {
					t.Fatal(err)
				}
			}
		}, "breaker", true},
		{"a freeze window began", func(t *testing.T, ctx context.Context, r *rig, rec Record) {
			r.pol = mustPolicy(t, string(policy.DefaultSource())+"freeze: [{name: night, schedule: '* * * * *', duration: 1h, timeZone: Europe/Berlin}]\n")
		}, "policy: it changed", true},
		{"the audit trail cannot be written", func(t *testing.T, ctx context.Context, r *rig, rec Record) { r.log.fail = errors.New("disk full") }, "not durable", true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context) {
				r := newRig(t, "eu-1")
				rec := r.ask(t, ctx, undoProposal("eu-1"))
				if tc.hub {
					tc.change(t, ctx, r, rec)
					_, err := r.desk.Approve(ctx, by("ann", rec))
					if err == nil || !(strings.Contains(err.Error(), tc.why) || strings.Contains(r.get(t, ctx, rec.ID).Why, tc.why)) {
						t.Errorf("approve: %v, want %q", err, tc.why)
					}
				} else {
					if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
						t.Fatal(err)
					}
					tc.change(t, ctx, r, rec)
				}
				r.settle(ctx, 10*time.Second)
				after := r.get(t, ctx, rec.ID)
				if !tc.hub && tc.why != "" && (after.Outcome == nil || after.Outcome.State != incident.OutcomeRefused || !strings.Contains(after.Outcome.Detail, tc.why)) {
					t.Errorf("state %s, outcome %+v, want refused with %q", after.State, after.Outcome, tc.why)
				}
				if n := len(r.sides["eu-1"].cluster.landed); n != 0 {
					t.Errorf("%d writes", n)
				}
				if r.log.fail == nil {
					r.intact(t, ctx)
				}
			})
		})
	}
}

// TestDispatchChecksAgain loses the race between the last approval and dispatch.
func TestDispatchChecksAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context) {
		r := newRig(t, "eu-1")
		r.pol = mustPolicy(t, `{name: two, rules: [{name: two, when: "true", then: ask, approvals: 2}]}`)
		rec := r.ask(t, ctx, undoProposal("eu-1"))
		if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
			t.Fatal(err)
		}
		r.roles["ann"] = nil
		got, err := r.desk.Approve(ctx, by("ben", rec))
		if !errors.Is(err, incident.ErrStale) || got.State != Refused || !strings.Contains(got.Why, "ann has none of the roles") {
			t.Errorf("%v, state %s: %s", err, got.State, got.Why)
		}
		if len(r.queue.all()) != 0 {
			t.Error("a command was sent")
		}
	})
}

func mustPolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
