package app

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
	"github.com/tocsin-io/tocsin/internal/kube"
	"github.com/tocsin-io/tocsin/remediations"
	"github.com/tocsin-io/tocsin/remediations/audit"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// freshFor is how old a cluster's last sign of life may be for an action to be proposed there.
const freshFor = 30 * time.Second

// actions joins the two halves of package remediations to the bus: the desk of a hub, and the
// executors of agents. Without a desk (a recording) it proposes nothing.
type actions struct {
	bus    *bus.Bus
	opts   Options
	keys   keys
	desk   *remediations.Desk
	log    *slog.Logger
	notes  func(context.Context, incident.ID, incident.Step) error
	reader *store
}

// dryActions is for recordings: there is no cluster to act on.
func dryActions() *actions { return &actions{} }

func newActions(o Options, b *bus.Bus) (*actions, error) {
	k, err := loadKeys(o.data(), o.Trust)
	if err != nil {
		return nil, err
	}
	return &actions{bus: b, opts: o, keys: k, log: o.Log}, nil
}

// openDesk makes the hub's half.
func (a *actions) openDesk(s *store, notes func(context.Context, incident.ID, incident.Step) error) error {
	pol, err := a.policy()
	if err != nil {
		return err
	}
	dir, err := a.directory()
	if err != nil {
		return err
	}
	a.reader, a.notes = s, notes
	a.desk, err = remediations.NewDesk(remediations.DeskConfig{KV: prefixed{a.bus.KV(bus.Actions), "desk."}, Stop: a.bus.KV(bus.Controls), Audit: auditLog{a.bus.Log(bus.Audit)},
		Commands: commands{a.bus}, Prepare: preparer{a.bus}, Directory: dir, Incidents: a, Coverage: a, Policy: pol, Key: a.keys.approval, Notify: a, Log: a.log})
	return err
}

func (a *actions) runDesk(ctx context.Context) error {
	if a.desk == nil {
		<-ctx.Done()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.desk.Run(ctx) })
	g.Go(func() error {
		return a.bus.ConsumeOutcomes(ctx, "desk", func(ctx context.Context, c incident.ClusterName, _ string, payload []byte) error {
			var o incident.Outcome
			if err := json.Unmarshal(payload, &o); err != nil {
				return incident.Invalidf("outcome of %s: %v", c, err)
			}
			return a.desk.Outcome(ctx, c, o)
		})
	})
	return g.Wait()
}

// propose hands a finding's proposals to the desk.
func (a *actions) propose(ctx context.Context, inc incident.Incident, f incident.Finding) error {
	if a.desk == nil || inc.State != incident.Open || inc.Severity == incident.Info {
		return nil
	}
	_, err := a.desk.Propose(ctx, inc, f.Proposals)
	return err
}

// runAgent runs the executor of one cluster.
func (a *actions) runAgent(ctx context.Context, ag *agent) error {
	live := remediations.NewLive(ag.cluster.Custom)
	actor, err := a.actorOf(ag.cluster)
	if err != nil {
		return err
	}
	local := remediations.LocalPolicy{Act: len(a.opts.AllowActions) > 0, Namespaces: a.opts.AllowNamespaces, ClusterScoped: a.opts.AllowClusterScoped}
	for _, n := range a.opts.AllowActions {
		local.Actions = append(local.Actions, incident.ActionName(n))
	}
	name := ag.cluster.Name
	encoded, err := bus.EncodeName(string(name))
	if err != nil {
		return err
	}
	exec, err := remediations.NewAgent(remediations.AgentConfig{Cluster: name, Reader: live, Actor: actor, KV: prefixed{a.bus.KV(bus.Actions), "agent." + encoded + "."},
		Stop: a.bus.KV(bus.Controls), Trusted: a.keys.trusted, Key: a.keys.seal, Local: local, Signals: ag, Outcomes: reporter{a.bus}, Log: ag.log, Window: a.opts.VerifyWindow})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return exec.Run(ctx) })
	g.Go(func() error {
		return a.bus.ReceiveCommands(ctx, name, func(ctx context.Context, _ incident.ClusterName, _ string, payload []byte) error {
			return exec.Handle(ctx, payload)
		})
	})
	var one sync.Mutex // a plan reads every pod of a namespace: one at a time bounds the agent's memory
	g.Go(func() error {
		return a.bus.Serve(ctx, name, bus.VerbPrepare, func(ctx context.Context, payload []byte) ([]byte, error) {
			var p incident.Proposal
			if err := json.Unmarshal(payload, &p); err != nil {
				return nil, incident.Invalidf("proposal: %v", err)
			}
			one.Lock()
			prepared, err := exec.Prepare(ctx, p)
			one.Unlock()
			if err != nil {
				return nil, err
			}
			return json.Marshal(prepared)
		})
	})
	return g.Wait()
}

// actorOf returns the client that writes: of the context with the same name in --act-kubeconfig,
// or else the one that reads.
func (a *actions) actorOf(c kube.Cluster) (remediations.Writer, error) {
	if a.opts.ActKubeconfig == "" {
		return remediations.NewLive(c.Custom), nil
	}
	cs, err := kube.Contexts(a.opts.ActKubeconfig, []string{string(c.Name)})
	if err != nil {
		return nil, fmt.Errorf("--act-kubeconfig: %w", err)
	}
	return remediations.NewLive(cs[0].Custom), nil
}

// Incident implements remediations.Incidents.
func (a *actions) Incident(ctx context.Context, id incident.ID) (incident.Incident, error) {
	return a.reader.Get(ctx, id)
}

// Fresh implements remediations.Coverage.
func (a *actions) Fresh(ctx context.Context, c incident.ClusterName) (bool, string, error) {
	b, _, err := a.bus.KV(bus.Health).Get(ctx, string(c)+"/kube")
	if errors.Is(err, incident.ErrNotFound) {
		return false, "its collector has never been seen", nil
	}
	if err != nil {
		return false, "", err
	}
	var st collectkube.Status
	if err := json.Unmarshal(b, &st); err != nil {
		return false, "", incident.Invalidf("health of %s: %v", c, err)
	}
	if st.At.IsZero() {
		return false, "its collector has not reached it yet", nil
	}
	if age := time.Since(st.At); age > freshFor || age < -freshFor { // a clock that far ahead tells nothing
		return false, "last seen " + age.Round(time.Second).String() + " ago", nil
	}
	return true, "seen " + st.At.Format(time.TimeOnly), nil
}

// Changed implements remediations.Notifier: what becomes of a proposal stands on its incident's
// timeline. Losing a line there loses nothing: the record and the audit log have it.
func (a *actions) Changed(ctx context.Context, r remediations.Record) {
	say := fmt.Sprintf("%s %s: %s", r.ID, r.Proposal.Summary, r.State)
	switch {
	case r.Outcome != nil:
		say = fmt.Sprintf("%s %s: %s, %s", r.ID, r.Proposal.Action, r.Outcome.State, r.Outcome.Detail)
	case r.State == remediations.Refused && r.Bound == nil:
		return // could not be prepared; it is asked again with the next finding
	case r.Why != "":
		say += " (" + r.Why + ")"
	}
	if n := len(r.Approvals); n > 0 && r.Outcome == nil {
		say += ", by " + r.Approvals[n-1].By
	}
	target := r.Proposal.Target
	if err := a.notes(ctx, r.Proposal.Incident, incident.Step{Time: r.Updated, Kind: incident.StepAction, Cluster: target.Cluster, Entity: &target.Entity, Text: say}); err != nil {
		a.log.Warn("an action's step is missing on the timeline", "incident", r.Proposal.Incident, "action", r.ID, "error", err)
	}
}

// Actions implements console.Desk.
func (a *actions) Actions(ctx context.Context) ([]json.RawMessage, error) {
	rs, err := a.desk.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make([]json.RawMessage, 0, len(rs))
	for _, r := range rs {
		b, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Action implements console.Desk.
func (a *actions) Action(ctx context.Context, id incident.ProposalID) (json.RawMessage, error) {
	return raw(a.desk.Get(ctx, id))
}

// Decide implements console.Desk.
func (a *actions) Decide(ctx context.Context, ap incident.Approval) (json.RawMessage, error) {
	d := remediations.Decision{Proposal: ap.Proposal, Digest: ap.Digest, By: ap.By, Via: ap.Via, Reason: ap.Reason}
	if ap.Approve {
		return raw(a.desk.Approve(ctx, d))
	}
	return raw(a.desk.Deny(ctx, d))
}

// Stop implements console.Desk. Scope is "fleet", "cluster/NAME" or "namespace/CLUSTER/NAME".
func (a *actions) Stop(ctx context.Context, scope, by, reason string, on bool) error {
	s := remediations.Stop{On: on, By: by, Reason: reason}
	name, isCluster := strings.CutPrefix(scope, "cluster/")
	inside, isNamespace := strings.CutPrefix(scope, "namespace/")
	slash := strings.LastIndexByte(inside, '/') // names of clusters may hold slashes, of namespaces not
	switch {
	case scope == "fleet":
	case isCluster:
		s.Scope.Cluster = incident.ClusterName(name)
	case isNamespace && slash > 0:
		s.Scope = remediations.Scope{Cluster: incident.ClusterName(inside[:slash]), Namespace: inside[slash+1:]}
	default:
		return incident.Invalidf("scope %q: want fleet, cluster/NAME or namespace/CLUSTER/NAME", incident.Clip(scope, 80))
	}
	if c := s.Scope.Cluster; c != "" && on {
		if _, _, err := a.bus.KV(bus.Health).Get(ctx, string(c)+"/kube"); err != nil {
			return fmt.Errorf("cluster %q was never seen here, so stopping it would stop nothing (tocsin doctor lists those there are): %w", incident.Clip(string(c), 80), err)
		}
	}
	return a.desk.SetStop(ctx, s)
}

// AuditVerify implements console.Desk.
func (a *actions) AuditVerify(ctx context.Context) (json.RawMessage, error) {
	return raw(audit.Verify(ctx, auditLog{a.bus.Log(bus.Audit)}))
}

func raw[T any](v T, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// policy reads the policy file, or takes the default: everything asks.
func (a *actions) policy() (fixedPolicy, error) {
	if a.opts.PolicyFile == "" {
		p, err := policy.Default()
		return fixedPolicy{p}, err
	}
	b, err := os.ReadFile(a.opts.PolicyFile)
	if err != nil {
		return fixedPolicy{}, fmt.Errorf("policy: %w", err)
	}
	p, err := policy.Parse(b)
	if err != nil {
		return fixedPolicy{}, fmt.Errorf("policy %s: %w", a.opts.PolicyFile, err)
	}
	return fixedPolicy{p}, nil
}

type fixedPolicy struct{ p *policy.Policy }

// Current implements remediations.Policies.
func (f fixedPolicy) Current(context.Context) (*policy.Policy, error) { return f.p, nil }

// roles tells who may decide. With a file it is read at every question, so that taking a role
// away works at once; without one only the user who runs the process may.
type roles struct {
	file string
	own  string
}

func (a *actions) directory() (roles, error) {
	r := roles{file: a.opts.RolesFile}
	if u, err := user.Current(); err == nil {
		r.own = u.Username
	}
	if r.file != "" {
		if _, err := os.Stat(r.file); err != nil {
			return r, fmt.Errorf("roles file: %w", err)
		}
	}
	return r, nil
}

// Roles implements remediations.Directory. Lines of the file: "NAME role[,role…]".
func (r roles) Roles(_ context.Context, who string) ([]string, error) {
	if r.file == "" {
		if who != "" && who == r.own {
			return []string{remediations.RoleApprover, remediations.RoleAdmin}, nil
		}
		return nil, nil
	}
	b, err := os.ReadFile(r.file)
	if err != nil {
		return nil, fmt.Errorf("roles file: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == who && !strings.HasPrefix(f[0], "#") {
			return strings.Split(f[1], ","), nil
		}
	}
	return nil, nil
}

// preparer asks a cluster's agent over the bus.
type preparer struct{ bus *bus.Bus }

// Prepare implements remediations.Preparer.
func (p preparer) Prepare(ctx context.Context, c incident.ClusterName, prop incident.Proposal) (remediations.Prepared, error) {
	var out remediations.Prepared
	req, err := json.Marshal(prop)
	if err != nil {
		return out, err
	}
	b, err := p.bus.Request(ctx, c, bus.VerbPrepare, req)
	if err != nil {
		return out, err
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&out); err != nil {
		return out, incident.Invalidf("prepared plan of %s: %v", c, err)
	}
	return out, nil
}

// commands, reporter, auditLog and prefixed fit the bus to what package remediations asks for.
type commands struct{ bus *bus.Bus }

// Send implements remediations.Commands.
func (c commands) Send(ctx context.Context, name incident.ClusterName, id string, payload []byte) error {
	return c.bus.SendCommand(ctx, name, id, payload)
}

type reporter struct{ bus *bus.Bus }

// Report implements remediations.Outcomes.
func (r reporter) Report(ctx context.Context, o incident.Outcome) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return r.bus.PublishOutcome(ctx, o.Target.Cluster, string(incident.HashParts(string(b))), b)
}

type auditLog struct{ log *bus.Log }

// Append implements remediations.Log.
func (l auditLog) Append(ctx context.Context, entry []byte, last uint64) (uint64, error) {
	return l.log.Append(ctx, entry, last)
}

// Read implements remediations.Log.
func (l auditLog) Read(ctx context.Context, from uint64, fn func(uint64, []byte) error) error {
	return l.log.Read(ctx, from, func(seq uint64, _ time.Time, entry []byte) error { return fn(seq, entry) })
}

// prefixed keeps the desk's and each agent's keys apart in one bucket.
type prefixed struct {
	kv     *bus.KV
	prefix string
}

// Get implements remediations.KV.
func (p prefixed) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	return p.kv.Get(ctx, p.prefix+key)
}

// Create implements remediations.KV.
func (p prefixed) Create(ctx context.Context, key string, v []byte) (uint64, error) {
	return p.kv.Create(ctx, p.prefix+key, v)
}

// Update implements remediations.KV.
func (p prefixed) Update(ctx context.Context, key string, v []byte, rev uint64) (uint64, error) {
	return p.kv.Update(ctx, p.prefix+key, v, rev)
}

// Keys implements remediations.KV.
func (p prefixed) Keys(ctx context.Context) ([]string, error) {
	all, err := p.kv.Keys(ctx)
	out := all[:0]
	for _, k := range all {
		if rest, ok := strings.CutPrefix(k, p.prefix); ok {
			out = append(out, rest)
		}
	}
	return out, err
}

// keys are this process's: the approval key signs commands (hub), trusted ones are obeyed and
// the seal is private to the agents of this data folder.
type keys struct {
	approval ed25519.PrivateKey
	trusted  []ed25519.PublicKey
	seal     []byte
}
