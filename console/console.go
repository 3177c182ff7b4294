// Package console is the HTTP API through which people and tools read incidents and decide on
// actions: the CLI speaks it over a Unix socket, other tools over TCP with a bearer token.
//
// It stores nothing. Every route but the health checks needs a known user, in the handler that
// does the work as well as in the list that shows it; who that is comes from the connection (the
// socket's peer) or the token, never from the request's content. Bodies are bounded and decoded
// strictly. Errors are JSON {"error": "…"} with the reason a person can act on.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Incidents reads incidents. List returns open ones, or all, newest first. Watch calls fn with
// every incident and then with every change until ctx ends or fn fails.
type Incidents interface {
	List(ctx context.Context, all bool) ([]incident.Incident, error)
	Get(ctx context.Context, id incident.ID) (incident.Incident, error)
	Watch(ctx context.Context, fn func(incident.Incident) error) error
}

// Desk is where actions are decided. Records are in the form the desk defines (JSON).
type Desk interface {
	Actions(ctx context.Context) ([]json.RawMessage, error)
	Action(ctx context.Context, id incident.ProposalID) (json.RawMessage, error)
	Decide(ctx context.Context, a incident.Approval) (json.RawMessage, error)
	Stop(ctx context.Context, scope, by, reason string, on bool) error
	AuditVerify(ctx context.Context) (json.RawMessage, error)
}

// Status tells how the process and its clusters are doing, as JSON.
type Status interface {
	Status(ctx context.Context) (json.RawMessage, error)
}

// Signals calls fn with every stored event of every cluster, each cluster's in order, until all
// that is stored has been read.
type Signals interface {
	Signals(ctx context.Context, fn func(incident.Event) error) error
}

// Feedback keeps a person's word on the runbook of an incident: 2 this one was right, 1 helped,
// -1 did not apply, 0 takes the word back.
type Feedback interface {
	Vote(ctx context.Context, user string, id incident.ID, path string, value int) error
}

// Identify returns the user of a request, or an error that wraps incident.ErrDenied.
type Identify func(*http.Request) (user string, err error)

// Config is what the API needs. Alerts is the webhook; nil: none.
type Config struct {
	Incidents Incidents
	Desk      Desk
	Status    Status
	Signals   Signals
	Feedback  Feedback
	Identify  Identify
	Alerts    http.Handler
	Healthy   func() error
	Log       *slog.Logger
	Via       string // how its users come: cli, api
}

const maxBody = 64 << 10

// New returns the handler of the whole API.
func New(cfg Config) http.Handler {
	s := &server{Config: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /api/v1/incidents", s.user(s.list))
	mux.HandleFunc("GET /api/v1/incidents/{id}", s.user(s.show))
	mux.HandleFunc("GET /api/v1/watch", s.user(s.watch))
	mux.HandleFunc("GET /api/v1/actions", s.user(s.actions))
	mux.HandleFunc("GET /api/v1/actions/{id}", s.user(s.action))
	mux.HandleFunc("POST /api/v1/actions/{id}/approve", s.user(s.decide(true)))
	mux.HandleFunc("POST /api/v1/actions/{id}/deny", s.user(s.decide(false)))
	mux.HandleFunc("POST /api/v1/stop", s.user(s.stop))
	mux.HandleFunc("GET /api/v1/status", s.user(s.status))
	mux.HandleFunc("GET /api/v1/signals", s.user(s.signals))
	mux.HandleFunc("POST /api/v1/feedback", s.user(s.feedback))
	mux.HandleFunc("GET /api/v1/audit", s.user(s.audit))
	if cfg.Alerts != nil {
		mux.Handle("/api/v1/alerts", cfg.Alerts) // has its own tokens
	}
	return mux
}

type server struct{ Config }

type handler func(w http.ResponseWriter, r *http.Request, user string) error

func (s *server) user(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, err := s.Identify(r)
		if err == nil && user == "" {
			err = fmt.Errorf("%w: no user", incident.ErrDenied)
		}
		if err != nil {
			s.Log.Warn("request refused", "path", r.URL.Path, "error", err)
			fail(w, http.StatusUnauthorized, err)
			return
		}
		if err := h(w, r, user); err != nil {
			fail(w, statusOf(err), err)
		}
	}
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, incident.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, incident.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, incident.ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, incident.ErrStale):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // the reader is gone if this fails
}

func write(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.Healthy(); err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *server) list(w http.ResponseWriter, r *http.Request, _ string) error {
	state := r.URL.Query().Get("state")
	if state != "" && state != "open" && state != "all" {
		return incident.Invalidf("state %q: want open or all", incident.Clip(state, 20))
	}
	list, err := s.Incidents.List(r.Context(), state == "all")
	if err != nil {
		return err
	}
	if list == nil {
		list = []incident.Incident{}
	}
	return write(w, list)
}

func (s *server) show(w http.ResponseWriter, r *http.Request, _ string) error {
	inc, err := s.Incidents.Get(r.Context(), incident.ID(r.PathValue("id")))
	if err != nil {
		return err
	}
	return write(w, inc)
}

// watch streams one incident a line: all of them, then every change.
func (s *server) watch(w http.ResponseWriter, r *http.Request, _ string) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // a stream has no end; unsupported only in tests
	enc := json.NewEncoder(w)
	if err := rc.Flush(); err != nil {
		return err
	}
	// After the first line the status is sent; an error only ends the stream.
	_ = s.Incidents.Watch(r.Context(), func(i incident.Incident) error {
		if err := enc.Encode(i); err != nil {
			return err
		}
		return rc.Flush()
	})
	return nil
}

// signals streams the stored events, one a line.
func (s *server) signals(w http.ResponseWriter, r *http.Request, _ string) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // unsupported only in tests
	enc := json.NewEncoder(w)
	_ = s.Config.Signals.Signals(r.Context(), func(e incident.Event) error { return enc.Encode(e) }) // the status is sent; an error only ends the stream
	return nil
}

func (s *server) actions(w http.ResponseWriter, r *http.Request, _ string) error {
	list, err := s.Desk.Actions(r.Context())
	if err != nil {
		return err
	}
	if list == nil {
		list = []json.RawMessage{}
	}
	return write(w, list)
}

func (s *server) action(w http.ResponseWriter, r *http.Request, _ string) error {
	a, err := s.Desk.Action(r.Context(), incident.ProposalID(r.PathValue("id")))
	if err != nil {
		return err
	}
	return write(w, a)
}

type decision struct {
	Digest incident.Digest `json:"digest"`
	Reason string          `json:"reason"`
}

func (s *server) decide(approve bool) handler {
	return func(w http.ResponseWriter, r *http.Request, user string) error {
		var d decision
		if err := read(w, r, &d); err != nil {
			return err
		}
		if approve && d.Digest == "" {
			return incident.Invalidf("digest is missing: an approval names the digest of the exact action shown")
		}
		got, err := s.Desk.Decide(r.Context(), incident.Approval{Proposal: incident.ProposalID(r.PathValue("id")), Digest: d.Digest, Approve: approve,
			By: user, Via: s.Via, Reason: incident.Clip(d.Reason, 1000), At: time.Now().UTC()})
		if err != nil {
			return err
		}
		return write(w, got)
	}
}

func (s *server) stop(w http.ResponseWriter, r *http.Request, user string) error {
	var d struct {
		Scope  string `json:"scope"` // "fleet", "cluster/NAME" or "namespace/CLUSTER/NAME"
		Reason string `json:"reason"`
		On     bool   `json:"on"`
	}
	if err := read(w, r, &d); err != nil {
		return err
	}
	if err := s.Desk.Stop(r.Context(), d.Scope, user, d.Reason, d.On); err != nil {
		return err
	}
	return write(w, map[string]bool{"on": d.On})
}

func (s *server) feedback(w http.ResponseWriter, r *http.Request, user string) error {
	var d struct {
		Incident incident.ID `json:"incident"`
		Path     string      `json:"path"`
		Value    int         `json:"value"`
	}
	if err := read(w, r, &d); err != nil {
		return err
	}
	if err := s.Config.Feedback.Vote(r.Context(), user, d.Incident, d.Path, d.Value); err != nil {
		return err
	}
	return write(w, struct{}{})
}

func (s *server) status(w http.ResponseWriter, r *http.Request, _ string) error {
	st, err := s.Status.Status(r.Context())
	if err != nil {
		return err
	}
	return write(w, st)
}

func (s *server) audit(w http.ResponseWriter, r *http.Request, _ string) error {
	a, err := s.Desk.AuditVerify(r.Context())
	if err != nil {
		return err
	}
	return write(w, a)
}

func read(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return incident.Invalidf("body: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return incident.Invalidf("body: data after the object")
	}
	return nil
}
