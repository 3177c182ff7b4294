package simulate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
)

// sent is an event and when the hub receives it.
type sent struct {
	ev      incident.Event
	arrival int64
	seq     int
}

// story collects the signals of one incident or of one passing thing.
type story struct {
	inc      *TrueIncident // nil: noise
	ids      []incident.SignalID
	resolved []incident.SignalID
	ignored  bool
}

// generator writes what happens in a world.
type generator struct {
	*world
	start  int64 // ms
	out    []sent
	truth  Truth
	nextID int
	seq    int
	taken  map[*load]*story
}

func (g *generator) id() incident.SignalID {
	g.nextID++
	return incident.SignalID(fmt.Sprintf("%08x%04x", g.nextID*2654435761%(1<<32), g.nextID))
}

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func (g *generator) send(ev incident.Event, arrival int64) {
	g.seq++
	g.out = append(g.out, sent{ev, arrival, g.seq})
}

// emit sends one signal that is true at ms by a perfect clock.
func (g *generator) emit(st *story, c *cluster, s incident.Signal, ms int64) {
	s.ID, s.Cluster = g.id(), c.name
	seen := ms + c.skew
	if s.Kind == incident.Alert {
		seen = seen / second * second
	}
	s.Time = at(seen)
	arrival := ms + int64(g.pick(4000))
	switch s.Kind {
	case incident.Alert:
		arrival += 15*second + int64(g.pick(45_000))
	case incident.Change:
		if g.chance(0.15) {
			arrival += int64(g.pick(int(4 * minute)))
		}
	}
	if g.chance(0.03) {
		arrival += int64(g.pick(int(5 * minute)))
	}
	if c.lag[0] > 0 && ms >= c.lag[0] && ms < c.lag[1] {
		arrival = c.lag[2] + int64(g.pick(5000))
	}
	st.ids = append(st.ids, s.ID)
	if s.Status == incident.Resolved {
		st.resolved = append(st.resolved, s.ID)
	}
	g.send(incident.Event{Signal: &s}, arrival)
	if g.chance(0.03) {
		dup := s
		g.send(incident.Event{Signal: &dup}, arrival+int64(g.pick(int(2*minute))))
	}
}

// known returns the factors that c's source tells of l, perhaps not all.
func (g *generator) known(l *load, p *pod) incident.Factors {
	if g.chance(0.15) {
		return nil
	}
	f := l.factors(p)
	names := make([]incident.FactorName, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if !g.chance(l.c.detail) {
			delete(f, n)
		}
	}
	return f
}

// base makes a signal about a pod of l, or about l itself when p is nil.
func (g *generator) base(l *load, p *pod, kind incident.Kind, reason string) incident.Signal {
	e := l.entity()
	s := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/kube", Entity: e, Kind: kind, Status: incident.Firing, Severity: incident.Warning, Reason: reason, Factors: g.known(l, p)}
	if p != nil {
		s.Entity = incident.Entity{Kind: "Pod", Namespace: e.Namespace, Name: p.name}
		if g.chance(0.85) {
			s.Owner = &e
		}
		if p.node != nil && g.chance(0.2) {
			s.Related = append(s.Related, incident.Entity{Kind: "Node", Name: p.node.name})
		}
	}
	return s
}

// alert makes an alert in the labels of the cluster's monitoring; about the workload, one pod or
// the service.
func (g *generator) alert(l *load, p *pod, name string) incident.Signal {
	s := g.base(l, p, incident.Alert, name)
	s.Source = "/clusters/" + string(l.c.name) + "/collectors/alerts"
	s.Labels = map[string]string{"alertname": name, "namespace": l.s.ns, "cluster": string(l.c.name)}
	switch {
	case p != nil:
		s.Labels["pod"] = p.name
	case g.chance(0.4):
		s.Entity = incident.Entity{Kind: "Service", Namespace: l.s.ns, Name: l.s.name}
		s.Labels["service"] = l.s.name
		if g.chance(0.5) {
			e := l.entity()
			s.Owner = &e
		}
	default:
		s.Labels["workload"] = l.s.name
	}
	if g.chance(0.45) || l.c.alertsOnly {
		s.Factors, s.Owner = nil, nil
	}
	if l.c.alertsOnly && p == nil && g.chance(0.3) { // labels are all that names the workload
		s.Entity = incident.Entity{Kind: "Namespace", Name: l.s.ns}
	}
	return s
}

// trouble says how a workload fails.
type trouble struct {
	from, to   int64
	reasons    []string
	message    string
	cause      incident.CauseName
	alerts     []string
	severity   incident.Severity
	every      int64
	share      float64 // of pods; 0: all
	pods       []*pod  // instead of share
	objectKind string  // ReplicaSet instead of Pod
	related    []incident.Entity
}

// fail lets l fail, unless it fails already as part of something else: the truth stays clear.
func (g *generator) fail(st *story, l *load, t trouble) {
	if by := g.taken[l]; by != nil && by != st {
		return
	}
	g.taken[l] = st
	if st.inc != nil && !slices.Contains(st.inc.Clusters, l.c.name) {
		st.inc.Clusters = append(st.inc.Clusters, l.c.name)
	}
	pods := t.pods
	if pods == nil {
		pods = l.pods
		if t.share > 0 {
			pods = pods[:max(1, int(float64(len(pods))*t.share+0.5))]
		}
	}
	every := t.every
	if every == 0 {
		every = 3 * minute
	}
	if l.c.alertsOnly {
		t.alerts = append(t.alerts, "WorkloadUnavailable")
	}
	for _, p := range pods {
		if l.c.alertsOnly {
			break
		}
		begin := t.from + int64(g.pick(int(90*second)))
		for _, reason := range t.reasons[:1+g.pick(len(t.reasons))] {
			g.repeat(st, l, p, t, reason, begin, every)
			begin += int64(g.pick(int(2 * minute)))
		}
	}
	if t.cause != "" && !l.c.alertsOnly && g.chance(0.6) {
		f := g.base(l, nil, incident.Found, string(t.cause))
		f.Cause, f.Confidence, f.Severity = t.cause, 0.6+0.35*g.rnd.Float64(), t.severity
		if f.Severity == "" {
			f.Severity = incident.Warning
		}
		g.emit(st, l.c, f, t.from+30*second+int64(g.pick(int(minute))))
		if g.chance(0.7) {
			f.Status = incident.Resolved
			g.emit(st, l.c, f, t.to+int64(g.pick(int(2*minute))))
		}
	}
	for _, name := range t.alerts {
		if g.chance(0.75) || l.c.alertsOnly {
			g.alarm(st, l, pods, t, name)
		}
	}
}

func (g *generator) repeat(st *story, l *load, p *pod, t trouble, reason string, begin, every int64) {
	proto := g.base(l, p, incident.Symptom, reason)
	if t.objectKind != "" {
		proto.Entity.Kind, proto.Entity.Name = t.objectKind, l.s.name+"-"+fmt.Sprintf("%x", len(l.tag)*7717+len(l.s.name))+"9"
	}
	if g.chance(0.8) {
		proto.Message = incident.UntrustedText(t.message)
	}
	proto.Related = append(proto.Related, t.related...)
	if t.severity != "" {
		proto.Severity = t.severity
	}
	proto.Cause, proto.Confidence = g.opinion(t.cause)
	for ms := begin; ms < t.to; ms += every/2 + int64(g.pick(int(every)*2)) {
		g.emit(st, l.c, proto, ms)
		if g.chance(0.1) {
			every *= 2
		}
	}
	if g.chance(0.85) {
		proto.Status = incident.Resolved
		g.emit(st, l.c, proto, t.to+int64(g.pick(int(2*minute))))
	}
}

// opinion is what a source thinks the cause is: often right, sometimes not said, sometimes wrong.
func (g *generator) opinion(right incident.CauseName) (incident.CauseName, float64) {
	switch {
	case right == "" || g.chance(0.35):
		return "", 0
	case g.chance(0.1):
		return oneOf(g.world, []incident.CauseName{"ImagePullUnauthorized", "InvalidCommand", "OOMKilled", "LivenessProbeWrongPort", "ConfigMapMissing"}), 0.2 + 0.3*g.rnd.Float64()
	}
	return right, 0.5 + 0.45*g.rnd.Float64()
}

func (g *generator) alarm(st *story, l *load, pods []*pod, t trouble, name string) {
	var p *pod
	if len(pods) > 0 && (name[:3] == "Pod" || name[:4] == "Kube" && g.chance(0.4)) {
		p = oneOf(g.world, pods)
	}
	a := g.alert(l, p, name)
	if g.chance(0.3) {
		a.Severity = incident.Critical
	}
	begin := t.from + 2*minute + int64(g.pick(int(4*minute)))
	if begin > t.to {
		return
	}
	for ms := begin; ms < t.to+2*minute; ms += 5*minute + int64(g.pick(int(10*minute))) {
		g.emit(st, l.c, a, ms)
	}
	if g.chance(0.85) {
		a.Status = incident.Resolved
		g.emit(st, l.c, a, t.to+minute+int64(g.pick(int(4*minute))))
	}
}

// callers lets those that call l suffer, and some that call them.
func (g *generator) callers(st *story, l *load, from, to int64, depth int) {
	for _, o := range l.c.loads {
		if !slices.Contains(o.s.calls, l.s) || !g.chance(0.7) || o == l {
			continue
		}
		t := trouble{from: from + minute + int64(g.pick(int(2*minute))), to: to + int64(g.pick(int(minute))), reasons: []string{oneOf(g.world, []string{"UpstreamRequestFailed", "UpstreamSlow", "DependencyUnavailable", "OutboundCallFailed"})}, message: "calls to " + l.s.name + " fail: deadline exceeded", share: 0.5, every: 4 * minute}
		if g.chance(0.4) {
			t.alerts = []string{oneOf(g.world, []string{"ServiceHighErrorRate", "ErrorBudgetBurn", "LatencyP99High"})}
		}
		if o.c.topology < 2 || g.chance(0.3) { // who can not be known from edges is named
			t.related = []incident.Entity{{Kind: "Service", Namespace: l.s.ns, Name: l.s.name}}
		}
		g.fail(st, o, t)
		if depth > 0 && g.chance(0.4) {
			g.callers(st, o, t.from, t.to, depth-1)
		}
	}
}

// change tells of a change of l.
func (g *generator) change(st *story, l *load, reason, message string, ms int64) {
	s := g.base(l, nil, incident.Change, reason)
	s.Severity, s.Message = incident.Info, incident.UntrustedText(message)
	s.Source = "/clusters/" + string(l.c.name) + "/collectors/changes"
	if g.chance(0.4) {
		s.Related = []incident.Entity{s.Entity}
		s.Entity = incident.Entity{Kind: "Application", Namespace: "apps", Name: l.s.name}
	}
	g.emit(st, l.c, s, ms)
}

// publish sends the inventory of c as it is now.
func (g *generator) publish(c *cluster, ms int64) {
	v := c.inventory()
	v.ID, v.Time = g.id(), at(ms+c.skew)
	g.send(incident.Event{Inventory: v}, ms+int64(g.pick(2000)))
}

func (g *generator) begin() {
	for _, c := range g.clusters {
		g.publish(c, g.start-int64(g.pick(int(5*minute)))-minute)
		if c.topology > 0 {
			t := c.edges()
			t.ID, t.Time = g.id(), at(g.start-minute+c.skew)
			g.send(incident.Event{Topology: t}, g.start-int64(g.pick(int(4*minute))))
		}
	}
}

// finish closes a story into the truth.
func (g *generator) finish(st *story) {
	switch {
	case st.ignored:
		g.truth.Ignored = append(g.truth.Ignored, st.ids...)
	case st.inc != nil && len(st.ids) == 0: // all it would have hit was taken
	case st.inc != nil:
		st.inc.Signals = append(st.inc.Signals, st.ids...)
		slices.Sort(st.inc.Clusters)
		g.truth.Incidents = append(g.truth.Incidents, *st.inc)
	default:
		g.truth.Noise = append(g.truth.Noise, st.ids...)
		g.truth.Episodes = append(g.truth.Episodes, st.ids)
		g.truth.Resolved = append(g.truth.Resolved, st.resolved...)
	}
}

// events returns everything in the order of receipt.
func (g *generator) events() []incident.Event {
	slices.SortFunc(g.out, func(a, b sent) int { return cmp.Or(cmp.Compare(a.arrival, b.arrival), cmp.Compare(a.seq, b.seq)) })
	out := make([]incident.Event, len(g.out))
	for i := range g.out {
		out[i] = g.out[i].ev
	}
	return out
}

func newRand(seed uint64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(n)*0x9e3779b97f4a7c15))
}
