package remediations

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/gitops"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Outcomes takes what an agent measured back to the hub; at least once.
type Outcomes interface {
	Report(ctx context.Context, o incident.Outcome) error
}

// Signals tells how the incident's own signals stand for one target.
type Signals interface {
	State(ctx context.Context, inc incident.ID, target incident.Ref) (SignalState, error)
}

// SignalState is how an incident stands. The zero value is "not seen", which is never healthy.
type SignalState struct {
	Known    bool   // the sources of its signals were seen
	Resolved bool   // nothing of the incident fires for the target any more
	Worse    bool   // it spread or became more severe after the action
	Detail   string // "2 of 5 members resolved"
}

// AgentConfig is what an Agent needs. Reader, Actor, KV, Stop, Key, Signals and Outcomes are
// required.
type AgentConfig struct {
	Cluster incident.ClusterName
	Reader  Reader // with the read role
	Actor   Writer // with the act roles; never used to read lists
	KV      KV     // this cluster's ledger
	Stop    KV     // the bucket of the stop switch
	Trusted []ed25519.PublicKey
	// Key seals plans and undo data, at least 32 bytes; all replicas of one cluster share it
	// and the hub does not have it.
	Key      []byte
	Local    LocalPolicy
	Signals  Signals
	Outcomes Outcomes
	Git      Git    // nil: no changes are proposed to Git
	Secrets  Reader // reads Secrets for CreateImagePullSecretCopy, with that act role; nil: none
	Log      *slog.Logger

	Lease  time.Duration // of one execution; default 45 s, longer than one API call
	Poll   time.Duration // of verification; default 1 s
	Settle time.Duration // how long conditions must hold; default 10 s
	// Window, when set, replaces every action's own verification window.
	Window time.Duration
}

// Agent prepares and executes actions in one cluster. It is safe for concurrent use, and any
// number of replicas may share one ledger.
type Agent struct {
	cfg    AgentConfig
	rates  rates
	stop   *Switch
	holder string

	mu       sync.Mutex
	finished map[string]time.Time // executions that need nothing more, until when; only to save reads
}

// NewAgent returns an agent. The error wraps ErrInvalid and names what is missing.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	switch {
	case cfg.Cluster.Validate() != nil:
		return nil, incident.Invalidf("agent: no cluster name")
	case cfg.Reader == nil || cfg.Actor == nil || cfg.KV == nil || cfg.Stop == nil || cfg.Signals == nil || cfg.Outcomes == nil:
		return nil, incident.Invalidf("agent of %s: reader, actor, ledger, stop switch, signals and outcomes are required", cfg.Cluster)
	case len(cfg.Key) < 32:
		return nil, incident.Invalidf("agent of %s: key is %d bytes, want at least 32", cfg.Cluster, len(cfg.Key))
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 45 * time.Second
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	if cfg.Settle <= 0 {
		cfg.Settle = 10 * time.Second
	}
	caps := cfg.Local.Caps.withDefaults()
	caps.PerFleetHour = math.MaxInt // the hub counts the fleet; this ledger knows one cluster
	return &Agent{cfg: cfg, rates: rates{cfg.KV, caps}, stop: NewSwitch(cfg.Stop),
		holder: randomHex(8), finished: map[string]time.Time{}}, nil
}

// Prepare makes a proposal exact against the live cluster and runs every gate that needs it. A
// denial is in the verdicts; the error is for a cluster that could not be asked, and wraps
// ErrInvalid when the proposal can never be prepared.
func (a *Agent) Prepare(ctx context.Context, p incident.Proposal) (Prepared, error) {
	action, err := Lookup(p)
	if err != nil {
		return Prepared{}, err
	}
	if p.Target.Cluster != a.cfg.Cluster {
		return Prepared{}, incident.Invalidf("proposal is for cluster %s, this is %s", p.Target.Cluster, a.cfg.Cluster)
	}
	c := &gateCase{action: action, proposal: p, id: newExecution()}
	if err := a.look(ctx, c); err != nil {
		return Prepared{}, fmt.Errorf("prepare %s on %s: %w", p.Action, p.Target, err)
	}
	window := action.Window
	if a.cfg.Window > 0 {
		window = a.cfg.Window
	}
	out := Prepared{Execution: c.id, Proposal: p, Seen: c.seen, Changes: mask(c.effect), Blast: c.blast, Risk: action.Risk,
		Undo: action.Undo, Signal: action.Signal, Window: window, Notes: c.plan.Notes, DryRun: !a.cfg.Local.Act, Seal: c.seal,
		At: time.Now().UTC()}
	for _, w := range c.plan.Writes {
		out.Writes = append(out.Writes, shown(w))
	}
	out.Verdicts = a.runGates(ctx, c)
	if action.Touches && c.seen.Owner.Heals {
		out.Instead = a.instead(ctx, p, c.seen.Owner)
	}
	return out, nil
}

// evidenceText is the body of a commit: what a reviewer needs to find the incident.
func evidenceText(p incident.Proposal, execution string) string {
	return incident.UntrustedText(fmt.Sprintf("Incident: %s | Cause: %s (confidence %.2f) | Evidence: %s | Execution: %s | %s", p.Incident, p.Cause, p.Confidence,
		strings.Join(p.Evidence, ", "), execution, p.Summary)).Plain(2000)
}

func shown(w Write) ShownWrite {
	s := ShownWrite{Verb: w.Verb, Target: w.Target}
	if w.Source != nil {
		s.Source = w.Source.String()
	}
	if w.Push != nil {
		s.Branch, s.Path = w.Push.Branch, w.Push.Path
	}
	return s
}

// look reads the target live, plans, tries the plan as a dry run and counts its blast radius.
// What it finds wrong is left in c for the gates; the error is a failure to look.
func (a *Agent) look(ctx context.Context, c *gateCase) error {
	o, err := a.cfg.Reader.Get(ctx, c.proposal.Target.Entity)
	if errors.Is(err, incident.ErrNotFound) {
		c.planErr = err
		return nil
	}
	if err != nil {
		return err
	}
	owner, err := OwnerOf(ctx, a.cfg.Reader, o)
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	c.object = o
	if c.seen, err = seenOf(o, owner, a.cfg.Key); err != nil {
		return err
	}
	reader := a.cfg.Reader
	if c.action.Name == incident.CreateImagePullSecretCopy && a.cfg.Secrets != nil {
		reader = a.cfg.Secrets
	}
	c.plan, c.planErr = c.action.plan(ctx, &request{Reader: reader, id: c.id, target: entityOf(o),
		params: c.proposal.Params, object: o, bounds: a.cfg.Local.Bounds.withDefaults(), git: a.cfg.Git,
		evidence: evidenceText(c.proposal, c.id)})
	if c.planErr != nil {
		if !reasonable(c.planErr) {
			return c.planErr
		}
		return nil
	}
	blast, budgets, err := blastOf(ctx, a.cfg.Reader, c.plan)
	if err != nil {
		return fmt.Errorf("blast radius: %w", err)
	}
	c.blast, c.budgets = *blast, budgets
	return a.tryOut(ctx, c)
}

// tryOut dry-runs every write on the server and seals writes and result.
func (a *Agent) tryOut(ctx context.Context, c *gateCase) error {
	for i := range c.plan.Writes {
		w := &c.plan.Writes[i]
		cs, err := a.dryRun(ctx, c, w)
		if err != nil {
			if !reasonable(err) {
				return fmt.Errorf("dry run: %w", err)
			}
			c.dryErr = err
			return nil
		}
		c.effect = append(c.effect, cs...)
	}
	seal, err := keyed(a.cfg.Key, struct {
		Execution string
		Proposal  string
		Writes    []Write
		Effect    []incident.FieldChange
		Print     incident.Digest
	}{c.id, string(c.proposal.Canonical()), c.plan.Writes, c.effect, c.seen.Print})
	c.seal = seal
	return err
}

// dryRun sends one write as a server-side dry run and returns what it would change, unmasked. It
// fills in the write's resourceVersion precondition.
func (a *Agent) dryRun(ctx context.Context, c *gateCase, w *Write) ([]incident.FieldChange, error) {
	if w.Verb == VerbPush {
		before, after := changedLines(w.Push.Before, w.Push.Content)
		return []incident.FieldChange{{Object: w.Target, Path: w.Push.Path, Before: before, After: after}}, nil
	}
	before, err := a.before(ctx, c, w)
	if err != nil {
		return nil, err
	}
	after, err := a.cfg.Actor.Apply(ctx, *w, Apply{DryRun: true, Execution: c.id, Incident: c.proposal.Incident})
	if err != nil {
		return nil, err
	}
	switch w.Verb {
	case VerbDelete, VerbEvict:
		return []incident.FieldChange{{Object: w.Target, Path: "(object)", Before: "exists", After: "deleted"}}, nil
	case VerbCopy, VerbCreate:
		return []incident.FieldChange{{Object: w.Target, Path: "(object)", After: "made from " + w.Source.String()}}, nil
	}
	return changes(before, after), nil
}

// before reads what a write will change and pins its resourceVersion. For copies it is the
// source.
func (a *Agent) before(ctx context.Context, c *gateCase, w *Write) (*Object, error) {
	e, r := w.Target, a.cfg.Reader
	if w.Source != nil {
		e = *w.Source
		if e.Kind == "Secret" && a.cfg.Secrets != nil {
			r = a.cfg.Secrets
		}
	}
	o := c.object
	if o == nil || entityOf(o).Key() != e.Key() {
		var err error
		if o, err = r.Get(ctx, e); err != nil {
			return nil, err
		}
	}
	if e.UID != string(o.GetUID()) {
		return nil, fmt.Errorf("%s was recreated: %w", e, incident.ErrStale)
	}
	w.Version = o.GetResourceVersion()
	return o, nil
}

func budgetSelects(b *policyv1.PodDisruptionBudget, l map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && sel.Matches(labels.Set(l))
}

func (p Push) commit() gitops.Commit {
	return gitops.Commit{Base: p.Base, Branch: p.Branch, Path: p.Path, Content: p.Content, Title: p.Title, Body: p.Body}
}
