package remediations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Handle takes one signed command from the queue. Nil: it is executed or refused for good, ack
// it. ErrInvalid: it can never be accepted, terminate it. Any other error: deliver it again.
// It returns when the writes are sent; what came of them is measured by Run.
func (a *Agent) Handle(ctx context.Context, envelope []byte) error {
	cmd, err := OpenCommand(envelope, a.cfg.Trusted)
	if err != nil {
		a.cfg.Log.Warn("command refused", "cluster", string(a.cfg.Cluster), "error", err.Error())
		return err
	}
	if err := cmd.check(a.cfg.Cluster, time.Now()); err != nil {
		return a.refuseUnclaimed(ctx, cmd, err)
	}
	if cmd.Kind == CommandUndo {
		return a.handleUndo(ctx, cmd)
	}
	x, done, err := a.claim(ctx, cmd)
	if errors.Is(err, incident.ErrDenied) {
		return incident.Invalidf("%v", err)
	}
	if err != nil || done {
		return err
	}
	if x.State != stateClaimed {
		return a.recoverStarted(ctx, x)
	}
	return a.execute(ctx, x)
}

// refuseUnclaimed reports a well-signed command that is not acceptable, unless its execution is
// under way or over already.
func (a *Agent) refuseUnclaimed(ctx context.Context, cmd Command, why error) error {
	a.cfg.Log.Warn("command refused", "cluster", string(a.cfg.Cluster), "execution", cmd.Bound.Prepared.Execution, "error", why.Error())
	if cmd.Cluster != a.cfg.Cluster || cmd.Kind != CommandExecute || cmd.Digest != cmd.Bound.Digest() {
		return incident.Invalidf("%v", why)
	}
	x, done, err := a.claim(ctx, cmd)
	if err != nil || done {
		return err
	}
	if x.State != stateClaimed {
		return a.recoverStarted(ctx, x)
	}
	return a.finish(ctx, x, incident.OutcomeRefused, why.Error())
}

// execute runs the gates again, marks the execution started, and sends the writes.
func (a *Agent) execute(ctx context.Context, x *execution) error {
	p := &x.Bound.Prepared
	action, err := Lookup(p.Proposal)
	if err != nil {
		return a.finish(ctx, x, incident.OutcomeRefused, err.Error())
	}
	c, why, err := a.recheck(ctx, x, action)
	if err != nil {
		return err
	}
	if why != "" {
		return a.finish(ctx, x, incident.OutcomeRefused, why)
	}
	if !a.cfg.Local.Act {
		x.Effect = mask(c.effect)
		return a.finish(ctx, x, incident.OutcomeDryRun, "the agent only tries out: the server accepted every write as a dry run")
	}
	until := time.Now().Add(p.Window + 10*time.Minute)
	if holder, err := lock(ctx, a.cfg.KV, p.Proposal.Target.Entity, x.id(), until); err != nil {
		return err
	} else if holder != "" {
		return a.finish(ctx, x, incident.OutcomeRefused, "lock: execution "+holder+" acts on it now")
	}
	if why, err := a.rates.take(ctx, p.Proposal.Target, x.id()); err != nil {
		return err
	} else if why != "" {
		return a.finish(ctx, x, incident.OutcomeRefused, "rate: "+why)
	}
	if err := a.start(ctx, x, c); err != nil {
		return err
	}
	return a.send(ctx, x, c)
}

// recheck looks and runs every gate against what was approved; why names the denials.
func (a *Agent) recheck(ctx context.Context, x *execution, action Action) (c *gateCase, why string, err error) {
	p := &x.Bound.Prepared
	c = &gateCase{action: action, proposal: p.Proposal, id: x.id(), approved: p}
	if err := a.look(ctx, c); err != nil {
		return nil, "", fmt.Errorf("execution %s: %w", x.id(), err)
	}
	var denied []string
	for _, v := range a.runGates(ctx, c) {
		if v.Decision != incident.Allow {
			denied = append(denied, v.Gate+": "+v.Reason)
		}
	}
	return c, strings.Join(denied, "; "), nil
}

// start records what is about to be sent, what undoes it and how things stood. From here on a
// crash is answered by looking.
func (a *Agent) start(ctx context.Context, x *execution, c *gateCase) error {
	now := time.Now().UTC()
	x.State, x.Started, x.Lease = stateStarted, now, now.Add(a.cfg.Lease)
	x.Effect = mask(c.effect)
	x.Owner = controllerOf(c.object)
	if h, err := a.health(ctx, x); err == nil {
		x.Baseline = h
		// Fewer ready pods are what scaling down is for.
		if n, err := strconv.Atoi(c.proposal.Params[incident.ParamReplicas]); err == nil {
			x.Baseline.Ready = min(h.Ready, n)
		}
	}
	undo, err := a.undoOf(ctx, x, c)
	if err != nil {
		return err
	}
	if x.Undo, err = a.sealUndo(x.id(), undo); err != nil {
		return err
	}
	return a.advance(ctx, x)
}

// undoOf returns the writes that put the targets back, last write first; nil where an action
// has no undo.
func (a *Agent) undoOf(ctx context.Context, x *execution, c *gateCase) ([]Write, error) {
	var out []Write
	for i := len(c.plan.Writes) - 1; i >= 0; i-- {
		w := c.plan.Writes[i]
		switch w.Verb {
		case VerbPatch:
			before, err := a.before(ctx, c, &w)
			if err != nil {
				return nil, err
			}
			after, err := a.cfg.Actor.Apply(ctx, w, Apply{DryRun: true, Execution: x.id(), Incident: x.inc()})
			if err != nil {
				return nil, err
			}
			ops, err := inverse(before, after, w.Ops)
			if err != nil {
				return nil, err
			}
			out = append(out, Write{Verb: VerbPatch, Target: w.Target, Ops: ops})
		case VerbCopy:
			out = append(out, Write{Verb: VerbDelete, Target: w.Target})
		}
	}
	return out, nil
}

// conflictTries bounds how often a write is sent again after the server said that the object
// changed meanwhile, which also says that nothing was written. Controllers write status several
// times a second while pods fail.
const conflictTries = 8

// send sends the writes in order. A definite refusal ends the execution; an unclear answer is
// looked into, never repeated.
func (a *Agent) send(ctx context.Context, x *execution, c *gateCase) error {
	for i := x.Sent; i < len(c.plan.Writes); i++ {
		err := a.sendOne(ctx, x, c, &c.plan.Writes[i])
		switch {
		case err == nil:
			x.Sent = i + 1
			if i+1 < len(c.plan.Writes) {
				x.Lease = time.Now().UTC().Add(a.cfg.Lease)
				if err := a.advance(ctx, x); err != nil {
					return err
				}
			}
		case reasonable(err) && i == 0:
			state := incident.OutcomeFailed
			if errors.Is(err, errStopped) || errors.Is(err, errChanged) {
				state = incident.OutcomeRefused
			}
			return a.finish(ctx, x, state, err.Error())
		case reasonable(err):
			// Part of the plan stands; what stands is verified and undone like the whole.
			return a.markDone(ctx, x, fmt.Sprintf("%d of %d writes sent, then: %v", i, len(c.plan.Writes), err))
		default:
			return a.unclear(ctx, x, err)
		}
	}
	return a.markDone(ctx, x, "")
}

var (
	errStopped = fmt.Errorf("stop switch: %w", incident.ErrDenied)
	errChanged = fmt.Errorf("identity: %w", incident.ErrStale)
)

// sendOne sends one write, again only after a conflict and only if the target is still as shown.
func (a *Agent) sendOne(ctx context.Context, x *execution, c *gateCase, w *Write) error {
	for try := range conflictTries {
		if why := a.stop.stopped(ctx, x.target()); why != "" {
			return fmt.Errorf("%w: %s", errStopped, why)
		}
		if w.Verb == VerbPush {
			_, err := a.cfg.Git.Push(ctx, w.Push.commit())
			return err
		}
		_, err := a.cfg.Actor.Apply(ctx, *w, Apply{Execution: x.id(), Incident: x.inc()})
		if !errors.Is(err, incident.ErrStale) || try == conflictTries-1 {
			return err
		}
		// The server refused the precondition: nothing was written. Look whether only the
		// status changed.
		fresh := &gateCase{action: c.action, proposal: c.proposal, id: c.id, approved: c.approved}
		if w.Target.Key() == c.proposal.Target.Entity.Key() {
			if err := a.look(ctx, fresh); err != nil {
				return err
			}
			if ok, why, _ := gateIdentity(ctx, a, fresh); !ok {
				return fmt.Errorf("%w: %s", errChanged, why)
			}
		}
		if _, err := a.before(ctx, fresh, w); err != nil {
			return err
		}
	}
	return nil
}

// markDone ends the writing and leaves the Event.
func (a *Agent) markDone(ctx context.Context, x *execution, note string) error {
	x.State, x.Done = stateDone, time.Now().UTC()
	x.UndoWhy = note
	if err := a.advance(ctx, x); err != nil {
		return err
	}
	p := x.Bound.Prepared.Proposal
	msg := fmt.Sprintf("%s for incident %s, execution %s: %s", p.Action, p.Incident, x.id(), incident.UntrustedText(p.Summary).Plain(300))
	if err := a.cfg.Actor.Event(ctx, p.Target.Entity, "Tocsin"+string(p.Action), msg); err != nil {
		a.cfg.Log.Warn("event not written", "cluster", string(a.cfg.Cluster), "execution", x.id(), "error", err.Error())
	}
	return nil
}

// unclear keeps an execution started after an answer that says nothing: Run will look once the
// lease is over, when a late write has landed or never will.
func (a *Agent) unclear(ctx context.Context, x *execution, cause error) error {
	a.cfg.Log.Warn("a write may or may not have happened; looking", "cluster", string(a.cfg.Cluster), "execution", x.id(), "error", cause.Error())
	x.UndoWhy = "no clear answer: " + cause.Error()
	return a.advance(ctx, x)
}

// recoverStarted answers a crash or a lost answer: is the effect there? It never writes.
func (a *Agent) recoverStarted(ctx context.Context, x *execution) error {
	if x.State == stateUndoing {
		return a.recoverUndo(ctx, x)
	}
	there, detail, err := a.effectThere(ctx, x)
	if err != nil {
		return err
	}
	if there {
		return a.markDone(ctx, x, "found after an interruption: "+detail)
	}
	return a.finish(ctx, x, incident.OutcomeUnknown, "interrupted while writing and no effect is seen ("+detail+"); it was not sent again: look, and propose again")
}

// effectThere looks for the last write's stamp or result.
func (a *Agent) effectThere(ctx context.Context, x *execution) (bool, string, error) {
	ws := x.Bound.Prepared.Writes
	if len(ws) == 0 {
		return false, "no writes", nil
	}
	return a.writeThere(ctx, ws[0], x.Bound.Prepared.Seen.UID, x.id())
}

func (a *Agent) writeThere(ctx context.Context, w ShownWrite, uid, stamp string) (bool, string, error) {
	if w.Verb == VerbPush {
		commit, err := a.cfg.Git.Branch(ctx, w.Branch)
		if errors.Is(err, incident.ErrNotFound) {
			return false, "no such branch", nil
		}
		return err == nil, "branch at " + commit, err
	}
	r := a.cfg.Reader
	if w.Target.Kind == "Secret" && a.cfg.Secrets != nil {
		r = a.cfg.Secrets
	}
	o, err := r.Get(ctx, w.Target)
	gone := errors.Is(err, incident.ErrNotFound)
	if err != nil && !gone {
		return false, "", err
	}
	if w.Verb == VerbDelete || w.Verb == VerbEvict {
		return gone || string(o.GetUID()) != cmpOr(w.Target.UID, uid) || o.GetDeletionTimestamp() != nil, "the object is gone or going", nil
	}
	if gone {
		return false, w.Target.String() + " does not exist", nil
	}
	got := o.GetAnnotations()[AnnotationExecution]
	return got == stamp, fmt.Sprintf("%s carries execution %q", w.Target, incident.UntrustedText(got).Plain(60)), nil
}
