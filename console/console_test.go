package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

type fake struct{ decided []incident.Approval }

func (f *fake) List(context.Context, bool) ([]incident.Incident, error) { return nil, nil }
func (f *fake) Get(_ context.Context, id incident.ID) (incident.Incident, error) {
	if id != "inc-1" {
		return incident.Incident{}, fmt.Errorf("incident: %w", incident.ErrNotFound)
	}
	return incident.Incident{ID: id}, nil
}
func (f *fake) Watch(_ context.Context, fn func(incident.Incident) error) error {
	return fn(incident.Incident{ID: "inc-1"})
}
func (f *fake) Actions(context.Context) ([]json.RawMessage, error) { return nil, nil }
func (f *fake) Action(context.Context, incident.ProposalID) (json.RawMessage, error) {
	return json.RawMessage(`{}`), nil
}
func (f *fake) Decide(_ context.Context, a incident.Approval) (json.RawMessage, error) {
	if a.Digest == "old" {
		return nil, fmt.Errorf("digest: %w", incident.ErrStale)
	}
	f.decided = append(f.decided, a)
	return json.RawMessage(`{}`), nil
}
func (f *fake) Stop(context.Context, string, string, string, bool) error { return nil }
func (f *fake) AuditVerify(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{}`), nil
}
func (f *fake) Status(context.Context) (json.RawMessage, error)           { return json.RawMessage(`[]`), nil }
func (f *fake) Signals(context.Context, func(incident.Event) error) error { return nil }

func api(f *fake, user string) http.Handler {
	return New(Config{Incidents: f, Desk: f, Status: f, Signals: f, Healthy: func() error { return nil }, Log: slog.New(slog.DiscardHandler),
		Identify: func(*http.Request) (string, error) {
			if user == "" {
				return "", incident.ErrDenied
			}
			return user, nil
		}})
}

func do(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func TestEveryRouteNeedsAUser(t *testing.T) {
	f := &fake{}
	for _, r := range []string{"GET /api/v1/incidents", "GET /api/v1/incidents/inc-1", "GET /api/v1/watch", "GET /api/v1/actions", "GET /api/v1/actions/p-1",
		"POST /api/v1/actions/p-1/approve", "POST /api/v1/actions/p-1/deny", "POST /api/v1/stop", "GET /api/v1/status", "POST /api/v1/feedback", "GET /api/v1/signals", "GET /api/v1/audit"} {
		method, path, _ := strings.Cut(r, " ")
		if w := do(api(f, ""), method, path, `{"digest":"d"}`); w.Code != http.StatusUnauthorized {
			t.Errorf("%s answers %d to nobody", r, w.Code)
		}
	}
	if len(f.decided) != 0 {
		t.Fatal("nobody decided something")
	}
	if w := do(api(f, ""), "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("healthz %d", w.Code)
	}
}

func TestTheUserIsTheConnectionsNotTheBodys(t *testing.T) {
	f := &fake{}
	if w := do(api(f, "ada"), "POST", "/api/v1/actions/p-1/approve", `{"digest":"d","by":"root"}`); w.Code != http.StatusBadRequest {
		t.Fatalf("a body that names an approver: %d", w.Code)
	}
	if w := do(api(f, "ada"), "POST", "/api/v1/actions/p-1/approve", `{"digest":"d"}`); w.Code != 200 || f.decided[0].By != "ada" || !f.decided[0].Approve {
		t.Fatalf("%d %+v", w.Code, f.decided)
	}
}

func TestAnswersToBadRequests(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, body string
		want               int
	}{
		"an approval without a digest":  {"POST", "/api/v1/actions/p-1/approve", `{}`, 400},
		"a stale digest":                {"POST", "/api/v1/actions/p-1/approve", `{"digest":"old"}`, 409},
		"an unknown field":              {"POST", "/api/v1/stop", `{"scpoe":"fleet"}`, 400},
		"two objects":                   {"POST", "/api/v1/stop", `{"scope":"fleet"}{}`, 400},
		"a huge body":                   {"POST", "/api/v1/stop", `{"reason":"` + strings.Repeat("a", maxBody) + `"}`, 400},
		"an incident that is not there": {"GET", "/api/v1/incidents/inc-2", "", 404},
		"an unknown state":              {"GET", "/api/v1/incidents?state=x", "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(api(&fake{}, "ada"), c.method, c.path, c.body)
			var e struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &e); w.Code != c.want || err != nil || e.Error == "" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestEmptyListsAreArrays(t *testing.T) {
	for _, p := range []string{"/api/v1/incidents", "/api/v1/actions"} {
		if w := do(api(&fake{}, "ada"), "GET", p, ""); strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("%s: %s", p, w.Body)
		}
	}
}

func TestUnknownErrorsMeanLater(t *testing.T) {
	if statusOf(errors.New("disk")) != http.StatusServiceUnavailable {
		t.Fatal("an unknown error must be 503, so that senders repeat")
	}
}

func FuzzDecision(f *testing.F) {
	f.Add(`{"digest":"d","reason":"r"}`)
	f.Fuzz(func(t *testing.T, body string) { do(api(&fake{}, "ada"), "POST", "/api/v1/actions/p-1/approve", body) })
}
