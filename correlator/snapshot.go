package correlator

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"github.com/tocsin-io/tocsin/incident"
)

// snapshotVersion is the format written by Snapshot. Fields are only added to a version; a change
// of meaning gets a new one.
const snapshotVersion = 1

// The stored forms are types of their own: gob skips fields it does not know and leaves out zero
// values, so that fields can be added.
type (
	storedState struct {
		Version   int
		Watermark int64
		Clock     int64
		Stats     Stats
		Factors   []storedFactor
		Clusters  []storedCluster
		Records   []storedRecord
		Habits    []storedHabit
		Rolled    map[uint32][]int64
		Begun     int64
	}
	storedHabit struct {
		Namespace, Name string
		Factors         []uint32
	}
	storedFactor struct {
		Name  incident.FactorName
		Value string
		Scope incident.ClusterName
		Born  int64
	}
	storedCluster struct {
		Name      incident.ClusterName
		Last      int64
		Oldest    int64
		Dropped   int
		Objects   []storedObject
		Topology  []incident.Topology
		TopoNames []storedEvent
		Inventory *storedInventory
		Sources   map[string]storedSource
	}
	storedEvent struct {
		ID     incident.SignalID
		Source string
		At     int64
	}
	storedObject struct {
		Entity incident.Entity
		Owner  incident.Entity
		OwnerT int64
		Labels map[string]string
		Tracks []storedTrack
	}
	storedTrack struct {
		Reason             string
		Kind               incident.Kind
		Class              uint8
		ClassT             int64
		ClassI             incident.SignalID
		Severity           incident.Severity
		Times              []int64
		Firing             []bool
		IDs                []incident.SignalID
		Dropped            int
		DroppedF, DroppedL int64
		Observed           []storedObserved
		Votes              []storedVote
		Related            []incident.Entity
		Message            incident.UntrustedText
		MessageT           int64
		MessageI           incident.SignalID
		Evidence           []incident.Evidence
		EvidenceT          int64
		EvidenceI          incident.SignalID
	}
	storedObserved struct {
		ID          uint32
		First, Last int64
		Firing      bool
	}
	storedVote struct {
		Name incident.CauseName
		Conf int32
		N    int32
	}
	storedInventory struct {
		At        int64
		ID        incident.SignalID
		Workloads int
		Counts    map[uint32]int32
		Peak0     map[uint32]int32
		Peak1     map[uint32]int32
		Bucket    int64
		Region    string
	}
	storedSource struct {
		Last, Every, SaidAt int64
		Silent              bool
		Detail              string
	}
	storedRecord struct {
		ID                   incident.ID
		State                incident.State
		Revision             uint64
		Into                 incident.ID
		Spans                []storedSpan
		Live                 bool
		Frozen               *incident.Incident
		Start, End, ClosedAt int64
		Steps                []incident.Step
		Notes                []string
		Sum                  uint64
		Changed              bool
	}
	storedSpan struct {
		Cluster               incident.ClusterName
		Kind, Namespace, Name string
		Start, End            int64
	}
)

// Snapshot returns the whole state, so that Restore and the events after it give what this
// Correlator would have given. Store it together with the stream position it stands at; reading
// a little before that position again is harmless.
func (c *Correlator) Snapshot() ([]byte, error) {
	c.settle()
	s := storedState{Version: snapshotVersion, Watermark: c.watermark, Clock: c.clock, Stats: c.stats, Begun: c.begun}
	for i, f := range c.factors {
		s.Factors = append(s.Factors, storedFactor{f.name, f.value, f.scope, c.born[i]})
	}
	for _, cl := range c.order {
		s.Clusters = append(s.Clusters, storeCluster(cl))
	}
	live := make(map[*record]bool, len(c.live))
	for _, r := range c.live {
		live[r] = true
		s.Records = append(s.Records, c.storeRecord(r, true))
	}
	for _, r := range c.incidents {
		if !live[r] {
			s.Records = append(s.Records, c.storeRecord(r, false))
		}
	}
	for k, ids := range c.habits {
		h := storedHabit{Namespace: k.namespace, Name: k.name}
		for id := range ids {
			h.Factors = append(h.Factors, uint32(id))
		}
		s.Habits = append(s.Habits, h)
	}
	s.Rolled = make(map[uint32][]int64, len(c.rolled))
	for id, at := range c.rolled {
		s.Rolled[uint32(id)] = at
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&s); err != nil {
		return nil, fmt.Errorf("correlator: snapshot: %w", err)
	}
	return buf.Bytes(), nil
}

func (c *Correlator) storeRecord(r *record, live bool) storedRecord {
	out := storedRecord{ID: r.id, State: r.state, Revision: r.revision, Into: r.into, Live: live, Frozen: r.frozen, Start: r.start, End: r.end, ClosedAt: r.closedAt, Steps: r.steps, Notes: r.notes, Sum: r.sum, Changed: c.changed[r.id]}
	for _, sp := range r.spans {
		out.Spans = append(out.Spans, storedSpan{sp.Cluster, sp.Key.kind, sp.Key.namespace, sp.Key.name, sp.Start, sp.End})
	}
	return out
}

func storeCluster(cl *clusterState) storedCluster {
	out := storedCluster{Name: cl.name, Last: cl.last, Oldest: cl.oldest, Dropped: cl.dropped, Sources: make(map[string]storedSource, len(cl.sources))}
	for _, o := range cl.objects {
		so := storedObject{Entity: o.entity, Owner: o.owner, OwnerT: o.ownerT, Labels: o.labels}
		for _, t := range o.tracks {
			so.Tracks = append(so.Tracks, storeTrack(t))
		}
		out.Objects = append(out.Objects, so)
	}
	for _, t := range cl.topo.bySource {
		out.Topology = append(out.Topology, *t)
		out.TopoNames = append(out.TopoNames, storedEvent{t.ID, t.Source, toMillis(t.Time)})
	}
	if inv := &cl.inv; inv.known {
		out.Inventory = &storedInventory{At: inv.at, ID: inv.id, Workloads: inv.workloads, Counts: counts32[factorID, uint32](inv.counts), Peak0: counts32[factorID, uint32](inv.peak[0]), Peak1: counts32[factorID, uint32](inv.peak[1]), Bucket: inv.bucket, Region: inv.region}
	}
	for n, s := range cl.sources {
		out.Sources[n] = storedSource{Last: s.last, Every: s.every, SaidAt: s.saidAt, Silent: s.silent, Detail: s.detail}
	}
	return out
}

func counts32[K, L ~uint32](m map[K]int32) map[L]int32 {
	if m == nil {
		return nil
	}
	out := make(map[L]int32, len(m))
	for k, v := range m {
		out[L(k)] = v
	}
	return out
}

func storeTrack(t *track) storedTrack {
	st := storedTrack{Reason: t.reason, Kind: t.kind, Class: uint8(t.class), ClassT: t.classT, ClassI: t.classI, Severity: t.severity, Dropped: t.dropped, DroppedF: t.droppedF, DroppedL: t.droppedL,
		Related: t.related, Message: t.message, MessageT: t.messageT, MessageI: t.messageI, Evidence: t.evidence, EvidenceT: t.evidT, EvidenceI: t.evidI}
	for _, p := range t.points {
		st.Times, st.Firing, st.IDs = append(st.Times, p.t), append(st.Firing, p.firing), append(st.IDs, p.id)
	}
	for _, o := range t.obs {
		st.Observed = append(st.Observed, storedObserved{uint32(o.id), o.first, o.last, o.firing})
	}
	for _, v := range t.votes {
		st.Votes = append(st.Votes, storedVote{v.name, v.conf, v.n})
	}
	return st
}

// Restore replaces the state by that of a snapshot; the configuration stays. It refuses a
// snapshot written by a newer version, and one that is damaged, with an error wrapping
// incident.ErrInvalid; the state is then unchanged. Read the stream from the beginning instead.
func (c *Correlator) Restore(b []byte) error {
	var s storedState
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return incident.Invalidf("correlator: snapshot of %d bytes: %v", len(b), err)
	}
	if s.Version != snapshotVersion {
		return incident.Invalidf("correlator: snapshot has format %d, this program knows up to %d: run the newer version, or start without the snapshot", s.Version, snapshotVersion)
	}
	n := New(c.cfg)
	n.watermark, n.clock, n.stats, n.begun = s.Watermark, s.Clock, s.Stats, s.Begun
	for _, f := range s.Factors {
		k := factorKey{f.Name, f.Value, f.Scope}
		n.factorIDs[k] = factorID(len(n.factors))
		n.factors = append(n.factors, k)
		n.born = append(n.born, f.Born)
	}
	for i := range s.Clusters {
		if err := n.restoreCluster(&s.Clusters[i]); err != nil {
			return err
		}
	}
	n.relearn(&s)
	for i := range s.Records {
		sr := &s.Records[i]
		r := &record{id: sr.ID, state: sr.State, revision: sr.Revision, into: sr.Into, frozen: sr.Frozen, start: sr.Start, end: sr.End, closedAt: sr.ClosedAt, steps: sr.Steps, notes: sr.Notes, sum: sr.Sum}
		for _, sp := range sr.Spans {
			r.spans = append(r.spans, span{sp.Cluster, subjectKey{sp.Kind, sp.Namespace, sp.Name}, sp.Start, sp.End})
		}
		n.incidents[r.id] = r
		if sr.Live {
			n.live = append(n.live, r)
		}
		if sr.Changed {
			n.changed[r.id] = true
		}
	}
	n.dirty = true
	*c = *n
	return nil
}

func (c *Correlator) restoreCluster(sc *storedCluster) error {
	cl := c.cluster(sc.Name)
	cl.last, cl.oldest, cl.dropped, cl.dirty, cl.learned = sc.Last, sc.Oldest, sc.Dropped, true, true
	for i := range sc.Objects {
		so := &sc.Objects[i]
		o := &object{entity: so.Entity, owner: so.Owner, ownerT: so.OwnerT, labels: so.Labels}
		for j := range so.Tracks {
			t, err := c.restoreTrack(o, &so.Tracks[j])
			if err != nil {
				return err
			}
			o.tracks = append(o.tracks, t)
			cl.tracks++
			c.tracks++
		}
		cl.objects[o.entity] = o
	}
	if len(sc.Topology) > 0 {
		cl.topo.bySource = make(map[string]*incident.Topology, len(sc.Topology))
		cl.topo.stale = true
	}
	for i := range min(len(sc.Topology), len(sc.TopoNames)) {
		t, at := &sc.Topology[i], &sc.TopoNames[i]
		t.ID, t.Source, t.Time = at.ID, at.Source, fromMillis(at.At)
		cl.topo.bySource[at.Source] = t
	}
	if v := sc.Inventory; v != nil {
		cl.inv = inventory{at: v.At, id: v.ID, known: true, workloads: v.Workloads, counts: counts32[uint32, factorID](v.Counts), peak: [2]map[factorID]int32{counts32[uint32, factorID](v.Peak0), counts32[uint32, factorID](v.Peak1)}, bucket: v.Bucket, region: v.Region}
		if cl.inv.peak[0] == nil {
			cl.inv.peak[0] = make(map[factorID]int32)
		}
	}
	for n, s := range sc.Sources {
		cl.sources[n] = &sourceState{last: s.Last, every: s.Every, saidAt: s.SaidAt, silent: s.Silent, detail: s.Detail, beats: true}
	}
	return nil
}

func (c *Correlator) restoreTrack(o *object, st *storedTrack) (*track, error) {
	if len(st.Times) == 0 || len(st.Times) != len(st.Firing) || len(st.Times) != len(st.IDs) || st.Class >= uint8(classes) {
		return nil, incident.Invalidf("correlator: snapshot is damaged at %s", o.entity)
	}
	t := &track{obj: o, reason: st.Reason, kind: st.Kind, class: class(st.Class), classT: st.ClassT, classI: st.ClassI, severity: st.Severity, dropped: st.Dropped, droppedF: st.DroppedF, droppedL: st.DroppedL,
		related: st.Related, message: st.Message, messageT: st.MessageT, messageI: st.MessageI, evidence: st.Evidence, evidT: st.EvidenceT, evidI: st.EvidenceI}
	for i := range st.Times {
		t.points = append(t.points, point{st.Times[i], st.Firing[i], st.IDs[i]})
	}
	for _, v := range st.Observed {
		if int(v.ID) >= len(c.factors) {
			return nil, incident.Invalidf("correlator: snapshot is damaged: factor %d of %d", v.ID, len(c.factors))
		}
		t.obs = append(t.obs, observed{factorID(v.ID), v.First, v.Last, v.Firing})
	}
	for _, v := range st.Votes {
		t.votes = append(t.votes, vote{v.Name, v.Conf, v.N})
	}
	return t, nil
}

// relearn makes anew what is derived from tracks and inventories.
func (c *Correlator) relearn(s *storedState) {
	for _, h := range s.Habits {
		ids := make(map[factorID]bool, len(h.Factors))
		for _, id := range h.Factors {
			if int(id) < len(c.factors) {
				ids[factorID(id)] = true
			}
		}
		c.habits[subjectKey{namespace: h.Namespace, name: h.Name}] = ids
	}
	for id, at := range s.Rolled {
		if int(id) < len(c.factors) {
			c.rolled[factorID(id)] = at
		}
	}
	for _, cl := range c.order {
		if !cl.inv.known {
			continue
		}
		for id := range cl.inv.counts {
			c.hold(cl, id)
		}
		for _, peak := range cl.inv.peak {
			for id := range peak {
				c.hold(cl, id)
			}
		}
	}
}
