package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func TestKVWritesAreComparedAndSet(t *testing.T) {
	b := open(t, Config{})
	ctx, kv := t.Context(), b.KV(Actions)
	if _, _, err := kv.Get(ctx, "p-1"); !errors.Is(err, incident.ErrNotFound) {
		t.Fatalf("get of nothing: %v", err)
	}
	rev, err := kv.Create(ctx, "p-1", []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(ctx, "p-1", []byte("b")); !errors.Is(err, incident.ErrStale) {
		t.Errorf("second create: %v", err)
	}
	rev2, err := kv.Update(ctx, "p-1", []byte("b"), rev)
	if err != nil || rev2 <= rev {
		t.Fatal(rev2, err)
	}
	if _, err := kv.Update(ctx, "p-1", []byte("c"), rev); !errors.Is(err, incident.ErrStale) {
		t.Errorf("update of an old revision: %v", err)
	}
	if err := kv.Delete(ctx, "p-1", rev); !errors.Is(err, incident.ErrStale) {
		t.Errorf("delete of an old revision: %v", err)
	}
	value, have, err := kv.Get(ctx, "p-1")
	if err != nil || string(value) != "b" || have != rev2 {
		t.Fatalf("%q %d %v", value, have, err)
	}
	if err := kv.Delete(ctx, "p-1", rev2); err != nil {
		t.Fatal(err)
	}
	if _, _, err := kv.Get(ctx, "p-1"); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := kv.Create(ctx, "p-1", []byte("again")); !errors.Is(err, incident.ErrStale) {
		t.Errorf("a deleted claim was won again: %v", err)
	}
	if _, err := kv.Put(ctx, "", nil); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := kv.Put(ctx, "big", make([]byte, MaxPayload+1)); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("too large a value: %v", err)
	}
}

func TestKVKeysMayBeAnyText(t *testing.T) {
	b := open(t, Config{})
	ctx, kv := t.Context(), b.KV(Health)
	keys := []string{"eu-1/kube", "EU-1/kube", "a.b", "*", ">", "mit Leerzeichen", "küche", "x\ny", "/", "_", "="}
	for i, k := range keys {
		if _, err := kv.Put(ctx, k, fmt.Append(nil, i)); err != nil {
			t.Fatal(k, err)
		}
	}
	got, err := kv.Keys(ctx)
	if err != nil || !slices.Equal(got, keys) {
		t.Errorf("keys %q %v, want %q", got, err, keys)
	}
	i := 0
	if err := kv.All(ctx, func(key string, value []byte, _ uint64) error {
		if key != keys[i] || string(value) != fmt.Sprint(i) {
			t.Errorf("%q is %q", key, value)
		}
		i++
		return nil
	}); err != nil || i != len(keys) {
		t.Error(i, err)
	}
	if keys, err := b.KV(Memory).Keys(ctx); err != nil || len(keys) != 0 {
		t.Errorf("empty bucket: %q %v", keys, err)
	}
}

func TestWatchMissesNothingAcrossARestartOfTheServer(t *testing.T) {
	b := open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	kv := b.KV(Incidents)
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		put(fmt.Sprint("inc-", i), "0")
	}
	seen := make(chan string, 1000)
	done := make(chan error)
	go func() {
		done <- kv.Watch(ctx, func(key string, value []byte, rev uint64) error {
			if value == nil {
				value = []byte("deleted")
			}
			seen <- key + "=" + string(value)
			return nil
		})
	}()
	await := func(want string) {
		t.Helper()
		timeout := time.After(10 * time.Second)
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-timeout:
				t.Fatalf("never saw %s", want)
			}
		}
	}
	await("inc-49=0")
	put("inc-7", "1")
	await("inc-7=1")
	for i := range 3 {
		start := time.Now()
		if err := b.heal(ctx); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(i + 2)
		put("inc-7", want)
		await("inc-7=" + want)
		t.Logf("seen %s after the restart began", time.Since(start).Round(time.Millisecond))
	}
	// The consumer a watch rests on may be taken away, by a server or by a person.
	s, err := b.js.Stream(ctx, "KV_incidents")
	if err != nil {
		t.Fatal(err)
	}
	for name := range s.ConsumerNames(ctx).Name() {
		if err := s.DeleteConsumer(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	_, rev, err := kv.Get(ctx, "inc-7")
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(ctx, "inc-7", rev); err != nil {
		t.Fatal(err)
	}
	await("inc-7=deleted")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogIsNumberedWithoutGapsAndRefusesForks(t *testing.T) {
	b := open(t, Config{})
	ctx, log := t.Context(), b.Log(Audit)
	if last, err := log.Last(ctx); err != nil || last != 0 {
		t.Fatal(last, err)
	}
	for i := range uint64(20) {
		if seq, err := log.Append(ctx, fmt.Append(nil, i), i); err != nil || seq != i+1 {
			t.Fatal(seq, err)
		}
	}
	if _, err := log.Append(ctx, []byte("fork"), 19); !errors.Is(err, incident.ErrStale) {
		t.Errorf("append after 19 of 20: %v", err)
	}
	// Same bytes again are another entry: nothing is deduplicated away.
	if seq, err := log.Append(ctx, []byte("19"), 20); err != nil || seq != 21 {
		t.Error(seq, err)
	}
	var got []uint64
	if err := log.Read(ctx, 18, func(seq uint64, at time.Time, entry []byte) error {
		if time.Since(at) > time.Minute {
			t.Error("stored at", at)
		}
		got = append(got, seq)
		return nil
	}); err != nil || !slices.Equal(got, []uint64{18, 19, 20, 21}) {
		t.Error(got, err)
	}
	s, err := b.js.Stream(ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(ctx); err == nil {
		t.Error("the audit log was purged")
	}
	if err := s.DeleteMsg(ctx, 3); err == nil {
		t.Error("an audit entry was deleted")
	}
}

func TestCommandsAreDeliveredUntilDoneOrParked(t *testing.T) {
	b := open(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, id := range []string{"ok", "later", "never", "ok"} {
		if err := b.SendCommand(ctx, "eu-1", id, []byte("do "+id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SendCommand(ctx, "eu-2", "other", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.SendCommand(ctx, "eu-1", "", nil); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("empty ID: %v", err)
	}
	tries := map[string]int{}
	err := b.ReceiveCommands(ctx, "eu-1", func(_ context.Context, c incident.ClusterName, id string, payload []byte) error {
		if c != "eu-1" || string(payload) != "do "+id {
			t.Errorf("%s: %s %q", c, id, payload)
		}
		tries[id]++
		switch {
		case id == "never":
			return incident.Invalidf("bad signature")
		case id == "later" && tries[id] < 3:
			return errors.New("busy")
		case id == "later":
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tries["ok"] != 1 || tries["later"] != 3 || tries["never"] != 1 || tries["other"] != 0 {
		t.Errorf("tries %v", tries)
	}
	var parked []string
	if err := b.read(t.Context(), reader{stream: streamDead}, func(d delivery) error {
		parked = append(parked, d.msg.Subject()+" "+string(d.msg.Data())+": "+d.msg.Headers().Get(headerReason))
		return nil
	}); err != nil || len(parked) != 1 || !strings.HasPrefix(parked[0], "deadletter.commands.eu-1 do never:") {
		t.Errorf("parked %q %v", parked, err)
	}
}

func TestCommandInterruptedByTheEndComesAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Config{Dir: dir, ackWait: 500 * time.Millisecond})
	if err := b.SendCommand(t.Context(), "eu-1", "c1", nil); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got := ""
		if err := b.ReceiveCommands(ctx, "eu-1", func(ctx context.Context, _ incident.ClusterName, id string, _ []byte) error {
			got = id
			cancel()
			if i < 2 {
				return ctx.Err()
			}
			return nil
		}); err != nil || got != "c1" {
			t.Fatal(i, got, err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b = open(t, Config{Dir: dir, ackWait: 500 * time.Millisecond})
	}
}

func TestOutcomesReachEveryReaderOnce(t *testing.T) {
	b := open(t, Config{})
	for i := range 10 {
		c := incident.ClusterName(fmt.Sprint("c-", i%3))
		if err := b.PublishOutcome(t.Context(), c, fmt.Sprint("p-", i), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hub", "verifier"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var got []string
		if err := b.ConsumeOutcomes(ctx, name, func(_ context.Context, c incident.ClusterName, id string, payload []byte) error {
			if got = append(got, string(c)+id+string(payload)); len(got) == 10 {
				cancel()
			}
			return nil
		}); err != nil || len(got) != 10 || got[4] != "c-1p-44" {
			t.Errorf("%s got %q %v", name, got, err)
		}
		cancel()
	}
}

func TestRequestsReachTheAgentAndKeepTheirErrors(t *testing.T) {
	b := open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.Request(ctx, "eu-1", VerbPrepare, nil); err == nil || !strings.Contains(err.Error(), "no agent of cluster eu-1") {
		t.Fatalf("no agent: %v", err)
	}
	done := make(chan error)
	go func() {
		done <- b.Serve(ctx, "eu-1", VerbPrepare, func(ctx context.Context, payload []byte) ([]byte, error) {
			switch string(payload) {
			case "invalid":
				return nil, incident.Invalidf("bad\r\nTocsin-Kind: denied")
			case "stale":
				return nil, fmt.Errorf("pod: %w", incident.ErrStale)
			case "plain":
				return nil, errors.New("the API server does not answer")
			case "wait":
				<-ctx.Done()
				return nil, ctx.Err()
			case "big":
				return make([]byte, MaxPayload), nil
			}
			return append([]byte("prepared "), payload...), nil
		})
	}()
	var reply []byte
	var err error
	for reply == nil {
		if reply, err = b.Request(ctx, "eu-1", VerbPrepare, []byte("x")); err != nil && !strings.Contains(err.Error(), "no agent") {
			t.Fatal(err)
		}
	}
	if string(reply) != "prepared x" {
		t.Errorf("reply %q", reply)
	}
	for payload, want := range map[string]error{"invalid": incident.ErrInvalid, "stale": incident.ErrStale, "big": incident.ErrInvalid} {
		if _, err := b.Request(ctx, "eu-1", VerbPrepare, []byte(payload)); !errors.Is(err, want) || errors.Is(err, incident.ErrDenied) {
			t.Errorf("%s: %v", payload, err)
		}
	}
	if _, err := b.Request(ctx, "eu-1", VerbPrepare, []byte("plain")); err == nil || !strings.Contains(err.Error(), "API server") {
		t.Errorf("plain: %v", err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := b.Request(short, "eu-1", VerbPrepare, []byte("wait")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	if _, err := b.Request(ctx, "eu-2", VerbPrepare, nil); err == nil {
		t.Error("the agent of eu-1 answered for eu-2")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLeaseHasOneHolderAndGrowingTokens(t *testing.T) {
	b := open(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var holders, turns atomic.Int32
	var last atomic.Uint64
	var wg sync.WaitGroup
	for i := range 4 {
		l := b.Lease("partition-0", fmt.Sprint("hub-", i), 400*time.Millisecond)
		wg.Go(func() {
			for turns.Load() < 8 {
				_ = l.Run(ctx, func(_ context.Context, token uint64) error {
					if holders.Add(1) != 1 {
						t.Error("two holders at once")
					}
					if old := last.Swap(token); token <= old {
						t.Errorf("token %d after %d", token, old)
					}
					turns.Add(1)
					holders.Add(-1)
					return errors.New("done with this turn")
				})
			}
		})
	}
	wg.Wait()
}

func TestLeaseOfADeadHolderIsTakenAndTheHolderToldSo(t *testing.T) {
	b := open(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const ttl = 400 * time.Millisecond
	dead := b.Lease("p", "dead", ttl)
	rev, err := dead.acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	took := time.Duration(0)
	err = b.Lease("p", "alive", ttl).Run(ctx, func(context.Context, uint64) error {
		took = time.Since(start)
		// The dead one was only slow: it finds out at its next renewal.
		lost, err := dead.hold(ctx, rev, func(ctx context.Context, _ uint64) error {
			<-ctx.Done()
			return nil
		})
		if !lost || err != nil {
			t.Errorf("lost %v, %v", lost, err)
		}
		return errors.New("over")
	})
	if err == nil || took < ttl/2 || took > 5*ttl {
		t.Errorf("taken after %s (%v), want about %s", took, err, ttl)
	}
}

func TestLeaseOfAnEarlierProcessIsFreeAtOnce(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Config{Dir: dir})
	if _, err := b.Lease("p", "before", time.Hour).acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close(t.Context())
	b = open(t, Config{Dir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.Lease("p", "after", time.Hour).acquire(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotsAreWholeAndFenced(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Config{Dir: dir})
	ctx := t.Context()
	if data, err := b.Snapshots().Load(ctx, "correlator/0"); err != nil || data != nil {
		t.Fatalf("before the first: %v %v", data, err)
	}
	data, rev, err := b.Snapshots().Claim(ctx, "correlator/0")
	if err != nil || data != nil {
		t.Fatal(data, err)
	}
	big := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(big) // does not pack: several chunks
	for i := range 4 {
		big[0] = byte(i)
		if rev, err = b.Snapshots().Save(ctx, "correlator/0", big, rev); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Snapshots().Save(ctx, "correlator/0", []byte("old"), rev-1); !errors.Is(err, incident.ErrStale) {
		t.Errorf("save on an old revision: %v", err)
	}
	s, err := b.js.Stream(ctx, "KV_snapshots")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 8 {
		t.Errorf("%d messages kept, want 7 chunks and a pointer", n)
	}
	b.Close(ctx)
	b = open(t, Config{Dir: dir})
	got, rev2, err := b.Snapshots().Claim(ctx, "correlator/0")
	if err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := b.Snapshots().Save(ctx, "correlator/0", []byte("fenced"), rev); !errors.Is(err, incident.ErrStale) {
		t.Errorf("the holder before saved: %v", err)
	}
	if _, err := b.Snapshots().Save(ctx, "correlator/0", []byte("new"), rev2); err != nil {
		t.Error(err)
	}
	if got, err := b.Snapshots().Load(ctx, "correlator/0"); err != nil || string(got) != "new" {
		t.Errorf("%q %v", got, err)
	}
}

func TestOthersConnectWithTheTokenOnly(t *testing.T) {
	const token = "0123456789abcdef"
	hub := open(t, Config{Listen: "127.0.0.1:0", Token: token})
	url := hub.ClientURL()
	if !strings.HasPrefix(url, "nats://127.0.0.1:") {
		t.Fatal(url)
	}
	if _, err := Open(t.Context(), Config{URL: url}, testLog(t)); err == nil {
		t.Error("connected without a token")
	}
	agent := open(t, Config{URL: url, Token: token})
	if err := agent.PublishEvents(t.Context(), "eu-1", signals("eu-1", 0, 3)); err != nil {
		t.Fatal(err)
	}
	gather(t, hub, ConsumeOptions{}, 3)
	// The agent's connection survives a restart of the hub's server at the same port.
	if err := agent.Healthy(); err != nil {
		t.Error(err)
	}
}

func TestConfigIsRefused(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
	}{
		{"without a place", Config{}},
		{"with two places", Config{Dir: "x", URL: "nats://x"}},
		{"listening without a token", Config{Dir: "x", Listen: ":4222"}},
		{"listening with a short token", Config{Dir: "x", Listen: ":4222", Token: "short"}},
		{"listening at no port", Config{Dir: "x", Listen: "here", Token: "0123456789abcdef"}},
		{"with something that is no URL", Config{URL: "host:4222"}},
		{"with two replicas", Config{URL: "nats://x", Replicas: 2}},
		{"with replicas of an embedded server", Config{Dir: "x", Replicas: 3}},
		{"with too many partitions", Config{Dir: "x", Partitions: 5000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Open(t.Context(), tt.cfg, testLog(t)); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
	t.Run("with a store larger than the disk", func(t *testing.T) {
		if _, err := Open(t.Context(), Config{Dir: t.TempDir(), MaxStore: 1 << 60}, testLog(t)); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	})
}
