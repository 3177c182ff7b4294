package remediations

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

var crashes = flag.Int("crashes", 240, "executions of TestCrashAtEveryStep")

// crash is what a hook panics with to end an agent in the middle of its work.
type crash struct{}

// faults counts the steps an agent takes against the world and fails at one of them.
type faults struct {
	mu   sync.Mutex
	step int
	at   int    // fail at this step; 0: never
	how  string // "crash", "lost" (the answer is lost)
	hit  bool
}

func (f *faults) next() (fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.step++
	if f.step == f.at && !f.hit {
		f.hit = true
		return true
	}
	return false
}

func (f *faults) hook(string) {
	if f.next() {
		panic(crash{})
	}
}

func (f *faults) api(Write, Apply) error {
	if !f.next() {
		return nil
	}
	if f.how == "lost" {
		return errors.New("connection reset")
	}
	panic(crash{})
}

// survive runs work and says whether it was ended by a crash.
func survive(work func()) (crashed bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(crash); !ok {
				panic(p)
			}
			crashed = true
		}
	}()
	work()
	return false
}

// TestCrashAtEveryStep ends the agent before and after every write of the ledger and every call
// to the API server, or loses the answer, while two replicas get every command again and again:
// at most one write an execution, and one undo.
func TestCrashAtEveryStep(t *testing.T) {
	outcomes := map[incident.OutcomeState]int{}
	steps := 0
	for i := range *crashes {
		how := []string{"crash", "lost", "crash"}[i%3]
		worse := i%2 == 1
		steps = max(steps, crashOnce(t, outcomes, i/6+1, how, worse, i%6 >= 3))
	}
	t.Logf("%d executions over up to %d steps: %v", *crashes, steps, outcomes)
	if outcomes[incident.OutcomeVerified] == 0 || outcomes[incident.OutcomeUndone] == 0 {
		t.Errorf("the test proves nothing: outcomes %v", outcomes)
	}
}

func crashOnce(t *testing.T, outcomes map[incident.OutcomeState]int, at int, how string, worse, twin bool) (steps int) {
	inBubble(t, func(t *testing.T, ctx context.Context) {
		r := newRig(t, "eu-1")
		s := r.sides["eu-1"]
		s.cluster.onWrite = healthy
		s.cfg.Window, s.cfg.Settle = 40*time.Second, 5*time.Second
		s.restart(t)
		rec, env := r.approved(t, ctx, undoProposal("eu-1"))
		r.setSignal(SignalState{Known: true, Resolved: !worse, Worse: worse})
		// Failures come round: an execution has up to 40 steps, later ones start again.
		f := &faults{at: (at-1)%40 + 1, how: how}
		s.kv.before, s.kv.after = f.hook, f.hook
		s.cluster.before, s.cluster.after = f.api, f.api
		twinAgent, err := NewAgent(s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 1200 {
			if survive(func() { s.agent.Handle(ctx, env) }) || survive(func() { s.agent.Step(ctx) }) {
				s.restart(t)
			}
			if twin {
				survive(func() { twinAgent.Handle(ctx, env) })
				survive(func() { twinAgent.Step(ctx) })
			}
			if r.get(t, ctx, rec.ID).State == Finished {
				break
			}
			time.Sleep(5 * time.Second)
		}
		steps = f.step
		rec = r.get(t, ctx, rec.ID)
		id := rec.Bound.Prepared.Execution
		label := fmt.Sprintf("%s at step %d, worse %v, twin %v", how, f.at, worse, twin)
		if rec.Outcome == nil {
			t.Fatalf("%s: no outcome, state %s", label, rec.State)
		}
		outcomes[rec.Outcome.State]++
		if n, u := s.cluster.count(id), s.cluster.count(id+"-undo"); n > 1 || u > 1 {
			t.Fatalf("%s: %d writes and %d undos", label, n, u)
		}
		checkOutcome(t, label, rec.Outcome.State, s.cluster.count(id), s.cluster.count(id+"-undo"))
		// Redelivery after the end changes nothing.
		before := len(s.cluster.landed)
		s.agent.Handle(ctx, env)
		s.agent.Step(ctx)
		if len(s.cluster.landed) != before {
			t.Fatalf("%s: written again after the end", label)
		}
		r.intact(t, ctx)
	})
	return steps
}

// checkOutcome holds the outcome against what landed.
func checkOutcome(t *testing.T, label string, state incident.OutcomeState, writes, undos int) {
	t.Helper()
	ok := true
	switch state {
	case incident.OutcomeVerified, incident.OutcomeNoEffect:
		ok = writes == 1 && undos == 0
	case incident.OutcomeUndone:
		ok = writes == 1 && undos == 1
	case incident.OutcomeWorse:
		ok = writes == 1
	case incident.OutcomeRefused, incident.OutcomeFailed:
		ok = writes == 0
	case incident.OutcomeUnknown:
		ok = writes == 0 && undos == 0 // the test's crashed writers never come back
	}
	if !ok {
		t.Fatalf("%s: outcome %s after %d writes and %d undos", label, state, writes, undos)
	}
}

// TestTwoReplicasAtOnce lets two replicas take the same command at the same time.
func TestTwoReplicasAtOnce(t *testing.T) {
	for range 50 {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			rec, env := r.approved(t, ctx, undoProposal("eu-1"))
			var wg sync.WaitGroup
			for range 4 {
				a, err := NewAgent(s.cfg)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { a.Handle(ctx, env) })
				wg.Go(func() { a.Handle(ctx, env) })
			}
			wg.Wait()
			if n := s.cluster.count(rec.Bound.Prepared.Execution); n != 1 {
				t.Fatalf("%d writes", n)
			}
		})
	}
}
