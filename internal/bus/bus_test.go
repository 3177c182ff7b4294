package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tocsin-io/tocsin/incident"
)

func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelError + 1
	if os.Getenv("BUS_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
}

func open(t testing.TB, cfg Config) *Bus {
	t.Helper()
	if cfg.Dir == "" && cfg.URL == "" {
		cfg.Dir = t.TempDir()
	}
	b, err := Open(t.Context(), cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

func signal(c incident.ClusterName, n int) incident.Event {
	s := &incident.Signal{
		Source: "/clusters/" + string(c) + "/collectors/kube", Time: time.UnixMilli(1_800_000_000_000 + int64(n)).UTC(), Cluster: c,
		Entity: incident.Entity{Kind: "Pod", Namespace: "shop", Name: fmt.Sprintf("cart-%d", n)},
		Kind:   incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: "ImagePullBackOff",
		Owner:   &incident.Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"},
		Factors: incident.Factors{incident.FactorImage: "ghcr.io/acme/cart:v9", incident.FactorNode: "n1"},
	}
	s.ID = incident.NewSignalID(s)
	return incident.Event{Signal: s}
}

func signals(c incident.ClusterName, from, n int) []incident.Event {
	out := make([]incident.Event, n)
	for i := range out {
		out[i] = signal(c, from+i)
	}
	return out
}

// gather runs ConsumeEvents until want events are there, and returns their pod names per cluster.
func gather(t *testing.T, b *Bus, opts ConsumeOptions, want int) (map[incident.ClusterName][]string, map[incident.ClusterName]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, pos, n := map[incident.ClusterName][]string{}, map[incident.ClusterName]uint64{}, 0
	err := b.ConsumeEvents(ctx, opts, func(_ context.Context, c incident.ClusterName, evs []incident.Event, p Position) error {
		for _, e := range evs {
			got[c] = append(got[c], e.Signal.Entity.Name)
		}
		pos[c] = p.Seq
		if n += len(evs); n >= want {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != want {
		t.Fatalf("got %d events, want %d", n, want)
	}
	return got, pos
}

func TestEventsOfEveryClusterArriveInOrderAndSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Config{Dir: dir})
	clusters := []incident.ClusterName{"eu-1", "EU-1", "arn:aws:eks:eu/prod", "küche *>"}
	for _, c := range clusters {
		for i := range 3 {
			if err := b.PublishEvents(t.Context(), c, signals(c, i*300, 300)); err != nil {
				t.Fatal(c, err)
			}
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b = open(t, Config{Dir: dir})
	got, pos := gather(t, b, ConsumeOptions{}, 900*len(clusters))
	for _, c := range clusters {
		for i, name := range got[c] {
			if want := fmt.Sprintf("cart-%d", i); name != want {
				t.Fatalf("%s: event %d is %s, want %s", c, i, name, want)
			}
		}
		if pos[c] != 6 {
			t.Errorf("%s ends at %d, want 6 batches", c, pos[c])
		}
	}
	// From a position only what follows is read.
	if err := b.PublishEvents(t.Context(), "eu-1", signals("eu-1", 900, 5)); err != nil {
		t.Fatal(err)
	}
	got, _ = gather(t, b, ConsumeOptions{From: pos}, 5)
	if want := []string{"cart-900", "cart-901", "cart-902", "cart-903", "cart-904"}; !slices.Equal(got["eu-1"], want) {
		t.Errorf("from a position: %v", got)
	}
	have, err := b.Clusters(t.Context())
	slices.Sort(clusters)
	if err != nil || !slices.Equal(have, clusters) {
		t.Errorf("clusters %q %v, want %q", have, err, clusters)
	}
}

func TestRepeatedPublishIsStoredOnceAndOnlyWithinItsCluster(t *testing.T) {
	b := open(t, Config{})
	for range 3 {
		if err := b.PublishEvents(t.Context(), "a", signals("a", 0, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PublishEvents(t.Context(), "b", signals("b", 0, 10)); err != nil {
		t.Fatal(err)
	}
	if err := b.PublishEvents(t.Context(), "a", signals("a", 10, 1)); err != nil {
		t.Fatal(err)
	}
	got, _ := gather(t, b, ConsumeOptions{}, 21)
	if len(got["a"]) != 11 || len(got["b"]) != 10 {
		t.Errorf("a has %d, b has %d", len(got["a"]), len(got["b"]))
	}
	if err := b.PublishEvents(t.Context(), "b", signals("a", 0, 1)); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("event of a published as b: %v", err)
	}
}

func TestClusterThatAppearsLaterIsRead(t *testing.T) {
	b := open(t, Config{})
	if err := b.PublishEvents(t.Context(), "first", signals("first", 0, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := map[incident.ClusterName]bool{}
	err := b.ConsumeEvents(ctx, ConsumeOptions{}, func(ctx context.Context, c incident.ClusterName, _ []incident.Event, _ Position) error {
		if seen[c] = true; len(seen) == 3 {
			cancel()
			return nil
		}
		next := incident.ClusterName(fmt.Sprintf("later-%d", len(seen)))
		return b.PublishEvents(ctx, next, signals(next, 0, 1))
	})
	if err != nil || len(seen) != 3 {
		t.Fatalf("saw %v (%v), want three clusters", seen, err)
	}
}

func TestPoisonIsParkedWithItsReasonAndBlocksNobody(t *testing.T) {
	b := open(t, Config{})
	ctx := t.Context()
	for _, c := range []incident.ClusterName{"a", "b"} {
		if err := b.PublishEvents(ctx, c, signals(c, 0, 1)); err != nil {
			t.Fatal(err)
		}
	}
	// Not JSON, a hostile claim, and one the handler refuses.
	other, _ := incident.EncodeBatch(signals("b", 7, 1))
	for _, data := range [][]byte{[]byte("]"), []byte("[]"), other} {
		if _, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: "signals.0.a", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= 3; i++ {
		if err := b.PublishEvents(ctx, "a", signals("a", i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.DeadLetters(ctx, func(DeadLetter) error { return errors.New("there is none") }); err != nil {
		t.Fatal(err)
	}
	var got []string
	tries := map[string]int{}
	cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := b.ConsumeEvents(cctx, ConsumeOptions{Attempts: 3}, func(_ context.Context, c incident.ClusterName, evs []incident.Event, p Position) error {
		name := string(c) + "/" + evs[0].Signal.Entity.Name
		tries[name]++
		switch name {
		case "a/cart-1":
			return incident.Invalidf("never")
		case "a/cart-2":
			return errors.New("not now")
		}
		if got = append(got, name); name == "a/cart-3" {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if want := []string{"a/cart-0", "a/cart-3", "b/cart-0"}; !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
	if tries["a/cart-1"] != 1 || tries["a/cart-2"] != 3 {
		t.Errorf("tries %v, want invalid once, failing three times", tries)
	}
	var reasons []string
	err := b.DeadLetters(ctx, func(d DeadLetter) error {
		reasons = append(reasons, string(d.Reason))
		if d.Stream != "SIGNALS_a" || d.Attempts < 1 || d.Seq != uint64(len(reasons)+1) || time.Since(d.At) > time.Minute {
			t.Errorf("dead letter %+v", d)
		}
		return nil
	})
	if err != nil || len(reasons) != 5 {
		t.Fatalf("%d dead letters, want 5: %q (%v)", len(reasons), reasons, err)
	}
	for i, want := range []string{"array", "empty", `claims cluster "b"`, "never", "not now"} {
		if !strings.Contains(reasons[i], want) {
			t.Errorf("reason %d %q, want it to say %q", i, reasons[i], want)
		}
	}
}

func TestDroppedBatchesAreCounted(t *testing.T) {
	b := open(t, Config{})
	for i := range 5 {
		if err := b.PublishEvents(t.Context(), "a", signals("a", i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.js.Stream(t.Context(), "SIGNALS_a")
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 2, 4} {
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	missed := map[uint64]uint64{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.ConsumeEvents(ctx, ConsumeOptions{}, func(_ context.Context, _ incident.ClusterName, _ []incident.Event, p Position) error {
		if missed[p.Seq] = p.Missed; p.Seq == 5 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(missed) != 2 || missed[3] != 2 || missed[5] != 1 {
		t.Errorf("missed %v, want 2 before 3 and 1 before 5", missed)
	}
}

func TestDataFolderIsRefused(t *testing.T) {
	tests := []struct {
		name, version, want string
		invalid             bool
	}{
		{"by a newer format", `{"format":2,"natsServer":"2.15.2"}`, "newer version", true},
		{"by a newer nats-server", `{"format":1,"natsServer":"2.99.0"}`, "nats-server 2.99.0", true},
		{"with an unreadable version", `{`, "not readable", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, versionFile), []byte(tt.version), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), Config{Dir: dir}, testLog(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, incident.ErrInvalid) != tt.invalid {
				t.Fatalf("got %v", err)
			}
			if names, _ := os.ReadDir(dir); len(names) != 1 {
				t.Errorf("the folder was changed: %v", names)
			}
		})
	}
	t.Run("while another process uses it", func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, Config{Dir: dir})
		_, err := Open(t.Context(), Config{Dir: dir}, testLog(t))
		if err == nil || !strings.Contains(err.Error(), "in use by another process (pid") {
			t.Fatalf("got %v", err)
		}
		if err := b.Healthy(); err != nil {
			t.Error(err)
		}
	})
	t.Run("unless nobody uses it and it is ours", func(t *testing.T) {
		dir := t.TempDir()
		for range 3 {
			b, err := Open(t.Context(), Config{Dir: dir}, testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestQuotasShrinkWithTheStoreAndKeepWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Config{Dir: dir, MaxStore: 1 << 30})
	if err := b.PublishEvents(t.Context(), "a", signals("a", 0, 5000)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.KV(Incidents).Put(t.Context(), "x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	b.Close(t.Context())
	b = open(t, Config{Dir: dir, MaxStore: 64 << 20})
	for _, bucket := range []BucketName{Actions, Inventory, Health, Memory} {
		if _, err := b.KV(bucket).Put(t.Context(), "x", []byte("y")); err != nil {
			t.Error(bucket, err)
		}
	}
	for i := range 10 {
		c := incident.ClusterName(fmt.Sprint("new-", i))
		if err := b.PublishEvents(t.Context(), c, signals(c, 0, 1)); err != nil {
			t.Error(err)
		}
	}
	gather(t, b, ConsumeOptions{}, 5010)
}

func TestFullBucketSaysSoAndTakesWritesAgain(t *testing.T) {
	b := open(t, Config{MaxStore: 16 << 20})
	kv, value := b.KV(Health), make([]byte, 300<<10)
	var full error
	n := 0
	for ; full == nil && n < 100; n++ {
		_, full = kv.Put(t.Context(), fmt.Sprint(n), value)
	}
	if full == nil || !strings.Contains(full.Error(), "maximum bytes exceeded") {
		t.Fatalf("after %d values: %v", n, full)
	}
	if err := b.Healthy(); err != nil {
		t.Errorf("a full bucket is no broken store: %v", err)
	}
	if _, err := kv.Put(t.Context(), "0", []byte("small")); err != nil {
		t.Error(err)
	}
	if _, err := kv.Put(t.Context(), "last", value); err != nil {
		t.Errorf("after making room: %v", err)
	}
}

func TestPositionsOfAnotherStoreStartOver(t *testing.T) {
	b := open(t, Config{})
	if err := b.PublishEvents(t.Context(), "a", signals("a", 0, 3)); err != nil {
		t.Fatal(err)
	}
	gather(t, b, ConsumeOptions{From: map[incident.ClusterName]uint64{"a": 999}}, 3)
}

func FuzzVersionFile(f *testing.F) {
	for _, s := range []string{`{"format":1,"natsServer":"2.15.2"}`, `{"format":2}`, `{"format":1,"natsServer":"9"}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, versionFile), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkVersion(dir, "2.15.2"); err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
