package simulate

import "github.com/tocsin-io/tocsin/incident"

// one writes an incident of one workload that fails for a reason of its own.
func (g *generator) one(kind string, l *load, ms int64, how int) {
	type way struct {
		reasons []string
		cause   incident.CauseName
		message string
	}
	w := []way{{[]string{"OOMKilled", "CrashLoopBackOff"}, "OOMKilled", "out of memory"}, {[]string{"CreateContainerConfigError"}, "ConfigMapMissing", "configmap not found"}, {[]string{"CrashLoopBackOff", "ContainerExited"}, "ApplicationCrash", "panic"}, {[]string{"FailedScheduling"}, "NodeSelectorMismatch", "0/6 nodes match"}, {[]string{"Unhealthy"}, "LivenessProbeTooAggressive", "probe timed out"}}[how%5]
	st := g.incident(kind, w.cause)
	g.fail(st, l, trouble{from: ms, to: ms + 35*minute, reasons: w.reasons, message: w.message, cause: w.cause, alerts: workloadAlerts(g)})
	st.root(l.c, l.entity())
	g.finish(st)
}

// twoInOneCluster: two workloads of one cluster fail at the same time, each for its own reason.
func (g *generator) twoInOneCluster(ms int64) {
	c := oneOf(g.world, g.clusters)
	var ls []*load
	for _, l := range shuffled(g.world, c.loads, len(c.loads)) {
		if !l.s.system && len(ls) < 2 && (len(ls) == 0 || l.s.name != ls[0].s.name && !calls(l, ls[0]) && !calls(ls[0], l)) {
			ls = append(ls, l)
		}
	}
	how := g.pick(5)
	g.one("two-in-one-cluster", ls[0], ms, how)
	g.one("two-in-one-cluster", ls[1], ms+int64(g.pick(int(3*minute))), how+1+g.pick(3))
}

func calls(a, b *load) bool {
	for _, s := range a.s.calls {
		if s == b.s {
			return true
		}
	}
	return false
}

// sameName: one service fails in two clusters at once, for different causes.
func (g *generator) sameName(ms int64) {
	var ls []*load
	for len(ls) < 2 {
		ls = shuffled(g.world, g.plain(), 2)
	}
	how := g.pick(5)
	g.one("same-name", ls[0], ms, how)
	g.one("same-name", ls[1], ms+int64(g.pick(int(4*minute))), how+1+g.pick(2))
}

// nodeAndOther: a node fails, and elsewhere in the cluster a workload for its own reason.
func (g *generator) nodeAndOther(ms int64) {
	st := g.incident("node-and-other", "NodeNotReady", "KubeletDown")
	c := oneOf(g.world, g.clusters)
	n := oneOf(g.world, c.nodes)
	var free *load
	for _, l := range shuffled(g.world, c.loads, len(c.loads)) {
		away := !l.s.system
		for _, p := range l.pods {
			away = away && p.node != n
		}
		if away {
			free = l
			break
		}
	}
	hit := g.breakNode(st, c, n, ms, ms+30*minute, "NodeNotReady", "KubeletDown", 0.8)
	st.root(c, incident.Entity{Kind: "Node", Name: n.name})
	if hit >= 2 {
		st.shared(incident.FactorNode, n.name)
	} else {
		st.inc.SharedAlso = []Factor{{incident.FactorNode, n.name}}
	}
	g.finish(st)
	if free != nil {
		g.one("node-and-other", free, ms+2*minute, g.pick(3))
	}
}

// popular: workloads of different clusters fail at once, each alone, with much in common that
// most of the fleet has in common too.
func (g *generator) popular(ms int64) {
	used := map[*service]bool{}
	how := g.pick(5)
	for _, c := range shuffled(g.world, g.clusters, 3) {
		for _, l := range shuffled(g.world, c.loads, len(c.loads)) {
			if !l.s.system && !used[l.s] && l.s.class == "" {
				used[l.s] = true
				g.one("popular", l, ms+int64(g.pick(int(5*minute))), how)
				how++
				break
			}
		}
	}
}

// twoImages: two bad images at the same time, in overlapping sets of clusters.
func (g *generator) twoImages(ms int64) {
	g.imageWaves(ms)
	if len(g.truth.Incidents) == 0 || g.truth.Incidents[len(g.truth.Incidents)-1].Shared == nil {
		return
	}
	first := g.truth.Incidents[len(g.truth.Incidents)-1].Shared.Value
	for range 20 {
		ls := g.plain()
		if l := ls[0]; len(ls) < 2 || l.s.repo == first[:min(len(first), len(l.s.repo))] || related(g, first, l.s) {
			continue
		}
		st := g.incident("two-images", "SharedImageRegression", "ApplicationCrash", "BadRollout")
		tag, rev := g.tag(), "r"+g.hex(7)
		for _, l := range shuffled(g.world, ls, g.spread(2)) {
			from := ms + int64(g.pick(int(20*minute)))
			g.rollOut(st, l, tag, rev, from)
			g.fail(st, l, trouble{from: from + 2*minute, to: from + 30*minute, reasons: crashWords(g), cause: "ApplicationCrash", alerts: workloadAlerts(g)})
		}
		st.shared(incident.FactorImage, ls[0].s.repo+":"+tag, Factor{incident.FactorGitRevision, rev})
		g.finish(st)
		return
	}
}

// related reports whether the service of an image calls s or is called by it.
func related(g *generator, image string, s *service) bool {
	for _, o := range g.services {
		if len(image) > len(o.repo) && image[:len(o.repo)] == o.repo {
			for _, x := range o.calls {
				if x == s {
					return true
				}
			}
			for _, x := range s.calls {
				if x == o {
					return true
				}
			}
			for _, mid := range s.calls {
				for _, x := range mid.calls {
					if x == o {
						return true
					}
				}
			}
		}
	}
	return false
}
