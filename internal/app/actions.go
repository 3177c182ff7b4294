package app

import (
	"context"
	"encoding/json"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

type actions struct {
	note      func(context.Context, incident.ID, incident.Step) error
	incidents *store
}

func newActions(ctx context.Context, o Options, b *bus.Bus) (*actions, error) { return &actions{}, nil }
func (a *actions) runDesk(ctx context.Context) error                          { <-ctx.Done(); return nil }
func (a *actions) runAgent(ctx context.Context, ag *agent) error              { <-ctx.Done(); return nil }
func (a *actions) propose(ctx context.Context, inc incident.Incident, f incident.Finding) error {
	return nil
}
func (a *actions) resolved(ctx context.Context, inc incident.Incident) error { return nil }
func (a *actions) Actions(ctx context.Context) ([]json.RawMessage, error)    { return nil, nil }
func (a *actions) Action(ctx context.Context, id incident.ProposalID) (json.RawMessage, error) {
	return nil, incident.ErrNotFound
}
func (a *actions) Decide(ctx context.Context, ap incident.Approval) (json.RawMessage, error) {
	return nil, incident.ErrNotFound
}
func (a *actions) Stop(ctx context.Context, scope, by, reason string, on bool) error { return nil }
func (a *actions) AuditVerify(ctx context.Context) (json.RawMessage, error)          { return nil, nil }
