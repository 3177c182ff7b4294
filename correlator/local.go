package correlator

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// builder groups the episodes of one cluster.
type builder struct {
	c          *Correlator
	cl         *clusterState
	kinds      *classifier
	now, quiet millis
	res        *resolver
	bySubject  map[subjectKey][]*track // changes too
	all        []*episode              // sorted by start
	byKey      map[subjectKey][]*episode
	calls      map[subjectKey][]subjectKey
	onNode     map[string]map[subjectKey]bool
	facts      facts
	targets    targets
}

// group is a root episode with those it explains, inside one cluster.
type group struct {
	root       *episode
	members    []*episode // root first, then by start
	start, end millis
	linkEnd    millis
	open       bool
	solid      bool
	named      bool // see episode
	points     int
}

// regroup makes the groups of one cluster anew from its tracks.
func (c *Correlator) regroup(cl *clusterState) {
	b := &builder{c: c, cl: cl, kinds: c.kinds, now: c.coarse(), quiet: c.cfg.Quiet.Milliseconds(), bySubject: make(map[subjectKey][]*track), byKey: make(map[subjectKey][]*episode)}
	if cl.res == nil || cl.learned {
		cl.res, cl.calls, cl.learned = newResolver(cl), nil, false
	}
	b.res = cl.res
	parts := make(map[subjectKey][]part)
	stale := c.cfg.Stale.Milliseconds()
	for _, o := range cl.objects {
		key := b.res.subject(o)
		for _, tr := range o.tracks {
			b.bySubject[key] = append(b.bySubject[key], tr)
			if tr.kind != incident.Change {
				parts[key] = append(parts[key], tr.parts(stale, b.now)...)
			}
		}
	}
	cl.groupedAt, cl.moving, cl.staleAt = b.now, 0, 1<<62
	for key, ps := range parts {
		for i := range ps {
			if ps[i].open {
				cl.moving, cl.staleAt = max(cl.moving, ps[i].end+hold), min(cl.staleAt, ps[i].end+stale+1)
			}
		}
		if len(ps) > 0 {
			es := b.episodes(key, ps)
			b.byKey[key] = es
			b.all = append(b.all, es...)
		}
	}
	slices.SortFunc(b.all, compareEpisodes)
	b.refusals()
	b.indexCalls()
	b.indexNodes()
	b.link()
	cl.local = b.trees()
	cl.changes = b.changes()
	indexed := false
	for _, g := range cl.local {
		if !g.worth() && !g.solid {
			continue
		}
		if !indexed {
			b.indexFacts()
			indexed = true
		}
		for _, e := range g.members {
			b.gather(e)
		}
	}
}

func compareEpisodes(x, y *episode) int {
	return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.cl.name, y.cl.name), compareKeys(x.key, y.key))
}

// refusals settles what "could not create" means where no message says it: what it means beside
// it in the namespace.
func (b *builder) refusals() {
	for _, e := range b.all {
		if e.class != classAdmit || e.narrow() != "" {
			continue
		}
		bare := true
		for i := range e.parts {
			t := e.parts[i].tr
			bare = bare && (t.class != classAdmit || strings.HasPrefix(t.reason, "FailedCreate") && t.message == "")
		}
		if !bare {
			continue
		}
		for _, o := range b.all {
			if o.class == classQuota && (o.key.namespace == e.key.namespace || o.key.kind == "Namespace" && o.key.name == e.key.namespace) && o.start <= e.linkEnd && e.start <= o.linkEnd {
				e.class = classQuota
				e.weights[classQuota], e.weights[classAdmit] = e.weights[classQuota]+e.weights[classAdmit], 0
				break
			}
		}
	}
}

func (b *builder) indexCalls() {
	if b.cl.calls != nil {
		b.calls = b.cl.calls
		return
	}
	b.calls = make(map[subjectKey][]subjectKey)
	b.cl.calls = b.calls
	for _, e := range b.cl.topo.callEdges {
		from, to := b.res.key(e[0]), b.res.key(e[1])
		if from != to && !slices.Contains(b.calls[from], to) {
			b.calls[from] = append(b.calls[from], to)
		}
	}
	for from, tos := range b.cl.topo.routes { // an Ingress or route calls what is behind it
		if from.Kind == "Service" {
			continue
		}
		k := b.res.key(from)
		for _, to := range tos {
			if t := b.res.key(to); t != k {
				b.calls[k] = append(b.calls[k], t)
			}
		}
	}
}

// indexNodes notes which subjects have pods on the nodes that are in trouble.
func (b *builder) indexNodes() {
	b.onNode = make(map[string]map[subjectKey]bool)
	for k := range b.byKey {
		if k.kind == "Node" {
			b.onNode[k.name] = make(map[subjectKey]bool)
		}
	}
	if len(b.onNode) == 0 {
		return
	}
	for pod, node := range b.cl.topo.runsOn {
		if on := b.onNode[node]; on != nil {
			on[b.res.key(pod)] = true
		}
	}
}

// tie is a possible explanation of one episode by another.
type tie struct {
	a, p  *episode
	score int
}

// link gives each episode the best explanation there is, without going in circles.
func (b *builder) link() {
	var ties []tie
	early := (b.c.cfg.Skew + b.c.cfg.Skew + b.c.cfg.Skew/2).Milliseconds()
	late := b.c.cfg.Quiet.Milliseconds()
	b.indexTargets()
	var keys []subjectKey
	for _, a := range b.all {
		keys = b.suspectsOf(a, keys[:0])
		for _, key := range keys {
			for _, p := range b.byKey[key] {
				switch {
				case !p.solid && !p.open && p.fires < 2, a == p, a.key == p.key:
				case a.start > p.linkEnd+late, a.start < p.start-early, a.linkEnd < p.start, a.passing() && a.start > p.end:
				default:
					if s := b.explains(p, a); s > 0 && (s >= 8 || !a.passing()) {
						ties = append(ties, tie{a, p, s})
					}
				}
			}
		}
	}
	slices.SortFunc(ties, func(x, y tie) int {
		return cmp.Or(-cmp.Compare(x.score, y.score), compareEpisodes(x.p, y.p), compareEpisodes(x.a, y.a))
	})
	for _, t := range ties {
		if t.a.parent != nil {
			continue
		}
		above := t.p
		for above != nil && above != t.a {
			above = above.parent
		}
		if above == nil {
			t.a.parent = t.p
		}
	}
}

// targets are the subjects in trouble that others are tied to by what they are, not by an edge.
type targets struct {
	wide   []subjectKey // nodes, the cluster, GitOps objects, webhooks and services with a role
	byName map[string][]subjectKey
}

func (b *builder) indexTargets() {
	b.targets = targets{byName: make(map[string][]subjectKey)}
	for k := range b.byKey {
		if _, ok := role(k); ok {
			b.targets.wide = append(b.targets.wide, k)
			continue
		}
		switch k.kind {
		case "Node", "Cluster", "Application", "Kustomization", "HelmRelease":
			b.targets.wide = append(b.targets.wide, k)
		case "":
			b.targets.byName[k.name] = append(b.targets.byName[k.name], k)
		}
	}
	slices.SortFunc(b.targets.wide, compareKeys)
}

// suspectsOf lists the subjects in trouble that may explain a, each once.
func (b *builder) suspectsOf(a *episode, out []subjectKey) []subjectKey {
	add := func(k subjectKey) {
		if b.byKey[k] != nil && k != a.key && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	for _, k := range b.targets.wide[:min(len(b.targets.wide), 256)] {
		add(k)
	}
	for _, n := range a.nodes {
		add(subjectKey{kind: "Node", name: n})
	}
	add(subjectKey{kind: "Namespace", name: a.key.namespace})
	for _, k := range b.calls[a.key] {
		add(k)
		for _, next := range b.calls[k] {
			add(next)
		}
	}
	for i := range a.parts {
		t := a.parts[i].tr
		for _, r := range t.related {
			add(b.res.key(r))
		}
		for _, m := range b.cl.topo.mounts[t.obj.entity] {
			add(b.res.key(m))
		}
		if t.class == classUpstream {
			eachName(string(t.message), func(name string) {
				for _, k := range b.targets.byName[name] {
					add(k)
				}
			})
		}
	}
	for _, m := range b.cl.topo.mounts[a.entity] {
		add(b.res.key(m))
	}
	for _, t := range b.bySubject[a.key] {
		for _, o := range t.obs {
			if f := &b.c.factors[o.id]; f.name == incident.FactorDependency {
				ns, name, ok := strings.Cut(f.value, "/")
				if !ok {
					name = ns
				}
				for _, k := range b.targets.byName[name] {
					add(k)
				}
			}
		}
	}
	if app := a.key; app.kind == "Application" || app.kind == "Kustomization" || app.kind == "HelmRelease" {
		for _, k := range b.targets.byName[app.name] {
			add(k)
		}
	}
	return out
}

// trees makes a group of every episode that nothing explains and those under it.
func (b *builder) trees() []*group {
	var out []*group
	for _, e := range b.all {
		if e.parent == nil {
			e.group = &group{root: e, start: e.start}
			out = append(out, e.group)
		}
	}
	for _, e := range b.all {
		top := e
		for top.parent != nil {
			top = top.parent
		}
		e.group = top.group
		g := top.group
		if e == top {
			g.members = slices.Insert(g.members, 0, e)
		} else {
			g.members = append(g.members, e)
		}
		g.start, g.end, g.linkEnd = min(g.start, e.start), max(g.end, e.end), max(g.linkEnd, e.linkEnd)
		g.open, g.solid, g.points = g.open || e.open, g.solid || e.solid, g.points+e.points
		g.named = g.named || e.named
	}
	for _, g := range out { // little by little from several things that depend on each other
		g.solid = g.solid || len(g.members) >= 2 && g.points >= 7
	}
	return out
}
