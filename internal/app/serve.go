package app

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/collectors/alerts"
	"github.com/tocsin-io/tocsin/console"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// tokens is who may speak over TCP: people by name, alert senders by clusters.
type tokens struct {
	people map[string]string // secret → user
	alerts []alerts.Token
}

// readTokens reads lines "NAME SECRET" and "alerts:CLUSTER[,CLUSTER…] SECRET"; # starts a comment.
func readTokens(path string) (tokens, error) {
	t := tokens{people: map[string]string{}}
	f, err := os.Open(path)
	if err != nil {
		return t, fmt.Errorf("tokens file: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o077 != 0 {
		return t, incident.Invalidf("tokens file %s may be read by others; chmod 600 it", path)
	}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		who, secret, ok := strings.Cut(line, " ")
		secret = strings.TrimSpace(secret)
		if !ok || len(secret) < 16 {
			return t, incident.Invalidf("%s:%d: want \"NAME SECRET\" with a secret of 16 or more characters", path, n)
		}
		names, isAlerts := strings.CutPrefix(who, "alerts:")
		if !isAlerts {
			t.people[secret] = who
			continue
		}
		tok := alerts.Token{Secret: secret}
		for _, c := range strings.Split(names, ",") {
			if err := incident.ClusterName(c).Validate(); err != nil {
				return t, incident.Invalidf("%s:%d: %v", path, n, err)
			}
			tok.Clusters = append(tok.Clusters, incident.ClusterName(c))
		}
		t.alerts = append(t.alerts, tok)
	}
	return t, sc.Err()
}

// byToken identifies a request over TCP.
func (t tokens) byToken(r *http.Request) (string, error) {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	found := ""
	for secret, who := range t.people {
		if subtle.ConstantTimeCompare([]byte(secret), []byte(got)) == 1 {
			found = who
		}
	}
	if !ok || found == "" {
		return "", fmt.Errorf("%w: bearer token missing or not known", incident.ErrDenied)
	}
	return found, nil
}

type peerKey struct{}

// byPeer identifies a request over the Unix socket by the process at its other end.
func byPeer(r *http.Request) (string, error) {
	uid, ok := r.Context().Value(peerKey{}).(string)
	if !ok {
		return "", fmt.Errorf("%w: the socket does not tell who you are", incident.ErrDenied)
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username, nil
	}
	return "uid " + uid, nil
}

// alertSink publishes webhook alerts, many senders joined into few durable writes.
type alertSink struct{ batch *bus.Batcher }

// Publish implements alerts.Sink.
func (a alertSink) Publish(ctx context.Context, c incident.ClusterName, ev []incident.Event) error {
	return a.batch.Publish(ctx, c, ev)
}

func socketPath(data string) string { return filepath.Join(data, "tocsin.sock") }

// serve answers the API on the data folder's socket and, when asked, on TCP, until ctx ends.
func (o *Options) serve(ctx context.Context, b *bus.Bus, cfg console.Config) error {
	var tok tokens
	var err error
	if o.TokensFile != "" {
		if tok, err = readTokens(o.TokensFile); err != nil {
			return err
		}
	}
	if o.Listen != "" && len(tok.people)+len(tok.alerts) == 0 {
		return incident.Invalidf("--listen %s needs --tokens FILE: an open port without tokens would take orders from anybody", o.Listen)
	}
	if len(tok.alerts) > 0 {
		if cfg.Alerts, err = alerts.New(tok.alerts, alertSink{b.NewBatcher(20 * time.Millisecond)}, o.Log); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	path := socketPath(o.data())
	_ = os.Remove(path) // left by a process that died; the data folder's lock says that none lives
	ul, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("API socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("API socket: %w", err)
	}
	cfg.Identify, cfg.Via = byPeer, "cli"
	g.Go(func() error { return serveOn(ctx, ul, console.New(cfg)) })
	if o.Listen != "" {
		tl, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return fmt.Errorf("API address: %w", err)
		}
		cfg.Identify, cfg.Via = tok.byToken, "api"
		o.Log.Info("API listens", "address", tl.Addr().String())
		g.Go(func() error { return serveOn(ctx, tl, console.New(cfg)) })
	}
	return g.Wait()
}

func serveOn(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if uid, ok := peerUID(c); ok {
				return context.WithValue(ctx, peerKey{}, uid)
			}
			return ctx
		}}
	stop := context.AfterFunc(ctx, func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(sctx) != nil {
			_ = srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
