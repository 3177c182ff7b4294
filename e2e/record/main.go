//go:build e2e

// Command record makes the recording that `tocsin demo` plays: three real control planes with
// simulated nodes, one bad image in two of them, a workload out of memory in the third, then the
// roll-backs. It takes about four minutes.
//
//	go run -tags e2e ./e2e/record internal/app/demo
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/tocsin-io/tocsin/e2e/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

type recorder struct {
	dir, tmp, bin, kubeconfig string
	clusters                  []*lab.Cluster
}

func run(ctx context.Context, dir string) error {
	tmp, err := os.MkdirTemp("", "tocsin-record")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := &recorder{dir: dir, tmp: tmp, bin: filepath.Join(tmp, "tocsin")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", r.bin, "./cmd/tocsin").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, name := range []string{"eu-1", "us-1", "ap-1"} {
		c, err := lab.Start(ctx, name, lab.Options{Log: os.Stderr})
		if err != nil {
			return err
		}
		defer c.Stop()
		if err := r.furnish(ctx, c); err != nil {
			return err
		}
		r.clusters = append(r.clusters, c)
	}
	if r.kubeconfig, err = lab.Kubeconfig(tmp, r.clusters...); err != nil {
		return err
	}
	return r.play(ctx)
}

func (r *recorder) furnish(ctx context.Context, c *lab.Cluster) error {
	if err := c.Kwok(ctx, 3); err != nil {
		return err
	}
	for _, name := range []string{"cart", "checkout", "frontend", "payments", "search"} {
		if err := c.Apply(ctx, lab.Deployment("shop", name, 3, "ghcr.io/acme/"+name+":v1")); err != nil {
			return err
		}
		if err := c.WaitReady(ctx, "shop", name, 3); err != nil {
			return err
		}
	}
	if err := c.Apply(ctx, lab.Deployment("jobs", "reports", 1, "ghcr.io/acme/reports:v3")); err != nil {
		return err
	}
	return c.WaitReady(ctx, "jobs", "reports", 1)
}

// play is the outage, second by second.
func (r *recorder) play(ctx context.Context) error {
	up := exec.CommandContext(ctx, r.bin, "up", "--kubeconfig", r.kubeconfig, "--data", r.tmp)
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	up.Cancel = func() error { return up.Process.Signal(os.Interrupt) }
	if err := up.Start(); err != nil {
		return err
	}
	defer func() { _ = up.Process.Signal(os.Interrupt); _ = up.Wait() }()
	eu, us, ap := r.clusters[0], r.clusters[1], r.clusters[2]
	bad := lab.Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v2-missing")
	good := lab.Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v1")
	steps := []struct {
		wait time.Duration
		do   func() error
	}{
		{20 * time.Second, func() error { return eu.Apply(ctx, bad) }},
		{25 * time.Second, func() error {
			return ap.Apply(ctx, lab.Deployment("jobs", "reports", 1, "ghcr.io/acme/reports:v3", lab.AnnotationNeedsMi+`: "100"`))
		}},
		{20 * time.Second, func() error { return us.Apply(ctx, bad) }},
		{30 * time.Second, func() error { return r.snapshots(ctx) }},
		{5 * time.Second, func() error { return eu.Apply(ctx, good) }},
		{20 * time.Second, func() error { return us.Apply(ctx, good) }},
		{25 * time.Second, func() error { return r.signals(ctx) }},
	}
	for _, s := range steps {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.wait):
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// snapshots records every cluster as it is, packed.
func (r *recorder) snapshots(ctx context.Context) error {
	for _, c := range r.clusters {
		dir := filepath.Join(r.tmp, "snapshot-"+c.Name)
		if out, err := exec.CommandContext(ctx, r.bin, "record", "--kubeconfig", r.kubeconfig, "--context", c.Name, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("record %s: %w: %s", c.Name, err, out)
		}
		if out, err := exec.CommandContext(ctx, "tar", "czf", filepath.Join(r.dir, c.Name+".tar.gz"), "-C", dir, ".").CombinedOutput(); err != nil {
			return fmt.Errorf("pack %s: %w: %s", c.Name, err, out)
		}
	}
	return nil
}

func (r *recorder) signals(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, r.bin, "signals", "--data", r.tmp).Output()
	if err != nil {
		return fmt.Errorf("signals: %w", err)
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(out); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "signals.jsonl.gz"), buf.Bytes(), 0o644)
}
