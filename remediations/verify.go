package remediations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Run measures what executed actions led to, undoes what made things worse, looks after
// interrupted ones and reports outcomes. It blocks until ctx ends and returns nil then. Several
// replicas may run it.
func (a *Agent) Run(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.Poll)
	defer tick.Stop()
	for {
		if err := a.Step(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("ledger not read", "cluster", string(a.cfg.Cluster), "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step does what is due for every execution of the ledger, once.
func (a *Agent) Step(ctx context.Context) error {
	keys, err := a.cfg.KV.Keys(ctx)
	if err != nil {
		return fmt.Errorf("executions: %w", err)
	}
	for _, k := range keys {
		id, ok := strings.CutPrefix(k, keyExecution+".")
		if !ok || a.isFinished(id) {
			continue
		}
		x, err := a.loadExecution(ctx, id)
		if err == nil {
			err = a.stepOne(ctx, x)
		}
		if err != nil && !errors.Is(err, incident.ErrStale) {
			a.cfg.Log.Warn("execution not advanced", "cluster", string(a.cfg.Cluster), "execution", id, "error", err.Error())
		}
	}
	return nil
}

func (a *Agent) isFinished(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.finished[id])
}

// restFor is how long what is over is not read again: another replica may have taken it up, and
// may have crashed since. It keeps a long history from costing a read per record and second.
const restFor = 10 * time.Minute

func (a *Agent) stepOne(ctx context.Context, x *execution) error {
	lapsed := time.Now().After(x.Lease)
	switch x.State {
	case stateClaimed:
		if lapsed && time.Now().After(x.Bound.Expires) {
			return a.finish(ctx, x, incident.OutcomeRefused, "the approval expired before it ran")
		}
	case stateStarted, stateUndoing:
		if lapsed {
			return a.recoverStarted(ctx, x)
		}
	case stateDone:
		return a.verify(ctx, x)
	case stateFinal:
		if !x.Reported {
			return a.report(ctx, x)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.finished[x.id()] = time.Now().Add(restFor)
	}
	return nil
}

func (a *Agent) health(ctx context.Context, x *execution) (Health, error) {
	p := x.Bound.Prepared.Proposal
	pr := &probe{target: p.Target.Entity, params: p.Params, id: x.id(), owner: x.Owner}
	pr.target.UID = x.Bound.Prepared.Seen.UID
	switch p.Action {
	case incident.DeletePod, incident.EvictPod, incident.RestartDaemonPod:
	default:
		pr.owner = nil
	}
	if p.Action == incident.GitChange {
		there, detail, err := a.effectThere(ctx, x)
		return Health{OK: there, Ready: -1, Detail: detail}, err
	}
	if h := Catalogue()[p.Action].health; h != nil {
		return h(ctx, a.cfg.Reader, pr)
	}
	return healthOf(ctx, a.cfg.Reader, pr)
}

// verify measures once. Conditions and signals must hold for the settle time; at the window's end it
// is decided. A failure to look decides nothing before that.
func (a *Agent) verify(ctx context.Context, x *execution) error {
	now := time.Now().UTC()
	window := x.Bound.Prepared.Window
	over := now.Sub(x.Done) >= window
	h, herr := a.health(ctx, x)
	s, serr := a.cfg.Signals.State(ctx, x.inc(), x.target())
	if (herr != nil || serr != nil) && !over {
		return errors.Join(herr, serr)
	}
	action := Catalogue()[x.Bound.Prepared.Proposal.Action]
	good := herr == nil && h.OK && (action.Contains || (serr == nil && s.Known && s.Resolved))
	fewer := herr == nil && h.Ready >= 0 && h.Ready < x.Baseline.Ready
	bad := (serr == nil && s.Known && s.Worse) || fewer
	detail := measured(h, herr, s, serr) + note(x.UndoWhy)
	okSince, badSince := since(good, x.OKSince, now), since(bad, x.BadSince, now)
	switch {
	case good && now.Sub(okSince) >= min(a.cfg.Settle, window/2):
		return a.finish(ctx, x, incident.OutcomeVerified, detail)
	case bad && now.Sub(x.Done) > 2*window:
		// The agent was away: what it sees now may have come of anything.
		return a.finish(ctx, x, incident.OutcomeWorse, detail+"; seen too late to be undone by itself: somebody must look")
	case bad && (over || now.Sub(badSince) >= window/2):
		return a.worse(ctx, x, detail)
	case over:
		return a.finish(ctx, x, incident.OutcomeNoEffect, detail)
	}
	if okSince.Equal(x.OKSince) && badSince.Equal(x.BadSince) {
		return nil
	}
	x.OKSince, x.BadSince = okSince, badSince
	return a.advance(ctx, x)
}

func since(holds bool, from, now time.Time) time.Time {
	switch {
	case !holds:
		return time.Time{}
	case from.IsZero():
		return now
	}
	return from
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func measured(h Health, herr error, s SignalState, serr error) string {
	out := h.Detail
	if herr != nil {
		out = "the target could not be read: " + herr.Error()
	}
	switch {
	case serr != nil:
		return out + "; signals could not be read: " + serr.Error()
	case !s.Known:
		return out + "; signals not seen " + s.Detail
	case s.Worse:
		return out + "; signals got worse " + s.Detail
	case s.Resolved:
		return out + "; signals resolved " + s.Detail
	}
	return out + "; signals still fire " + s.Detail
}

// worse undoes once, if there is an undo and its gates let it.
func (a *Agent) worse(ctx context.Context, x *execution, detail string) error {
	if len(x.Undo) == 0 {
		return a.finish(ctx, x, incident.OutcomeWorse, detail+"; there is no undo: somebody must look")
	}
	x.UndoWhy = detail
	return a.undo(ctx, x)
}

// undo marks the execution undoing and sends the undo writes, once. The compare-and-set lets
// one replica through.
func (a *Agent) undo(ctx context.Context, x *execution) error {
	ws, err := a.openUndo(x)
	if err != nil {
		return a.finish(ctx, x, incident.OutcomeWorse, x.UndoWhy+"; not undone: "+err.Error())
	}
	if why := a.undoGates(ctx, x, ws); why != "" {
		return a.finish(ctx, x, incident.OutcomeWorse, x.UndoWhy+"; not undone: "+why+"; somebody must look")
	}
	x.State, x.Holder, x.Lease = stateUndoing, a.holder, time.Now().UTC().Add(a.cfg.Lease)
	if err := a.advance(ctx, x); err != nil {
		return err
	}
	for i := range ws {
		err := a.sendUndo(ctx, x, &ws[i])
		switch {
		case err == nil:
		case reasonable(err):
			return a.finish(ctx, x, incident.OutcomeWorse, fmt.Sprintf("%s; undo refused after %d of %d writes: %v; somebody must look", x.UndoWhy, i, len(ws), err))
		default:
			return a.unclear(ctx, x, err)
		}
	}
	return a.finish(ctx, x, incident.OutcomeUndone, x.UndoWhy+"; undone")
}

// undoGates are the gates that an undo cannot do without.
func (a *Agent) undoGates(ctx context.Context, x *execution, ws []Write) string {
	if why := a.stop.stopped(ctx, x.target()); why != "" {
		return why
	}
	if ok, why, _ := a.cfg.Local.permits(x.Bound.Prepared.Proposal); !ok || !a.cfg.Local.Act {
		return cmpOr(why, "the agent only tries out")
	}
	for i := range ws {
		if ok, why, err := a.cfg.Actor.Allowed(ctx, ws[i]); err != nil || !ok {
			return fmt.Sprintf("not permitted to %s %s %s", ws[i].Verb, ws[i].Target, why)
		}
	}
	return ""
}

func (a *Agent) sendUndo(ctx context.Context, x *execution, w *Write) error {
	for try := range conflictTries {
		if w.Verb == VerbDelete && w.Target.UID == "" { // of a copy: only what this execution made
			r := a.cfg.Reader
			if a.cfg.Secrets != nil {
				r = a.cfg.Secrets
			}
			o, err := r.Get(ctx, w.Target)
			if err != nil {
				return err
			}
			if o.GetAnnotations()[AnnotationExecution] != x.id() {
				return fmt.Errorf("%s is not what this execution made: %w", w.Target, incident.ErrStale)
			}
			w.Target.UID, w.Version = string(o.GetUID()), o.GetResourceVersion()
		} else if _, err := a.before(ctx, &gateCase{}, w); err != nil {
			return err
		}
		_, err := a.cfg.Actor.Apply(ctx, *w, Apply{Execution: x.undoID(), Incident: x.inc()})
		if !errors.Is(err, incident.ErrStale) || try == conflictTries-1 {
			return err
		}
	}
	return nil
}

// recoverUndo looks whether an interrupted undo landed; it never writes.
func (a *Agent) recoverUndo(ctx context.Context, x *execution) error {
	ws, err := a.openUndo(x)
	if err != nil || len(ws) == 0 {
		return a.finish(ctx, x, incident.OutcomeWorse, x.UndoWhy+"; undo interrupted: somebody must look")
	}
	last := ws[len(ws)-1]
	there, detail, err := a.writeThere(ctx, ShownWrite{Verb: last.Verb, Target: last.Target}, last.Target.UID, x.undoID())
	if err != nil {
		return err
	}
	if there {
		return a.finish(ctx, x, incident.OutcomeUndone, x.UndoWhy+"; undone, found after an interruption")
	}
	return a.finish(ctx, x, incident.OutcomeWorse, x.UndoWhy+"; undo interrupted and not seen ("+detail+"); it was not sent again: somebody must look")
}

// handleUndo undoes a finished execution on a signed command: a fleet plan takes back what it did.
func (a *Agent) handleUndo(ctx context.Context, cmd Command) error {
	x, err := a.loadExecution(ctx, cmd.Bound.Prepared.Execution)
	if errors.Is(err, incident.ErrNotFound) {
		return incident.Invalidf("undo of %s, which did not run here", cmd.Bound.Prepared.Execution)
	}
	if err != nil {
		return err
	}
	ran := x.State == stateDone || (x.State == stateFinal && (x.Outcome.State == incident.OutcomeVerified || x.Outcome.State == incident.OutcomeNoEffect))
	if x.Digest != cmd.Digest || !ran || len(x.Undo) == 0 {
		return nil // nothing to take back, or taken back already
	}
	a.mu.Lock()
	delete(a.finished, x.id())
	a.mu.Unlock()
	x.Reported, x.UndoWhy = false, "undo asked for by the hub"
	return a.undo(ctx, x)
}
