//go:build e2e

package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tocsin-io/tocsin/incident"
)

// natsCluster is three servers, as production has them.
type natsCluster struct {
	opts [3]*server.Options
	srv  [3]*server.Server
}

func newNATSCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{}
	var routes []*url.URL
	var ports []int
	for range 2 * len(c.opts) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	for i := range c.opts {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", ports[i])})
	}
	for i := range c.opts {
		c.opts[i] = &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: ports[3+i], JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			NoSigs: true, NoLog: true, Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: routes,
		}
	}
	return c
}

func (c *natsCluster) start(t *testing.T, i int) {
	t.Helper()
	s, err := server.NewServer(c.opts[i])
	if err != nil {
		t.Fatal(err)
	}
	c.srv[i] = s
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
}

func (c *natsCluster) ready(t *testing.T) {
	t.Helper()
	for _, s := range c.srv {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("server is not ready")
		}
	}
}

func (c *natsCluster) url() string {
	var urls []string
	for _, s := range c.srv {
		urls = append(urls, s.ClientURL())
	}
	return strings.Join(urls, ",")
}

func TestThreeReplicasLoseNothingWhileServersRestart(t *testing.T) {
	c := newNATSCluster(t)
	for i := range c.srv {
		c.start(t, i)
	}
	c.ready(t)
	var b *Bus
	deadline := time.Now().Add(30 * time.Second)
	for b == nil { // JetStream needs a leader first
		var err error
		if b, err = Open(t.Context(), Config{URL: c.url(), Replicas: 3}, testLog(t)); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer b.Close(context.Background())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	// Each write is repeated until it is acknowledged, as collectors do.
	until := func(what string, write func() error) {
		for write() != nil {
			if ctx.Err() != nil {
				t.Fatal(what, ctx.Err())
			}
		}
	}
	kv := b.KV(Actions)
	var rev uint64
	until("create", func() (err error) { rev, err = kv.Create(ctx, "claim", []byte("0")); return err })
	if _, err := kv.Create(ctx, "claim", []byte("1")); !errors.Is(err, incident.ErrStale) {
		t.Errorf("second claim: %v", err)
	}
	if _, err := kv.Update(ctx, "claim", []byte("1"), rev-1); !errors.Is(err, incident.ErrStale) {
		t.Errorf("old revision: %v", err)
	}
	const total = 300
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range total {
			until("publish", func() error { return b.PublishEvents(ctx, "eu-1", signals("eu-1", i, 1)) })
		}
	})
	seen := map[string]bool{}
	wg.Go(func() {
		rctx, stop := context.WithCancel(ctx)
		defer stop()
		if err := b.ConsumeEvents(rctx, ConsumeOptions{}, func(_ context.Context, _ incident.ClusterName, evs []incident.Event, _ Position) error {
			if seen[evs[0].Signal.Entity.Name] = true; len(seen) == total {
				stop()
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	for i := range c.srv {
		c.srv[i].Shutdown()
		c.srv[i].WaitForShutdown()
		c.start(t, i)
		c.ready(t)
	}
	wg.Wait()
	if len(seen) != total {
		t.Errorf("%d of %d acknowledged events arrived", len(seen), total)
	}
}
