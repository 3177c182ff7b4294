package remediations

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// executionState is where one execution stands in the agent's ledger.
type executionState string

const (
	stateClaimed executionState = "claimed" // taken; nothing was sent
	stateStarted executionState = "started" // writes are being sent; after a crash: look
	stateDone    executionState = "done"    // all were accepted; being verified
	stateUndoing executionState = "undoing" // the undo is being sent; after a crash: look
	stateFinal   executionState = "final"   // Outcome is set
)

// execution is the ledger's record of one command. Each change is a compare-and-set: whoever
// loses one does nothing more.
type execution struct {
	State   executionState  `json:"state"`
	Bound   Bound           `json:"bound"`
	Digest  incident.Digest `json:"digest"`
	Holder  string          `json:"holder"`
	Lease   time.Time       `json:"lease"` // others may take over after it
	Claimed time.Time       `json:"claimed"`
	Started time.Time       `json:"started,omitzero"`
	Done    time.Time       `json:"done,omitzero"`

	Sent     int                    `json:"sent"`           // writes accepted
	Undo     []byte                 `json:"undo,omitempty"` // sealed; what puts the targets back
	Effect   []incident.FieldChange `json:"effect,omitempty"`
	Baseline Health                 `json:"baseline"`
	Owner    *incident.Entity       `json:"owner,omitempty"` // of a target that goes away
	OKSince  time.Time              `json:"okSince,omitzero"`
	BadSince time.Time              `json:"badSince,omitzero"`

	UndoWhy  string            `json:"undoWhy,omitempty"`
	Outcome  *incident.Outcome `json:"outcome,omitempty"`
	Reported bool              `json:"reported,omitempty"`

	rev uint64
}

func (x *execution) id() string           { return x.Bound.Prepared.Execution }
func (x *execution) target() incident.Ref { return x.Bound.Prepared.Proposal.Target }
func (x *execution) inc() incident.ID     { return x.Bound.Prepared.Proposal.Incident }
func (x *execution) undoID() string       { return x.id() + "-undo" }
func executionKey(id string) string       { return keyOf(keyExecution, id) }

func (a *Agent) loadExecution(ctx context.Context, id string) (*execution, error) {
	x, rev, found, err := load[execution](ctx, a.cfg.KV, executionKey(id))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("execution %s: %w", id, incident.ErrNotFound)
	}
	x.rev = rev
	return &x, nil
}

// advance stores x over the revision it was read at. ErrStale: another replica went on with it.
func (a *Agent) advance(ctx context.Context, x *execution) error {
	rev, err := save(ctx, a.cfg.KV, executionKey(x.id()), x, x.rev)
	if err != nil {
		return err
	}
	x.rev = rev
	return nil
}

// errBusy says that another holder's lease on an execution runs; deliver again later.
var errBusy = errors.New("another replica is at it")

// claim takes an execution for this holder: a new one, or one whose holder is gone before it
// started. done tells that there is nothing left to execute.
func (a *Agent) claim(ctx context.Context, cmd Command) (x *execution, done bool, err error) {
	now := time.Now().UTC()
	x = &execution{State: stateClaimed, Bound: cmd.Bound, Digest: cmd.Digest, Holder: a.holder, Lease: now.Add(a.cfg.Lease), Claimed: now}
	err = a.advance(ctx, x)
	if err == nil {
		return x, false, nil
	}
	if !errors.Is(err, incident.ErrStale) {
		return nil, false, err
	}
	if x, err = a.loadExecution(ctx, cmd.Bound.Prepared.Execution); err != nil {
		return nil, false, err
	}
	if x.Digest != cmd.Digest {
		return nil, true, fmt.Errorf("execution %s was claimed for another action: %w", x.id(), incident.ErrDenied)
	}
	if x.State == stateDone || x.State == stateFinal {
		return x, true, nil
	}
	if now.Before(x.Lease) {
		return nil, false, fmt.Errorf("execution %s: %w", x.id(), errBusy)
	}
	x.Holder, x.Lease = a.holder, now.Add(a.cfg.Lease)
	return x, false, a.advance(ctx, x)
}

// sealUndo encrypts writes under the agent's key: they hold the object's old values.
func (a *Agent) sealUndo(id string, ws []Write) ([]byte, error) {
	if len(ws) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(ws)
	if err != nil {
		return nil, fmt.Errorf("undo: %w", err)
	}
	aead, err := a.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("undo: %w", err)
	}
	return aead.Seal(nonce, nonce, raw, []byte(id)), nil
}

func (a *Agent) openUndo(x *execution) ([]Write, error) {
	if len(x.Undo) == 0 {
		return nil, nil
	}
	aead, err := a.aead()
	if err != nil {
		return nil, err
	}
	if len(x.Undo) < aead.NonceSize() {
		return nil, incident.Invalidf("undo data of %s is cut off", x.id())
	}
	raw, err := aead.Open(nil, x.Undo[:aead.NonceSize()], x.Undo[aead.NonceSize():], []byte(x.id()))
	if err != nil {
		return nil, incident.Invalidf("undo data of %s: not sealed with this agent's key", x.id())
	}
	var ws []Write
	if err := json.Unmarshal(raw, &ws); err != nil {
		return nil, incident.Invalidf("undo data of %s: %v", x.id(), err)
	}
	return ws, nil
}

func (a *Agent) aead() (cipher.AEAD, error) {
	key := sha256.Sum256(append([]byte("tocsin.undo.v1"), a.cfg.Key...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("undo: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("undo: %w", err)
	}
	return aead, nil
}

// finish sets the outcome, releases the target and reports. Only the first outcome counts.
func (a *Agent) finish(ctx context.Context, x *execution, state incident.OutcomeState, detail string) error {
	p := x.Bound.Prepared.Proposal
	x.State = stateFinal
	x.Outcome = &incident.Outcome{Proposal: p.ID, Incident: p.Incident, Action: p.Action, Target: p.Target, State: state,
		Detail: incident.UntrustedText(detail).Plain(1000), At: time.Now().UTC(), Execution: x.id(), Digest: x.Digest,
		Started: x.Started, Effect: x.Effect, Undone: state == incident.OutcomeUndone}
	if err := a.advance(ctx, x); err != nil {
		return err
	}
	a.cfg.Log.Info("action finished", "cluster", string(a.cfg.Cluster), "incident", string(p.Incident), "action", string(p.Action),
		"entity", p.Target.Entity.String(), "execution", x.id(), "outcome", string(state), "detail", x.Outcome.Detail)
	if err := a.report(ctx, x); err != nil {
		a.cfg.Log.Warn("outcome not reported yet", "cluster", string(a.cfg.Cluster), "execution", x.id(), "error", err.Error())
	}
	return nil // the outcome stands; Run reports again
}

// report sends the outcome and then remembers that it was sent; it may be sent more than once.
func (a *Agent) report(ctx context.Context, x *execution) error {
	if err := unlock(ctx, a.cfg.KV, x.target().Entity, x.id()); err != nil {
		return err
	}
	if err := a.cfg.Outcomes.Report(ctx, *x.Outcome); err != nil && !reasonable(err) { // a hub that will never take it is not asked again
		return fmt.Errorf("report the outcome of %s: %w", x.id(), err)
	}
	x.Reported = true
	return a.advance(ctx, x)
}
