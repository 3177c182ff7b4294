package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// childEnv makes the test binary a process that writes and prints what was acknowledged.
const childEnv = "TOCSIN_BUS_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled goes on where it finds the store and prints "event N", "kv N" and "log N"
// once each is durable.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	b, err := Open(ctx, Config{Dir: dir, lazySync: os.Getenv(childEnv+"_LAZY") != ""}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	start, _ := strconv.Atoi(os.Getenv(childEnv + "_FROM"))
	last, err := b.Log(Audit).Last(ctx)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for i := start; ; i++ {
		if err := b.PublishEvents(ctx, "eu-1", signals("eu-1", i, 1)); err != nil {
			return err
		}
		fmt.Println("event", i)
		if _, err := b.KV(Incidents).Put(ctx, "counter", []byte(strconv.Itoa(i))); err != nil {
			return err
		}
		fmt.Println("kv", i)
		if last, err = b.Log(Audit).Append(ctx, []byte(strconv.Itoa(i)), last); err != nil {
			return err
		}
		fmt.Println("log", i)
	}
}

// acked is what a child printed.
type acked struct{ events, kv, log []int }

// runChild starts a child in dir, calls stop after a while and returns what it had printed.
func runChild(t *testing.T, dir string, from int, d time.Duration, env ...string) acked {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childEnv+"="+dir, childEnv+"_FROM="+strconv.Itoa(from))...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var a acked
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		kind, rest, _ := strings.Cut(sc.Text(), " ")
		n, _ := strconv.Atoi(rest)
		switch kind {
		case "ready":
			time.AfterFunc(d, func() { cmd.Process.Kill() })
		case "event":
			a.events = append(a.events, n)
		case "kv":
			a.kv = append(a.kv, n)
		case "log":
			a.log = append(a.log, n)
		case "error":
			t.Errorf("child: %s", rest)
		}
	}
	cmd.Wait()
	return a
}

func (a *acked) add(o acked) {
	a.events, a.kv, a.log = append(a.events, o.events...), append(a.kv, o.kv...), append(a.log, o.log...)
}

// missing reads the store in dir and counts what was acknowledged and is not there.
func (a acked) missing(t *testing.T, dir string) (events, kv, log int) {
	t.Helper()
	b := open(t, Config{Dir: dir})
	defer b.Close(context.Background())
	have := map[int]bool{}
	token, _ := EncodeName("eu-1")
	if err := b.read(t.Context(), reader{stream: streamSignals + token}, func(d delivery) error {
		evs, err := incident.DecodeBatch(d.msg.Data())
		for _, e := range evs {
			n, _ := strconv.Atoi(strings.TrimPrefix(e.Signal.Entity.Name, "cart-"))
			have[n] = true
		}
		return err
	}); err != nil && !errors.Is(err, errGone) {
		t.Fatal(err)
	}
	for _, n := range a.events {
		if !have[n] {
			events++
		}
	}
	value, _, err := b.KV(Incidents).Get(t.Context(), "counter")
	if err != nil && !errors.Is(err, incident.ErrNotFound) {
		t.Fatal(err)
	}
	if n, _ := strconv.Atoi(string(value)); len(a.kv) > 0 && n < a.kv[len(a.kv)-1] {
		kv = a.kv[len(a.kv)-1] - n
	}
	logged := map[string]bool{}
	if err := b.Log(Audit).Read(t.Context(), 1, func(_ uint64, _ time.Time, entry []byte) error {
		logged[string(entry)] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range a.log {
		if !logged[strconv.Itoa(n)] {
			log++
		}
	}
	return events, kv, log
}

func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	kills := 10
	if testing.Short() {
		kills = 3
	}
	if n, err := strconv.Atoi(os.Getenv("TOCSIN_BUS_KILLS")); err == nil {
		kills = n
	}
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	dir := t.TempDir()
	var all acked
	for i := range kills {
		all.add(runChild(t, dir, i*1_000_000, time.Duration(rng.Intn(300))*time.Millisecond))
	}
	events, kv, log := all.missing(t, dir)
	t.Logf("seed %d: %d kills, %d events, %d values, %d log entries acknowledged", seed, kills, len(all.events), len(all.kv), len(all.log))
	if events+kv+log > 0 || len(all.events) == 0 {
		t.Errorf("lost %d events, %d updates, %d log entries", events, kv, log)
	}
}

func TestFullDiskIsSaidAndHealsWithNothingLost(t *testing.T) {
	dir := tmpfs(t, "96m")
	b := open(t, Config{Dir: filepath.Join(dir, "data"), AckTimeout: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	healed := make(chan error)
	go func() { healed <- b.Run(ctx) }()
	defer func() {
		cancel()
		<-healed
	}()

	var ok []int
	publish := func(n int) error {
		evs := signals("eu-1", n, 1)
		evs[0].Signal.Message = incident.UntrustedText(strings.Repeat("x", 3000))
		err := b.PublishEvents(ctx, "eu-1", evs)
		if err == nil {
			ok = append(ok, n)
		}
		return err
	}
	if err := publish(0); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast, dir, 1<<20)
	var failed error
	for n := 1; n < 5000 && failed == nil; n++ {
		failed = publish(n)
	}
	if failed == nil {
		t.Fatal("a full disk took everything")
	}
	t.Logf("%d acknowledged, then: %v", len(ok), failed)
	start := time.Now()
	for b.Healthy() == nil {
		if time.Since(start) > 10*time.Second {
			t.Fatal("still healthy on a full disk")
		}
		_ = publish(100_000) // something has to be written for the store to notice
	}
	t.Logf("unhealthy after %s: %v", time.Since(start).Round(time.Millisecond), b.Healthy())
	if err := publish(100_001); err == nil {
		t.Error("acknowledged on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for n := 200_000; publish(n) != nil; n++ {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("not healed: %v", b.Healthy())
		}
	}
	t.Logf("writes again %s after space came back", time.Since(start).Round(time.Millisecond))
	have := map[string]bool{}
	if err := b.read(ctx, reader{stream: "SIGNALS_eu-1"}, func(d delivery) error {
		evs, err := incident.DecodeBatch(d.msg.Data())
		for _, e := range evs {
			have[e.Signal.Entity.Name] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range ok {
		if !have[fmt.Sprintf("cart-%d", n)] {
			t.Errorf("event %d was acknowledged and is lost", n)
		}
	}
}

// fill writes a file until dir has only rest bytes left.
func fill(t *testing.T, path, dir string, rest int64) {
	t.Helper()
	free, err := freeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, free-rest), 0o600); err != nil {
		t.Fatal(err)
	}
}
