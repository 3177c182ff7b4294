package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/tocsin-io/tocsin/incident"
)

// Client speaks to a running process: over the socket in its data folder, or over TCP.
type Client struct {
	http  *http.Client
	base  string
	token string
	where string
}

// maxReply bounds one reply that is not a stream.
const maxReply = 256 << 20

// Connect returns a client. server is a base URL (http://host:port) with the token in
// TOCSIN_TOKEN; "" means the socket in the data folder.
func Connect(server, data string) *Client {
	if server != "" {
		return &Client{http: &http.Client{}, base: strings.TrimSuffix(server, "/"), token: os.Getenv("TOCSIN_TOKEN"), where: server}
	}
	if data == "" {
		data = DefaultData()
	}
	path := socketPath(data)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	return &Client{http: &http.Client{Transport: tr}, base: "http://tocsin", where: path}
}

func (c *Client) do(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, rd)
	if err != nil {
		return nil, incident.Invalidf("server %q: %v", c.where, err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("no tocsin answers at %s: start one with `tocsin up`, or name it with --server or --data", c.where)
		}
		return nil, fmt.Errorf("ask %s: %w", c.where, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, replyError(resp)
}

func replyError(resp *http.Response) error {
	var e struct{ Error string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&e) != nil || e.Error == "" {
		e.Error = resp.Status
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", incident.ErrNotFound, strings.TrimPrefix(e.Error, "not found: "))
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%w: %s", incident.ErrDenied, strings.TrimPrefix(e.Error, "denied: "))
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", incident.ErrStale, strings.TrimPrefix(e.Error, "stale: "))
	}
	return errors.New(e.Error)
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	rd, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer rd.Close()
	if err := json.NewDecoder(io.LimitReader(rd, maxReply)).Decode(into); err != nil {
		return fmt.Errorf("reply of %s: %w", c.where, err)
	}
	return nil
}

// Incidents lists the open incidents, or all, newest first.
func (c *Client) Incidents(ctx context.Context, all bool) ([]incident.Incident, error) {
	q := "?state=open"
	if all {
		q = "?state=all"
	}
	var out []incident.Incident
	return out, c.call(ctx, "GET", "/api/v1/incidents"+q, nil, &out)
}

// Incident returns one incident; a merged ID gives the one it went into.
func (c *Client) Incident(ctx context.Context, id string) (incident.Incident, error) {
	var out incident.Incident
	return out, c.call(ctx, "GET", "/api/v1/incidents/"+escape(id), nil, &out)
}

// Watch calls fn with every incident and every change until ctx ends or fn fails.
func (c *Client) Watch(ctx context.Context, fn func(incident.Incident) error) error {
	rd, err := c.do(ctx, "GET", "/api/v1/watch", nil)
	if err != nil {
		return err
	}
	defer rd.Close()
	dec := json.NewDecoder(rd)
	for {
		var i incident.Incident
		if err := dec.Decode(&i); err != nil {
			if ended(ctx, ctx.Err()) && ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the stream of %s ended: %w", c.where, err)
		}
		if err := fn(i); err != nil {
			return err
		}
	}
}

// Signals copies the stored events to out, one JSON event a line.
func (c *Client) Signals(ctx context.Context, out io.Writer) error {
	rd, err := c.do(ctx, "GET", "/api/v1/signals", nil)
	if err != nil {
		return err
	}
	defer rd.Close()
	_, err = io.Copy(out, rd)
	return err
}

// Raw returns one reply as it is.
func (c *Client) Raw(ctx context.Context, path string) (json.RawMessage, error) {
	var out json.RawMessage
	return out, c.call(ctx, "GET", path, nil, &out)
}

// Decide approves (naming the digest) or denies an action.
func (c *Client) Decide(ctx context.Context, id string, approve bool, digest incident.Digest, reason string) (json.RawMessage, error) {
	verb := "deny"
	if approve {
		verb = "approve"
	}
	var out json.RawMessage
	err := c.call(ctx, "POST", "/api/v1/actions/"+escape(id)+"/"+verb, map[string]string{"digest": string(digest), "reason": reason}, &out)
	return out, err
}

// Stop turns the stop switch of a scope on or off.
func (c *Client) Stop(ctx context.Context, scope, reason string, on bool) error {
	var out json.RawMessage
	return c.call(ctx, "POST", "/api/v1/stop", map[string]any{"scope": scope, "reason": reason, "on": on}, &out)
}

func escape(id string) string { return url.PathEscape(id) }
