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
	points     int
}

// regroup makes the groups of one cluster anew from its tracks.
func (c *Correlator) regroup(cl *clusterState) {
	b := &builder{c: c, cl: cl, kinds: c.kinds, now: c.now(), quiet: c.cfg.Quiet.Milliseconds(), bySubject: make(map[subjectKey][]*track), byKey: make(map[subjectKey][]*episode)}
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

// eachName calls f with every word of text that could be the name of an object, and with the
// first label of a dotted one ("cart.shop.svc").
func eachName(text string, f func(string)) {
	for i := 0; i < len(text); {
		if !nameByte(text[i]) {
			i++
			continue
		}
		from := i
		for i < len(text) && nameByte(text[i]) {
			i++
		}
		if i-from >= 3 {
			f(text[from:i])
		}
	}
}

// passing reports whether e came and went by itself within minutes: what a cause that goes on does
// to others does not.
func (e *episode) passing() bool {
	return !e.solid && !e.open && e.end-e.start < 5*60*1000 || e.lone
}

// explains says how well trouble of p accounts for a, 0 for not at all. The caller checked times.
func (b *builder) explains(p, a *episode) int {
	switch p.key.kind {
	case "Node":
		return b.byNode(p, a)
	case "Namespace":
		if a.key.namespace != p.key.name {
			return 0
		}
		if a.has(classQuota) && p.has(classQuota) {
			return 9
		}
		if a.class == p.class {
			return 6
		}
		return 0
	case "Cluster":
		return byCluster(p, a)
	case "":
	default:
		if s := b.byThing(p, a); s > 0 {
			return s
		}
	}
	if s := b.byRole(p, a); s > 0 {
		return s
	}
	return b.byCall(p, a)
}

// byNode: trouble of pods on a node that is in trouble.
func (b *builder) byNode(p, a *episode) int {
	if a.key.kind == "Node" || a.key.kind == "Cluster" {
		return 0
	}
	on, placed := false, len(a.nodes) > 0
	for i := range a.parts {
		if b.nodeOf(a.parts[i].tr) == p.key.name {
			on = true
			break
		}
	}
	_, byTopo := b.onNode[p.key.name][a.key]
	switch a.class {
	case classLost:
		if on {
			return 10
		}
		if byTopo || !placed {
			return 7
		}
		return 0
	case classGeneric, classServe, classProbe, classNet, classUsage, classVolume:
		switch {
		case on:
			return 8
		case byTopo && a.has(classLost):
			return 8
		case byTopo && !placed && a.class != classUsage:
			return 6
		}
	case classUpstream:
		if on {
			return 3
		}
	case classSched:
		if on || byTopo {
			return 7
		}
		if a.start >= p.start {
			return 3
		}
	case classOOM:
		if on && p.causes("NodeMemoryPressure", "MemoryPressure") {
			return 5
		}
	}
	if on && a.has(classLost) {
		return 7
	}
	return 0
}

// causes reports whether a signal of e names one of the causes or reasons.
func (e *episode) causes(names ...string) bool {
	for i := range e.parts {
		for _, n := range names {
			if strings.Contains(e.parts[i].tr.reason, n) {
				return true
			}
			for _, v := range e.parts[i].tr.votes {
				if string(v.name) == n {
					return true
				}
			}
		}
	}
	return false
}

// byCluster: the control plane fails, and what needs it.
func byCluster(p, a *episode) int {
	switch {
	case a.class == p.class:
		return 9
	case p.class != classControl:
		return 0
	case a.class == classGeneric || a.class == classServe || a.class == classSync || a.class == classProbe || a.class == classUpstream || a.class == classUsage:
		return 2
	}
	return 0
}

// byThing: a claim, secret, certificate, route or application and those that use it.
func (b *builder) byThing(p, a *episode) int {
	if p.key.kind == "Application" || p.key.kind == "Kustomization" || p.key.kind == "HelmRelease" {
		if a.class.consequence() && b.deploys(p, a) {
			return 6
		}
		return 0
	}
	for i := range a.parts {
		for _, r := range a.parts[i].tr.related {
			if b.res.key(r) == p.key {
				return 9
			}
		}
		for _, m := range b.cl.topo.mounts[a.parts[i].tr.obj.entity] {
			if b.res.key(m) == p.key {
				return 8
			}
		}
	}
	for _, m := range b.cl.topo.mounts[b.entityOf(a)] {
		if b.res.key(m) == p.key {
			return 8
		}
	}
	return 0
}

// deploys reports whether a GitOps object's episode is of what deploys the workload of a.
func (b *builder) deploys(app, a *episode) bool {
	for _, tr := range b.bySubject[a.key] {
		for _, o := range tr.obs {
			if f := &b.c.factors[o.id]; f.name == incident.FactorApplication && (f.value == app.key.name || strings.HasSuffix(f.value, "/"+app.key.name)) {
				return true
			}
		}
	}
	for i := range app.parts {
		for _, r := range app.parts[i].tr.related {
			if b.res.key(r) == a.key {
				return true
			}
		}
	}
	return false
}

// byRole: a service that the whole cluster stands on, and the failures it gives others.
func (b *builder) byRole(p, a *episode) int {
	want, ok := role(p.key)
	if !ok || !p.solid || p.class.blamesOther() || a.class == classNode {
		return 0
	}
	if want != classDNS && (p.class == want || p.class == classLost) {
		return 0 // it suffers what they suffer
	}
	if a.class == want || a.has(want) && a.class.consequence() {
		return 9
	}
	if want == classDNS && a.class == classUpstream && p.solid {
		return 2
	}
	return 0
}

// role returns the class of failure that the failing of a cluster service gives to others. The
// names are those the projects themselves install under.
func role(k subjectKey) (class, bool) {
	n := k.name
	switch {
	case strings.HasSuffix(k.kind, "WebhookConfiguration"):
		return classAdmit, true
	case k.kind != "":
		return 0, false
	case strings.Contains(n, "coredns") || strings.Contains(n, "kube-dns") || strings.Contains(n, "nodelocaldns") || strings.Contains(n, "node-local-dns"):
		return classDNS, true
	case strings.Contains(n, "csi") || strings.Contains(n, "provisioner") || strings.Contains(n, "longhorn") || strings.Contains(n, "rook-ceph") || strings.Contains(n, "openebs"):
		return classVolume, true
	case strings.Contains(n, "calico") || strings.Contains(n, "cilium") || strings.Contains(n, "flannel") || strings.Contains(n, "aws-node") || strings.Contains(n, "kube-router") || strings.Contains(n, "weave") || strings.Contains(n, "antrea") || strings.Contains(n, "multus"):
		return classNet, true
	case strings.Contains(n, "kyverno") || strings.Contains(n, "gatekeeper") || strings.Contains(n, "opa") && strings.Contains(n, "admission") || strings.Contains(n, "webhook") || strings.Contains(n, "policy-controller"):
		return classAdmit, true
	case strings.Contains(n, "cert-manager"):
		return classTLS, true
	case strings.HasPrefix(n, "kube-apiserver") || strings.HasPrefix(n, "etcd") || strings.HasPrefix(n, "kube-controller-manager"):
		return classControl, true
	case strings.HasPrefix(n, "kube-scheduler"):
		return classSched, true
	}
	return 0, false
}

// byCall: a caller and what it calls.
func (b *builder) byCall(p, a *episode) int {
	if p.key.kind != "" && p.key.kind != "Service" && p.key.kind != "Ingress" && p.key.kind != "HTTPRoute" && p.key.kind != "Gateway" {
		return 0
	}
	if a.key.kind == "Node" || a.key.kind == "Namespace" || a.key.kind == "Cluster" {
		return 0
	}
	if a.key.kind == "Application" || a.key.kind == "Kustomization" || a.key.kind == "HelmRelease" {
		if b.deploys(a, p) && !p.class.generic() {
			return 8
		}
		return 0
	}
	up := a.has(classUpstream)
	if !up && !a.class.consequence() {
		return 0
	}
	pick := func(strong, soft int) int {
		if up && (a.class == classUpstream || a.class.consequence()) {
			return strong
		}
		if up {
			return soft - 2
		}
		return soft
	}
	for i := range a.parts {
		for _, r := range a.parts[i].tr.related {
			if r.Kind != "Node" && r.Kind != "Namespace" && b.res.key(r) == p.key {
				return pick(10, 7)
			}
		}
	}
	if slices.Contains(b.calls[a.key], p.key) {
		return pick(9, 5)
	}
	if b.dependsOn(a, p.key) {
		return pick(9, 5)
	}
	if up && b.mentions(a, p.key.name) {
		return pick(8, 4)
	}
	if up && a.class == classUpstream && !p.class.blamesOther() {
		for _, mid := range b.calls[a.key] {
			if slices.Contains(b.calls[mid], p.key) {
				return 3
			}
		}
	}
	return 0
}

// dependsOn reports whether the dependency factor of a names the subject.
func (b *builder) dependsOn(a *episode, k subjectKey) bool {
	for _, tr := range b.bySubject[a.key] {
		for _, o := range tr.obs {
			f := &b.c.factors[o.id]
			if f.name != incident.FactorDependency {
				continue
			}
			if ns, name, ok := strings.Cut(f.value, "/"); ok && ns == k.namespace && name == k.name || !ok && f.value == k.name {
				return true
			}
		}
	}
	return false
}

// mentions reports whether an upstream message of a names the subject as a word of its own.
func (b *builder) mentions(a *episode, name string) bool {
	if len(name) < 3 {
		return false
	}
	for i := range a.parts {
		if t := a.parts[i].tr; t.class == classUpstream && word(string(t.message), name) {
			return true
		}
	}
	return false
}

// word reports whether name stands in text, not inside a longer name.
func word(text, name string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(name)
		if (i == 0 || !nameByte(text[i-1])) && (end == len(text) || !nameByte(text[end])) {
			return true
		}
		from = i + 1
	}
}

func nameByte(c byte) bool {
	return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
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
	}
	for _, g := range out { // little by little from several things that depend on each other
		g.solid = g.solid || len(g.members) >= 2 && g.points >= 7
	}
	return out
}
