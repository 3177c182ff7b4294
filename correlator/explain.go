package correlator

import (
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

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
