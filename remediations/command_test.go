package remediations

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// approved asks and approves, and returns the record and the envelope that was queued.
func (r *rig) approved(t testing.TB, ctx context.Context, p incident.Proposal) (Record, []byte) {
	t.Helper()
	rec, err := r.desk.Approve(ctx, by("ann", r.ask(t, ctx, p)))
	if err != nil || rec.State != Dispatched {
		t.Fatalf("approve: %v, state %s", err, rec.State)
	}
	all := r.queue.all()
	return rec, all[len(all)-1].payload
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context) {
		r := newRig(t, "eu-1")
		s := r.sides["eu-1"]
		_, env := r.approved(t, ctx, undoProposal("eu-1"))
		tried := 0
		for i := range env {
			for _, mask := range []byte{0x01, 0x20, 0x80, 0xff} {
				forged := append([]byte(nil), env...)
				forged[i] ^= mask
				if err := s.agent.Handle(ctx, forged); !errors.Is(err, incident.ErrInvalid) {
					t.Fatalf("byte %d of %d flipped by %#x: %v", i, len(env), mask, err)
				}
				tried++
			}
		}
		for _, forged := range [][]byte{nil, env[:len(env)-1], append(append([]byte(nil), env...), 0), append(append([]byte(nil), env...), env...)} {
			if err := s.agent.Handle(ctx, forged); !errors.Is(err, incident.ErrInvalid) {
				t.Fatalf("envelope of %d bytes: %v", len(forged), err)
			}
		}
		if n := len(s.cluster.landed); n != 0 {
			t.Fatalf("%d writes", n)
		}
		t.Logf("%d forged envelopes of %d bytes refused", tried, len(env))
		if err := s.agent.Handle(ctx, env); err != nil || len(s.cluster.landed) != 1 {
			t.Fatalf("the true envelope: %v, %d writes", err, len(s.cluster.landed))
		}
	})
}

// TestCommandRefusals forges every field with the right key: what the agent itself must refuse.
func TestCommandRefusals(t *testing.T) {
	cases := []struct {
		name  string
		forge func(c *Command)
		why   string
	}{
		{"a command for another cluster", func(c *Command) { c.Cluster = "eu-2" }, "is for cluster"},
		{"a target in another cluster", func(c *Command) { c.Bound.Prepared.Proposal.Target.Cluster = "eu-2" }, "is for cluster"},
		{"an expired command", func(c *Command) { c.Expires = time.Now().Add(-time.Second) }, "expired"},
		{"an expired approval", func(c *Command) { c.Bound.Expires = time.Now().Add(-time.Second); redigest(c) }, "expired"},
		{"no approval", func(c *Command) { c.Approvals = nil }, "0 of 1"},
		{"a denial for an approval", func(c *Command) { c.Approvals[0].Approve = false }, "not for this action"},
		{"an approval of another digest", func(c *Command) { c.Approvals[0].Digest = "00" }, "not for this action"},
		{"an approval by who asked", func(c *Command) { c.Approvals[0].By = Requester }, "who asked"},
		{"an approval by nobody", func(c *Command) { c.Approvals[0].By = "" }, "who asked"},
		{"one person for two", func(c *Command) {
			c.Bound.Need.Approvals = 2
			redigest(c)
			c.Approvals = append(c.Approvals, c.Approvals[0])
		}, "1 of 2"},
		{"no approvals needed, but none by policy", func(c *Command) { c.Bound.Need.Approvals = 0; redigest(c) }, "1 approvals"},
		{"a digest that is not of the action", func(c *Command) { c.Bound.Nonce = "other" }, "digest is not"},
		{"another revision under a new digest", func(c *Command) {
			c.Bound.Prepared.Proposal.Params[incident.ParamRevision] = "2"
			redigest(c)
		}, "revision 2"},
		{"another execution id under a new digest", func(c *Command) {
			c.Bound.Prepared.Execution = "a-000000000000000000000000"
			redigest(c)
		}, "no longer what was shown"},
		{"another seal under a new digest", func(c *Command) { c.Bound.Prepared.Seal = "00"; redigest(c) }, "no longer what was shown"},
		{"an action that is not in the catalogue", func(c *Command) { c.Bound.Prepared.Proposal.Action = "Exec"; redigest(c) }, "not in the catalogue"},
		{"a name that leaves the object's URL", func(c *Command) {
			c.Bound.Prepared.Proposal.Target.Entity.Name = "../../secrets/x"
			redigest(c)
		}, "not a DNS name"},
		{"a kind of command that does not exist", func(c *Command) { c.Kind = "exec" }, "command kind"},
		{"a plan the action is no part of", func(c *Command) { c.Plan = &PlanProof{ID: "plan-1", Members: []incident.Digest{"00"}} }, "not part of"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context) {
				r := newRig(t, "eu-1")
				s := r.sides["eu-1"]
				_, env := r.approved(t, ctx, undoProposal("eu-1"))
				c, err := OpenCommand(env, s.cfg.Trusted)
				if err != nil {
					t.Fatal(err)
				}
				tc.forge(&c)
				forged, err := c.Seal(r.key)
				if err != nil {
					t.Fatal(err)
				}
				err = s.agent.Handle(ctx, forged)
				why := ""
				if err != nil {
					why = err.Error()
				} else if x, err := s.agent.loadExecution(ctx, c.Bound.Prepared.Execution); err == nil && x.Outcome != nil && x.Outcome.State == incident.OutcomeRefused {
					why = x.Outcome.Detail
				}
				if !strings.Contains(why, tc.why) {
					t.Errorf("refused with %q (%v), want %q", why, err, tc.why)
				}
				if n := len(s.cluster.landed); n != 0 {
					t.Errorf("%d writes", n)
				}
			})
		})
	}
	t.Run("a key the agent does not trust", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			_, env := r.approved(t, ctx, undoProposal("eu-1"))
			c, _ := OpenCommand(env, s.cfg.Trusted)
			_, other, _ := ed25519.GenerateKey(nil)
			forged, _ := c.Seal(other)
			if err := s.agent.Handle(ctx, forged); !errors.Is(err, incident.ErrInvalid) || len(s.cluster.landed) != 0 {
				t.Errorf("%v, %d writes", err, len(s.cluster.landed))
			}
		})
	})
}

// redigest makes digest and approvals fit again, as a hub gone bad would.
func redigest(c *Command) {
	c.Digest = c.Bound.Digest()
	for i := range c.Approvals {
		c.Approvals[i].Digest = c.Digest
	}
}

func FuzzOpenCommand(f *testing.F) {
	pub, key, _ := ed25519.GenerateKey(nil)
	good, _ := Command{Kind: CommandExecute, Cluster: "eu-1"}.Seal(key)
	f.Add(good)
	f.Add([]byte(envelopeMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := OpenCommand(b, []ed25519.PublicKey{pub})
		if err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatalf("error does not wrap ErrInvalid: %v", err)
		}
		if err == nil && string(b) != string(good) {
			t.Fatalf("accepted a forged command %+v", c)
		}
	})
}
