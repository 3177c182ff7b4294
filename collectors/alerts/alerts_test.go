package alerts

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

const secret = "0123456789abcdef"

type sink struct {
	got []incident.Event
	err error
}

func (s *sink) Publish(_ context.Context, _ incident.ClusterName, ev []incident.Event) error {
	if s.err == nil {
		s.got = append(s.got, ev...)
	}
	return s.err
}

func receiver(t *testing.T, s Sink, clusters ...incident.ClusterName) *Receiver {
	t.Helper()
	r, err := New([]Token{{Secret: secret, Clusters: clusters}}, s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func post(r http.Handler, body, token string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func body(alerts ...string) string {
	return `{"version":"4","groupKey":"g","receiver":"tocsin","status":"firing","alerts":[` + strings.Join(alerts, ",") + `]}`
}

const crash = `{"status":"firing","labels":{"alertname":"KubePodCrashLooping","namespace":"shop","pod":"cart-1","severity":"critical","cluster":"eu-2"},
 "annotations":{"summary":"cart-1 is crash looping"},"startsAt":"2026-11-20T20:00:00Z","endsAt":"0001-01-01T00:00:00Z"}`

func TestAlertBecomesSignalOfItsEntity(t *testing.T) {
	s := &sink{}
	if w := post(receiver(t, s, "eu-1"), body(crash), secret); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	sig := s.got[0].Signal
	if sig.Cluster != "eu-1" {
		t.Errorf("the token's only cluster must win over the label: got %s", sig.Cluster)
	}
	if sig.Entity != (incident.Entity{Kind: "Pod", Namespace: "shop", Name: "cart-1"}) || sig.Severity != incident.Critical || sig.Status != incident.Firing {
		t.Errorf("got %+v", sig)
	}
	post(receiver(t, s, "eu-1"), body(crash), secret)
	if s.got[1].Signal.ID != sig.ID {
		t.Error("a repeated alert must have the same ID")
	}
}

func TestLabelChoosesOnlyAmongTheTokensClusters(t *testing.T) {
	s := &sink{}
	post(receiver(t, s, "eu-1", "eu-2"), body(crash, strings.Replace(crash, `"eu-2"`, `"prod-9"`, 1)), secret)
	if len(s.got) != 1 || s.got[0].Signal.Cluster != "eu-2" {
		t.Fatalf("got %+v", s.got)
	}
}

func TestAnswersThatTheSenderActsOn(t *testing.T) {
	many := make([]string, MaxAlerts+1)
	for i := range many {
		many[i] = `{}`
	}
	for name, c := range map[string]struct {
		body, token string
		sinkErr     error
		want        int
	}{
		"a wrong token is refused":                          {body(crash), "fedcba9876543210", nil, 401},
		"no store means send it again":                      {body(crash), secret, errors.New("disk full"), 503},
		"a cut off body is refused":                         {body(crash)[:80], secret, nil, 400},
		"an old version is refused":                         {strings.Replace(body(crash), `"4"`, `"3"`, 1), secret, nil, 400},
		"something that is not an object is refused":        {`[1]`, secret, nil, 400},
		"too many alerts are refused":                       {body(many...), secret, nil, 400},
		"a huge body is refused":                            {`{"x":"` + strings.Repeat("a", MaxBody) + `"}`, secret, nil, 413},
		"an alert without a name does not spoil the others": {body(`{"status":"firing","labels":{}}`, crash), secret, nil, 200},
		"null alerts are none":                              {`{"version":"4","alerts":null}`, secret, nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			if w := post(receiver(t, &sink{err: c.sinkErr}, "eu-1"), c.body, c.token); w.Code != c.want {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
		})
	}
}

func TestTruncationIsCoverage(t *testing.T) {
	s := &sink{}
	post(receiver(t, s, "eu-1"), strings.Replace(body(crash), `"groupKey"`, `"truncatedAlerts":7,"groupKey"`, 1), secret)
	if len(s.got) != 2 || s.got[1].Signal.Kind != incident.Covering || !strings.Contains(string(s.got[1].Signal.Message), "7 alerts") {
		t.Fatalf("got %+v", s.got)
	}
}

func TestEntityFromLabels(t *testing.T) {
	for labels, want := range map[string]string{
		"namespace=a,pod=p,node=n": "Pod/a/p",
		"node=n":                   "Node/n",
		"namespace=a,deployment=d": "Deployment/a/d",
		"namespace=a":              "Namespace/a",
		"pod=p":                    "Alert/X",
		"persistentvolume=v":       "PersistentVolume/v",
		"exported_namespace=b,namespace=a,job_name=j": "Job/b/j",
	} {
		m := map[string]string{}
		for _, kv := range strings.Split(labels, ",") {
			k, v, _ := strings.Cut(kv, "=")
			m[k] = v
		}
		if got := entityOf(m, "X").String(); got != want {
			t.Errorf("%s: got %s, want %s", labels, got, want)
		}
	}
}

func TestNewRefusesAnOpenReceiver(t *testing.T) {
	for name, toks := range map[string][]Token{"no tokens": nil, "empty secret": {{Clusters: []incident.ClusterName{"a"}}}, "no cluster": {{Secret: secret}}} {
		if _, err := New(toks, &sink{}, nil); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzWebhook(f *testing.F) {
	f.Add(body(crash))
	f.Add(`{"version":"4","alerts":[{"labels":{"alertname":"\u001b[2J"},"status":"firing","startsAt":"9999-12-31T23:59:59+14:00"}]}`)
	f.Fuzz(func(t *testing.T, b string) {
		s := &sink{}
		r, err := New([]Token{{Secret: secret, Clusters: []incident.ClusterName{"eu-1"}}}, s, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		post(r, b, secret)
		for _, e := range s.got {
			if err := e.Signal.Validate(); err != nil {
				t.Fatalf("published an invalid signal: %v", err)
			}
			if e.Signal.Cluster != "eu-1" {
				t.Fatalf("cluster from payload: %s", e.Signal.Cluster)
			}
		}
	})
}
