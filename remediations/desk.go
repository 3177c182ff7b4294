package remediations

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/audit"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// Preparer has a cluster's agent prepare a proposal. What comes back is checked to be for that
// cluster and that proposal.
type Preparer interface {
	Prepare(ctx context.Context, cluster incident.ClusterName, p incident.Proposal) (Prepared, error)
}

// Directory tells who may decide. It is asked at every answer and again at dispatch; an error
// refuses.
type Directory interface {
	Roles(ctx context.Context, who string) ([]string, error)
}

// Incidents reads an incident as it is now; ErrNotFound when there is none.
type Incidents interface {
	Incident(ctx context.Context, id incident.ID) (incident.Incident, error)
}

// Coverage says whether a cluster is seen right now, and if not, since when.
type Coverage interface {
	Fresh(ctx context.Context, cluster incident.ClusterName) (ok bool, detail string, err error)
}

// Notifier is told of every change of a record. It must not block for long and cannot fail.
type Notifier interface {
	Changed(ctx context.Context, r Record)
}

// Policies returns the policy that holds now.
type Policies interface {
	Current(ctx context.Context) (*policy.Policy, error)
}

// DeskConfig is what a Desk needs; all but Notify, ClusterLabels, Caps and Log are required.
type DeskConfig struct {
	KV        KV // of proposals and plans
	Stop      KV // of the stop switch
	Audit     Log
	Commands  Commands
	Prepare   Preparer
	Directory Directory
	Incidents Incidents
	Coverage  Coverage
	Policy    Policies
	Key       ed25519.PrivateKey // signs commands; the broker does not hold it
	Notify    Notifier
	// ClusterLabels for policies; nil: none.
	ClusterLabels map[incident.ClusterName]map[string]string
	Caps          Caps
	Log           *slog.Logger
	Poll          time.Duration // of Run; default 1 s
	// Silence is how long after a command's expiry and window no word from the agent makes the
	// outcome unknown; default 15 min.
	Silence time.Duration
}

// Desk is the hub's half: records, questions, approvals, dispatch.
type Desk struct {
	cfg   DeskConfig
	chain *audit.Chain
	rates rates
	stop  *Switch

	mu   sync.Mutex
	rest map[string]time.Time // keys of what is over, until when; only to save reads
}

// Requester of proposals that nobody asked for.
const Requester = policy.Requester

// RoleApprover is the role asked when a policy names none; RoleAdmin may also open breakers and
// set the stop switch.
const (
	RoleApprover = "approver"
	RoleAdmin    = "admin"
)

// NewDesk returns a desk. The error wraps ErrInvalid and names what is missing.
func NewDesk(cfg DeskConfig) (*Desk, error) {
	switch {
	case cfg.KV == nil || cfg.Stop == nil || cfg.Audit == nil || cfg.Commands == nil:
		return nil, incident.Invalidf("desk: bucket, stop switch, audit log and command queue are required")
	case cfg.Prepare == nil || cfg.Directory == nil || cfg.Incidents == nil || cfg.Coverage == nil || cfg.Policy == nil:
		return nil, incident.Invalidf("desk: preparer, directory, incidents, coverage and policy are required")
	case len(cfg.Key) != ed25519.PrivateKeySize:
		return nil, incident.Invalidf("desk: approval key: want an Ed25519 private key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	if cfg.Silence <= 0 {
		cfg.Silence = 15 * time.Minute
	}
	return &Desk{cfg: cfg, chain: audit.New(cfg.Audit), rates: rates{cfg.KV, cfg.Caps.withDefaults()}, stop: NewSwitch(cfg.Stop), rest: map[string]time.Time{}}, nil
}

// note appends an audit entry about r. Nothing goes on without it.
func (d *Desk) note(ctx context.Context, r *Record, kind, actor, text string, data any) error {
	e := audit.Entry{Kind: kind, Actor: actor, Incident: r.Proposal.Incident, Proposal: r.ID, Text: incident.UntrustedText(text).Plain(1000)}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		e.Data = raw
	}
	_, err := d.chain.Append(ctx, e)
	return err
}

// Propose records the proposals of an incident that Tocsin found, has each prepared, and asks.
// It is idempotent: a proposal that is open stays as it is; one that failed, was denied or had
// no effect is not asked again by itself. Records come back in the order of proposals, each
// followed by what is asked instead where an owner would revert it; those without an action are
// steps for a person.
func (d *Desk) Propose(ctx context.Context, inc incident.Incident, proposals []incident.Proposal) ([]Record, error) {
	out := make([]Record, 0, len(proposals))
	var failed []error
	for _, p := range proposals {
		r, err := d.propose(ctx, inc, p, Requester, false)
		if err != nil {
			failed = append(failed, fmt.Errorf("propose %s on %s: %w", p.Action, p.Target, err))
			continue
		}
		out = append(out, r)
		if r.State != Refused || r.Bound == nil {
			continue
		}
		// A live patch that its owner would revert: ask for the change in Git, or the owner's own.
		for _, q := range r.Bound.Prepared.Instead {
			if q.Target.Cluster != p.Target.Cluster {
				continue
			}
			if r, err = d.propose(ctx, inc, q, Requester, false); err != nil {
				failed = append(failed, fmt.Errorf("propose %s on %s: %w", q.Action, q.Target, err))
				continue
			}
			out = append(out, r)
		}
	}
	return out, errors.Join(failed...)
}

// Request asks for one proposal on behalf of a person, also again after it ended: that person
// cannot approve it.
func (d *Desk) Request(ctx context.Context, inc incident.Incident, p incident.Proposal, by string) (Record, error) {
	if by == "" || by == Requester {
		return Record{}, incident.Invalidf("request: by whom?")
	}
	return d.propose(ctx, inc, p, by, true)
}

func (d *Desk) propose(ctx context.Context, inc incident.Incident, p incident.Proposal, by string, again bool) (Record, error) {
	p.Incident = inc.ID
	p.ID = incident.NewProposalID(p)
	r, err := d.Get(ctx, p.ID)
	switch {
	case errors.Is(err, incident.ErrNotFound):
		r = Record{ID: p.ID, Created: time.Now().UTC()}
	case err != nil:
		return Record{}, err
	case r.State.Open() || r.State == Step:
		return r, nil
	case !again && r.State != Expired && r.State != Refused:
		return r, nil
	case !again && r.State == Refused && time.Since(r.Updated) < retryRefused:
		return r, nil
	}
	r = Record{ID: p.ID, Created: r.Created, Attempt: r.Attempt + 1, rev: r.rev, Proposal: p, Title: inc.Title, Severity: inc.Severity}
	if p.Action == "" {
		r.State, r.Why = Step, p.Step
		return r, d.put(ctx, &r)
	}
	if err := d.prepare(ctx, inc, &r, by); err != nil {
		return Record{}, err
	}
	return r, d.ask(ctx, &r)
}

// retryRefused is how long a refused proposal rests before it is tried again by itself: gates
// such as a freeze window or a lock pass.
const retryRefused = 2 * time.Minute

// prepare fills in what is shown: the agent's plan, the policy's answer, the hub's gates.
func (d *Desk) prepare(ctx context.Context, inc incident.Incident, r *Record, by string) error {
	if _, err := Lookup(r.Proposal); err != nil {
		r.Verdicts = []incident.Verdict{denial("catalogue", err.Error())}
		return nil
	}
	prep, err := d.cfg.Prepare.Prepare(ctx, r.Proposal.Target.Cluster, r.Proposal)
	if err == nil {
		err = sameProposal(prep, r.Proposal)
	}
	if err != nil {
		r.Verdicts = []incident.Verdict{denial("prepare", "the cluster's agent could not prepare it: "+err.Error())}
		return nil
	}
	pol, err := d.cfg.Policy.Current(ctx)
	if err != nil {
		r.Verdicts = []incident.Verdict{denial("policy", "the policy cannot be read: "+err.Error())}
		return nil
	}
	answer := pol.Evaluate(ctx, d.input(r, &prep, inc.Severity, by, 1))
	r.Bound = &Bound{Prepared: prep, Policy: pol.Version(), Evidence: evidenceOf(inc, r.Proposal), Requester: by, Nonce: randomHex(16),
		Need: Need{Approvals: answer.Approvals, Roles: answer.Roles, Rule: answer.Rule}, Expires: time.Now().UTC().Add(pol.Expiry()).Truncate(time.Second)}
	r.Digest = r.Bound.Digest()
	r.Verdicts = append(append([]incident.Verdict{}, prep.Verdicts...), d.runGates(ctx, &hubCase{record: r, incident: inc, policy: pol, answer: answer})...)
	return nil
}

func denial(gate, reason string) incident.Verdict {
	return incident.Verdict{Gate: gate, Decision: incident.Deny, Reason: incident.UntrustedText(reason).Plain(500), At: time.Now().UTC()}
}

// sameProposal refuses a plan that is not for what was asked: an agent speaks for its own
// cluster and for nothing else.
func sameProposal(prep Prepared, p incident.Proposal) error {
	if string(prep.Proposal.Canonical()) != string(p.Canonical()) || prep.Proposal.ID != p.ID {
		return incident.Invalidf("the agent prepared another proposal")
	}
	if !executionForm.MatchString(prep.Execution) || prep.Seal == "" && incident.Strictest(prep.Verdicts) != incident.Deny {
		return incident.Invalidf("the agent's plan is incomplete")
	}
	for _, w := range prep.Writes {
		if w.Target.Kind == "" || w.Verb == "" {
			return incident.Invalidf("the agent's plan names a write without target")
		}
	}
	return nil
}

func (d *Desk) input(r *Record, prep *Prepared, sev incident.Severity, by string, clusters int) policy.Input {
	p := r.Proposal
	return policy.Input{Action: p.Action, Risk: prep.Risk, Kind: p.Target.Entity.Kind, Namespace: p.Target.Entity.Namespace, Name: p.Target.Entity.Name,
		Labels: prep.Seen.Labels, Cluster: p.Target.Cluster, ClusterLabels: d.cfg.ClusterLabels[p.Target.Cluster], Cause: p.Cause,
		Confidence: p.Confidence, Severity: sev, Requester: by, Pods: prep.Blast.Pods, Nodes: prep.Blast.Nodes, Share: prep.Blast.Share,
		Clusters: clusters, Now: time.Now().UTC()}
}

// evidenceOf hashes what the question rests on: the incident's cause and the proposal's.
func evidenceOf(inc incident.Incident, p incident.Proposal) incident.Digest {
	parts := []string{"tocsin.evidence.v1", string(inc.ID), string(inc.Cause), string(p.Cause), p.Why}
	return incident.HashParts(append(parts, p.Evidence...)...)
}

// ask records the question, or the refusal when a gate denies, or the policy's own approval.
func (d *Desk) ask(ctx context.Context, r *Record) error {
	decision := incident.Strictest(r.Verdicts)
	actor := Requester
	if r.Bound != nil {
		actor = r.Bound.Requester
	}
	if err := d.note(ctx, r, "proposal", actor, r.Proposal.Summary, auditProposal(r)); err != nil {
		return err
	}
	switch {
	case decision == incident.Deny || r.Bound == nil:
		r.State, r.Why = Refused, denials(r.Verdicts)
		return d.put(ctx, r)
	case decision == incident.Ask:
		r.State = Asking
		return d.put(ctx, r)
	}
	return d.approveByPolicy(ctx, r)
}

func auditProposal(r *Record) any {
	return struct {
		Proposal incident.Proposal  `json:"proposal"`
		Bound    *Bound             `json:"bound,omitempty"`
		Digest   incident.Digest    `json:"digest,omitempty"`
		Verdicts []incident.Verdict `json:"verdicts"`
	}{r.Proposal, r.Bound, r.Digest, r.Verdicts}
}

// denials joins the reasons of the gates that said no.
func denials(vs []incident.Verdict) string {
	out := ""
	for _, v := range vs {
		if v.Decision == incident.Allow || v.Decision == incident.Ask {
			continue
		}
		if out != "" {
			out += "; "
		}
		out += v.Gate + ": " + v.Reason
	}
	return incident.Clip(out, 1500)
}
