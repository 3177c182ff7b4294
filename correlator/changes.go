package correlator

import (
	"cmp"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// changeRef is one observed change and the subjects it is about.
type changeRef struct {
	cl      *clusterState
	tr      *track
	at      millis
	points  []point
	targets []subjectKey
	cause   bool // before the first symptom of what it touched
}

// changes lists the changes of one cluster with the subjects each touches, by time.
func (b *builder) changes() []changeRef {
	apps := make(map[string][]subjectKey) // application → what it deploys
	for key, tracks := range b.bySubject {
		for _, t := range tracks {
			for _, o := range t.obs {
				if f := &b.c.factors[o.id]; f.name == incident.FactorApplication && key.kind == "" && !slices.Contains(apps[f.value], key) {
					apps[f.value] = append(apps[f.value], key)
				}
			}
		}
	}
	var out []changeRef
	for _, o := range b.cl.objects {
		for _, t := range o.tracks {
			if t.kind != incident.Change {
				continue
			}
			targets := []subjectKey{b.res.subject(o)}
			for _, r := range t.related {
				if k := b.res.key(r); r.Kind != "Node" && r.Kind != "Namespace" && !slices.Contains(targets, k) {
					targets = append(targets, k)
				}
			}
			if o.entity.Kind == "Application" || o.entity.Kind == "Kustomization" || o.entity.Kind == "HelmRelease" {
				for _, k := range apps[o.entity.Namespace+"/"+o.entity.Name] {
					if !slices.Contains(targets, k) {
						targets = append(targets, k)
					}
				}
			}
			for i, p := range t.points {
				out = append(out, changeRef{cl: b.cl, tr: t, at: p.t, points: t.points[i : i+1], targets: targets})
			}
		}
	}
	slices.SortFunc(out, compareChanges)
	return out
}

func compareChanges(x, y changeRef) int {
	return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.cl.name, y.cl.name), compareEntities(x.tr.obj.entity, y.tr.obj.entity), cmp.Compare(x.tr.reason, y.tr.reason), cmp.Compare(x.points[0].id, y.points[0].id))
}

// How far before the first symptom a change is suspected: of the same thing, and of the same
// factor value (slow burns).
const (
	suspectNear = 45 * 60 * 1000
	suspectFar  = 3 * 3600 * 1000
)

// attach gives each bundle the changes that may have caused or repaired it. A change goes to the
// bundle whose trouble it is nearest to.
func (c *Correlator) attach(bundles []*bundle) {
	type choice struct {
		b     *bundle
		rank  int
		cause bool
	}
	best := make(map[*point]choice)
	offer := func(b *bundle, ch changeRef, rank int, cause bool) {
		k := &ch.points[0]
		if old, ok := best[k]; !ok || rank < old.rank || rank == old.rank && b.start < old.b.start {
			best[k] = choice{b, rank, cause}
		}
	}
	real := make([]*bundle, 0, len(bundles))
	for _, b := range bundles {
		if b.solid || len(b.groups) > 1 {
			real = append(real, b)
		}
	}
	skew := c.cfg.Skew.Milliseconds()
	for _, b := range real {
		for _, g := range b.groups {
			for _, e := range g.members {
				if e != g.root && e.class.consequence() {
					continue
				}
				c.offerTo(b, e, skew, offer)
			}
		}
		if b.shared && released(c.factors[b.factor].name) {
			c.offerShared(b, skew, offer)
		}
	}
	for _, b := range real {
		b.changes = b.changes[:0]
	}
	for _, cl := range c.byName {
		for _, ch := range cl.changes {
			if got, ok := best[&ch.points[0]]; ok {
				ch.cause = got.cause
				got.b.changes = append(got.b.changes, ch)
			}
		}
	}
	for _, b := range real {
		slices.SortFunc(b.changes, compareChanges)
	}
}

// offerTo offers the changes of one episode's subject: the nearest before it, those during it
// and the one that ended it.
func (c *Correlator) offerTo(b *bundle, e *episode, skew millis, offer func(*bundle, changeRef, int, bool)) {
	var before *changeRef
	for i := range e.cl.changes {
		ch := &e.cl.changes[i]
		if ch.at < e.start-suspectNear {
			continue
		}
		if ch.at > e.linkEnd+skew {
			break
		}
		if !slices.Contains(ch.targets, e.key) {
			continue
		}
		// The nearest before it; where there is none, the first that a clock ahead puts after it.
		if ch.at <= e.start || before == nil && ch.at <= e.start+skew {
			before = ch
			continue
		}
		offer(b, *ch, 1, false)
	}
	if before != nil {
		offer(b, *before, 0, true)
	}
}

// released reports whether values of the factor come with a rollout, so that a change that
// carries the value is part of it.
func released(n incident.FactorName) bool {
	switch n {
	case incident.FactorImage, incident.FactorGitRevision, incident.FactorConfigHash, incident.FactorChart, incident.FactorPolicy, incident.FactorKubelet, incident.FactorKernel:
		return true
	}
	return false
}

// offerShared offers the changes that carry the shared factor's value, in any cluster.
func (c *Correlator) offerShared(b *bundle, skew millis, offer func(*bundle, changeRef, int, bool)) {
	for _, cl := range c.byName {
		for _, ch := range cl.changes {
			if ch.at < b.start-suspectFar || ch.at > b.linkEnd+skew {
				continue
			}
			for _, o := range ch.tr.obs {
				if o.id == b.factor && o.first <= ch.at && ch.at <= o.last {
					offer(b, ch, 2, ch.at <= b.start+skew || true)
				}
			}
		}
	}
}
