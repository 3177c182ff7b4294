package correlator

import (
	"cmp"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// millis is a time in Unix milliseconds: what tracks are sorted by.
type millis = int64

func toMillis(t time.Time) millis   { return t.UnixMilli() }
func fromMillis(m millis) time.Time { return time.UnixMilli(m).UTC() }

// factorID is an interned factor name and value.
type factorID uint32

// factorKey is one factor. Scope is the cluster for names that mean something only inside one
// (node), else empty.
type factorKey struct {
	name  incident.FactorName
	value string
	scope incident.ClusterName
}

// point is one observation of a track.
type point struct {
	t      millis
	firing bool
	id     incident.SignalID
}

func comparePoints(a, b point) int {
	if a.t != b.t {
		return cmp.Compare(a.t, b.t)
	}
	if a.firing != b.firing { // a resolution at the same time ends what fired
		if a.firing {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.id, b.id)
}

// observed is one factor value and when it was seen on a track.
type observed struct {
	id          factorID
	first, last millis
	firing      bool // seen on a firing signal
}

// vote is one cause named by signals of a track.
type vote struct {
	name incident.CauseName
	conf int32 // the highest, in thousandths
	n    int32
}

// track is all that is known of one fingerprint: object, kind of signal and reason.
type track struct {
	obj      *object
	reason   string
	kind     incident.Kind
	class    class // by the earliest signal
	classT   millis
	classI   incident.SignalID
	severity incident.Severity // the highest of those firing
	points   []point           // sorted
	dropped  int               // points no longer kept
	droppedF millis            // time of the first of them
	droppedL millis            // time of the last of them
	obs      []observed
	votes    []vote
	related  []incident.Entity
	message  incident.UntrustedText // of the earliest firing point
	messageT millis
	messageI incident.SignalID
	evidence []incident.Evidence // of the earliest firing point that had some
	evidT    millis
	evidI    incident.SignalID
	cut      []part // the parts, if nothing came since and all were closed
}

// object is one entity of a cluster with its tracks.
type object struct {
	entity incident.Entity
	owner  incident.Entity // zero: not told by a signal
	ownerT millis
	tracks []*track
	labels map[string]string // of an alert whose entity is too wide
}

// clusterState is what is known of one cluster.
type clusterState struct {
	name    incident.ClusterName
	objects map[incident.Entity]*object
	tracks  int
	topo    topology
	inv     inventory
	sources map[string]*sourceState
	last    millis // newest event time
	dirty   bool
	local   []*group // result of the last local grouping
	changes []changeRef
	idx     int  // order of becoming known
	learned bool // objects, owners or topology changed since res was made
	res     *resolver
	calls   map[subjectKey][]subjectKey
	pruned  millis
	// what grouped is true of groupedAt; until moving it changes with time alone, and again at staleAt
	groupedAt, moving, staleAt millis
	oldest                     millis // lower bound of the newest points of all tracks; 0: nothing to forget
	dropped                    int    // tracks dropped for a limit
}

// inventory holds the counts of one cluster.
type inventory struct {
	at        millis
	id        incident.SignalID
	known     bool
	workloads int
	counts    map[factorID]int32 // newest
	peak      [2]map[factorID]int32
	bucket    int64
	region    string
}

// topology is the merged edges of a cluster, newest of each source.
type topology struct {
	bySource  map[string]*incident.Topology
	owner     map[incident.Entity]incident.Entity   // object → its owner, one step
	callEdges [][2]incident.Entity                  // caller, callee
	runsOn    map[incident.Entity]string            // pod → node
	mounts    map[incident.Entity][]incident.Entity // pod or workload → claims, configuration
	routes    map[incident.Entity][]incident.Entity // Service, Ingress → what it routes to
	kinds     map[subjectKey]incident.Entity        // the workload of a subject
	stale     bool
}

// subjectKey names what fails as one thing in a cluster. Kind is empty for workloads and what
// shares their name (Service, autoscaler): namespace and name are then enough.
type subjectKey struct{ kind, namespace, name string }

func compareKeys(a, b subjectKey) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

func compareEntities(a, b incident.Entity) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// addPoint inserts p unless it is there already, and reports whether it was new.
func (t *track) addPoint(p point, limit int) bool {
	n := len(t.points)
	if n == 0 || comparePoints(t.points[n-1], p) < 0 {
		t.points = append(t.points, p)
	} else {
		i, found := slices.BinarySearchFunc(t.points, p, comparePoints)
		if found || t.dropped > 0 && p.t <= t.droppedL {
			return false
		}
		t.points = slices.Insert(t.points, i, p)
	}
	if len(t.points) > limit {
		t.trim(limit)
	}
	return true
}

// trim drops the oldest quarter of the points and keeps their count and span.
func (t *track) trim(limit int) {
	cut := len(t.points) - limit*3/4
	if t.dropped == 0 {
		t.droppedF = t.points[0].t
	}
	t.dropped += cut
	t.droppedL = t.points[cut-1].t
	t.points = append(t.points[:0:0], t.points[cut:]...)
}
