package correlator

import (
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Apply takes one event. It returns an error wrapping incident.ErrInvalid for an event that can
// not be used, and one wrapping incident.ErrStale for a signal older than the memory; both are
// counted in Stats and leave the state unchanged. Applying an event again is harmless.
//
// The correlator keeps no reference to the event's maps and slices beyond its strings.
func (c *Correlator) Apply(ev incident.Event) error {
	switch {
	case ev.Signal != nil:
		return c.applySignal(ev.Signal)
	case ev.Inventory != nil:
		c.applyInventory(ev.Inventory)
	case ev.Topology != nil:
		c.applyTopology(ev.Topology)
	default:
		c.stats.Invalid++
		return incident.Invalidf("correlator: empty event")
	}
	c.stats.Events++
	return nil
}

func (c *Correlator) cluster(name incident.ClusterName) *clusterState {
	cl := c.clusters[name]
	if cl == nil {
		cl = &clusterState{name: name, objects: make(map[incident.Entity]*object), sources: make(map[string]*sourceState), idx: len(c.order)}
		c.clusters[name] = cl
		c.order = append(c.order, cl)
	}
	return cl
}

func (c *Correlator) applySignal(s *incident.Signal) error {
	t := toMillis(s.Time)
	if c.watermark > 0 && t < c.watermark-c.cfg.Memory.Milliseconds()-c.cfg.Lateness.Milliseconds() {
		c.stats.TooLate++
		return staleSignal(s, c.watermark-t)
	}
	if s.Cluster == "" || s.Entity.Kind == "" || s.Entity.Name == "" {
		c.stats.Invalid++
		return incident.Invalidf("correlator: signal %s names no cluster or entity", s.ID)
	}
	cl := c.cluster(s.Cluster)
	c.see(cl, s.Source, t)
	c.stats.Events++
	c.stats.Signals++
	if s.Kind == incident.Covering {
		c.cover(cl, s, t)
		return nil
	}
	tr := c.track(cl, s, t)
	if tr == nil {
		return nil
	}
	if !tr.addPoint(point{t: t, firing: s.Status == incident.Firing, id: s.ID}, c.cfg.Points) {
		c.stats.Duplicates++
		return nil
	}
	c.learn(cl, tr, s, t)
	if cl.oldest == 0 || t < cl.oldest {
		cl.oldest = t
	}
	cl.dirty = true
	c.dirty = true
	return nil
}

func staleSignal(s *incident.Signal, by millis) error {
	return &tooLate{id: s.ID, by: time.Duration(by) * time.Millisecond}
}

// tooLate says that a signal came after its time was forgotten.
type tooLate struct {
	id incident.SignalID
	by time.Duration
}

func (e *tooLate) Error() string {
	return "correlator: signal " + string(e.id) + " is " + e.by.Round(time.Second).String() + " old, beyond the memory"
}
func (e *tooLate) Unwrap() error { return incident.ErrStale }

// see moves the clocks on. The watermark follows event time; one far ahead of everything else is
// believed only when a second cluster agrees or the caller's clock (Advance) confirms it.
func (c *Correlator) see(cl *clusterState, source string, t millis) {
	if t > cl.last {
		cl.last = t
	}
	if t <= c.watermark {
		return
	}
	const leap = 6 * 3600 * 1000
	if c.watermark > 0 && t > c.watermark+leap && len(c.clusters) > 1 {
		if c.leapBy == nil || c.leapBy == cl || c.leapTo < t-leap {
			c.leapBy, c.leapTo = cl, t
			c.leaps++
			if c.leaps < 20 {
				return
			}
		}
	}
	c.watermark, c.leapBy, c.leaps = t, nil, 0
}

// track finds or makes the track of s; nil when a limit leaves no room.
func (c *Correlator) track(cl *clusterState, s *incident.Signal, t millis) *track {
	key := s.Entity.Key()
	var labels map[string]string
	if s.Kind == incident.Alert && wideKind(key.Kind) {
		key, labels = narrowed(key, placeLabels(s.Labels))
	}
	o := cl.objects[key]
	if o == nil {
		if !c.room(cl) {
			return nil
		}
		o = &object{entity: key, labels: labels}
		cl.objects[key] = o
		cl.learned = true
	}
	if s.Owner != nil && (t >= o.ownerT || o.owner.IsZero()) {
		own := s.Owner.Key()
		if o.owner.IsZero() || t > o.ownerT || compareEntities(own, o.owner) < 0 {
			cl.learned = cl.learned || o.owner != own
			o.owner, o.ownerT = own, t
		}
	}
	for _, tr := range o.tracks {
		if tr.reason == s.Reason && tr.kind == s.Kind {
			return tr
		}
	}
	if !c.room(cl) {
		return nil
	}
	tr := &track{obj: o, reason: s.Reason, kind: s.Kind, severity: incident.Info, classT: 1<<63 - 1}
	o.tracks = append(o.tracks, tr)
	cl.tracks++
	c.tracks++
	return tr
}

func (c *Correlator) classify(s *incident.Signal) class {
	k := c.kinds.refine(c.kinds.of(s.Reason), s.Entity.Kind, s.Message)
	if k.generic() && s.Cause != "" && s.Kind != incident.Change {
		if ck := c.kinds.of(string(s.Cause)); s.Confidence >= 0.5 {
			return c.kinds.refine(ck, s.Entity.Kind, "")
		}
	}
	if k == classAdmit && c.kinds.of(string(s.Cause)) == classQuota {
		return classQuota
	}
	return k
}

// learn folds what else s says into its track; every step is independent of the order of arrival.
func (c *Correlator) learn(cl *clusterState, tr *track, s *incident.Signal, t millis) {
	if t < tr.classT || t == tr.classT && s.ID < tr.classI {
		tr.class, tr.classT, tr.classI = c.classify(s), t, s.ID
	}
	firing := s.Status == incident.Firing
	if firing && s.Severity.Rank() > tr.severity.Rank() {
		tr.severity = s.Severity
	}
	for name, value := range s.Factors {
		id := c.intern(cl, name, value)
		c.born[id] = min(c.born[id], t)
		if tr.observe(id, t, firing) {
			c.noteHabit(s, name, id)
		}
		if s.Kind == incident.Change && released(name) {
			c.noteRollout(id, t)
		}
	}
	tr.cut = nil
	if s.Cause != "" {
		tr.vote(s.Cause, s.Confidence)
	}
	for i := range s.Related {
		if e := s.Related[i].Key(); len(tr.related) < 16 && !slices.Contains(tr.related, e) {
			tr.related = append(tr.related, e)
		}
	}
	if firing && s.Message != "" && (tr.message == "" || t < tr.messageT || t == tr.messageT && s.ID < tr.messageI) {
		tr.message, tr.messageT, tr.messageI = incident.UntrustedText(incident.Clip(string(s.Message), 400)), t, s.ID
	}
	if firing && len(s.Evidence) > 0 && (tr.evidence == nil || t < tr.evidT || t == tr.evidT && s.ID < tr.evidI) {
		tr.evidence, tr.evidT, tr.evidI = slices.Clone(s.Evidence[:min(len(s.Evidence), 4)]), t, s.ID
	}
}

// observe notes a factor value and reports whether it is new on the track.
func (t *track) observe(id factorID, at millis, firing bool) bool {
	for i := range t.obs {
		o := &t.obs[i]
		if o.id == id {
			o.first, o.last, o.firing = min(o.first, at), max(o.last, at), o.firing || firing
			return false
		}
	}
	if len(t.obs) < 64 {
		t.obs = append(t.obs, observed{id: id, first: at, last: at, firing: firing})
		return true
	}
	return false
}

func (t *track) vote(name incident.CauseName, confidence float64) {
	conf := int32(confidence * 1000)
	for i := range t.votes {
		if t.votes[i].name == name {
			t.votes[i].conf, t.votes[i].n = max(t.votes[i].conf, conf), t.votes[i].n+1
			return
		}
	}
	if len(t.votes) < 8 {
		t.votes = append(t.votes, vote{name: name, conf: conf, n: 1})
	}
}

func (c *Correlator) intern(cl *clusterState, name incident.FactorName, value string) factorID {
	k := factorKey{name: name, value: value}
	if name == incident.FactorNode {
		k.scope = cl.name
	}
	id, ok := c.factorIDs[k]
	if !ok {
		id = factorID(len(c.factors))
		c.factors = append(c.factors, k)
		c.born = append(c.born, 1<<62)
		c.factorIDs[k] = id
	}
	return id
}

// room reports whether one more track fits; it counts what did not.
func (c *Correlator) room(cl *clusterState) bool {
	if cl.tracks < c.cfg.PerCluster && c.tracks < c.cfg.Tracks {
		return true
	}
	cl.dropped++
	c.stats.Dropped++
	return false
}

func (c *Correlator) applyInventory(v *incident.Inventory) {
	cl, t := c.cluster(v.Cluster), toMillis(v.Time)
	c.see(cl, v.Source, t)
	if c.begun == 0 || t < c.begun {
		c.begun = t
	}
	inv := &cl.inv
	const bucket = 4 * 3600 * 1000
	if b := t / bucket; inv.peak[0] == nil || b > inv.bucket {
		inv.peak[1], inv.peak[0] = inv.peak[0], make(map[factorID]int32)
		inv.bucket = b
	}
	newest := !inv.known || t > inv.at || t == inv.at && v.ID > inv.id
	counts := make(map[factorID]int32, len(inv.counts))
	old := inv.counts
	for name, values := range v.Factors {
		for value, n := range values {
			id := c.intern(cl, name, value)
			c.born[id] = min(c.born[id], t)
			counts[id] = int32(n)
			if int32(n) > inv.peak[0][id] {
				inv.peak[0][id] = int32(n)
			}
		}
	}
	if newest {
		inv.at, inv.id, inv.known, inv.workloads, inv.counts = t, v.ID, true, v.Workloads, counts
		inv.region = region(v.Factors[incident.FactorRegion])
	}
	for id := range counts {
		c.hold(cl, id)
	}
	for id := range old {
		c.hold(cl, id)
	}
	cl.dirty, c.dirty = true, true
}

// holding is the number of holders of one factor in one cluster.
type holding struct {
	cl *clusterState
	n  int32
}

// held is where a factor is held: by cluster in the order the clusters became known.
type held struct {
	total int
	by    []holding
}

// hold brings the fleet's count of a factor up to date for one cluster.
func (c *Correlator) hold(cl *clusterState, id factorID) {
	h := c.held[id]
	if h == nil {
		h = &held{}
		c.held[id] = h
	}
	n := int32(cl.inv.holders(id))
	i, found := slices.BinarySearchFunc(h.by, cl.idx, func(x holding, idx int) int { return x.cl.idx - idx })
	if !found {
		h.by = slices.Insert(h.by, i, holding{cl: cl})
	}
	h.total += int(n - h.by[i].n)
	h.by[i].n = n
}

// region returns the value most workloads have, the smaller name among equals.
func region(values map[string]int) string {
	best, most := "", 0
	for v, n := range values {
		if n > most || n == most && v < best {
			best, most = v, n
		}
	}
	return best
}

func (inv *inventory) holders(id factorID) int {
	return int(max(inv.counts[id], inv.peak[0][id], inv.peak[1][id]))
}

func (c *Correlator) applyTopology(v *incident.Topology) {
	cl := c.cluster(v.Cluster)
	c.see(cl, v.Source, toMillis(v.Time))
	if cl.topo.bySource == nil {
		cl.topo.bySource = make(map[string]*incident.Topology)
	}
	if old := cl.topo.bySource[v.Source]; old != nil && (v.Time.Before(old.Time) || v.Time.Equal(old.Time) && v.ID <= old.ID) {
		return
	}
	cl.topo.bySource[v.Source] = v
	cl.topo.stale, cl.learned, cl.dirty, c.dirty = true, true, true, true
}
