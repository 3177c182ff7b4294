//go:build e2e

package e2e

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	authv1 "k8s.io/api/authentication/v1"

	"github.com/tocsin-io/tocsin/causes"
	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/e2e/lab"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations"
	"github.com/tocsin-io/tocsin/remediations/audit"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// TestRoutineFaults injects routine faults into a real cluster and takes each from what the
// detectors see to a verified outcome: proposed, prepared, approved, executed with the act roles
// of deploy/rbac, measured. It prints what was automated and checks that nothing else was
// touched.
func TestRoutineFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	s := newSite(t, ctx)
	faults := s.table()
	for i := range faults {
		must(t, s.c.Apply(ctx, namespaceOf(&faults[i])))
		if faults[i].before != "" {
			must(t, s.c.Apply(ctx, faults[i].before))
		}
	}
	for i := range faults {
		if w := faults[i].ready; w != "" {
			must(t, s.c.WaitReady(ctx, faults[i].ns, w, faults[i].n))
		}
	}
	for i := range faults {
		if f := &faults[i]; f.inject != nil {
			must(t, f.inject(ctx))
		}
	}
	s.run(ctx, faults)
	report(t, faults)
	s.nothingElse(ctx, faults)
	if _, err := audit.Verify(ctx, s.log); err != nil {
		t.Errorf("audit trail: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fault is one routine fault: how it is made, what is right to do, and what became of it.
type fault struct {
	name, ns string
	before   string // what is there when all is well
	ready    string // deployment to wait for
	n        int
	inject   func(ctx context.Context) error
	right    []incident.ActionName           // any of them repairs it
	object   string                          // Kind/name that is right to act on
	by       incident.CauseName              // blamed on something else than object or namespace
	fixer    func(ctx context.Context) error // plays a controller that the cluster lacks

	inc     incident.Incident
	last    string // the proposal of the analysis before
	record  remediations.Record
	asked   int
	cause   incident.CauseName
	problem string
	done    bool
}

func namespaceOf(f *fault) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + f.ns + "}\n"
}

// site is a cluster with both halves of Tocsin's remediation on it.
type site struct {
	t     *testing.T
	c     *lab.Cluster
	real  *lab.Node
	dyn   dynamic.Interface
	desk  *remediations.Desk
	agent *remediations.Agent
	log   *trail
	pol   *policy.Policy
	queue [][]byte

	mu     sync.Mutex
	result causes.Result
	at     time.Time
	faults []fault
}

const clusterName = incident.ClusterName("eu-1")

func newSite(t *testing.T, ctx context.Context) *site {
	s := &site{t: t, log: &trail{}}
	s.c = lab.New(t, string(clusterName), lab.Options{})
	must(t, s.c.Kwok(ctx, 6))
	if err := lab.CanRunNodes(); err == nil {
		s.real, err = s.c.RealNode(ctx)
		must(t, err)
	} else {
		t.Logf("no real node: %v", err)
	}
	var err error
	s.dyn, err = dynamic.NewForConfig(s.c.Config)
	must(t, err)
	s.applyRBAC(ctx)
	s.pol, err = policy.Default()
	must(t, err)
	pub, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	stop := newBucket()
	s.agent, err = remediations.NewAgent(remediations.AgentConfig{Cluster: clusterName, Reader: s.as(ctx, "tocsin-reader"), Actor: s.as(ctx, "tocsin-actor"),
		Secrets: s.as(ctx, "tocsin-actor"), KV: newBucket(), Stop: stop, Trusted: []ed25519.PublicKey{pub}, Key: []byte(strings.Repeat("k", 32)), Signals: s, Outcomes: s,
		Local:  remediations.LocalPolicy{Act: true, Actions: incident.Actions(), Namespaces: []string{"*", "kube-system"}, ClusterScoped: true, Caps: remediations.Caps{PerClusterHour: 1000}},
		Window: 2 * time.Minute, Settle: 5 * time.Second})
	must(t, err)
	s.desk, err = remediations.NewDesk(remediations.DeskConfig{KV: newBucket(), Stop: stop, Audit: s.log, Commands: s, Prepare: s, Directory: s, Incidents: s, Coverage: s,
		Policy: s, Key: key, Caps: remediations.Caps{PerClusterHour: 1000, PerFleetHour: 1000}})
	must(t, err)
	return s
}

// applyRBAC installs deploy/rbac as it is and binds every act role to the actor.
func (s *site) applyRBAC(ctx context.Context) {
	must(s.t, s.c.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: tocsin}\n"))
	files, err := filepath.Glob(filepath.Join("..", "deploy", "rbac", "*.yaml"))
	must(s.t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(s.t, err)
		must(s.t, s.c.Apply(ctx, string(text)))
	}
	for _, r := range remediations.ActRoles() {
		must(s.t, s.c.Apply(ctx, fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}
subjects: [{kind: ServiceAccount, name: tocsin-actor, namespace: tocsin}]
`, r.Name)))
	}
}

// as returns the cluster with the rights of one of our service accounts.
func (s *site) as(ctx context.Context, account string) *remediations.Live {
	tok, err := s.c.Client.CoreV1().ServiceAccounts("tocsin").CreateToken(ctx, account, &authv1.TokenRequest{}, metav1.CreateOptions{})
	must(s.t, err)
	cfg := rest.AnonymousClientConfig(s.c.Config)
	cfg.BearerToken, cfg.QPS, cfg.Burst = tok.Status.Token, 200, 400
	dyn, err := dynamic.NewForConfig(cfg)
	must(s.t, err)
	return remediations.NewLive(dyn)
}

// The interfaces of desk and agent, in one process.

func (s *site) Send(_ context.Context, _ incident.ClusterName, _ string, payload []byte) error {
	s.queue = append(s.queue, payload)
	return nil
}
func (s *site) Prepare(ctx context.Context, _ incident.ClusterName, p incident.Proposal) (remediations.Prepared, error) {
	return s.agent.Prepare(ctx, p)
}
func (s *site) Roles(_ context.Context, who string) ([]string, error) {
	if who == "ann" || who == "ben" {
		return []string{remediations.RoleApprover}, nil
	}
	return nil, nil
}
func (s *site) Incident(_ context.Context, id incident.ID) (incident.Incident, error) {
	for i := range s.faults {
		if s.faults[i].inc.ID == id {
			return s.faults[i].inc, nil
		}
	}
	return incident.Incident{}, incident.ErrNotFound
}
func (s *site) Fresh(context.Context, incident.ClusterName) (bool, string, error) {
	return time.Since(s.at) < time.Minute, "", nil
}
func (s *site) Current(context.Context) (*policy.Policy, error) { return s.pol, nil }
func (s *site) Report(ctx context.Context, o incident.Outcome) error {
	return s.desk.Outcome(ctx, clusterName, o)
}

// State answers from the newest analysis: what the detectors still blame.
func (s *site) State(_ context.Context, inc incident.ID, _ incident.Ref) (remediations.SignalState, error) {
	for i := range s.faults {
		f := &s.faults[i]
		if f.inc.ID == inc {
			h := s.blames(f)
			return remediations.SignalState{Known: time.Since(s.at) < 30*time.Second, Resolved: h == nil, Detail: fmt.Sprint(causeOf(h))}, nil
		}
	}
	return remediations.SignalState{}, nil
}

func causeOf(h *incident.Hypothesis) incident.CauseName {
	if h == nil {
		return ""
	}
	return h.Cause
}

// blames returns the best hypothesis about a fault's namespace or object; nil when there is none.
func (s *site) blames(f *fault) *incident.Hypothesis {
	for i := range s.result.Hypotheses {
		h := &s.result.Hypotheses[i]
		if f.by != "" {
			if h.Cause == f.by {
				return h
			}
			continue
		}
		_, name, _ := strings.Cut(f.object, "/")
		mine := h.Object.Namespace == f.ns || (h.Object.Kind == "Namespace" && h.Object.Name == f.ns) || (h.Object.Namespace == "" && h.Object.Kind == "Node" && h.Object.Name == name)
		if mine && h.Severity.Rank() > 0 {
			return h
		}
	}
	return nil
}

func (s *site) analyze(ctx context.Context) {
	st, err := collectkube.Collect(ctx, clusterName, s.c.Client, s.dyn, nil)
	if err != nil {
		s.t.Logf("collect: %v", err)
		return
	}
	s.result, s.at = causes.Analyze(st), time.Now()
}

// run looks, proposes, approves, delivers and measures until every fault is done.
func (s *site) run(ctx context.Context, faults []fault) {
	s.faults = faults
	begun := time.Now()
	for time.Since(begun) < 8*time.Minute && ctx.Err() == nil {
		s.analyze(ctx)
		open, asked := 0, 0
		for i := range faults {
			if fix := faults[i].fixer; fix != nil {
				if err := fix(ctx); err != nil {
					s.t.Logf("%s: %v", faults[i].name, err)
				}
			}
			s.advance(ctx, &faults[i])
			open += count(!faults[i].done)
			asked += count(!faults[i].done && faults[i].record.ID != "")
		}
		for _, q := range s.queue {
			if err := s.agent.Handle(ctx, q); err != nil {
				s.t.Logf("handle: %v", err)
			}
		}
		s.queue = nil
		if err := errors.Join(s.agent.Step(ctx), s.desk.Step(ctx)); err != nil {
			s.t.Logf("step: %v", err)
		}
		// What the detectors have not seen by now they will not see.
		if open == 0 || (asked == 0 && time.Since(begun) > 4*time.Minute) {
			return
		}
		time.Sleep(time.Second)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// advance proposes what the detectors propose once two analyses agree, approves it, and notes
// the outcome.
func (s *site) advance(ctx context.Context, f *fault) {
	if f.done {
		return
	}
	if f.record.ID != "" {
		r, err := s.desk.Get(ctx, f.record.ID)
		if err == nil {
			f.record = r
		}
		f.done = !f.record.State.Open()
		return
	}
	h := s.blames(f)
	if h == nil {
		f.last = ""
		return
	}
	f.cause = h.Cause
	var proposals []incident.Proposal
	for _, p := range h.Proposals {
		if p.Action != "" {
			p.Target.Cluster, p.Cause, p.Confidence = clusterName, h.Cause, h.Confidence
			proposals = append(proposals, p)
		}
	}
	if len(proposals) == 0 {
		f.problem = "no action proposed for " + string(h.Cause)
		return
	}
	if key := string(proposals[0].Canonical()); f.last != key {
		f.last = key
		return
	}
	f.problem = ""
	f.inc = incident.Incident{ID: incident.ID("inc-" + f.name), Title: h.Summary, State: incident.Open, Cause: h.Cause, Severity: h.Severity}
	// The first that the gates let through: what they refuse is not asked.
	for _, p := range proposals {
		rs, err := s.desk.Propose(ctx, f.inc, []incident.Proposal{p})
		if err != nil || len(rs) == 0 {
			f.problem = fmt.Sprint("propose: ", err)
			return
		}
		f.record = rs[0]
		if f.record.State == remediations.Asking {
			break
		}
		s.t.Logf("%s: %s refused: %s", f.name, p.Action, f.record.Why)
	}
	for _, who := range []string{"ann", "ben"} {
		if f.record.State != remediations.Asking {
			break
		}
		f.asked++
		r, err := s.desk.Approve(ctx, remediations.Decision{Proposal: f.record.ID, Digest: f.record.Digest, By: who, Via: "cli"})
		if err != nil {
			f.problem = err.Error()
		}
		f.record = r
	}
}

// report prints the table and holds it against the promise.
func report(t *testing.T, faults []fault) {
	automated, wrong := 0, 0
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-28s %-26s %-22s %-40s %-9s %s\n", "fault", "cause found", "action", "object", "approvals", "outcome")
	for _, f := range faults {
		r := f.record
		outcome := cmp(f.problem, "not seen in time")
		if r.ID != "" {
			outcome = string(r.State) + ": " + r.Why
		}
		if r.Outcome != nil {
			outcome = string(r.Outcome.State) + ": " + r.Outcome.Detail
		}
		target := r.Proposal.Target.Entity
		if r.Outcome != nil && r.Outcome.State == incident.OutcomeVerified {
			automated++
		}
		if r.ID != "" && (!slices.Contains(f.right, r.Proposal.Action) || target.Kind+"/"+target.Name != f.object && !strings.HasSuffix(f.object, "/*")) {
			wrong++
			outcome = "WRONG " + outcome
		}
		fmt.Fprintf(&b, "%-28s %-26s %-22s %-40s %-9d %s\n", f.name, f.cause, r.Proposal.Action, target.String(), f.asked, incident.Clip(outcome, 150))
	}
	share := 100 * automated / len(faults)
	fmt.Fprintf(&b, "%d faults, %d automated to a verified outcome after approval (%d %%), %d wrong\n", len(faults), automated, share, wrong)
	t.Log(b.String())
	if wrong > 0 || share < 90 || len(faults) < 25 {
		t.Errorf("%d faults, %d %% automated, %d wrong: want ≥ 25, ≥ 90 %%, 0", len(faults), share, wrong)
	}
}

func cmp(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// nothingElse looks for our field manager and stamps on everything that can carry them.
func (s *site) nothingElse(ctx context.Context, faults []fault) {
	live := remediations.NewLive(s.dyn)
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Service", "Node", "ResourceQuota", "CronJob", "Job", "Secret", "HorizontalPodAutoscaler", "Pod"} {
		all, err := live.List(ctx, kind, "", "")
		if err != nil {
			s.t.Errorf("list %s: %v", kind, err)
			continue
		}
		for _, o := range all {
			ours := slices.ContainsFunc(o.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool { return m.Manager == remediations.FieldManager })
			stamp := o.GetAnnotations()[remediations.AnnotationExecution]
			if !ours && stamp == "" {
				continue
			}
			i := slices.IndexFunc(faults, func(f fault) bool {
				return f.record.Bound != nil && f.record.Bound.Prepared.Execution == strings.TrimSuffix(stamp, "-undo") &&
					slices.ContainsFunc(f.record.Bound.Prepared.Writes, func(w remediations.ShownWrite) bool {
						return w.Target.Kind == kind && w.Target.Namespace == o.GetNamespace() && w.Target.Name == o.GetName()
					})
			})
			if i < 0 && o.GetOwnerReferences() == nil {
				s.t.Errorf("%s %s/%s was written by execution %q, which was not shown on it", kind, o.GetNamespace(), o.GetName(), stamp)
			}
		}
	}
}

// trail and bucket are the stores, in memory.
type trail struct {
	mu      sync.Mutex
	entries [][]byte
}

func (l *trail) Append(_ context.Context, e []byte, last uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last != uint64(len(l.entries)) {
		return 0, incident.ErrStale
	}
	l.entries = append(l.entries, slices.Clone(e))
	return uint64(len(l.entries)), nil
}

func (l *trail) Read(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	for i, e := range l.entries {
		if uint64(i+1) >= from {
			if err := fn(uint64(i+1), e); err != nil {
				return err
			}
		}
	}
	return nil
}

type bucket struct {
	mu     sync.Mutex
	values map[string][]byte
	revs   map[string]uint64
	rev    uint64
}

func newBucket() *bucket { return &bucket{values: map[string][]byte{}, revs: map[string]uint64{}} }

func (b *bucket) Get(_ context.Context, k string) ([]byte, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.values[k]
	if !ok {
		return nil, 0, incident.ErrNotFound
	}
	return slices.Clone(v), b.revs[k], nil
}

func (b *bucket) Create(ctx context.Context, k string, v []byte) (uint64, error) {
	return b.Update(ctx, k, v, 0)
}

func (b *bucket) Update(_ context.Context, k string, v []byte, rev uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revs[k] != rev {
		return 0, incident.ErrStale
	}
	b.rev++
	b.values[k], b.revs[k] = slices.Clone(v), b.rev
	return b.rev, nil
}

func (b *bucket) Keys(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k := range b.values {
		out = append(out, k)
	}
	return out, nil
}
