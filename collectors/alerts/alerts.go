package alerts

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Limits of one message. A group of 10,000 alerts with 20 labels is about 6 MiB; encoding/json
// needs 20 times the body for tiny alerts, so they are counted while they are decoded.
const (
	MaxBody   = 8 << 20
	MaxAlerts = 10_000
	maxLabels = 100
)

// Sink takes events; it returns nil only once they are durable.
type Sink interface {
	Publish(ctx context.Context, cluster incident.ClusterName, events []incident.Event) error
}

// Token is a bearer token and the clusters it speaks for. One cluster: every alert is of it.
// Several: the label "cluster" chooses among them. The zero value speaks for none.
type Token struct {
	Secret   string
	Clusters []incident.ClusterName
}

// Receiver is the HTTP handler. Make it with New. It is safe for concurrent use.
type Receiver struct {
	tokens []Token
	sink   Sink
	log    *slog.Logger
}

// New returns a receiver that takes the given tokens. No tokens, an empty secret or one without
// clusters is an error: an open webhook would let anybody write signals.
func New(tokens []Token, sink Sink, log *slog.Logger) (*Receiver, error) {
	if len(tokens) == 0 {
		return nil, incident.Invalidf("alert receiver: no token configured")
	}
	for i, t := range tokens {
		if len(t.Secret) < 16 {
			return nil, incident.Invalidf("alert receiver: token %d is shorter than 16 characters", i+1)
		}
		if len(t.Clusters) == 0 {
			return nil, incident.Invalidf("alert receiver: token %d names no cluster", i+1)
		}
	}
	return &Receiver{tokens: tokens, sink: sink, log: log}, nil
}

// ServeHTTP takes one webhook message.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "want POST with an Alertmanager v4 message", http.StatusMethodNotAllowed)
		return
	}
	tok, ok := r.tokenOf(req)
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "bearer token missing or not known", http.StatusUnauthorized)
		return
	}
	msg, err := decode(http.MaxBytesReader(w, req.Body, MaxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		r.log.Warn("alert message refused", "error", err)
		http.Error(w, err.Error(), status)
		return
	}
	taken, skipped := r.signals(msg, tok, time.Now().UTC())
	for c, events := range taken {
		if err := r.sink.Publish(req.Context(), c, events); err != nil {
			r.log.Warn("alerts are not durable; the sender will repeat them", "cluster", c, "error", err)
			w.Header().Set("Retry-After", "5")
			http.Error(w, "not stored, send it again", http.StatusServiceUnavailable)
			return
		}
	}
	for _, s := range skipped {
		r.log.Warn("alert skipped", "reason", s)
	}
	fmt.Fprintf(w, "ok: %d alerts, %d skipped\n", len(msg.Alerts)-len(skipped), len(skipped))
}

func (r *Receiver) tokenOf(req *http.Request) (Token, bool) {
	got, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Token{}, false
	}
	var found Token
	n := 0
	for _, t := range r.tokens { // all of them, so that time tells nothing
		if subtle.ConstantTimeCompare([]byte(t.Secret), []byte(got)) == 1 {
			found, n = t, n+1
		}
	}
	return found, n > 0
}

// message is the part of the webhook message (version 4) that is read.
type message struct {
	Version   string
	Receiver  string
	Truncated int // alerts that the sender left out (max_alerts)
	Alerts    []alert
}

type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Fingerprint string            `json:"fingerprint"`
}

// decode reads a message as a stream, so that the number of alerts is bounded before they are
// all in memory.
func decode(rd io.Reader) (message, error) {
	dec := json.NewDecoder(rd)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return message{}, bad("want a JSON object", err)
	}
	var m message
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return message{}, bad("key", err)
		}
		switch key {
		case "version":
			err = dec.Decode(&m.Version)
		case "receiver":
			err = dec.Decode(&m.Receiver)
		case "truncatedAlerts":
			err = dec.Decode(&m.Truncated)
		case "alerts":
			m.Alerts, err = decodeAlerts(dec)
		default:
			var skip json.RawMessage
			err = dec.Decode(&skip)
		}
		if err != nil {
			return message{}, bad(fmt.Sprintf("field %q", key), err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return message{}, bad("message is cut off", err)
	}
	if m.Version != "4" {
		return message{}, incident.Invalidf("version %q: want \"4\" (Alertmanager 0.12 or later)", incident.Clip(m.Version, 20))
	}
	return m, nil
}

func bad(what string, err error) error {
	if err == nil {
		return incident.Invalidf("alert message: %s", what)
	}
	return fmt.Errorf("%w: alert message: %s: %w", incident.ErrInvalid, what, err)
}

func decodeAlerts(dec *json.Decoder) ([]alert, error) {
	t, err := dec.Token()
	if err != nil || t == nil { // null: none
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, incident.Invalidf("want an array")
	}
	var out []alert
	for dec.More() {
		if len(out) == MaxAlerts {
			return nil, incident.Invalidf("more than %d alerts; set max_alerts in the sender", MaxAlerts)
		}
		var a alert
		if err := dec.Decode(&a); err != nil {
			return nil, fmt.Errorf("alerts[%d]: %w", len(out), err)
		}
		out = append(out, a)
	}
	_, err = dec.Token()
	return out, err
}

// signals turns a message into events per cluster; skipped says why alerts were left out.
func (r *Receiver) signals(m message, tok Token, now time.Time) (map[incident.ClusterName][]incident.Event, []string) {
	out := map[incident.ClusterName][]incident.Event{}
	var skipped []string
	for i, a := range m.Alerts {
		c, err := clusterOf(a, tok)
		if err == nil {
			var s incident.Signal
			if s, err = signalOf(a, c, now); err == nil {
				out[c] = append(out[c], incident.Event{Signal: &s})
			}
		}
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("alerts[%d]: %v", i, err))
		}
	}
	if m.Truncated > 0 {
		for _, c := range tok.Clusters {
			out[c] = append(out[c], incident.Event{Signal: truncated(m, c, now)})
		}
	}
	return out, skipped
}

func clusterOf(a alert, tok Token) (incident.ClusterName, error) {
	if len(tok.Clusters) == 1 {
		return tok.Clusters[0], nil
	}
	c := incident.ClusterName(a.Labels["cluster"])
	if !slices.Contains(tok.Clusters, c) {
		return "", incident.Invalidf("label cluster=%q is none of this token's clusters", incident.UntrustedText(c).Plain(60))
	}
	return c, nil
}

// truncated says in the coverage that the sender left alerts out.
func truncated(m message, c incident.ClusterName, now time.Time) *incident.Signal {
	s := &incident.Signal{Source: source(c), Time: now, Cluster: c, Entity: incident.Entity{Kind: "Cluster", Name: string(c)}, Kind: incident.Covering,
		Status: incident.Firing, Severity: incident.Warning, Reason: "AlertsTruncated",
		Message: incident.UntrustedText(fmt.Sprintf("Alertmanager left out %d alerts (max_alerts)", m.Truncated))}
	s.ID = incident.NewSignalID(s)
	return s
}

func source(c incident.ClusterName) string { return "/clusters/" + string(c) + "/collectors/alerts" }
