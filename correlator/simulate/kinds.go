package simulate

import (
	"fmt"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// A kind writes one incident (or a few, for traps) that starts at ms.
type kind struct {
	name  string
	trap  bool
	write func(g *generator, ms int64)
}

// Kinds returns the names of all kinds of incident and trap, in a stable order.
func Kinds() []string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.name)
	}
	return out
}

func kinds() []kind {
	return []kind{
		{"image-waves", false, (*generator).imageWaves}, {"image-partial", false, (*generator).imagePartial}, {"slow-burn", false, (*generator).slowBurn}, {"shared-config", false, (*generator).sharedConfig},
		{"revision", false, (*generator).badRevision}, {"bad-tag", false, (*generator).badTag}, {"registry", false, (*generator).registryDown}, {"node", false, (*generator).nodeDown}, {"oom", false, (*generator).oneOOM},
		{"quota", false, (*generator).quota}, {"zone", false, (*generator).zoneDown}, {"cluster-dns", false, (*generator).clusterDNS}, {"database", false, (*generator).database}, {"external-host", false, (*generator).hostDown},
		{"issuer", false, (*generator).certificates}, {"policy", false, (*generator).policyRollout}, {"storage", false, (*generator).storageDown}, {"volume-full", false, (*generator).volumeFull}, {"api-server", false, (*generator).apiServer},
		{"kubelet", false, (*generator).kubeletUpgrade}, {"spot", false, (*generator).spotReclaim}, {"gateway", false, (*generator).gatewayMisroute}, {"fleet-database", false, (*generator).fleetDatabase}, {"dns-name", false, (*generator).dnsName},
		{"secret", false, (*generator).secretMissing}, {"cpu", false, (*generator).cpuSaturated},
		{"kubelet-pods", false, (*generator).kubeletPods}, {"zone-pods", false, (*generator).zonePods}, {"node-silent", false, (*generator).nodeSilent}, {"dns-silent", false, (*generator).dnsSilent}, {"sync-failed", false, (*generator).syncFailed},
		{"claims-pending", false, (*generator).claimsPending}, {"network-policy", false, (*generator).networkPolicy},
		{"two-in-one-cluster", true, (*generator).twoInOneCluster}, {"same-name", true, (*generator).sameName}, {"node-and-other", true, (*generator).nodeAndOther}, {"popular", true, (*generator).popular}, {"two-images", true, (*generator).twoImages}, {"noise", true, func(*generator, int64) {}},
	}
}

func (g *generator) incident(kind string, cause incident.CauseName, also ...incident.CauseName) *story {
	return &story{inc: &TrueIncident{ID: fmt.Sprintf("%s-%d", kind, len(g.truth.Incidents)+1), Kind: kind, Cause: cause, CauseAlso: append([]incident.CauseName{}, also...), SharedAlso: []Factor{}, RootAlso: []Root{}}}
}

func (st *story) shared(n incident.FactorName, v string, also ...Factor) {
	st.inc.Shared, st.inc.SharedAlso = &Factor{n, v}, append([]Factor{}, also...)
}

func (st *story) root(c *cluster, e incident.Entity) {
	st.inc.Root = &Root{c.name, e.Kind, e.Namespace, e.Name}
}

func crashWords(g *generator) []string {
	return oneOf(g.world, [][]string{{"CrashLoopBackOff", "ContainerExited"}, {"BackOff", "Error"}, {"ContainerExited", "Unhealthy"}, {"ProcessCrash", "RestartLoop"}})
}

func workloadAlerts(g *generator) []string {
	return oneOf(g.world, [][]string{{"KubePodCrashLooping", "KubeDeploymentReplicasMismatch"}, {"WorkloadDegraded", "PodRestartsHigh"}, {"KubeDeploymentReplicasMismatch", "ServiceHighErrorRate"}})
}

// plain returns loads of an application service that runs in many clusters.
func (g *generator) plain() []*load {
	for {
		s := g.services[g.pick(24)]
		ls := g.holders(func(l *load) bool { return l.s == s && g.taken[l] == nil })
		if len(ls) > 0 {
			return ls
		}
	}
}

func (g *generator) spread(least int) int {
	return max(least, min(len(g.clusters)/3, 3+g.pick(8)))
}

// rollOut gives loads a new tag and revision at ms and says so.
func (g *generator) rollOut(st *story, l *load, tag, revision string, ms int64) {
	l.tag, l.revision = tag, revision
	g.place(l)
	g.change(st, l, oneOf(g.world, []string{"Synced", "ImageChanged", "RolledOut"}), l.s.name+": image "+l.image(), ms)
	g.publish(l.c, ms+40*second)
}

func (g *generator) imageWaves(ms int64) {
	st := g.incident("image-waves", "SharedImageRegression", "BadRollout", "ApplicationCrash")
	tag, rev, words, alerts := g.tag(), "r"+g.hex(7), crashWords(g), workloadAlerts(g)
	loads := shuffled(g.world, g.plain(), g.spread(2))
	for i, l := range loads {
		from := ms + int64(i)*int64(minute*55)/int64(len(loads))
		old, oldRev := l.tag, l.revision
		g.rollOut(st, l, tag, rev, from)
		to := from + 25*minute + int64(g.pick(int(20*minute)))
		g.fail(st, l, trouble{from: from + minute + int64(g.pick(int(2*minute))), to: to, reasons: words, message: "panic: nil map", cause: oneOf(g.world, []incident.CauseName{"BadRollout", "ApplicationCrash"}), alerts: alerts})
		g.callers(st, l, from+3*minute, to, 1)
		if g.chance(0.6) {
			g.rollOut(st, l, old, oldRev, to-minute)
		}
	}
	st.shared(incident.FactorImage, loads[0].s.repo+":"+tag, Factor{incident.FactorGitRevision, rev})
	g.finish(st)
}

func (g *generator) imagePartial(ms int64) {
	st := g.incident("image-partial", "SharedImageRegression", "BadRollout", "ApplicationCrash")
	ls := shuffled(g.world, g.plain(), max(4, g.spread(4)))
	tag, rev, words := g.tag(), "r"+g.hex(7), crashWords(g)
	hit := 0
	for i, l := range ls {
		from := ms + int64(g.pick(int(10*minute)))
		g.rollOut(st, l, tag, rev, from)
		if float64(i) < 0.7*float64(len(ls)) || hit < 2 {
			hit++
			g.fail(st, l, trouble{from: from + minute + int64(g.pick(int(4*minute))), to: from + 40*minute, reasons: words, cause: "ApplicationCrash", alerts: workloadAlerts(g), share: 0.7})
		}
	}
	st.shared(incident.FactorImage, ls[0].s.repo+":"+tag, Factor{incident.FactorGitRevision, rev})
	g.finish(st)
}

func (g *generator) slowBurn(ms int64) {
	st := g.incident("slow-burn", "SharedImageRegression", "OOMKilled", "PodMemoryPressure")
	ls := shuffled(g.world, g.plain(), g.spread(3))
	tag, rev := g.tag(), "r"+g.hex(7)
	for _, l := range ls {
		g.rollOut(st, l, tag, rev, ms+int64(g.pick(int(5*minute))))
		from := ms + 20*minute + int64(g.pick(int(150*minute)))
		g.fail(st, l, trouble{from: from, to: from + 30*minute, reasons: []string{"OOMKilled"}, message: "memory cgroup out of memory", cause: "OOMKilled", alerts: []string{"PodMemoryNearLimit", "KubePodCrashLooping"}, every: 6 * minute})
	}
	st.shared(incident.FactorImage, ls[0].s.repo+":"+tag, Factor{incident.FactorGitRevision, rev})
	g.finish(st)
}

func (g *generator) sharedConfig(ms int64) {
	st := g.incident("shared-config", "SharedConfigRegression", "ConfigMapKeyMissing", "EnvironmentVariableMissing", "ApplicationCrash")
	ls := shuffled(g.world, g.plain(), g.spread(2))
	hash := g.hex(10)
	for _, l := range ls {
		from := ms + int64(g.pick(int(12*minute)))
		l.config = hash
		g.place(l)
		g.change(st, l, oneOf(g.world, []string{"ConfigChanged", "Synced"}), "configuration "+hash, from)
		g.publish(l.c, from+30*second)
		g.fail(st, l, trouble{from: from + 2*minute, to: from + 35*minute, reasons: oneOf(g.world, [][]string{{"CreateContainerConfigError"}, {"ConfigInvalid", "CrashLoopBackOff"}}), message: "missing key", cause: "ConfigMapKeyMissing", alerts: workloadAlerts(g)})
		g.callers(st, l, from+3*minute, from+34*minute, 0)
	}
	st.shared(incident.FactorConfigHash, hash)
	g.finish(st)
}

// badRevision: one revision of a repository deploys several services of a team, all broken.
func (g *generator) badRevision(ms int64) {
	st := g.incident("revision", "SharedConfigRegression", "BadRollout", "GitOpsSyncFailed", "EnvironmentVariableMissing", "ApplicationCrash", "SharedImageRegression")
	team := g.services[g.pick(5)].team
	rev := "r" + g.hex(7)
	words := crashWords(g)
	n := 0
	for _, c := range shuffled(g.world, g.clusters, g.spread(2)) {
		from := ms + int64(g.pick(int(25*minute)))
		for _, l := range c.loads {
			if l.s.team != team || l.s.system || l.s.kind != "Deployment" {
				continue
			}
			l.revision, l.config = rev, g.hex(8)
			g.place(l)
			g.change(st, l, "Synced", "synced to "+rev, from+int64(g.pick(60_000)))
			if n++; g.chance(0.8) {
				g.fail(st, l, trouble{from: from + 2*minute, to: from + 40*minute, reasons: words, cause: "EnvironmentVariableMissing", alerts: workloadAlerts(g)})
			}
		}
		g.publish(c, from+2*minute)
	}
	st.shared(incident.FactorGitRevision, rev)
	g.finish(st)
}

func (g *generator) badTag(ms int64) {
	st := g.incident("bad-tag", "ImageNotFound", "SharedImageRegression")
	ls := shuffled(g.world, g.plain(), g.spread(2))
	tag, rev := "9.9.9-typo", "r"+g.hex(7)
	for _, l := range ls {
		from := ms + int64(g.pick(int(8*minute)))
		g.rollOut(st, l, tag, rev, from)
		g.fail(st, l, trouble{from: from + minute, to: from + 30*minute, reasons: []string{"ErrImagePull", "ImagePullBackOff"}, message: "manifest unknown", cause: "ImageNotFound", alerts: []string{"KubePodNotReady", "KubeDeploymentReplicasMismatch"}, share: 0.5})
	}
	st.shared(incident.FactorImage, ls[0].s.repo+":"+tag, Factor{incident.FactorGitRevision, rev})
	g.finish(st)
}

func (g *generator) registryDown(ms int64) {
	st := g.incident("registry", "SharedRegistryOutage", "ImageRegistryUnavailable")
	reg := "public.ecr.aws"
	if g.chance(0.5) {
		reg = g.services[g.pick(24)].registry
	}
	ls := shuffled(g.world, g.holders(func(l *load) bool { return l.s.registry == reg && !l.s.system }), max(4, g.spread(4)))
	for _, l := range ls {
		g.fail(st, l, trouble{from: ms + int64(g.pick(int(20*minute))), to: ms + 45*minute, reasons: []string{"ErrImagePull", "ImagePullBackOff"}, message: "503 Service Unavailable", cause: "ImageRegistryUnavailable", alerts: []string{"KubePodNotReady", "KubeDeploymentReplicasMismatch"}, share: 0.4})
	}
	st.shared(incident.FactorRegistry, reg)
	g.finish(st)
}

// breakNode lets a node fail with what runs on it.
func (g *generator) breakNode(st *story, c *cluster, n *node, from, to int64, reason string, cause incident.CauseName, share float64) int {
	if !slices.Contains(st.inc.Clusters, c.name) {
		st.inc.Clusters = append(st.inc.Clusters, c.name)
	}
	s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/kube", Entity: incident.Entity{Kind: "Node", Name: n.name}, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Critical, Reason: reason,
		Factors: incident.Factors{incident.FactorNode: n.name, incident.FactorZone: n.zone, incident.FactorKubelet: n.kubelet, incident.FactorKernel: n.kernel, incident.FactorRegion: c.region, incident.FactorProvider: c.provider}}
	s.Cause, s.Confidence = g.opinion(cause)
	g.emit(st, c, s, from)
	if g.chance(0.5) {
		g.emit(st, c, s, from+5*minute)
	}
	if g.chance(0.9) {
		a := s
		a.Kind, a.Reason, a.Source = incident.Alert, oneOf(g.world, []string{"KubeNodeNotReady", "NodeDown", "KubeletDown"}), "/clusters/"+string(c.name)+"/collectors/alerts"
		a.Labels = map[string]string{"alertname": a.Reason, "node": n.name}
		g.emit(st, c, a, from+3*minute)
		a.Status = incident.Resolved
		g.emit(st, c, a, to+2*minute)
	}
	if g.chance(0.9) {
		s.Status = incident.Resolved
		g.emit(st, c, s, to)
	}
	hit := 0
	for _, l := range c.loads {
		var on []*pod
		for _, p := range l.pods {
			if p.node == n {
				on = append(on, p)
			}
		}
		if len(on) == 0 || !g.chance(share) {
			continue
		}
		hit++
		g.fail(st, l, trouble{from: from + 20*second, to: to - minute, pods: on, every: 40 * minute, reasons: []string{oneOf(g.world, []string{"NodeLost", "TaintManagerEviction", "PodEvicted"})}, message: "node " + n.name + " is unreachable", alerts: oneOf(g.world, [][]string{nil, {"KubePodNotReady"}, {"KubeDeploymentReplicasMismatch"}})})
		if g.chance(0.2) {
			g.fail(st, l, trouble{from: from + 5*minute, to: from + 15*minute, pods: []*pod{{name: l.s.name + "-" + g.letters(9, podLetters) + "-" + g.letters(5, podLetters)}}, every: 10 * minute, reasons: []string{"FailedScheduling"}, message: "0/7 nodes are available: 1 node(s) had untolerated taint", cause: "InsufficientCPU"})
		}
	}
	return hit
}

func (g *generator) nodeDown(ms int64) {
	st := g.incident("node", "NodeNotReady", "KubeletDown", "NetworkPluginDown", "ContainerRuntimeDown")
	c := oneOf(g.world, g.clusters)
	n := oneOf(g.world, c.nodes)
	hit := g.breakNode(st, c, n, ms, ms+30*minute, "NodeNotReady", oneOf(g.world, []incident.CauseName{"KubeletDown", "NodeNotReady", "ContainerRuntimeDown"}), 0.8)
	st.root(c, incident.Entity{Kind: "Node", Name: n.name})
	if hit >= 2 {
		st.shared(incident.FactorNode, n.name)
	} else {
		st.inc.SharedAlso = []Factor{{incident.FactorNode, n.name}}
	}
	g.finish(st)
}

func (g *generator) oneOOM(ms int64) {
	st := g.incident("oom", "OOMKilled", "PodMemoryPressure")
	l := oneOf(g.world, g.plain())
	g.fail(st, l, trouble{from: ms, to: ms + 35*minute, reasons: []string{"OOMKilled", "CrashLoopBackOff"}, message: "memory cgroup out of memory", cause: "OOMKilled", alerts: []string{"KubeContainerOOMKilled", "KubePodCrashLooping"}})
	g.callers(st, l, ms+2*minute, ms+30*minute, 0)
	st.root(l.c, l.entity())
	g.finish(st)
}

func (g *generator) quota(ms int64) {
	st := g.incident("quota", "QuotaExceededPods", "QuotaExceededCPU", "QuotaExceededMemory")
	l := oneOf(g.world, g.plain())
	ns := incident.Entity{Kind: "Namespace", Name: l.s.ns}
	n := 0
	for _, o := range l.c.loads {
		if o.s.ns == l.s.ns && (o == l || g.chance(0.5)) && n < 4 {
			n++
			t := trouble{from: ms + int64(g.pick(int(10*minute))), to: ms + 40*minute, reasons: []string{"FailedCreate"}, message: "exceeded quota: team, requested: pods=1", cause: "QuotaExceededPods", objectKind: "ReplicaSet", share: 0.3, alerts: []string{"KubeDeploymentReplicasMismatch"}}
			if g.chance(0.4) {
				t.related = []incident.Entity{ns}
			}
			g.fail(st, o, t)
		}
	}
	if g.chance(0.7) {
		a := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/alerts", Entity: ns, Kind: incident.Alert, Status: incident.Firing, Severity: incident.Warning, Reason: "KubeQuotaExceeded", Labels: map[string]string{"alertname": "KubeQuotaExceeded", "namespace": ns.Name}}
		g.emit(st, l.c, a, ms+3*minute)
		a.Status = incident.Resolved
		g.emit(st, l.c, a, ms+42*minute)
	}
	st.root(l.c, ns)
	st.inc.RootAlso = []Root{{l.c.name, "ResourceQuota", ns.Name, "team"}}
	if n == 1 {
		st.inc.RootAlso = append(st.inc.RootAlso, Root{l.c.name, l.s.kind, l.s.ns, l.s.name})
	}
	g.finish(st)
}

func (g *generator) zoneDown(ms int64) {
	st := g.incident("zone", "ZoneOutage", "NodeNotReady")
	zone, n := "", 0
	for n < 3 { // one node is a node's failure, not a zone's
		zone, n = oneOf(g.world, oneOf(g.world, g.clusters).zones), 0
		for _, c := range g.clusters {
			for _, o := range c.nodes {
				if o.zone == zone {
					n++
				}
			}
		}
	}
	for _, c := range g.clusters {
		for _, n := range c.nodes {
			if n.zone == zone && g.chance(0.95) {
				g.breakNode(st, c, n, ms+int64(g.pick(int(2*minute))), ms+35*minute+int64(g.pick(int(5*minute))), "NodeNotReady", "NodeNotReady", 0.7)
			}
		}
	}
	st.shared(incident.FactorZone, zone)
	g.finish(st)
}

func (g *generator) clusterDNS(ms int64) {
	st := g.incident("cluster-dns", "CoreDNSDown", "ServiceDNSFailure", "OOMKilled", "ApplicationCrash", "SharedDNSOutage")
	c := oneOf(g.world, g.clusters)
	dns := c.by[g.service("coredns")]
	to := ms + 30*minute
	g.fail(st, dns, trouble{from: ms, to: to, reasons: oneOf(g.world, [][]string{{"CrashLoopBackOff"}, {"Unhealthy", "OOMKilled"}}), cause: "CoreDNSDown", alerts: []string{"CoreDNSDown", "KubePodNotReady"}, severity: incident.Critical})
	for _, l := range c.loads {
		if l != dns && !l.s.system && g.chance(0.5) {
			g.fail(st, l, trouble{from: ms + minute + int64(g.pick(int(4*minute))), to: to, reasons: []string{oneOf(g.world, []string{"DNSLookupFailed", "UpstreamRequestFailed", "NameResolutionError"})}, message: "dial tcp: lookup " + g.services[g.pick(10)].name + ": no such host", cause: "ServiceDNSFailure", share: 0.5})
		}
	}
	st.root(c, dns.entity())
	g.finish(st)
}

func (g *generator) database(ms int64) {
	st := g.incident("database", "DatabaseConnectionsExhausted", "ApplicationCrash", "VolumeFull", "DatabaseReadOnly", "OOMKilled")
	var l *load
	for l == nil {
		s := g.services[24+g.pick(6)]
		if ls := g.holders(func(o *load) bool {
			return o.s == s && slices.ContainsFunc(o.c.loads, func(x *load) bool { return slices.Contains(x.s.calls, s) })
		}); len(ls) > 0 {
			l = oneOf(g.world, ls)
		}
	}
	g.fail(st, l, trouble{from: ms, to: ms + 30*minute, reasons: oneOf(g.world, [][]string{{"ConnectionsExhausted", "Unhealthy"}, {"CrashLoopBackOff"}, {"OOMKilled", "BackOff"}}), cause: "DatabaseConnectionsExhausted", alerts: []string{"DatabaseDown", "KubeStatefulSetReplicasMismatch"}})
	g.callers(st, l, ms+minute, ms+30*minute, 1)
	st.root(l.c, l.entity())
	g.finish(st)
}

// fleetFault lets holders of one factor outside the clusters fail.
func (g *generator) fleetFault(st *story, ls []*load, ms int64, reasons []string, message string, cause incident.CauseName, effect float64) {
	n := 0
	for _, l := range ls {
		if g.chance(effect) || n < 2 {
			n++
			g.fail(st, l, trouble{from: ms + int64(g.pick(int(8*minute))), to: ms + 40*minute + int64(g.pick(int(5*minute))), reasons: reasons, message: message, cause: cause, alerts: []string{"ServiceHighErrorRate", "ErrorBudgetBurn"}, share: 0.6})
			if g.chance(0.4) {
				g.callers(st, l, ms+9*minute, ms+40*minute, 0)
			}
		}
	}
}

func (g *generator) hostDown(ms int64) {
	st := g.incident("external-host", "SharedDependencyOutage")
	host := oneOf(g.world, []string{"pay.partner.test", "geo.maps.test", "mail.relay.test"})
	ls := g.holders(func(l *load) bool { return l.s.host == host })
	if len(ls) < 2 {
		return
	}
	g.fleetFault(st, ls, ms, []string{oneOf(g.world, []string{"UpstreamRequestFailed", "EgressTimeout", "ExternalCallFailed"})}, "POST https://"+host+": context deadline exceeded", "SharedDependencyOutage", 0.75)
	st.shared(incident.FactorHost, host)
	g.finish(st)
}

func (g *generator) certificates(ms int64) {
	st := g.incident("issuer", "SharedCertificateExpiry", "CertificateExpired")
	is := oneOf(g.world, []string{"corp-root-x2", "lets-encrypt-e7", "mesh-ca"})
	ls := g.holders(func(l *load) bool { return l.s.issuer == is })
	if len(ls) < 2 {
		return
	}
	g.fleetFault(st, ls, ms, []string{oneOf(g.world, []string{"TLSHandshakeFailed", "CertificateExpired", "UpstreamRequestFailed"})}, "x509: certificate has expired or is not yet valid", "CertificateExpired", 0.8)
	st.shared(incident.FactorIssuer, is)
	g.finish(st)
}

func (g *generator) fleetDatabase(ms int64) {
	st := g.incident("fleet-database", "SharedDependencyOutage", "DatabaseConnectionsExhausted")
	dep := oneOf(g.world, []string{"postgres://orders.db.corp", "kafka.corp:9093", "redis://cache.corp"})
	ls := g.holders(func(l *load) bool { return l.s.dependency == dep })
	if len(ls) < 2 {
		return
	}
	g.fleetFault(st, ls, ms, []string{oneOf(g.world, []string{"DatabaseUnreachable", "UpstreamRequestFailed", "ConnectionRefused"})}, "cannot connect: connection refused", "SharedDependencyOutage", 0.8)
	st.shared(incident.FactorDependency, dep)
	g.finish(st)
}

func (g *generator) dnsName(ms int64) {
	st := g.incident("dns-name", "SharedDNSOutage", "ServiceDNSFailure")
	ls := g.holders(func(l *load) bool { return l.s.dns != "" })
	if len(ls) == 0 {
		return
	}
	name := oneOf(g.world, ls).s.dns
	ls = g.holders(func(l *load) bool { return l.s.dns == name })
	if len(ls) < 2 {
		return
	}
	g.fleetFault(st, ls, ms, []string{"DNSLookupFailed"}, "lookup "+name+": SERVFAIL", "ServiceDNSFailure", 0.9)
	st.shared(incident.FactorDNSName, name, Factor{incident.FactorApplication, "apps/" + ls[0].s.name})
	g.finish(st)
}

func (g *generator) policyRollout(ms int64) {
	st := g.incident("policy", "SharedPolicyChange", "AdmissionPolicyDenied")
	ns := g.services[g.pick(5)].ns
	policy := ns + "-guard-4"
	for _, c := range shuffled(g.world, g.clusters, g.spread(2)) {
		from := ms + int64(g.pick(int(20*minute)))
		s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/changes", Entity: incident.Entity{Kind: "ClusterPolicy", Name: ns + "-guard"}, Kind: incident.Change, Status: incident.Firing, Severity: incident.Info, Reason: "PolicyUpdated", Factors: incident.Factors{incident.FactorPolicy: policy}}
		g.emit(st, c, s, from)
		n := 0
		for _, l := range c.loads {
			if l.s.ns == ns {
				l.policy = policy
				if n < 1 || g.chance(0.5) {
					n++
					g.fail(st, l, trouble{from: from + minute + int64(g.pick(int(10*minute))), to: from + 35*minute, reasons: []string{oneOf(g.world, []string{"FailedCreate", "PolicyViolation", "AdmissionDenied"})}, message: "admission webhook denied the request: privileged", cause: "AdmissionPolicyDenied", objectKind: "ReplicaSet", share: 0.3, alerts: []string{"KubeDeploymentReplicasMismatch"}})
				}
			}
		}
		g.publish(c, from+minute)
	}
	st.shared(incident.FactorPolicy, policy)
	g.finish(st)
}

func (g *generator) storageDown(ms int64) {
	st := g.incident("storage", "SharedStorageOutage", "VolumeAttachFailed", "VolumeProvisioningFailed")
	class := oneOf(g.world, g.clusters).storage
	ls := g.holders(func(l *load) bool { return l.s.class != "" && l.c.storage == class })
	if len(ls) < 2 {
		return
	}
	ls = shuffled(g.world, ls, max(3, g.spread(3)))
	for _, l := range ls {
		pvc := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: l.s.ns, Name: "data-" + l.pods[0].name}
		g.fail(st, l, trouble{from: ms + int64(g.pick(int(10*minute))), to: ms + 45*minute, reasons: oneOf(g.world, [][]string{{"FailedMount"}, {"FailedAttachVolume", "FailedMount"}, {"IOErrors"}}), message: "timed out waiting for the volume", cause: "VolumeAttachFailed", alerts: []string{"KubePodNotReady", "VolumeLatencyHigh"}, share: 0.5, related: []incident.Entity{pvc}})
	}
	st.shared(incident.FactorStorage, class)
	g.finish(st)
}

func (g *generator) volumeFull(ms int64) {
	st := g.incident("volume-full", "VolumeFull")
	ls := g.holders(func(l *load) bool { return l.s.kind == "StatefulSet" && l.s.class != "" })
	l := oneOf(g.world, ls)
	pvc := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: l.s.ns, Name: "data-" + l.pods[0].name}
	a := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/alerts", Entity: pvc, Kind: incident.Alert, Status: incident.Firing, Severity: incident.Critical, Reason: "KubePersistentVolumeFillingUp", Labels: map[string]string{"alertname": "KubePersistentVolumeFillingUp", "persistentvolumeclaim": pvc.Name, "namespace": pvc.Namespace}}
	for i := range int64(4) {
		g.emit(st, l.c, a, ms+i*8*minute)
	}
	f := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/kube", Entity: pvc, Kind: incident.Found, Status: incident.Firing, Severity: incident.Warning, Reason: "VolumeFull", Cause: "VolumeFull", Confidence: 0.9}
	g.emit(st, l.c, f, ms+2*minute)
	g.fail(st, l, trouble{from: ms + 3*minute, to: ms + 30*minute, reasons: []string{"CrashLoopBackOff"}, message: "no space left on device", pods: l.pods[:1], related: []incident.Entity{pvc}, alerts: []string{"KubePodCrashLooping"}})
	g.callers(st, l, ms+5*minute, ms+30*minute, 0)
	st.root(l.c, pvc)
	st.inc.RootAlso = []Root{{l.c.name, l.s.kind, l.s.ns, l.s.name}}
	g.finish(st)
}

func (g *generator) apiServer(ms int64) {
	st := g.incident("api-server", "APIServerOverloaded", "EtcdSlow")
	c := oneOf(g.world, g.clusters)
	st.inc.Clusters = []incident.ClusterName{c.name}
	e := incident.Entity{Kind: "Cluster", Name: string(c.name)}
	for i, r := range []string{"KubeAPIErrorBudgetBurn", "APIServerLatencyHigh", "EtcdSlow"} {
		s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/metrics", Entity: e, Kind: incident.Alert, Status: incident.Firing, Severity: incident.Critical, Reason: r, Labels: map[string]string{"alertname": r}}
		s.Cause, s.Confidence = g.opinion("APIServerOverloaded")
		for k := range int64(3) {
			g.emit(st, c, s, ms+int64(i)*minute+k*9*minute)
		}
		s.Status = incident.Resolved
		g.emit(st, c, s, ms+33*minute)
	}
	for _, name := range []string{"coredns", "cilium", "csi-driver"} {
		if l := c.by[g.service(name)]; l != nil && g.chance(0.7) {
			g.fail(st, l, trouble{from: ms + 2*minute, to: ms + 30*minute, reasons: []string{"Unhealthy"}, message: "context deadline exceeded talking to the API server", share: 0.5})
		}
	}
	st.root(c, e)
	g.finish(st)
}

func (g *generator) kubeletUpgrade(ms int64) {
	st := g.incident("kubelet", "NodeImageRegression", "NodeNotReady", "SandboxCreationFailed")
	for i, c := range shuffled(g.world, g.clusters, min(4, g.spread(2))) {
		from := ms + int64(i)*12*minute
		for j, n := range c.nodes {
			if j >= 4 {
				break
			}
			n.kubelet = "v1.35.0"
			s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/changes", Entity: incident.Entity{Kind: "Node", Name: n.name}, Kind: incident.Change, Status: incident.Firing, Severity: incident.Info, Reason: "KubeletUpgraded", Factors: incident.Factors{incident.FactorKubelet: "v1.35.0", incident.FactorNode: n.name, incident.FactorZone: n.zone}}
			g.emit(st, c, s, from+int64(j)*2*minute)
			if j < 2 || g.chance(0.7) {
				g.breakNode(st, c, n, from+int64(j)*2*minute+90*second, from+40*minute, oneOf(g.world, []string{"NodeNotReady", "KubeletUnhealthy"}), "NodeNotReady", 0.5)
			}
		}
		g.publish(c, from+10*minute)
	}
	st.shared(incident.FactorKubelet, "v1.35.0")
	g.finish(st)
}

func (g *generator) spotReclaim(ms int64) {
	st := g.incident("spot", "NodeNotReady", "EvictedByNodePressure", "InsufficientCPU", "NodeProvisioningFailed")
	c := oneOf(g.world, g.clusters)
	for i, n := range c.nodes[:3] {
		g.breakNode(st, c, n, ms+int64(i)*minute, ms+25*minute, "SpotInterruption", "NodeNotReady", 0.8)
		st.inc.SharedAlso = append(st.inc.SharedAlso, Factor{incident.FactorNode, n.name}, Factor{incident.FactorZone, n.zone})
		st.inc.RootAlso = append(st.inc.RootAlso, Root{c.name, "Node", "", n.name})
	}
	g.finish(st)
}

func (g *generator) gatewayMisroute(ms int64) {
	st := g.incident("gateway", "GatewayMisrouted")
	gw := g.service("edge-gateway")
	ls := g.holders(func(l *load) bool { return slices.Contains(gw.calls, l.s) })
	if len(ls) == 0 {
		return
	}
	l := oneOf(g.world, ls)
	svc := incident.Entity{Kind: "Service", Namespace: l.s.ns, Name: l.s.name}
	g.fail(st, l, trouble{from: ms, to: ms + 30*minute, reasons: []string{"Http404Rate"}, message: "requests reach the wrong path", cause: "GatewayMisrouted", alerts: []string{"ServiceHighErrorRate"}})
	g.fail(st, l.c.by[gw], trouble{from: ms + 30*second, to: ms + 30*minute, reasons: []string{"UpstreamRequestFailed"}, message: "404 from " + l.s.name, related: []incident.Entity{svc}, alerts: []string{"GatewayErrors"}})
	g.callers(st, l, ms+minute, ms+30*minute, 0)
	st.root(l.c, l.entity())
	g.finish(st)
}

func (g *generator) secretMissing(ms int64) {
	st := g.incident("secret", "SecretMissing", "SecretKeyMissing")
	l := oneOf(g.world, g.plain())
	g.fail(st, l, trouble{from: ms, to: ms + 45*minute, reasons: []string{"CreateContainerConfigError", "FailedMount"}, message: "secret \"" + l.s.name + "-tls\" not found", cause: "SecretMissing", alerts: []string{"KubeContainerWaiting", "KubeDeploymentReplicasMismatch"}})
	st.root(l.c, l.entity())
	g.finish(st)
}

func (g *generator) cpuSaturated(ms int64) {
	st := g.incident("cpu", "PodCPUSaturated", "PodCPUThrottled", "HPAAtMaximum")
	l := oneOf(g.world, g.plain())
	g.fail(st, l, trouble{from: ms, to: ms + 50*minute, reasons: []string{"CPUSaturated", "Unhealthy"}, cause: "PodCPUSaturated", alerts: []string{"CPUThrottlingHigh", "KubeHpaMaxedOut", "LatencyP99High"}})
	g.callers(st, l, ms+4*minute, ms+48*minute, 0)
	st.root(l.c, l.entity())
	g.finish(st)
}
