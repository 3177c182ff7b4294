package correlator

import (
	"cmp"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Correlator groups signals into incidents. It is not safe for concurrent use: one goroutine
// applies, advances and drains. The zero value is not usable; see New.
type Correlator struct {
	cfg       Config
	kinds     *classifier
	fits      fits
	clusters  map[incident.ClusterName]*clusterState
	order     []*clusterState // as they became known
	byName    []*clusterState // sorted
	held      map[factorID]*held
	workloads map[string]int // per region; all under ""
	factors   []factorKey
	born      []millis // when each factor was first seen
	begun     millis   // time of the earliest inventory
	factorIDs map[factorKey]factorID
	watermark millis
	clock     millis // from Advance
	leapBy    *clusterState
	leapTo    millis
	leaps     int
	tracks    int
	dirty     bool
	settledAt millis
	bundles   []*bundle
	habits    map[subjectKey]map[factorID]bool // factors a workload has wherever it runs
	rolled    map[factorID][]millis            // when values of released factors were rolled out
	incidents map[incident.ID]*record
	live      []*record // open or still joinable, oldest first
	changed   map[incident.ID]bool
	gaps      []incident.ClusterCoverage // clusters not seen, as of the last settling
	stats     Stats
}

// Stats counts what a Correlator has done since it was made or restored.
type Stats struct {
	Events     int // accepted
	Signals    int // accepted, coverage signals and duplicates too
	Duplicates int
	TooLate    int // refused: older than the memory
	Invalid    int // refused: no use
	Dropped    int // signals not kept for a limit
	Tracks     int // fingerprints kept now
	Clusters   int
	Open       int // incidents open now
}

// New returns a Correlator. A zero Config is a sane one; see its fields. Validate cfg first:
// negative bounds are taken as the defaults.
func New(cfg Config) *Correlator {
	return &Correlator{cfg: cfg.withDefaults(), kinds: newClassifier(), fits: newFits(), clusters: make(map[incident.ClusterName]*clusterState), factorIDs: make(map[factorKey]factorID),
		habits: make(map[subjectKey]map[factorID]bool), rolled: make(map[factorID][]millis), held: make(map[factorID]*held), incidents: make(map[incident.ID]*record), changed: make(map[incident.ID]bool)}
}

// Advance tells the caller's time, so that silence is noticed and incidents close when nothing
// arrives. Time never goes back: an earlier now is ignored. Without it event time alone counts.
func (c *Correlator) Advance(now time.Time) {
	t := toMillis(now)
	if t <= c.clock {
		return
	}
	c.clock = t
	if t > c.watermark {
		c.dirty = c.dirty || t/60_000 != c.settledAt/60_000 // open episodes grow, quiet ones close
		c.watermark = t
	}
}

// coarse is the time by which what is open is judged: full minutes, so that a cluster without
// news is grouped anew once a minute at most.
func (c *Correlator) coarse() millis { return c.watermark / 60_000 * 60_000 }

// now is the newest time known.
func (c *Correlator) now() millis { return c.watermark }

// Stats returns the counts so far.
func (c *Correlator) Stats() Stats {
	s := c.stats
	s.Tracks, s.Clusters = c.tracks, len(c.clusters)
	for _, r := range c.live {
		if r.state == incident.Open {
			s.Open++
		}
	}
	return s
}

// Changed brings the incidents up to date and returns those that are new or differ since the
// last call, each once with its Revision grown by one, in order of ID. The caller owns them.
// Call it as often as the outside may be told (at most once a second each): whatever happened in
// between is one change.
func (c *Correlator) Changed() []incident.Incident {
	c.settle()
	ids := make([]incident.ID, 0, len(c.changed))
	for id := range c.changed {
		ids = append(ids, id)
	}
	clear(c.changed)
	slices.Sort(ids)
	out := make([]incident.Incident, 0, len(ids))
	for _, id := range ids {
		if r := c.incidents[id]; r != nil {
			r.revision++
			out = append(out, c.render(r))
		}
	}
	return out
}

// Incident returns the incident of that ID, brought up to date, following merges; false when
// there is none (any more).
func (c *Correlator) Incident(id incident.ID) (incident.Incident, bool) {
	c.settle()
	for range 64 { // merges form no circle; the bound is for snapshots made by others
		r := c.incidents[id]
		if r == nil {
			return incident.Incident{}, false
		}
		if r.state != incident.Merged {
			return c.render(r), true
		}
		id = r.into
	}
	return incident.Incident{}, false
}

// Incidents returns all incidents remembered, brought up to date, merged ones too, in order
// of opening.
func (c *Correlator) Incidents() []incident.Incident {
	c.settle()
	out := make([]incident.Incident, 0, len(c.incidents))
	for _, r := range c.incidents {
		out = append(out, c.render(r))
	}
	slices.SortFunc(out, func(a, b incident.Incident) int {
		return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// settle groups anew what changed and carries the result over to the incidents.
func (c *Correlator) settle() {
	if !c.dirty {
		return
	}
	c.dirty = false
	c.settledAt = c.now()
	if len(c.byName) != len(c.order) {
		c.byName = slices.Clone(c.order)
		slices.SortFunc(c.byName, func(a, b *clusterState) int { return cmp.Compare(a.name, b.name) })
	}
	now := c.coarse()
	var groups []*group
	for _, cl := range c.order {
		if cl.dirty || now > cl.groupedAt && cl.groupedAt < cl.moving || len(cl.local) > 0 && now >= cl.staleAt {
			c.regroup(cl)
			cl.dirty = false
		}
		for _, g := range cl.local {
			if g.worth() || g.solid {
				groups = append(groups, g)
			}
		}
	}
	slices.SortFunc(groups, compareGroups)
	c.countWorkloads()
	c.bundles = c.contrast(groups)
	for _, b := range c.bundles {
		b.span()
	}
	c.bundles = c.recur(c.bundles)
	c.attach(c.bundles)
	c.gaps = c.unseen()
	c.carry(c.bundles)
	c.forget()
}

// recur joins a bundle to the one before it when the same thing fails the same way again soon
// after.
func (c *Correlator) recur(bundles []*bundle) []*bundle {
	slices.SortStableFunc(bundles, func(a, b *bundle) int {
		return cmp.Or(cmp.Compare(a.start, b.start), compareGroups(a.groups[0], b.groups[0]))
	})
	type root struct {
		spanKey
		class class
	}
	last := make(map[root]*bundle)
	out := bundles[:0]
	for _, b := range bundles {
		if !b.solid {
			out = append(out, b)
			continue
		}
		var prev *bundle
		for _, g := range b.groups {
			if p := last[root{spanKey{g.root.cl.name, g.root.key}, g.root.class}]; p != nil && b.start <= p.linkEnd+reopenWithin && !(p.shared && b.shared && p.factor != b.factor) {
				prev = p
				break
			}
		}
		if prev != nil {
			prev.groups = append(prev.groups, b.groups...)
			if b.shared && !prev.shared {
				prev.shared, prev.factor, prev.total = true, b.factor, b.total
			}
			prev.span()
			b = prev
		} else {
			out = append(out, b)
		}
		for _, g := range b.groups {
			last[root{spanKey{g.root.cl.name, g.root.key}, g.root.class}] = b
		}
	}
	return out
}

func (b *bundle) span() {
	b.start = b.groups[0].start
	points := 0
	for _, g := range b.groups {
		b.start, b.end, b.linkEnd = min(b.start, g.start), max(b.end, g.end), max(b.linkEnd, g.linkEnd)
		b.open, b.solid, b.named = b.open || g.open, b.solid || g.solid, b.named || g.named
		points += g.points
	}
	b.solid = b.solid || b.shared && points >= 8 // little by little, but all from one thing
}

// forget drops tracks that ended before the memory reaches back, and the oldest closed incidents.
func (c *Correlator) forget() {
	floor := c.now() - (c.cfg.Memory + c.cfg.Lateness + c.cfg.Quiet).Milliseconds()
	for _, cl := range c.order {
		if cl.oldest >= floor || cl.oldest == 0 || c.now() < cl.pruned+(c.cfg.Memory/16).Milliseconds() {
			continue
		}
		cl.pruned = c.now()
		c.prune(cl, floor)
	}
	c.retire(floor)
}

// prune drops the tracks of cl all of whose trouble ended before floor, unless an incident that
// is still live holds them.
func (c *Correlator) prune(cl *clusterState, floor millis) {
	held := make(map[*track]bool)
	for _, r := range c.live {
		if r.end >= floor || r.state == incident.Open {
			for _, g := range r.groups(cl) {
				for _, e := range g.members {
					for i := range e.parts {
						held[e.parts[i].tr] = true
					}
				}
			}
		}
	}
	cl.oldest, cl.learned = 0, true
	for key, o := range cl.objects {
		kept := o.tracks[:0]
		for _, t := range o.tracks {
			last := t.points[len(t.points)-1].t
			if last < floor && !held[t] {
				cl.tracks--
				c.tracks--
				cl.dirty = true
				continue
			}
			if !held[t] {
				t.forget(floor)
			}
			kept = append(kept, t)
			if !held[t] && (cl.oldest == 0 || last < cl.oldest) {
				cl.oldest = last
			}
		}
		clear(o.tracks[len(kept):])
		o.tracks = kept
		if len(kept) == 0 {
			delete(cl.objects, key)
		}
	}
}

// forget drops the points before floor: their stretch is over and its incident is closed.
func (t *track) forget(floor millis) {
	i := 0
	for i < len(t.points) && t.points[i].t < floor {
		i++
	}
	if i > 0 {
		t.points, t.cut = slices.Delete(t.points, 0, i), nil
	}
	if t.droppedL < floor {
		t.dropped, t.droppedF, t.droppedL = 0, 0, 0
	}
}
