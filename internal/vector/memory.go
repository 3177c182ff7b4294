package vector

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// Memory is a runbooks.Store in memory with exact search. The zero value is not usable; see
// NewMemory and OpenMemory.
type Memory struct {
	mu     sync.RWMutex
	spaces map[string]*space
	path   string // of the cache; empty: none
}

// space holds the records of one embedding, vectors in one block for speed.
type space struct {
	dim  int
	at   map[string]int // ID → row
	rows []row
	vecs []float32 // len(rows) × dim, unit length
}

type row struct {
	id, source, hash, text string
}

var _ runbooks.Store = (*Memory)(nil)

// NewMemory returns an empty store without a cache.
func NewMemory() *Memory { return &Memory{spaces: map[string]*space{}} }

// Hashes implements runbooks.Store.
func (m *Memory) Hashes(_ context.Context, name string) (map[string]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := map[string]string{}
	if s := m.spaces[name]; s != nil {
		for _, r := range s.rows {
			out[r.id] = r.hash
		}
	}
	return out, nil
}

// Apply implements runbooks.Store.
func (m *Memory) Apply(_ context.Context, name string, put []runbooks.Record, drop []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaces[name]
	if s == nil {
		s = &space{at: map[string]int{}}
	}
	dim := s.dim
	for i := range put {
		if err := checkRecord(&put[i], &dim); err != nil {
			return err
		}
	}
	s.dim = dim
	for _, id := range drop {
		s.remove(id)
	}
	for i := range put {
		s.put(&put[i])
	}
	if len(s.rows) == 0 {
		s.dim = 0
	}
	m.spaces[name] = s
	return nil
}

// Drop forgets a space, e.g. that of an embedding no longer in use.
func (m *Memory) Drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.spaces, name)
}

// checkRecord refuses what no store takes. dim is the length every vector must have, or 0.
func checkRecord(r *runbooks.Record, dim *int) error {
	if r.ID == "" || len(r.ID) > 2048 {
		return incident.Invalidf("record id %q: want 1..2048 bytes", incident.Clip(r.ID, 80))
	}
	if *dim == 0 {
		*dim = len(r.Vector)
	}
	if len(r.Vector) != *dim || len(r.Vector) == 0 || len(r.Vector) > maxDim {
		return incident.Invalidf("record %q: vector has %d dimensions, the space has %d (limit %d)", incident.Clip(r.ID, 80), len(r.Vector), *dim, maxDim)
	}
	for _, x := range r.Vector {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return incident.Invalidf("record %q: vector holds NaN or infinity", incident.Clip(r.ID, 80))
		}
	}
	return nil
}

// maxDim is what pgvector indexes as type vector.
const maxDim = 2000

func (s *space) remove(id string) {
	i, ok := s.at[id]
	if !ok {
		return
	}
	last := len(s.rows) - 1
	s.rows[i] = s.rows[last]
	copy(s.vecs[i*s.dim:(i+1)*s.dim], s.vecs[last*s.dim:])
	s.at[s.rows[i].id] = i
	delete(s.at, id)
	s.rows, s.vecs = s.rows[:last], s.vecs[:last*s.dim]
}

func (s *space) put(r *runbooks.Record) {
	i, ok := s.at[r.ID]
	if !ok {
		i = len(s.rows)
		s.at[r.ID] = i
		s.rows = append(s.rows, row{})
		s.vecs = append(s.vecs, make([]float32, s.dim)...)
	}
	s.rows[i] = row{id: r.ID, source: r.Source, hash: r.Hash, text: r.Text}
	v := s.vecs[i*s.dim:][:s.dim]
	copy(v, r.Vector)
	normalise(v)
}

// spaceNames returns the names of all spaces, sorted.
func (m *Memory) spaceNames() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.spaces))
}

// records returns copies of the named records of a space; unknown IDs are skipped.
func (m *Memory) records(name string, ids []string) []runbooks.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.spaces[name]
	if s == nil {
		return nil
	}
	out := make([]runbooks.Record, 0, len(ids))
	for _, id := range ids {
		if i, ok := s.at[id]; ok {
			r := s.rows[i]
			out = append(out, runbooks.Record{ID: r.id, Source: r.source, Hash: r.hash, Text: r.text, Vector: slices.Clone(s.vecs[i*s.dim:][:s.dim])})
		}
	}
	return out
}

func normalise(v []float32) {
	n := 0.0
	for _, x := range v {
		n += float64(x) * float64(x)
	}
	if n == 0 {
		return
	}
	f := float32(1 / math.Sqrt(n))
	for i := range v {
		v[i] *= f
	}
}

// Nearest implements runbooks.Store.
func (m *Memory) Nearest(ctx context.Context, name string, p runbooks.Probe) ([]runbooks.Match, error) {
	if err := checkProbe(&p); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.spaces[name]
	if s == nil || len(s.rows) == 0 {
		return nil, nil
	}
	if len(p.Vector) != s.dim {
		return nil, incident.Invalidf("probe has %d dimensions, space %q has %d", len(p.Vector), name, s.dim)
	}
	q := slices.Clone(p.Vector)
	normalise(q)
	top := newTop(p.Limit)
	for i := range s.rows {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(p.Sources) > 0 && !slices.Contains(p.Sources, s.rows[i].source) {
			continue
		}
		top.offer(i, dot(q, s.vecs[i*s.dim:][:s.dim]), s.rows)
	}
	return top.matches(s.rows), nil
}

func checkProbe(p *runbooks.Probe) error {
	if p.Limit < 1 || p.Limit > 1000 {
		return incident.Invalidf("limit %d: want 1..1000", p.Limit)
	}
	dim := 0
	return checkRecord(&runbooks.Record{ID: "probe", Vector: p.Vector}, &dim)
}

// dot is unrolled by four: the compiler does not, and this is where the time goes.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// top keeps the best k rows as a min-heap by (cosine, then ID descending).
type top struct {
	k    int
	rows []int
	cos  []float32
}

func newTop(k int) *top { return &top{k: k} }

// worse orders heap entries: lower cosine first, of equal ones the later ID.
func (t *top) worse(a, b int, rows []row) bool {
	if t.cos[a] != t.cos[b] {
		return t.cos[a] < t.cos[b]
	}
	return rows[t.rows[a]].id > rows[t.rows[b]].id
}

func (t *top) swap(a, b int) {
	t.rows[a], t.rows[b] = t.rows[b], t.rows[a]
	t.cos[a], t.cos[b] = t.cos[b], t.cos[a]
}

func (t *top) offer(i int, cos float32, rows []row) {
	if len(t.rows) < t.k {
		t.rows, t.cos = append(t.rows, i), append(t.cos, cos)
		for c := len(t.rows) - 1; c > 0; {
			p := (c - 1) / 2
			if !t.worse(c, p, rows) {
				break
			}
			t.swap(c, p)
			c = p
		}
		return
	}
	if cos < t.cos[0] || (cos == t.cos[0] && rows[i].id > rows[t.rows[0]].id) {
		return
	}
	t.rows[0], t.cos[0] = i, cos
	for p := 0; ; {
		c := 2*p + 1
		if c >= len(t.rows) {
			return
		}
		if c+1 < len(t.rows) && t.worse(c+1, c, rows) {
			c++
		}
		if !t.worse(c, p, rows) {
			return
		}
		t.swap(c, p)
		p = c
	}
}

func (t *top) matches(rows []row) []runbooks.Match {
	out := make([]runbooks.Match, len(t.rows))
	for i, r := range t.rows {
		out[i] = runbooks.Match{ID: rows[r].id, Cosine: t.cos[i]}
	}
	slices.SortFunc(out, func(a, b runbooks.Match) int {
		if a.Cosine != b.Cosine {
			if a.Cosine > b.Cosine {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}
