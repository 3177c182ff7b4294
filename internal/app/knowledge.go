package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
	"github.com/tocsin-io/tocsin/internal/llm"
	"github.com/tocsin-io/tocsin/internal/vector"
	"github.com/tocsin-io/tocsin/runbooks"
)

// knowledge is what a hub knows beside the clusters: runbooks, people's word on them, and what
// happened before.
type knowledge struct {
	index    *runbooks.Index
	feedback *runbooks.Feedback
	past     *runbooks.Memory
	postgres *vector.Failover // nil: vectors are in memory
	store    *store
}

// openKnowledge indexes the runbooks. Postgres and an embedding endpoint that do not answer cost
// nothing but a word in the findings.
func openKnowledge(ctx context.Context, o Options, b *bus.Bus, s *store) (*knowledge, error) {
	k := &knowledge{store: s}
	var err error
	if k.feedback, err = runbooks.NewFeedback(ctx, prefixed{b.KV(bus.Memory), "votes."}); err != nil {
		return nil, fmt.Errorf("feedback: %w", err)
	}
	if k.past, err = runbooks.NewMemory(ctx, prefixed{b.KV(bus.Memory), "past."}); err != nil {
		return nil, fmt.Errorf("incident memory: %w", err)
	}
	opt := runbooks.Options{Bias: k.feedback}
	if o.EmbeddingsURL != "" {
		if opt.Embedder, err = llm.NewEmbeddings(llm.EmbeddingConfig{BaseURL: o.EmbeddingsURL, Model: o.EmbeddingsModel, APIKey: os.Getenv("TOCSIN_EMBEDDINGS_KEY")}); err != nil {
			return nil, err
		}
	}
	if dsn := os.Getenv("TOCSIN_POSTGRES"); dsn != "" {
		mem, err := vector.OpenMemory(filepath.Join(o.data(), "vectors"))
		if err != nil {
			o.Log.Warn("vector cache is damaged; it is made again", "error", err)
		}
		k.postgres = vector.NewFailover(vector.Config{DSN: dsn}, mem, o.Log)
		opt.Store = k.postgres
	}
	books, problems, err := loadRunbooks(ctx, o.Runbooks, filepath.Join(o.data(), "runbooks"))
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		o.Log.Warn("runbook problem", "page", p.String())
	}
	k.index = runbooks.NewIndex(opt)
	if err := k.index.Replace(ctx, books); err != nil {
		o.Log.Warn("runbooks are searched by words alone", "error", err)
	}
	return k, nil
}

func (k *knowledge) run(ctx context.Context) error {
	if k.postgres == nil {
		return nil
	}
	return k.postgres.Run(ctx)
}

// before says what happened the last times, "" when nothing like it did.
func (k *knowledge) before(ctx context.Context, inc incident.Incident, hyps []incident.Hypothesis) string {
	if k == nil {
		return ""
	}
	s, err := k.past.Similar(ctx, inc, hyps)
	if err != nil {
		return ""
	}
	return s.Summary
}

// remember keeps a closed incident and how its actions went.
func (k *knowledge) remember(ctx context.Context, inc incident.Incident, outcomes []incident.Outcome) error {
	if k == nil || inc.State != incident.Closed || inc.Cause == "" {
		return nil
	}
	return k.past.Remember(ctx, inc, outcomes)
}

// Vote implements console.Feedback: the topic is the incident's cause.
func (k *knowledge) Vote(ctx context.Context, user string, id incident.ID, path string, value int) error {
	inc, err := k.store.Get(ctx, id)
	if err != nil {
		return err
	}
	if inc.Cause == "" {
		return incident.Invalidf("incident %s has no cause yet; feedback is kept by cause", id)
	}
	if _, err := k.index.Show(path); err != nil {
		return err
	}
	return k.feedback.Record(ctx, runbooks.Vote{Topic: string(inc.Cause), Path: path, By: user, Value: value, At: time.Now().UTC()})
}

// isGit tells a repository's address from a folder.
func isGit(s string) bool { return strings.Contains(s, "://") || strings.HasSuffix(s, ".git") }

// RunbooksNew prints a page to start from.
func RunbooksNew(cause, owner string) (string, error) {
	return runbooks.New(incident.CauseName(cause), owner)
}

// Feedback sends a person's word on a runbook: 2 this one was right, 1 helped, -1 did not apply,
// 0 takes it back.
func (c *Client) Feedback(ctx context.Context, id, path string, value int) error {
	var out struct{}
	return c.call(ctx, "POST", "/api/v1/feedback", map[string]any{"incident": id, "path": path, "value": value}, &out)
}

// outcomesOf returns what the actions of an incident led to.
func (a *actions) outcomesOf(ctx context.Context, id incident.ID) ([]incident.Outcome, error) {
	if a.desk == nil {
		return nil, nil
	}
	rs, err := a.desk.List(ctx, id)
	if errors.Is(err, incident.ErrNotFound) {
		return nil, nil
	}
	var out []incident.Outcome
	for _, r := range rs {
		if r.Outcome != nil {
			out = append(out, *r.Outcome)
		}
	}
	return out, err
}
