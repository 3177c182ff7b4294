package remediations

import (
	"context"
	"encoding/json"
	"fmt"
	"k8s.io/apimachinery/pkg/labels"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/tocsin-io/tocsin/incident"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// memKV is a compare-and-set bucket in memory. before and after, when set, are called around
// every operation; a panic in them is a crash of the caller.
type memKV struct {
	mu            sync.Mutex
	values        map[string][]byte
	revs          map[string]uint64
	rev           uint64
	before, after func(op string)
	fail          error
}

func newKV() *memKV { return &memKV{values: map[string][]byte{}, revs: map[string]uint64{}} }

func (m *memKV) around(op string) func() {
	if m.before != nil {
		m.before(op)
	}
	m.mu.Lock()
	return func() {
		m.mu.Unlock()
		if m.after != nil {
			m.after(op)
		}
	}
}

func (m *memKV) Get(_ context.Context, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, 0, m.fail
	}
	v, ok := m.values[key]
	if !ok {
		return nil, 0, incident.ErrNotFound
	}
	return slices.Clone(v), m.revs[key], nil
}

func (m *memKV) Create(_ context.Context, key string, value []byte) (uint64, error) {
	m.mu.Lock()
	_, exists := m.values[key]
	m.mu.Unlock()
	if exists {
		return 0, incident.ErrStale // not a step: nothing can change by it
	}
	defer m.around("create " + key)()
	if m.fail != nil {
		return 0, m.fail
	}
	if _, ok := m.values[key]; ok {
		return 0, incident.ErrStale
	}
	m.rev++
	m.values[key], m.revs[key] = slices.Clone(value), m.rev
	return m.rev, nil
}

func (m *memKV) Update(_ context.Context, key string, value []byte, rev uint64) (uint64, error) {
	defer m.around("update " + key)()
	if m.fail != nil {
		return 0, m.fail
	}
	if m.revs[key] != rev {
		return 0, incident.ErrStale
	}
	m.rev++
	m.values[key], m.revs[key] = slices.Clone(value), m.rev
	return m.rev, nil
}

func (m *memKV) Keys(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.values)), m.fail
}

// memLog is an append-only log in memory.
type memLog struct {
	mu      sync.Mutex
	entries [][]byte
	fail    error
}

func (m *memLog) Append(_ context.Context, entry []byte, last uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	if last != uint64(len(m.entries)) {
		return 0, incident.ErrStale
	}
	m.entries = append(m.entries, slices.Clone(entry))
	return uint64(len(m.entries)), nil
}

func (m *memLog) Read(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	m.mu.Lock()
	entries := slices.Clone(m.entries)
	m.mu.Unlock()
	for i, e := range entries {
		if uint64(i+1) >= from {
			if err := fn(uint64(i+1), e); err != nil {
				return err
			}
		}
	}
	return nil
}

type sent struct {
	cluster incident.ClusterName
	id      string
	payload []byte
}

// memCommands is a queue in memory; what is delivered stays, so that it can be delivered again.
type memCommands struct {
	mu   sync.Mutex
	sent []sent
	fail error
}

func (m *memCommands) Send(_ context.Context, c incident.ClusterName, id string, payload []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.sent = append(m.sent, sent{c, id, slices.Clone(payload)})
	return nil
}

func (m *memCommands) all() []sent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

// fakeCluster is an API server in memory: resourceVersion and UID preconditions, JSON patches
// with tests, generation, dry run, delete with preconditions. It counts the writes that landed.
type fakeCluster struct {
	mu      sync.Mutex
	objects map[incident.Entity]*Object
	rv      int
	writes  map[string]int                 // landed, by execution
	landed  []Write                        // in order
	onWrite func(o *Object)                // plays the controllers, after a write
	deny    func(w Write) bool             // of Allowed
	before  func(w Write, how Apply) error // an error is a lost request
	after   func(w Write, how Apply) error // an error is a lost answer
	events  int
}

func newCluster() *fakeCluster {
	return &fakeCluster{objects: map[incident.Entity]*Object{}, writes: map[string]int{}, rv: 100}
}

func (f *fakeCluster) put(o *Object) *Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.store(o, true)
}

func (f *fakeCluster) store(o *Object, bump bool) *Object {
	f.rv++
	o.SetResourceVersion(strconv.Itoa(f.rv))
	if o.GetUID() == "" {
		o.SetUID(typesUID(fmt.Sprintf("uid-%d", f.rv)))
	}
	if bump {
		o.SetGeneration(o.GetGeneration() + 1)
	}
	e := entityOf(o).Key()
	f.objects[e] = o.DeepCopy()
	return o
}

// change edits an object as somebody else would.
func (f *fakeCluster) change(e incident.Entity, bump bool, edit func(o *Object)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[e.Key()].DeepCopy()
	edit(o)
	f.store(o, bump)
}

func (f *fakeCluster) remove(e incident.Entity) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, e.Key())
}

func (f *fakeCluster) Get(_ context.Context, e incident.Entity) (*Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[e.Key()]
	if !ok {
		return nil, fmt.Errorf("%s: %w", e, incident.ErrNotFound)
	}
	return o.DeepCopy(), nil
}

func (f *fakeCluster) List(_ context.Context, kind, ns, selector string) ([]Object, error) {
	match, err := labels.Parse(selector)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Object
	for e, o := range f.objects {
		if e.Kind == kind && (ns == "" || e.Namespace == ns) && match.Matches(labels.Set(o.GetLabels())) {
			out = append(out, *o.DeepCopy())
		}
	}
	return out, nil
}

func (f *fakeCluster) Apply(_ context.Context, w Write, how Apply) (*Object, error) {
	if f.before != nil {
		if err := f.before(w, how); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	o, err := f.apply(w, how)
	if err == nil && !how.DryRun {
		f.writes[how.Execution]++
		f.landed = append(f.landed, w)
	}
	f.mu.Unlock()
	if err == nil && f.after != nil {
		if aerr := f.after(w, how); aerr != nil {
			return nil, aerr
		}
	}
	return o, err
}

func (f *fakeCluster) apply(w Write, how Apply) (*Object, error) {
	if w.Verb == VerbCopy || w.Verb == VerbCreate {
		src, ok := f.objects[w.Source.Key()]
		if !ok || string(src.GetUID()) != w.Source.UID {
			return nil, incident.ErrStale
		}
		if _, ok := f.objects[w.Target.Key()]; ok {
			return nil, incident.ErrStale
		}
		o := derived(src.DeepCopy(), w, how)
		if !how.DryRun {
			f.store(o, true)
		}
		return o, nil
	}
	live, ok := f.objects[w.Target.Key()]
	if !ok {
		return nil, incident.ErrNotFound
	}
	if string(live.GetUID()) != w.Target.UID || (w.Version != "" && live.GetResourceVersion() != w.Version) {
		return nil, fmt.Errorf("conflict: %w", incident.ErrStale)
	}
	if w.Verb == VerbDelete || w.Verb == VerbEvict {
		if !how.DryRun {
			delete(f.objects, w.Target.Key())
			if f.onWrite != nil {
				f.onWrite(live.DeepCopy())
			}
		}
		return nil, nil
	}
	next, err := patched0(live, w, how)
	if err != nil {
		return nil, err
	}
	if !how.DryRun {
		if f.onWrite != nil {
			f.onWrite(next)
		}
		f.store(next, true)
	}
	return next, nil
}

func patched0(live *Object, w Write, how Apply) (*Object, error) {
	body, err := encodePatch(live, w, how)
	if err != nil {
		return nil, err
	}
	p, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, incident.Invalidf("%v", err)
	}
	raw, err := json.Marshal(live.Object)
	if err != nil {
		return nil, err
	}
	raw, err = p.Apply(raw)
	if err != nil {
		return nil, incident.Invalidf("%v", err)
	}
	next := &Object{}
	return next, next.UnmarshalJSON(raw)
}

func (f *fakeCluster) Allowed(_ context.Context, w Write) (bool, string, error) {
	return f.deny == nil || !f.deny(w), "", nil
}

func (f *fakeCluster) Event(context.Context, incident.Entity, string, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events++
	return nil
}

func (f *fakeCluster) count(execution string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes[execution]
}
