package app

import (
	"bufio"
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/analyzer"
	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/internal/bus"
)

// recording is an outage of three clusters that really ran (docs/operating.md says how to record
// one): signals.jsonl.gz as `tocsin signals` writes it, and each cluster as `tocsin record` wrote
// it at the worst moment.
//
//go:embed demo
var recording embed.FS

// demoSpeed is how much faster than it happened the recording is played.
const demoSpeed = 12

// errPlayed ends the demo.
var errPlayed = errors.New("played")

// Demo plays the recording through the real pipeline in a temporary folder.
func Demo(ctx context.Context, o Options) error {
	events, err := recordedSignals()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tocsin-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.Data = dir
	b, err := o.openBus(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close(context.WithoutCancel(ctx)) }()
	books, _, err := loadLibrary(ctx)
	if err != nil {
		return err
	}
	index, err := indexOf(ctx, books)
	if err != nil {
		return err
	}
	rec, err := recordedClusters(ctx)
	if err != nil {
		return err
	}
	d := &player{events: events, zero: events[0].Time(), started: time.Now(), w: text.To(o.Out), store: &store{kv: b.KV(bus.Incidents)}}
	d.w.Now, d.w.Dry = d.now, true
	h := &hub{bus: b, store: d.store, actions: dryActions(), log: slog.New(slog.DiscardHandler), name: "demo", clock: d.now,
		analyzer: analyzer.New(rec, pages{index})}
	d.w.Printf("A recorded outage of three clusters (%s), played %d times as fast through JetStream, correlator,", strings.Join(rec.names(), ", "), demoSpeed)
	d.w.Printf("analyzer and runbook search. Actions on a recording are dry: there is no cluster behind it.\n")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.run(gctx) })
	g.Go(func() error { return d.follow(gctx) })
	g.Go(func() error { return d.play(gctx, b) })
	if err := g.Wait(); err != nil && !errors.Is(err, errPlayed) {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	return d.summary(ctx)
}

// player publishes the recorded events at their time on a faster clock.
type player struct {
	events  []incident.Event // not yet played, in order of time
	zero    time.Time
	started time.Time
	w       *text.Writer
	store   *store
}

// now is the time inside the recording.
func (p *player) now() time.Time {
	return p.zero.Add(time.Since(p.started) * demoSpeed)
}

func (p *player) play(ctx context.Context, b *bus.Bus) error {
	for len(p.events) > 0 && ctx.Err() == nil {
		now := p.now()
		due := map[incident.ClusterName][]incident.Event{}
		n := 0
		for _, e := range p.events {
			if e.Time().After(now) {
				break
			}
			due[e.Cluster()] = append(due[e.Cluster()], e)
			n++
		}
		for c, events := range due {
			if err := b.PublishEvents(ctx, c, events); err != nil {
				return fmt.Errorf("play: %w", err)
			}
		}
		p.events = p.events[n:]
		if !pause(ctx, 50*time.Millisecond) {
			return nil
		}
	}
	if !pause(ctx, 3*time.Second) { // the last findings
		return nil
	}
	return errPlayed
}

func (p *player) follow(ctx context.Context) error {
	seen := map[incident.ID]string{}
	return p.store.Watch(ctx, func(i incident.Incident) error {
		if i.Severity == incident.Info {
			return nil
		}
		what, key := Happened(seen[i.ID], i)
		seen[i.ID] = key
		if what != "" {
			p.w.Line(i, what)
		}
		return nil
	})
}

// summary shows what is left at the end, in full.
func (p *player) summary(ctx context.Context) error {
	list, err := p.store.List(ctx, true)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b incident.Incident) int { return len(b.Clusters) - len(a.Clusters) })
	for _, i := range list {
		if i.Severity == incident.Info || i.MergedInto != "" {
			continue
		}
		p.w.Printf("\n%s", strings.Repeat("─", 100))
		p.w.Incident(i)
	}
	p.w.Printf("\nWith a kubeconfig: tocsin up")
	return nil
}

func recordedSignals() ([]incident.Event, error) {
	f, err := recording.Open("demo/signals.jsonl.gz")
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	var out []incident.Event
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, incident.MaxEventBytes)
	for sc.Scan() {
		var e incident.Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("recording: %w", err)
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b incident.Event) int { return a.Time().Compare(b.Time()) })
	if len(out) == 0 {
		return nil, incident.Invalidf("recording is empty")
	}
	return out, sc.Err()
}

// recorded answers for the agents from the recorded clusters.
type recorded map[incident.ClusterName]causes.Result

func (r recorded) names() []string {
	out := clusterNames(r)
	slices.Sort(out)
	names := make([]string, len(out))
	for i, n := range out {
		names[i] = string(n)
	}
	return names
}

// Evidence implements analyzer.Evidence.
func (r recorded) Evidence(_ context.Context, c incident.ClusterName, about []incident.Entity) (analyzer.Answer, error) {
	res, ok := r[c]
	if !ok {
		return analyzer.Answer{}, fmt.Errorf("cluster %s is not in the recording: %w", c, incident.ErrNotFound)
	}
	return answer(res, about, incident.ClusterCoverage{Cluster: c, LastSeen: res.CollectedAt}), nil
}

func recordedClusters(ctx context.Context) (recorded, error) {
	out := recorded{}
	names, err := fs.Glob(recording, "demo/*.tar.gz")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		f, err := recording.Open(n)
		if err != nil {
			return nil, fmt.Errorf("recording: %w", err)
		}
		st, err := readTarGz(ctx, f, n)
		if err != nil {
			return nil, fmt.Errorf("recording %s: %w", n, err)
		}
		out[st.Name] = causes.Analyze(st)
	}
	return out, nil
}

func readTarGz(ctx context.Context, f io.ReadCloser, name string) (*cluster.State, error) {
	defer f.Close()
	return cluster.ReadTar(ctx, f, name)
}
