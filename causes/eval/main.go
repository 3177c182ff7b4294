// Command eval scores the cause engine on labelled snapshots: which share of cases has object and
// cause both first (A@1), among the first three (A@3), the object alone, the cause alone, per
// family, with the calibration error, the time per case and the memory.
//
//	go run ./causes/eval -data ../shared/snapshots
//
// It needs labels.jsonl and one .tar.gz per case in the data folder; where they are absent it
// says so and exits 0. With -record it writes the score file; without, a score below the
// recorded one exits 1.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

func main() {
	data := flag.String("data", "../shared/snapshots", "folder with labels.jsonl and the cases")
	score := flag.String("score", "causes/eval/score.json", "recorded score; a fall below it fails")
	record := flag.Bool("record", false, "write the score file")
	verbose := flag.Bool("v", false, "print every case that is not first")
	only := flag.String("only", "", "run the cases whose id contains this")
	flag.Parse()
	runtime.GOMAXPROCS(1) // the budgets are for one core
	labels, err := readLabels(filepath.Join(*data, "labels.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("eval: no labelled snapshots in %s: nothing was measured\n", *data)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		os.Exit(2)
	}
	r := report{}
	for _, l := range labels {
		if *only != "" && !strings.Contains(l.ID, *only) {
			continue
		}
		c, err := runCase(filepath.Join(*data, l.ID+".tar.gz"), l)
		if err != nil {
			fmt.Fprintln(os.Stderr, "eval:", err)
			os.Exit(2)
		}
		r.cases = append(r.cases, c)
	}
	r.print(*verbose)
	if *only == "" && !checkScore(*score, r.score(), *record) {
		os.Exit(1)
	}
}

// label is what was injected into a case.
type label struct {
	ID       string `json:"id"`
	System   string `json:"system"`
	Category string `json:"category"`
	Object   struct {
		Kind, Name, Namespace string
	} `json:"object"`
	RootCause string `json:"root_cause"`
}

func readLabels(name string) ([]label, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []label
	for s := bufio.NewScanner(f); s.Scan(); {
		var l label
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// outcome is how one case went.
type outcome struct {
	label      label
	rank       int // of the first hypothesis that has object and cause right; 0: none
	objectRank int
	causeRank  int
	confidence float64 // of the first hypothesis
	verdict    causes.Verdict
	first      string
	spent      time.Duration
	heap       uint64
}

func runCase(path string, l label) (outcome, error) {
	b, err := unpack(path)
	if err != nil {
		return outcome{}, err
	}
	start := cpuTime()
	st, err := cluster.ReadTar(context.Background(), b, "snapshot")
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", l.ID, err)
	}
	res := causes.Analyze(st)
	o := outcome{label: l, spent: cpuTime() - start, verdict: res.Verdict, first: "nothing"}
	o.heap = peakMemory()
	for i, h := range res.Hypotheses {
		if i == 0 {
			o.confidence, o.first = h.Confidence, string(h.Cause)+" "+h.Object.String()
		}
		object, cause := l.blames(st, h.Object), h.Cause == mapping[l.RootCause]
		if object && cause && o.rank == 0 {
			o.rank = i + 1
		}
		if object && o.objectRank == 0 {
			o.objectRank = i + 1
		}
		if cause && o.causeRank == 0 {
			o.causeRank = i + 1
		}
	}
	return o, nil
}

// cpuTime returns the CPU time of this process: on a shared machine the clock would measure the
// neighbours too.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory returns the most memory the process ever held, in bytes, the unpacked snapshot
// included.
func peakMemory() uint64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return uint64(u.Maxrss) * 1024
}

// blames reports whether e is the label's object. An app is the service with its workload, pods
// and Service.
func (l label) blames(st *cluster.State, e incident.Entity) bool {
	switch l.Object.Kind {
	case "node":
		return e.Kind == "Node" && e.Name == l.Object.Name
	case "namespace":
		return e.Kind == "Namespace" && e.Name == l.Object.Name
	}
	if e.Namespace != l.Object.Namespace {
		return false
	}
	if e.Kind == "Pod" {
		e = st.OwnerOf(e)
	}
	return e.Name == l.Object.Name && slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "Service", "Pod", "ReplicaSet"}, e.Kind)
}
