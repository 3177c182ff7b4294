package correlator

import (
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// facts is what signals of one cluster tell of things that others only refer to, so that a factor
// a source left out can be filled in.
type facts struct {
	node   map[string][]factorID // zone, kubelet and kernel of a node
	policy map[string][]factorID // values seen in a namespace
	named  []factorID            // hosts, names, dependencies and registries held in this cluster
}

// outside reports whether the factor is something outside the workload that messages name.
func outside(n incident.FactorName) bool {
	switch n {
	case incident.FactorHost, incident.FactorDNSName, incident.FactorDependency, incident.FactorRegistry:
		return true
	}
	return false
}

// indexFacts collects the facts of the cluster. Nothing is collected where nothing is in trouble.
func (b *builder) indexFacts() {
	b.facts = facts{node: make(map[string][]factorID), policy: make(map[string][]factorID)}
	if len(b.all) == 0 {
		return
	}
	add := func(m map[string][]factorID, k string, id factorID) {
		if !slices.Contains(m[k], id) {
			m[k] = append(m[k], id)
		}
	}
	for key, tracks := range b.bySubject {
		for _, t := range tracks {
			node, at := "", millis(-1)
			for _, o := range t.obs {
				if f := &b.c.factors[o.id]; f.name == incident.FactorNode && (o.last > at || o.last == at && f.value < node) {
					node, at = f.value, o.last
				}
			}
			for _, o := range t.obs {
				switch f := &b.c.factors[o.id]; f.name {
				case incident.FactorZone, incident.FactorKubelet, incident.FactorKernel:
					if node != "" && o.firing {
						add(b.facts.node, node, o.id)
					}
				case incident.FactorPolicy:
					if key.namespace != "" {
						add(b.facts.policy, key.namespace, o.id)
					}
				}
			}
		}
	}
	for id := range b.cl.inv.counts {
		if f := &b.c.factors[id]; outside(f.name) && len(f.value) >= 4 {
			b.facts.named = append(b.facts.named, id)
		}
	}
}

// infer fills in factors that no signal of e carries: what its node is known to be, what its
// namespace is known to have, the registry in its image's name, what its messages name and what
// the same workload has in other clusters, where this cluster's inventory has it too.
func (b *builder) infer(e *episode, byName map[incident.FactorName][]tally) {
	give := func(id factorID) {
		count(byName, b.c.factors[id].name, tally{id, 0, e.start})
	}
	lacks := func(id factorID) bool { return len(byName[b.c.factors[id].name]) == 0 }
	var missing []factorID // all first: what is given must not hide what follows
	for _, n := range e.nodes {
		if id, known := b.c.factorIDs[factorKey{name: incident.FactorNode, value: n, scope: b.cl.name}]; known && lacks(id) {
			missing = append(missing, id)
		}
		for _, id := range b.facts.node[n] {
			if len(b.facts.node[n]) <= 6 && lacks(id) && !slices.Contains(missing, id) {
				missing = append(missing, id)
			}
		}
	}
	if ids := b.facts.policy[e.key.namespace]; len(ids) == 1 && len(byName[incident.FactorPolicy]) == 0 {
		give(ids[0])
	}
	if imgs := byName[incident.FactorImage]; len(imgs) == 1 && len(byName[incident.FactorRegistry]) == 0 {
		if host, _, ok := strings.Cut(b.c.factors[imgs[0].id].value, "/"); ok {
			if id, known := b.c.factorIDs[factorKey{name: incident.FactorRegistry, value: host}]; known {
				give(id)
			}
		}
	}
	for _, id := range b.facts.named {
		if f := &b.c.factors[id]; b.names(e, f.value) {
			give(id)
		}
	}
	if id, ok := b.onlyStorage(); ok && e.has(classVolume) && len(byName[incident.FactorStorage]) == 0 {
		missing = append(missing, id)
	}
	rolled := make(map[incident.FactorName][]factorID)
	for id := range b.c.habits[e.key] {
		switch name := b.c.factors[id].name; {
		case !lacks(id) || !b.cl.inv.known || b.cl.inv.holders(id) == 0:
		case released(name):
			rolled[name] = append(rolled[name], id)
		default:
			missing = append(missing, id)
		}
	}
	for name, ids := range rolled {
		if len(ids) > 1 || name != incident.FactorImage {
			ids = slices.DeleteFunc(ids, func(id factorID) bool { return !b.c.rolledIn(id, e.start-suspectFar, e.start) })
		}
		if len(ids) == 1 {
			missing = append(missing, ids[0])
		}
	}
	for _, id := range missing {
		give(id)
	}
}

// onlyStorage returns the storage class of the cluster, if it has one and no other.
func (b *builder) onlyStorage() (factorID, bool) {
	var only factorID
	n := 0
	for id := range b.cl.inv.counts {
		if b.c.factors[id].name == incident.FactorStorage {
			only, n = id, n+1
		}
	}
	return only, n == 1
}

// names reports whether a message of e names the value.
func (b *builder) names(e *episode, value string) bool {
	for i := range e.parts {
		switch t := e.parts[i].tr; t.class {
		case classUpstream, classDNS, classTLS, classPull, classServe, classNet:
			if strings.Contains(string(t.message), value) {
				return true
			}
		}
	}
	return false
}

// noteHabit lists, for workloads in trouble or changed, the factors that belong to a workload
// wherever it runs, from all clusters.
func (c *Correlator) noteHabit(s *incident.Signal, name incident.FactorName, id factorID) {
	switch name {
	case incident.FactorIssuer, incident.FactorImage, incident.FactorGitRevision, incident.FactorConfigHash, incident.FactorHost, incident.FactorDNSName, incident.FactorDependency:
	default:
		return
	}
	var key subjectKey
	switch {
	case s.Owner != nil && workloadKind(s.Owner.Kind):
		key = subjectKey{namespace: s.Owner.Namespace, name: s.Owner.Name}
	case workloadKind(s.Entity.Kind):
		key = subjectKey{namespace: s.Entity.Namespace, name: s.Entity.Name}
	default:
		return
	}
	h := c.habits[key]
	if h == nil {
		if len(c.habits) >= maxHabits {
			return
		}
		h = make(map[factorID]bool)
		c.habits[key] = h
	}
	if len(h) < 64 {
		h[id] = true
	}
}

// maxHabits bounds the workload names remembered.
const maxHabits = 50_000

// noteRollout notes that a value was rolled out at t.
func (c *Correlator) noteRollout(id factorID, t millis) {
	l := c.rolled[id]
	i, found := slices.BinarySearch(l, t)
	if found {
		return
	}
	if len(l) >= 256 { // enough to know; the oldest says least
		if i == 0 {
			return
		}
		l, i = slices.Delete(l, 0, 1), i-1
	}
	c.rolled[id] = slices.Insert(l, i, t)
}

// rolledIn reports whether the value was rolled out somewhere between from and to.
func (c *Correlator) rolledIn(id factorID, from, to millis) bool {
	l := c.rolled[id]
	i, _ := slices.BinarySearch(l, from)
	return i < len(l) && l[i] <= to
}
