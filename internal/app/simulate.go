package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tocsin-io/tocsin/correlator/simulate"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
)

// Simulation is what `tocsin simulate` generates. No Kinds: all of them.
type Simulation struct {
	Dir      string
	Clusters int
	Seed     uint64
	Kinds    []string
}

// Simulate writes signals.jsonl and truth.json into the folder.
func Simulate(s Simulation, out io.Writer) error {
	if s.Clusters < 1 || s.Clusters > 10_000 {
		return incident.Invalidf("--clusters %d: want 1 to 10000", s.Clusters)
	}
	kinds := s.Kinds
	if len(kinds) == 0 {
		kinds = simulate.Kinds()
	}
	events, truth, err := simulate.Generate(simulate.Config{Seed: s.Seed, Clusters: s.Clusters, Kinds: kinds})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	err = writeFile(filepath.Join(s.Dir, "signals.jsonl"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, e := range events {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = writeFile(filepath.Join(s.Dir, "truth.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(truth) })
	}
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	text.To(out).Printf("%d events, %d incidents of %d kinds in %s", len(events), len(truth.Incidents), len(kinds), s.Dir)
	return nil
}

func writeFile(path string, fill func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := fill(w); err != nil {
		_ = f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
