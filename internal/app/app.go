// Package app wires the stages together: which collectors feed which bus, who correlates, who
// answers for evidence, who executes. Goroutines start here and are joined here; nothing of the
// stages' logic is here.
//
// Each exported function is one command: it blocks until its work or its context ends and returns
// an error that says what was tried and what to do. Only cmd/tocsin exits the process.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// Version is set at link time; "dev" otherwise.
var Version = "dev"

// Options are the settings of a running process. The zero value watches every context of the
// kubeconfig, listens on no port, and may change nothing in any cluster.
type Options struct {
	Kubeconfig string   // "": the usual places
	Contexts   []string // none: all
	Data       string   // data folder; "": DefaultData
	Listen     string   // TCP address of the API; "": the Unix socket only
	TokensFile string   // "user token" lines for Listen and "alerts:CLUSTER[,CLUSTER] token" lines for webhooks
	Runbooks   []string // folders and Git repositories; the built-in library is always there
	// An OpenAI-compatible endpoint that embeds runbooks; "": the built-in embedding. Its key is
	// in TOCSIN_EMBEDDINGS_KEY; the address of a Postgres with pgvector in TOCSIN_POSTGRES.
	EmbeddingsURL, EmbeddingsModel string
	PolicyFile                     string // "": the default policy (everything asks)
	// What this process's agents may do, cluster by cluster alike. Empty: nothing (dry run).
	AllowActions    []string
	AllowNamespaces []string
	// AllowClusterScoped lets them act on nodes and other things without a namespace.
	AllowClusterScoped bool
	ActKubeconfig      string        // credentials for writing; "": those for reading
	Trust              string        // file of approval keys that agents obey; "": the hub's of this data folder
	RolesFile          string        // who may decide; "": only the user who runs the process
	VerifyWindow       time.Duration // how long outcomes are watched; 0: each action's own window

	NATS     string // external NATS; "": embedded
	Creds    string // credentials file for NATS
	BusPort  string // open the embedded NATS at this address
	BusToken string // its token

	Log *slog.Logger
	Out io.Writer
}

// DefaultData is where a process keeps its data unless told otherwise.
func DefaultData() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "tocsin")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "tocsin-data"
	}
	return filepath.Join(home, ".local", "share", "tocsin")
}

func (o *Options) data() string {
	if o.Data == "" {
		return DefaultData()
	}
	return o.Data
}

// validate refuses settings that cannot work before anything starts.
func (o *Options) validate(role Role) error {
	if role != Both && o.NATS == "" && o.BusPort == "" {
		return incident.Invalidf("an agent and a hub meet at a NATS server: give both --nats URL, or start the hub with --bus HOST:PORT")
	}
	if o.Listen != "" && o.TokensFile == "" {
		return incident.Invalidf("--listen %s needs --tokens FILE: an open port without tokens would take orders from anybody", o.Listen)
	}
	for _, n := range o.AllowActions {
		if !slices.Contains(incident.Actions(), incident.ActionName(n)) {
			return incident.Invalidf("--allow-actions: %q is not in the catalogue (docs/remediation.md lists it)", incident.Clip(n, 60))
		}
	}
	if len(o.AllowActions) > 0 && len(o.AllowNamespaces) == 0 && !o.AllowClusterScoped {
		return incident.Invalidf("--allow-actions without --allow-namespaces or --allow-cluster-scoped allows nothing: say where")
	}
	if len(o.AllowActions) == 0 && (len(o.AllowNamespaces) > 0 || o.AllowClusterScoped) {
		return incident.Invalidf("--allow-namespaces and --allow-cluster-scoped allow nothing without --allow-actions: say what")
	}
	if _, err := (&actions{opts: *o}).policy(); err != nil {
		return err
	}
	for _, f := range []string{o.TokensFile, o.RolesFile, o.Trust, o.ActKubeconfig} {
		if f == "" {
			continue
		}
		if _, err := os.Stat(f); err != nil {
			return err
		}
	}
	if o.TokensFile != "" {
		_, err := readTokens(o.TokensFile)
		return err
	}
	return nil
}

// openBus opens the store. The caller closes it.
func (o *Options) openBus(ctx context.Context) (*bus.Bus, error) {
	cfg := bus.Config{URL: o.NATS, CredsFile: o.Creds, Listen: o.BusPort, Token: o.BusToken}
	if o.NATS == "" {
		cfg.Dir = filepath.Join(o.data(), "jetstream")
		if err := os.MkdirAll(o.data(), 0o700); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	return bus.Open(ctx, cfg, o.Log)
}

// ended says whether err is only the end of the context.
func ended(ctx context.Context, err error) bool {
	return err == nil || (ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)))
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func clusterNames[T any](m map[incident.ClusterName]T) []incident.ClusterName {
	out := make([]incident.ClusterName, 0, len(m))
	for c := range m {
		out = append(out, c)
	}
	return out
}
