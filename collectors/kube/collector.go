package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// Sink takes events of one cluster. Publish returns nil only once they are durable; it may be
// called again with the same events.
type Sink interface {
	Publish(ctx context.Context, events []incident.Event) error
}

// Memory keeps what the collector had open, across restarts. Load returns nil when there is
// nothing yet.
type Memory interface {
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, b []byte) error
}

// Config is what a Collector needs. Custom, Memory and Log may be nil.
type Config struct {
	Cluster incident.ClusterName
	Client  kubernetes.Interface
	Custom  dynamic.Interface
	Memory  Memory
	Log     *slog.Logger
}

// Pace of the loop. A burst (a rollout changes dozens of objects) is read as one; the analysis
// takes at most a third of one core (pause of twice its own length).
const (
	settleFor     = 40 * time.Millisecond
	pauseFactor   = 2
	pingEvery     = 5 * time.Second
	lostAfter     = 12 * time.Second       // two pings and a bit
	relookEvery   = 15 * time.Second       // nothing changed, but time has passed (probes, deadlines)
	logsEvery     = 20 * time.Second       // re-read tails of containers that run without being ready
	logPatience   = 400 * time.Millisecond // a slow kubelet must not hold up the rest; tried again after logsEvery
	connectPause  = 5 * time.Second
	inventoryGap  = 5 * time.Second
	syncPatience  = 30 * time.Second // then work with the kinds that came
	handlerBuffer = 1
)

// Collector watches one cluster. Make it with New; Run it once.
type Collector struct {
	cfg    Config
	log    *slog.Logger
	report *reporter
	wake   chan struct{}

	mu      sync.RWMutex
	status  Status
	state   *cluster.State
	result  causes.Result
	refused map[string]refusal // source → last list or watch error
	logs    map[logWant]cluster.Log
	logsAt  time.Time
}

// refusal is a list or watch error. A watch that keeps failing is tried again at most every 30 s
// (client-go's back-off), so an error older than refusedFor is over.
type refusal struct {
	why string
	at  time.Time
}

const refusedFor = 45 * time.Second

// core are the kinds without which nothing is resolved: they hold the symptoms. The others only
// add causes; while one of them is not seen the rest goes on.
var core = map[string]bool{"objects/pods": true, "objects/nodes": true, "objects/deployments": true, "objects/replicasets": true, "objects/statefulsets": true,
	"objects/daemonsets": true, "objects/services": true, "objects/endpointslices": true, "objects/persistentvolumeclaims": true, "objects/jobs": true}

// Status is how the collector is doing.
type Status struct {
	Cluster   incident.ClusterName      `json:"cluster"`
	At        time.Time                 `json:"at"`        // of the last successful ping; zero: never reached
	Synced    bool                      `json:"synced"`    // the core kinds are seen
	Objects   int                       `json:"objects"`   // in the last state
	Open      int                       `json:"open"`      // signals firing now
	Analysis  time.Duration             `json:"analysis"`  // of the last run, state and detectors
	Sources   []incident.SourceCoverage `json:"sources"`   // of the last state
	LastError string                    `json:"lastError"` // empty: none
}

// New returns a collector. It does nothing until Run.
func New(cfg Config) *Collector {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Collector{cfg: cfg, log: log.With("cluster", cfg.Cluster), report: newReporter(cfg.Cluster), wake: make(chan struct{}, handlerBuffer),
		status: Status{Cluster: cfg.Cluster}, refused: map[string]refusal{}, logs: map[logWant]cluster.Log{}}
}

// Status returns how the collector is doing. Safe for concurrent use.
func (c *Collector) Status() Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.status
}

// Latest returns the last state and its analysis; nil before the first. Safe for concurrent use.
func (c *Collector) Latest() (*cluster.State, causes.Result) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state, c.result
}

// Run watches until ctx ends and returns nil then. An API server that does not answer is tried
// again for ever; Status says so meanwhile.
func (c *Collector) Run(ctx context.Context, out Sink) error {
	if err := c.report.load(ctx, c.cfg.Memory); err != nil {
		c.log.Warn("open signals of the last run cannot be read; they will be derived again", "error", err)
	}
	a, ok := c.connect(ctx)
	if !ok {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	w := c.watch(ctx, a)
	g.Go(func() error { c.ping(ctx); return nil })
	g.Go(func() error { c.loop(ctx, w, out); return nil })
	err := g.Wait()
	w.shutdown()
	return err
}

// connect asks what may be read until the server answers; ok is false when ctx ended before.
func (c *Collector) connect(ctx context.Context) (a access, ok bool) {
	for {
		a, err := probe(ctx, c.cfg.Client, c.cfg.Custom != nil)
		if err == nil {
			return a, true
		}
		c.failed(err)
		if !pause(ctx, connectPause) {
			return access{}, false
		}
	}
}

func (c *Collector) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if msg := incident.UntrustedText(err.Error()).Plain(300); c.status.LastError != msg {
		c.status.LastError = msg
		c.log.Warn("cluster cannot be read", "error", msg)
	}
}

// ping keeps Status.At current: a cut watch is silent, a ping is not.
func (c *Collector) ping(ctx context.Context) {
	for {
		pctx, cancel := context.WithTimeout(ctx, pingEvery)
		_, err := c.cfg.Client.Discovery().RESTClient().Get().AbsPath("/version").Do(pctx).Raw()
		cancel()
		if err == nil {
			c.mu.Lock()
			if time.Since(c.status.At) > lostAfter {
				c.signal() // back again: look at once
			}
			c.status.At, c.status.LastError = time.Now().UTC(), ""
			c.mu.Unlock()
		} else if ctx.Err() == nil {
			c.failed(err)
		}
		if !pause(ctx, pingEvery) {
			return
		}
	}
}

func (c *Collector) connected() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return time.Since(c.status.At) < lostAfter
}

func (c *Collector) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // a look is already due; it will see this change too
	}
}

// watched is the running informers of one collector.
type watched struct {
	access  access
	kinds   map[string]cache.SharedIndexInformer // by source
	factory informers.SharedInformerFactory
	custom  dynamicinformer.DynamicSharedInformerFactory
}

func (c *Collector) watch(ctx context.Context, a access) *watched {
	w := &watched{access: a, kinds: map[string]cache.SharedIndexInformer{},
		factory: informers.NewSharedInformerFactoryWithOptions(c.cfg.Client, 0, informers.WithTransform(cluster.Strip))}
	leases := informers.NewSharedInformerFactoryWithOptions(c.cfg.Client, 0, informers.WithTransform(cluster.Strip), informers.WithNamespace(metav1.NamespaceSystem))
	for _, k := range a.kinds {
		f := w.factory
		if k.resource == "leases" {
			f = leases
		}
		inf, err := f.ForResource(k.gvr())
		if err != nil {
			c.refuse(k.source(), err) // client-go does not know the kind: a row of kinds is wrong
			continue
		}
		w.add(c, k.source(), inf.Informer(), k.quiet)
	}
	if len(a.customs) > 0 {
		w.custom = dynamicinformer.NewDynamicSharedInformerFactory(c.cfg.Custom, 0)
		for _, r := range a.customs {
			inf := w.custom.ForResource(r).Informer()
			_ = inf.SetTransform(cluster.Strip) // fails only after the start
			w.add(c, "objects/"+r.Resource, inf, false)
		}
		w.custom.Start(ctx.Done())
	}
	w.factory.Start(ctx.Done())
	leases.Start(ctx.Done())
	return w
}

func (w *watched) add(c *Collector, source string, inf cache.SharedIndexInformer, quiet bool) {
	_ = inf.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { c.refuse(source, err) }) // fails only after the start
	if !quiet {
		_, _ = inf.AddEventHandler(cache.ResourceEventHandlerFuncs{ // fails only when stopped
			AddFunc:    func(any) { c.signal() },
			UpdateFunc: func(old, now any) { c.changed(old, now) },
			DeleteFunc: func(any) { c.signal() },
		})
	}
	w.kinds[source] = inf
}

// changed wakes the loop unless the update is a resync of the same version or a heartbeat of a
// node (its status is written every few seconds with nothing new in it).
func (c *Collector) changed(old, now any) {
	o, ok1 := old.(metav1.Object)
	n, ok2 := now.(metav1.Object)
	if ok1 && ok2 && o.GetResourceVersion() == n.GetResourceVersion() {
		return
	}
	if a, ok := old.(*corev1.Node); ok {
		if b, ok := now.(*corev1.Node); ok && sameNode(a, b) {
			return
		}
	}
	if ok1 && ok2 {
		c.report.noteChange(old, now, time.Now().UTC())
	}
	c.signal()
}

func (c *Collector) refuse(source string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[source] = refusal{incident.UntrustedText(err.Error()).Plain(300), time.Now()}
	c.log.Debug("watch ended", "source", source, "error", err)
}

func (w *watched) shutdown() {
	w.factory.Shutdown()
	if w.custom != nil {
		w.custom.Shutdown()
	}
}

// synced says whether all kinds have been read, and which have not.
func (w *watched) synced() (missing []string) {
	for s, inf := range w.kinds {
		if !inf.HasSynced() {
			missing = append(missing, s)
		}
	}
	return missing
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

// loop looks at the cluster whenever something changed and at least every relookEvery.
func (c *Collector) loop(ctx context.Context, w *watched, out Sink) {
	c.awaitSync(ctx, w)
	for {
		took := c.look(ctx, w, out)
		if !pause(ctx, max(settleFor, pauseFactor*took)) {
			return
		}
		t := time.NewTimer(relookEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-c.wake:
			t.Stop()
			if !pause(ctx, settleFor) {
				return
			}
			c.drainWake()
		case <-t.C:
		}
	}
}

func (c *Collector) drainWake() {
	select {
	case <-c.wake:
	default:
	}
}

func (c *Collector) awaitSync(ctx context.Context, w *watched) {
	deadline := time.Now().Add(syncPatience)
	for len(w.synced()) > 0 && time.Now().Before(deadline) {
		if !pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// look builds the state, runs the detectors and publishes what differs from the last look. While
// the server does not answer it publishes nothing: an old state proves nothing.
func (c *Collector) look(ctx context.Context, w *watched, out Sink) time.Duration {
	if !c.connected() {
		return 0
	}
	start := time.Now()
	st, missing := c.build(ctx, w)
	result := causes.Analyze(st)
	took := time.Since(start)
	partial := slices.ContainsFunc(missing, func(s string) bool { return core[s] })
	events := c.report.diff(st, result, partial)
	c.mu.Lock()
	c.state, c.result = st, result
	c.status.Synced, c.status.Analysis, c.status.Open = !partial, took, c.report.open()
	c.status.Sources = nil
	for _, cc := range st.Coverage().Clusters {
		c.status.Sources = append(c.status.Sources, cc.Sources...)
	}
	c.mu.Unlock()
	c.publish(ctx, out, events)
	return took
}

// publish tries until the events are durable; only then are they remembered as sent.
func (c *Collector) publish(ctx context.Context, out Sink, events []incident.Event) {
	if len(events) == 0 {
		return
	}
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := out.Publish(ctx, events)
		if err == nil {
			break
		}
		c.log.Warn("signals are not durable yet; trying again", "events", len(events), "error", err)
		if !pause(ctx, wait) {
			return
		}
	}
	c.report.sent(events)
	if err := c.report.save(ctx, c.cfg.Memory); err != nil {
		c.log.Warn("open signals cannot be remembered", "error", err)
	}
}

func (c *Collector) build(ctx context.Context, w *watched) (*cluster.State, []string) {
	now := time.Now().UTC()
	b := cluster.New(c.cfg.Cluster, now)
	for _, s := range w.access.sources {
		b.Saw(s.Source, s.State, s.Detail)
	}
	missing := w.synced()
	objects := 0
	var pods []*corev1.Pod
	for source, inf := range w.kinds {
		for _, o := range inf.GetStore().List() {
			m, ok := o.(metav1.Object)
			if !ok {
				continue
			}
			if err := b.Add(m); err != nil {
				b.Gap("%s: %v", source, err)
				break
			}
			objects++
			if p, ok := o.(*corev1.Pod); ok {
				pods = append(pods, p)
			}
		}
		b.Saw(source, incident.Seen, "")
	}
	c.mu.Lock()
	for _, s := range missing {
		b.Saw(s, incident.NotSeen, "not read yet: "+c.refused[s].why)
	}
	for s, r := range c.refused {
		if now.Sub(r.at) < refusedFor && !slices.Contains(missing, s) { // what the cache holds is old
			b.Saw(s, incident.NotSeen, "its watch fails: "+r.why)
			missing = append(missing, s)
		}
	}
	c.status.Objects = objects
	c.mu.Unlock()
	addLogs(b, c.tails(ctx, pods, now))
	return b.Seal(), missing
}

// tails returns the logs of containers in trouble, reading only those it does not have yet;
// containers that still run are read again from time to time.
func (c *Collector) tails(ctx context.Context, pods []*corev1.Pod, now time.Time) []cluster.Log {
	wants := troubled(pods)
	again := now.Sub(c.logsAt) > logsEvery
	keep := make(map[logWant]cluster.Log, len(wants))
	var fetch []logWant
	for _, w := range wants {
		if l, ok := c.logs[w]; ok && !(again && (!w.previous || l.Err != "")) {
			keep[w] = l
		} else {
			fetch = append(fetch, w)
		}
	}
	if len(fetch) > 0 {
		lctx, cancel := context.WithTimeout(ctx, logPatience)
		got := fetchLogs(lctx, c.cfg.Client, fetch)
		cancel()
		for _, l := range got {
			for _, w := range fetch {
				if w.namespace == l.Namespace && w.pod == l.Pod && w.container == l.Container {
					keep[w] = l
				}
			}
		}
	}
	if again {
		c.logsAt = now
	}
	c.logs = keep
	out := make([]cluster.Log, 0, len(keep))
	for _, w := range wants {
		if l, ok := keep[w]; ok {
			out = append(out, l)
		}
	}
	return out
}
