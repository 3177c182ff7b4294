//go:build e2e

package loop

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/e2e/lab"
)

// TestFiveThousandPods prints what a cluster of 5,000 pods costs: one analysis, the agent's
// memory, and the time from a failing pod to its incident. Figures for docs/measurements.md;
// nothing is asserted about time but that it works.
func TestFiveThousandPods(t *testing.T) {
	ctx := t.Context()
	if _, err := lab.Binaries(ctx, logTo{t}); err != nil {
		t.Fatal(err)
	}
	c := lab.New(t, "big-1", lab.Options{})
	must(t, c.Kwok(ctx, 25))
	const apps, each = 100, 50
	for i := range apps {
		must(t, c.Apply(ctx, lab.Deployment("lots", fmt.Sprintf("app-%02d", i), each, fmt.Sprintf("ghcr.io/acme/app-%02d:v1", i))))
	}
	for i := range apps {
		must(t, c.WaitReady(ctx, "lots", fmt.Sprintf("app-%02d", i), each))
	}
	bin, err := binary()
	must(t, err)
	for range 3 {
		cmd := exec.Command(bin, "analyze", "--kubeconfig", c.Kubeconfig(), "--context", c.Name)
		start := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "healthy") {
			t.Fatalf("%v %s", err, out)
		}
		u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		t.Logf("analyze of %d pods: %.2f s wall, %.2f s CPU, %d MiB peak", apps*each, time.Since(start).Seconds(), cmd.ProcessState.UserTime().Seconds()+cmd.ProcessState.SystemTime().Seconds(), u.Maxrss/1024)
	}
	p := up(t, c.Kubeconfig())
	eventually(t, time.Minute, "the cluster is watched", func() error { _, err := p.tocsin("doctor", "--kubeconfig", c.Kubeconfig()); return err })
	seen := watchMembers(t, p)
	var took []time.Duration
	for i := range 30 {
		name := fmt.Sprintf("app-%02d", i)
		start := time.Now()
		must(t, c.Fail(ctx, "lots", name, lab.FailOOMKilled))
		select {
		case at := <-seen(name):
			took = append(took, at.Sub(start))
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is in no incident after 20 s", name)
		}
	}
	slices.Sort(took)
	t.Logf("all %d pods of a workload fail → incident visible: p50 %s, p99 %s of %d", each, took[len(took)/2], took[len(took)-1], len(took))
	t.Logf("agent and hub in one process: %d MiB resident", resident(t, p.cmd.Process.Pid))
}

func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
			must(t, err)
			return n / 1024
		}
	}
	return 0
}
