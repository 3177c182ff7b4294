package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/incident"
)

// Verbs of requests to a cluster's agent. They read; nothing is stored and nothing is changed.
const (
	VerbPrepare  = "prepare"  // expand and check a proposal against the live cluster
	VerbEvidence = "evidence" // bounded excerpts for an incident
)

// maxServing bounds the requests one Serve handles at a time; more wait.
const maxServing = 8

// RequestHandler answers one request.
type RequestHandler func(ctx context.Context, payload []byte) (reply []byte, err error)

// sentinels that survive the way over the wire, by the name used there.
var sentinels = map[string]error{
	"invalid": incident.ErrInvalid, "not-found": incident.ErrNotFound, "denied": incident.ErrDenied, "stale": incident.ErrStale,
}

// Request asks the agent of c and waits for its reply until ctx ends; a ctx without deadline
// gets AckTimeout. The agent's errors keep their sentinel. No agent listening is an error at once
// that wraps nothing: the agent may come back.
func (b *Bus) Request(ctx context.Context, c incident.ClusterName, verb string, payload []byte) ([]byte, error) {
	subject, err := agentSubject(c, verb)
	if err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.cfg.AckTimeout)
		defer cancel()
	}
	msg, err := b.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: payload})
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("%s request: no agent of cluster %s is connected", verb, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s request to the agent of %s: %w", verb, c, translate(err))
	}
	if text := msg.Header.Get(headerError); text != "" {
		text = incident.UntrustedText(text).Plain(2048)
		if s := sentinels[msg.Header.Get(headerKind)]; s != nil {
			return nil, fmt.Errorf("agent of %s: %w: %s", c, s, text)
		}
		return nil, fmt.Errorf("agent of %s: %s", c, text)
	}
	return msg.Data, nil
}

// Serve answers the requests of one verb for cluster c until ctx ends, at most 8 at a time.
// Several agents of one cluster share the requests.
func (b *Bus) Serve(ctx context.Context, c incident.ClusterName, verb string, handler RequestHandler) error {
	subject, err := agentSubject(c, verb)
	if err != nil {
		return err
	}
	in := make(chan *nats.Msg, 256) // beyond that the client library drops: the asker's deadline tells
	sub, err := b.nc.ChanQueueSubscribe(subject, "agents", in)
	if err != nil {
		return fmt.Errorf("bus: serve %s for %s: %w", verb, c, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is gone anyway
	var g errgroup.Group
	g.SetLimit(maxServing)
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case msg := <-in:
			g.Go(func() error {
				b.answer(ctx, msg, handler)
				return nil
			})
		}
	}
}

func (b *Bus) answer(ctx context.Context, msg *nats.Msg, handler RequestHandler) {
	data, err := handler(ctx, msg.Data)
	reply := &nats.Msg{Subject: msg.Reply, Data: data, Header: nats.Header{}}
	if err == nil && int64(len(data))+1024 > b.nc.MaxPayload() {
		err = incident.Invalidf("reply is %d bytes long, the NATS server takes %d", len(data), b.nc.MaxPayload())
	}
	if err != nil {
		reply.Data = nil
		reply.Header.Set(headerError, incident.UntrustedText(err.Error()).Plain(2048))
		for name, s := range sentinels {
			if errors.Is(err, s) {
				reply.Header.Set(headerKind, name)
			}
		}
	}
	if err := b.nc.PublishMsg(reply); err != nil {
		b.log.Warn("bus: reply not sent", "subject", msg.Subject, "err", err)
	}
}

func agentSubject(c incident.ClusterName, verb string) (string, error) {
	token, err := EncodeName(string(c))
	if err != nil {
		return "", fmt.Errorf("bus: cluster: %w", err)
	}
	v, err := EncodeName(verb)
	if err != nil {
		return "", fmt.Errorf("bus: verb: %w", err)
	}
	return subjectAgent + token + "." + v, nil
}
