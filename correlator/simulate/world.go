package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// service is something the fleet runs, in many clusters under one name.
type service struct {
	ns, name, kind string
	repo, registry string
	team           string
	calls          []*service
	host, dns      string
	issuer         string
	class          string // of storage; empty: stateless
	dependency     string // outside the cluster
	replicas       int
	tags           []string // versions in use
	system         bool
}

type node struct{ name, zone, kubelet, kernel string }

type pod struct {
	name string
	node *node
}

// load is one service in one cluster.
type load struct {
	c                     *cluster
	s                     *service
	tag, revision, config string
	policy                string
	pods                  []*pod
}

func (l *load) image() string { return l.s.repo + ":" + l.tag }

func (l *load) entity() incident.Entity {
	return incident.Entity{Kind: l.s.kind, Namespace: l.s.ns, Name: l.s.name}
}

// cluster is one API server and how its sources talk.
type cluster struct {
	name             incident.ClusterName
	region, provider string
	zones            []string
	nodes            []*node
	loads            []*load
	by               map[*service]*load
	skew             int64   // ms its clock is ahead
	topology         int     // 0 none, 1 without calls, 2 all
	detail           float64 // share of factors its signals carry
	vocabulary       int
	lag              [3]int64 // cut off from, to (ms) and delivered at; 0: never
	storage          string
	alertsOnly       bool // no agent of ours: alerts and changes are all there is
}

// world is the fleet.
type world struct {
	rnd      *rand.Rand
	services []*service
	clusters []*cluster
}

func words() ([]string, []string) {
	return []string{"amber", "brisk", "cobalt", "dusty", "eager", "fable", "gusty", "hazel", "ivory", "jolly", "keen", "lunar", "mellow", "noble", "olive", "prime", "quiet", "rapid", "solar", "tidal", "umber", "vivid", "woven", "young", "zesty"},
		[]string{"anchor", "beacon", "cedar", "delta", "ember", "falcon", "garnet", "harbor", "inlet", "juniper", "kestrel", "ledger", "meadow", "nectar", "orchid", "pillar", "quarry", "raven", "spruce", "talon", "urchin", "valley", "willow", "yarrow"}
}

func (w *world) pick(n int) int         { return w.rnd.IntN(n) }
func (w *world) chance(p float64) bool  { return w.rnd.Float64() < p }
func oneOf[T any](w *world, from []T) T { return from[w.pick(len(from))] }
func (w *world) hex(n int) string       { return w.letters(n, "0123456789abcdef") }
func (w *world) letters(n int, of string) string {
	var b strings.Builder
	for range n {
		b.WriteByte(of[w.pick(len(of))])
	}
	return b.String()
}

const podLetters = "bcdfghjklmnpqrstvwxz2456789"

func (w *world) tag() string {
	if w.chance(0.5) {
		return fmt.Sprintf("%d.%d.%d", w.pick(9), w.pick(30), w.pick(20))
	}
	return "main-" + w.hex(8)
}

// newWorld builds a fleet of n clusters.
func newWorld(rnd *rand.Rand, n int) *world {
	w := &world{rnd: rnd}
	w.makeServices()
	regions := []struct{ region, provider string }{{"north-1", "hetz"}, {"lon", "metal"}, {"asia-e2", "goo"}, {"br-south", "amz"}, {"ca-w", "amz"}, {"oce", "goo"}}
	for i := range n {
		r := regions[w.pick(len(regions))]
		if i < len(regions) && n >= len(regions) {
			r = regions[i]
		}
		w.makeCluster(i, r.region, r.provider)
	}
	return w
}

func (w *world) makeServices() {
	adj, noun := words()
	registries := []string{"images.corp.internal", "quay.io", "cr.vendor.test:5000", "public.ecr.aws"}
	spaces := []string{"team-blue", "team-red", "backoffice", "web", "ml"}
	hosts := []string{"pay.partner.test", "geo.maps.test", "mail.relay.test"}
	issuers := []string{"corp-root-x2", "lets-encrypt-e7", "mesh-ca"}
	for i := range 30 {
		s := &service{ns: spaces[i%len(spaces)], name: adj[w.pick(len(adj))] + "-" + noun[i%len(noun)], kind: "Deployment", registry: registries[min(w.pick(7), 3)], replicas: 2 + w.pick(3)}
		if i >= 24 {
			s.name += "-db"
			s.kind, s.class, s.replicas = "StatefulSet", "yes", 1+w.pick(3)
		}
		if i == 5 || i == 11 {
			s.name = "redis" // a name used twice
			s.kind = "StatefulSet"
		}
		s.team = s.ns
		s.repo = s.registry + "/" + s.team + "/" + s.name
		if i < 24 {
			if w.chance(0.3) {
				s.host = oneOf(w, hosts)
			}
			if w.chance(0.4) {
				s.issuer = oneOf(w, issuers)
			}
			if w.chance(0.25) {
				s.dns = s.name + ".corp.test"
			}
			if w.chance(0.25) {
				s.dependency = oneOf(w, []string{"postgres://orders.db.corp", "kafka.corp:9093", "redis://cache.corp"})
			}
			if w.chance(0.15) {
				s.class = "yes"
			}
		}
		s.tags = []string{w.tag(), w.tag()}
		w.services = append(w.services, s)
	}
	for i, s := range w.services[:24] { // calls go from lower to higher numbers: no circles
		for range 1 + w.pick(3) {
			to := w.services[i+1+w.pick(len(w.services)-i-1)]
			if to != s && !slices.Contains(s.calls, to) {
				s.calls = append(s.calls, to)
			}
		}
	}
	for _, sys := range [][3]string{{"kube-system", "coredns", "Deployment"}, {"kube-system", "cilium", "DaemonSet"}, {"kube-system", "csi-driver", "DaemonSet"}, {"ingress", "edge-gateway", "Deployment"}} {
		s := &service{ns: sys[0], name: sys[1], kind: sys[2], registry: "registry.k8s.io", replicas: 2, system: true, tags: []string{w.tag()}}
		s.repo = s.registry + "/" + s.name
		if s.name == "edge-gateway" {
			s.calls = append(s.calls, w.services[0], w.services[1], w.services[2])
			s.issuer = "lets-encrypt-e7"
		}
		w.services = append(w.services, s)
	}
}

func (w *world) service(name string) *service {
	for _, s := range w.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (w *world) makeCluster(i int, region, provider string) {
	adj, _ := words()
	c := &cluster{region: region, provider: provider, by: make(map[*service]*load), topology: w.pick(3), detail: []float64{1, 0.85, 0.6}[w.pick(3)], vocabulary: w.pick(3)}
	c.name = incident.ClusterName(oneOf(w, []string{fmt.Sprintf("site-%04d", i), fmt.Sprintf("%s.%s.%d", adj[i%len(adj)], region, i), fmt.Sprintf("k-%s-%d", region, i)}))
	c.skew = int64(w.pick(180_001)) - 90_000
	c.alertsOnly = w.chance(0.06)
	c.storage = oneOf(w, []string{"ssd-" + provider, "block-" + provider})
	for z := range 2 + w.pick(2) {
		c.zones = append(c.zones, region+"/"+string(rune('a'+z)))
	}
	kubelet, kernel := oneOf(w, []string{"v1.34.2", "v1.34.3", "v1.33.8"}), oneOf(w, []string{"6.12.9", "6.6.44"})
	for n := range 5 + w.pick(4) {
		c.nodes = append(c.nodes, &node{name: oneOf(w, []string{fmt.Sprintf("n%02d", n), fmt.Sprintf("worker-%d", n), "vm-" + w.hex(6)}), zone: c.zones[n%len(c.zones)], kubelet: kubelet, kernel: kernel})
	}
	for _, s := range w.services {
		if !s.system && w.chance(0.25) {
			continue
		}
		l := &load{c: c, s: s, tag: s.tags[min(w.pick(4), len(s.tags)-1)%len(s.tags)], policy: s.ns + "-guard-3"}
		l.revision = "r" + fmt.Sprint(7000+len(s.team)*31+len(l.tag)) + s.team[:min(len(s.team), 2)]
		l.config = fmt.Sprintf("%x", len(s.name)*7919+len(l.tag)*104729+int(c.region[0])*17)
		w.place(l)
		c.loads = append(c.loads, l)
		c.by[s] = l
	}
	w.clusters = append(w.clusters, c)
}

// place gives l its pods, on different nodes where it can.
func (w *world) place(l *load) {
	l.pods = nil
	n := l.s.replicas
	if l.s.kind == "DaemonSet" {
		n = len(l.c.nodes)
	}
	hash, at := w.letters(9, podLetters), w.pick(len(l.c.nodes))
	for i := range n {
		p := &pod{node: l.c.nodes[(at+i)%len(l.c.nodes)]}
		switch l.s.kind {
		case "StatefulSet":
			p.name = fmt.Sprintf("%s-%d", l.s.name, i)
		case "DaemonSet":
			p.name = l.s.name + "-" + w.letters(5, podLetters)
		default:
			p.name = l.s.name + "-" + hash + "-" + w.letters(5, podLetters)
		}
		l.pods = append(l.pods, p)
	}
}

// factors returns all that is true of l; p may be nil.
func (l *load) factors(p *pod) incident.Factors {
	f := incident.Factors{incident.FactorImage: l.image(), incident.FactorRegistry: l.s.registry, incident.FactorRegion: l.c.region, incident.FactorProvider: l.c.provider, incident.FactorGitRevision: l.revision,
		incident.FactorApplication: "apps/" + l.s.name, incident.FactorConfigHash: l.config, incident.FactorPolicy: l.policy}
	set := func(n incident.FactorName, v string) {
		if v != "" {
			f[n] = v
		}
	}
	set(incident.FactorHost, l.s.host)
	set(incident.FactorDNSName, l.s.dns)
	set(incident.FactorIssuer, l.s.issuer)
	set(incident.FactorDependency, l.s.dependency)
	if l.s.class != "" {
		f[incident.FactorStorage] = l.c.storage
	}
	if p != nil && p.node != nil {
		f[incident.FactorNode], f[incident.FactorZone], f[incident.FactorKubelet], f[incident.FactorKernel] = p.node.name, p.node.zone, p.node.kubelet, p.node.kernel
	}
	return f
}

// inventory counts the workloads of c by factor value.
func (c *cluster) inventory() *incident.Inventory {
	v := &incident.Inventory{Cluster: c.name, Source: "/clusters/" + string(c.name) + "/agent", Workloads: len(c.loads), Factors: map[incident.FactorName]map[string]int{}}
	for _, l := range c.loads {
		seen := make(map[incident.FactorName]map[string]bool)
		for _, p := range append([]*pod{nil}, l.pods...) {
			for n, val := range l.factors(p) {
				if seen[n] == nil {
					seen[n] = make(map[string]bool)
				}
				if !seen[n][val] {
					seen[n][val] = true
					if v.Factors[n] == nil {
						v.Factors[n] = make(map[string]int)
					}
					v.Factors[n][val]++
				}
			}
		}
	}
	return v
}

// edges returns what the cluster's agent knows of who depends on whom.
func (c *cluster) edges() *incident.Topology {
	t := &incident.Topology{Cluster: c.name, Source: "/clusters/" + string(c.name) + "/agent"}
	add := func(from, to incident.Entity, k incident.EdgeKind) {
		t.Edges = append(t.Edges, incident.Edge{From: from, To: to, Kind: k})
	}
	for _, l := range c.loads {
		e := l.entity()
		svc := incident.Entity{Kind: "Service", Namespace: e.Namespace, Name: e.Name}
		add(svc, e, incident.RoutesTo)
		for _, p := range l.pods {
			pe := incident.Entity{Kind: "Pod", Namespace: e.Namespace, Name: p.name}
			add(e, pe, incident.Owns)
			add(pe, incident.Entity{Kind: "Node", Name: p.node.name}, incident.RunsOn)
			if l.s.class != "" {
				add(pe, incident.Entity{Kind: "PersistentVolumeClaim", Namespace: e.Namespace, Name: "data-" + p.name}, incident.Mounts)
			}
		}
		if c.topology == 2 {
			for _, to := range l.s.calls {
				if o := c.by[to]; o != nil {
					add(e, incident.Entity{Kind: "Service", Namespace: to.ns, Name: to.name}, incident.Calls)
				}
			}
		}
	}
	return t
}
