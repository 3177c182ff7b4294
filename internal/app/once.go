package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/correlator"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/internal/kube"
)

// analyzed is one line of `tocsin analyze PATH PATH -o json`.
type analyzed struct {
	Path string `json:"path,omitempty"`
	causes.Result
}

// failedPath is a line about a path that could not be read.
type failedPath struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// AnalyzePaths analyzes snapshots, in order. A path that cannot be read does not stop the others;
// the error then says how many.
func AnalyzePaths(ctx context.Context, paths []string, asJSON bool, out io.Writer) error {
	w, failed := text.To(out), 0
	for _, p := range paths {
		st, err := cluster.Read(ctx, p)
		if err != nil {
			failed++
			if len(paths) == 1 {
				return err
			}
			if asJSON {
				_ = json.NewEncoder(out).Encode(failedPath{p, err.Error()})
			} else {
				w.Printf("%s: %v\n", p, err)
			}
			continue
		}
		res := analyzed{Result: causes.Analyze(st)}
		if len(paths) > 1 {
			res.Path = p
		}
		if err := writeResult(w, res, asJSON, len(paths) > 1); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d paths could not be read", failed, len(paths))
	}
	return nil
}

// AnalyzeLive reads the clusters of the named contexts once and analyzes them.
func AnalyzeLive(ctx context.Context, kubeconfig string, contexts []string, asJSON bool, out io.Writer) error {
	clusters, err := kube.Contexts(kubeconfig, contexts)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range clusters {
		st, err := collectkube.Collect(ctx, c.Name, c.Client, c.Custom, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := writeResult(text.To(out), analyzed{Result: causes.Analyze(st)}, asJSON, len(clusters) > 1); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func writeResult(w *text.Writer, r analyzed, asJSON, several bool) error {
	if asJSON {
		enc := json.NewEncoder(w.W)
		if !several {
			enc.SetIndent("", "  ")
		}
		return enc.Encode(r)
	}
	name := string(r.Cluster)
	if r.Path != "" {
		name += " (" + r.Path + ")"
	}
	w.Printf("%s at %s: %s", name, r.CollectedAt.Format(time.DateTime), r.Verdict)
	w.Hypotheses(r.Hypotheses)
	for _, m := range r.Missing {
		w.Printf("not seen: %s", m)
	}
	for _, g := range r.Coverage.Gaps {
		w.Printf("left out: %s", g)
	}
	w.Printf("")
	return nil
}

// Record reads one live cluster and writes it as a snapshot folder.
func Record(ctx context.Context, kubeconfig, context_, dir string, out io.Writer) error {
	var names []string
	if context_ != "" {
		names = []string{context_}
	}
	clusters, err := kube.Contexts(kubeconfig, names)
	if err != nil {
		return err
	}
	if len(clusters) != 1 {
		return fmt.Errorf("the kubeconfig has %d contexts; name one with --context", len(clusters))
	}
	if err := clusters[0].Broken; err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty; a snapshot goes into a folder of its own", dir)
	}
	w := text.To(out)
	st, err := collectkube.Collect(ctx, clusters[0].Name, clusters[0].Client, clusters[0].Custom, func(line string) { w.Printf("  %s", line) })
	if err != nil {
		return err
	}
	if err := cluster.Write(dir, st); err != nil {
		return err
	}
	w.Printf("snapshot of %s in %s (Secret values are never in it); read it with `tocsin analyze %s`", clusters[0].Name, dir, dir)
	return nil
}

// Replay runs the correlator over a file of signals ("-": standard input).
func Replay(ctx context.Context, path string, asJSON bool, out io.Writer) error {
	var in io.Reader = os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	res, err := correlator.Replay(ctx, in, correlator.Config{Listed: -1})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if asJSON {
		return json.NewEncoder(out).Encode(res)
	}
	var rows [][]string
	for _, i := range res.Incidents {
		shared := ""
		if i.Shared != nil {
			shared = fmt.Sprintf("%s=%s (%d of %d)", i.Shared.Name, i.Shared.Value, i.Shared.Affected, i.Shared.Total)
		}
		rows = append(rows, []string{string(i.ID), string(i.Severity), i.OpenedAt.Format(time.DateTime), fmt.Sprint(len(i.Clusters)), fmt.Sprint(len(i.Signals)), string(i.Cause), i.Title, shared})
	}
	w := text.To(out)
	w.Table([]string{"INCIDENT", "SEVERITY", "OPENED", "CLUSTERS", "SIGNALS", "CAUSE", "TITLE", "SHARED"}, rows)
	w.Printf("%d signals in %.2f s", res.Stats.Signals, res.Stats.Seconds)
	return nil
}

// plainLine makes one line of a runbook fit for a terminal.
func plainLine(s string) string { return incident.UntrustedText(s).Plain(400) }
