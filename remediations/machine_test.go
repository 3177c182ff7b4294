package remediations

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/policy"
	"pgregory.net/rapid"
)

// TestMachine runs random sequences of questions, answers, edits, failures and forgeries against
// a hub with two agent replicas, and checks every write at the moment it is sent against a model
// of its own: approved by enough people who may, exactly that object, in time, not stopped, once.
// 100 sequences by default; -rapid.checks=100000 is the full run.
func TestMachine(t *testing.T) {
	one := mustPolicy(t, string(policy.DefaultSource()))
	two := mustPolicy(t, `{name: two, rules: [{name: two, when: "true", then: ask, approvals: 2}], expiry: 5m}`)
	ran := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		var failed any
		synctest.Test(t, func(t *testing.T) { // time of its own for every sequence
			defer func() { failed = recover() }()
			m := newMachine(t, rt, one, two)
			rt.Repeat(map[string]func(*rapid.T){
				"ask": m.ask, "approve": m.approve, "deny": m.deny, "withdraw": m.withdraw, "deliver": m.deliver, "forge": m.forge,
				"edit": m.edit, "recreate": m.recreate, "time": m.wait, "step": m.step, "role": m.role, "policy": m.policy,
				"stop": m.stopSwitch, "resolve": m.resolve, "lose": m.lose, "run": m.run, "answer": m.answer, "queue": m.queue, "": m.check,
			})
			for k, n := range m.ran {
				ran[k] += n
			}
		})
		if failed != nil {
			panic(failed)
		}
	})
	t.Logf("%v", ran)
	if ran["writes"] == 0 {
		t.Error("no sequence led to a write: the test proves nothing")
	}
}

type machine struct {
	r      *rig
	ctx    context.Context
	t      *testing.T
	twin   *Agent
	two    *policy.Policy
	one    *policy.Policy
	votes  map[incident.Digest]map[string]bool // valid approvals, by the model's own rules
	closed map[incident.Digest]bool            // denied or withdrawn
	broken []string
	ran    map[string]int
}

func newMachine(t *testing.T, rt *rapid.T, one, two *policy.Policy) *machine {
	r := newRig(t)
	r.pol = one
	r.incs["inc-1"] = incident.Incident{ID: "inc-1", Title: "cart fails", State: incident.Open, Cause: "ImageNotFound", Severity: incident.Critical}
	s := r.add(t, "eu-1")
	s.cfg.Window, s.cfg.Settle = 20*time.Second, 3*time.Second
	s.cfg.Local.Caps = Caps{Cooldown: time.Second, PerClusterHour: 1000}
	s.restart(t)
	r.deskCfg.Caps = Caps{Cooldown: time.Second, PerClusterHour: 1000, PerFleetHour: 1000}
	d, err := NewDesk(r.deskCfg)
	if err != nil {
		rt.Fatal(err)
	}
	r.desk = d
	twin, err := NewAgent(s.cfg)
	if err != nil {
		rt.Fatal(err)
	}
	m := &machine{r: r, ctx: t.Context(), t: t, twin: twin, one: one, two: two, votes: map[incident.Digest]map[string]bool{},
		closed: map[incident.Digest]bool{}, ran: map[string]int{}}
	s.cluster.before = m.judge
	return m
}

// judge is called before every call to the API server; undos follow from an execution that was
// judged.
func (m *machine) judge(_ Write, how Apply) error {
	if how.DryRun {
		return nil
	}
	m.ran["writes"]++
	recs, err := m.r.desk.List(m.ctx, "")
	if err != nil {
		m.broken = append(m.broken, err.Error())
		return nil
	}
	i := slices.IndexFunc(recs, func(r Record) bool { return executionOf(&r) == strings.TrimSuffix(how.Execution, "-undo") })
	if i < 0 || recs[i].State != Dispatched {
		m.broken = append(m.broken, "a write without a dispatched record")
		return nil
	}
	rec := recs[i]
	id := executionOf(&rec)
	x, err := m.r.sides["eu-1"].agent.loadExecution(m.ctx, id)
	if err != nil {
		m.broken = append(m.broken, "a write without a claim: "+err.Error())
		return nil
	}
	if x.State == stateUndoing && how.Execution == x.undoID() && m.r.sides["eu-1"].cluster.count(x.undoID()) == 0 {
		return nil
	}
	o, err := m.r.sides["eu-1"].cluster.Get(m.ctx, cart)
	b := rec.Bound
	switch {
	case err != nil || string(o.GetUID()) != b.Prepared.Seen.UID || images(o) != b.Prepared.Seen.Images:
		m.broken = append(m.broken, "a write on an object that is not the one shown")
	case len(m.votes[rec.Digest]) < b.Need.Approvals || b.Need.Approvals < 1:
		m.broken = append(m.broken, fmt.Sprintf("a write with %d of %d valid approvals", len(m.votes[rec.Digest]), b.Need.Approvals))
	case m.closed[rec.Digest]:
		m.broken = append(m.broken, "a write after a denial")
	case !time.Now().Before(b.Expires):
		m.broken = append(m.broken, "a write after the expiry")
	case m.r.sides["eu-1"].cluster.count(id) > 0:
		m.broken = append(m.broken, "a second write")
	case m.r.desk.stop.stopped(m.ctx, rec.Proposal.Target) != "":
		m.broken = append(m.broken, "a write while stopped")
	case x.State != stateStarted:
		m.broken = append(m.broken, "a write that was not marked started")
	}
	return nil
}

func (m *machine) check(rt *rapid.T) {
	if len(m.broken) > 0 {
		rt.Fatalf("%v", m.broken)
	}
}

// run, answer and queue make progress likely: without them most sequences never write.
func (m *machine) run(rt *rapid.T) {
	m.ask(rt)
	m.answer(rt)
	m.queue(rt)
}

func (m *machine) answer(rt *rapid.T) {
	recs, _ := m.r.desk.List(m.ctx, "")
	for _, rec := range recs {
		if rec.State == Asking {
			for _, who := range []string{"ann", "ben"}[rapid.IntRange(0, 1).Draw(rt, "from"):] {
				m.vote(rt, rec, by(who, rec))
			}
		}
	}
}

func (m *machine) queue(rt *rapid.T) {
	if all := m.r.queue.all(); len(all) > 0 {
		m.twin.Handle(m.ctx, all[len(all)-1].payload)
	}
}

func (m *machine) any(rt *rapid.T) (Record, bool) {
	recs, err := m.r.desk.List(m.ctx, "")
	if err != nil {
		rt.Fatal(err)
	}
	if len(recs) == 0 {
		return Record{}, false
	}
	return recs[rapid.IntRange(0, len(recs)-1).Draw(rt, "record")], true
}

func (m *machine) ask(rt *rapid.T) {
	p := undoProposal("eu-1")
	if rapid.Bool().Draw(rt, "restart") {
		p.Action, p.Params = incident.RolloutRestart, nil
	}
	by := rapid.SampledFrom([]string{"ann", "ben", "eve"}).Draw(rt, "requester")
	if _, err := m.r.desk.Request(m.ctx, m.r.incs["inc-1"], p, by); err == nil {
		m.ran["asked"]++
	}
}

func (m *machine) approve(rt *rapid.T) {
	rec, ok := m.any(rt)
	if !ok {
		return
	}
	d := by(rapid.SampledFrom([]string{"ann", "ben", "eve", "", Requester, "root"}).Draw(rt, "who"), rec)
	if rapid.IntRange(0, 9).Draw(rt, "wrong") == 0 {
		d.Digest = incident.HashParts("wrong")
	}
	if rapid.IntRange(0, 9).Draw(rt, "posing") == 0 {
		d.Via = ViaPolicy
	}
	m.vote(rt, rec, d)
}

// vote judges an approval by the model's own rules before the desk is asked.
func (m *machine) vote(rt *rapid.T, rec Record, d Decision) {
	may := d.By != "" && slices.Contains(m.r.roles[d.By], RoleApprover) && rec.Bound != nil && d.By != rec.Bound.Requester &&
		d.Digest == rec.Digest && d.Via != ViaPolicy && time.Now().Before(rec.Bound.Expires)
	if may {
		if m.votes[rec.Digest] == nil {
			m.votes[rec.Digest] = map[string]bool{}
		}
		m.votes[rec.Digest][d.By] = true
	}
	after, err := m.r.desk.Approve(m.ctx, d)
	if err == nil && !may {
		rt.Fatalf("approval by %q counted: %+v", d.By, after)
	}
	if err == nil && after.State == Dispatched {
		for _, a := range after.Approvals {
			if !slices.Contains(m.r.roles[a.By], RoleApprover) {
				rt.Fatalf("dispatched with the approval of %s, who may not any more", a.By)
			}
		}
	}
	m.ran["approvals"]++
}

func (m *machine) deny(rt *rapid.T) {
	if rec, ok := m.any(rt); ok {
		if _, err := m.r.desk.Deny(m.ctx, by(rapid.SampledFrom([]string{"ann", "eve"}).Draw(rt, "who"), rec)); err == nil {
			m.closed[rec.Digest] = true
		}
	}
}

func (m *machine) withdraw(rt *rapid.T) {
	if rec, ok := m.any(rt); ok {
		if _, err := m.r.desk.Withdraw(m.ctx, by(rapid.SampledFrom([]string{"ann", "ben", "eve"}).Draw(rt, "who"), rec)); err == nil {
			m.closed[rec.Digest] = true
		}
	}
}

// deliver gives any command that was ever queued to either replica.
func (m *machine) deliver(rt *rapid.T) {
	all := m.r.queue.all()
	if len(all) == 0 {
		return
	}
	c := all[rapid.IntRange(0, len(all)-1).Draw(rt, "command")]
	a := m.r.sides["eu-1"].agent
	if rapid.Bool().Draw(rt, "twin") {
		a = m.twin
	}
	a.Handle(m.ctx, c.payload)
}

// forge alters a queued command, or signs one of its own.
func (m *machine) forge(rt *rapid.T) {
	all := m.r.queue.all()
	if len(all) == 0 {
		return
	}
	env := slices.Clone(all[rapid.IntRange(0, len(all)-1).Draw(rt, "command")].payload)
	if rapid.Bool().Draw(rt, "flip") {
		env[rapid.IntRange(0, len(env)-1).Draw(rt, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
	} else {
		c, err := OpenCommand(env, m.r.sides["eu-1"].cfg.Trusted)
		if err != nil {
			rt.Fatal(err)
		}
		c.Expires = c.Expires.Add(time.Hour)
		_, key, _ := ed25519.GenerateKey(nil)
		if env, err = c.Seal(key); err != nil {
			rt.Fatal(err)
		}
	}
	if err := m.r.sides["eu-1"].agent.Handle(m.ctx, env); err == nil {
		rt.Fatal("a forged command was taken")
	}
	m.ran["forged"]++
}

func (m *machine) edit(rt *rapid.T) {
	n := rapid.IntRange(0, 3).Draw(rt, "what")
	m.r.sides["eu-1"].cluster.change(cart, n != 0, func(o *Object) {
		switch n {
		case 0:
			o.Object["status"] = map[string]any{"observedGeneration": o.GetGeneration(), "readyReplicas": int64(rapid.IntRange(0, 4).Draw(rt, "ready"))}
		case 1:
			o.Object["spec"].(map[string]any)["replicas"] = int64(rapid.IntRange(1, 6).Draw(rt, "replicas"))
		default:
			c := o.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
			c["image"] = rapid.SampledFrom([]string{bad, good, "ghcr.io/acme/cart:v10"}).Draw(rt, "image")
		}
	})
}

func (m *machine) recreate(rt *rapid.T) {
	f := m.r.sides["eu-1"].cluster
	f.change(cart, true, func(o *Object) { o.SetUID(typesUID(fmt.Sprintf("dep-%d", rapid.IntRange(1, 3).Draw(rt, "uid")))) })
}

func (m *machine) wait(rt *rapid.T) {
	time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 10, 50, 200, 400}).Draw(rt, "seconds")) * time.Second)
}

func (m *machine) step(rt *rapid.T) {
	m.r.setSignal(SignalState{Known: rapid.Bool().Draw(rt, "known"), Resolved: rapid.Bool().Draw(rt, "resolved"), Worse: rapid.Bool().Draw(rt, "worse")})
	m.r.desk.Step(m.ctx)
	m.r.sides["eu-1"].agent.Step(m.ctx)
	m.twin.Step(m.ctx)
}

func (m *machine) role(rt *rapid.T) {
	who := rapid.SampledFrom([]string{"ann", "ben"}).Draw(rt, "who")
	roles := []string{RoleApprover}
	if rapid.IntRange(0, 3).Draw(rt, "lose") == 0 {
		roles = nil
	}
	m.r.roles[who] = roles
}

func (m *machine) policy(rt *rapid.T) {
	m.r.pol = m.one
	if rapid.Bool().Draw(rt, "two") {
		m.r.pol = m.two
	}
}

func (m *machine) stopSwitch(rt *rapid.T) {
	on := rapid.IntRange(0, 3).Draw(rt, "on") == 0
	sc := rapid.SampledFrom([]Scope{{}, {Cluster: "eu-1"}, {Cluster: "eu-1", Namespace: "shop"}}).Draw(rt, "scope")
	if err := m.r.desk.SetStop(m.ctx, Stop{Scope: sc, On: on, By: "root"}); err != nil {
		rt.Fatal(err)
	}
}

func (m *machine) resolve(rt *rapid.T) {
	inc := m.r.incs["inc-1"]
	inc.State = rapid.SampledFrom([]incident.State{incident.Open, incident.Open, incident.Open, incident.Open, incident.Closed}).Draw(rt, "state")
	m.r.incs["inc-1"] = inc
}

func (m *machine) lose(rt *rapid.T) { m.r.lose = rapid.IntRange(0, 2).Draw(rt, "reports") }
