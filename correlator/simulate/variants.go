package simulate

import "github.com/tocsin-io/tocsin/incident"

// Variants of kinds in which the thing at fault says nothing itself.

// kubeletPods: after a kubelet upgrade pods fail on the upgraded nodes; the nodes say they are well.
func (g *generator) kubeletPods(ms int64) {
	st := g.incident("kubelet-pods", "NodeImageRegression", "SandboxCreationFailed", "VolumeMountPermissionDenied", "VolumeAttachFailed")
	reason := oneOf(g.world, []string{"FailedCreatePodSandBox", "FailedMount", "Unhealthy"})
	for i, c := range shuffled(g.world, g.clusters, min(4, g.spread(2))) {
		from := ms + int64(i)*10*minute
		for j, n := range c.nodes[:len(c.nodes)*2/3] {
			n.kubelet = "v1.35.1"
			s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/changes", Entity: incident.Entity{Kind: "Node", Name: n.name}, Kind: incident.Change, Status: incident.Firing, Severity: incident.Info, Reason: "KubeletUpgraded", Factors: incident.Factors{incident.FactorKubelet: "v1.35.1", incident.FactorNode: n.name, incident.FactorZone: n.zone}}
			g.emit(st, c, s, from+int64(j)*minute)
			for _, l := range c.loads {
				for _, p := range l.pods {
					if p.node == n && g.chance(0.5) {
						g.fail(st, l, trouble{from: from + int64(j)*minute + 2*minute, to: from + 45*minute, reasons: []string{reason}, message: "runtime error", cause: "SandboxCreationFailed", pods: []*pod{p}, every: 6 * minute})
					}
				}
			}
		}
		g.publish(c, from+9*minute)
	}
	st.shared(incident.FactorKubelet, "v1.35.1")
	g.finish(st)
}

// zonePods: the network of a zone is cut; nodes report nothing, pods there fail.
func (g *generator) zonePods(ms int64) {
	st := g.incident("zone-pods", "ZoneOutage", "NodeNetworkLoss", "PodNetworkLoss")
	zone := oneOf(g.world, oneOf(g.world, g.clusters).zones)
	for _, c := range g.clusters {
		for _, l := range c.loads {
			var in []*pod
			for _, p := range l.pods {
				if p.node.zone == zone {
					in = append(in, p)
				}
			}
			if len(in) > 0 && g.chance(0.75) {
				g.fail(st, l, trouble{from: ms + int64(g.pick(int(3*minute))), to: ms + 30*minute, pods: in, reasons: []string{oneOf(g.world, []string{"NodeLost", "PodNetworkLoss"})}, message: "no route to host", cause: "PodNetworkLoss", every: 8 * minute})
			}
		}
	}
	st.shared(incident.FactorZone, zone)
	g.finish(st)
}

// nodeSilent: a node dies, and only what ran on it tells.
func (g *generator) nodeSilent(ms int64) {
	st := g.incident("node-silent", "NodeNotReady", "KubeletDown")
	c := oneOf(g.world, g.clusters)
	n := oneOf(g.world, c.nodes)
	hit := 0
	for _, l := range c.loads {
		for _, p := range l.pods {
			if p.node == n && g.chance(0.9) {
				hit++
				g.fail(st, l, trouble{from: ms + int64(g.pick(int(minute))), to: ms + 25*minute, pods: []*pod{p}, reasons: []string{"NodeLost", "TaintManagerEviction"}, message: "node is unreachable", every: 10 * minute, alerts: []string{"KubePodNotReady"}})
			}
		}
	}
	st.root(c, incident.Entity{Kind: "Node", Name: n.name})
	if hit >= 2 {
		st.shared(incident.FactorNode, n.name)
	}
	g.finish(st)
}

// dnsSilent: names do not resolve in a cluster, its DNS reports nothing.
func (g *generator) dnsSilent(ms int64) {
	st := g.incident("dns-silent", "ServiceDNSFailure", "CoreDNSDown", "SharedDNSOutage")
	c := oneOf(g.world, g.clusters)
	for _, l := range c.loads {
		if !l.s.system && g.chance(0.6) {
			g.fail(st, l, trouble{from: ms + int64(g.pick(int(4*minute))), to: ms + 30*minute, reasons: []string{oneOf(g.world, []string{"DNSLookupFailed", "NameResolutionError"})}, message: "no such host", cause: "ServiceDNSFailure", share: 0.6})
		}
	}
	st.root(c, incident.Entity{Kind: "Deployment", Namespace: "kube-system", Name: "coredns"})
	st.inc.RootAlso = []Root{{c.name, "Cluster", "", string(c.name)}}
	g.finish(st)
}

// syncFailed: one revision can not be applied, in many clusters.
func (g *generator) syncFailed(ms int64) {
	st := g.incident("sync-failed", "GitOpsSyncFailed", "SharedConfigRegression")
	ls := shuffled(g.world, g.plain(), g.spread(2))
	rev := "r" + g.hex(7)
	for _, l := range ls {
		from := ms + int64(g.pick(int(10*minute)))
		l.revision = rev
		g.change(st, l, "SyncStarted", "revision "+rev, from)
		g.publish(l.c, from+30*second)
		st.inc.Clusters = append(st.inc.Clusters, l.c.name)
		s := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/kube", Entity: incident.Entity{Kind: "Application", Namespace: "apps", Name: l.s.name}, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: "SyncFailed",
			Factors: incident.Factors{incident.FactorGitRevision: rev, incident.FactorApplication: "apps/" + l.s.name}}
		s.Cause, s.Confidence = g.opinion("GitOpsSyncFailed")
		for i := range int64(6) {
			g.emit(st, l.c, s, from+minute+i*4*minute)
		}
		a := s
		a.Kind, a.Reason, a.Factors, a.Source = incident.Alert, "ArgoAppNotSynced", nil, "/clusters/"+string(l.c.name)+"/collectors/alerts"
		g.emit(st, l.c, a, from+7*minute)
		s.Status = incident.Resolved
		g.emit(st, l.c, s, from+28*minute)
	}
	st.shared(incident.FactorGitRevision, rev, Factor{incident.FactorApplication, "apps/" + ls[0].s.name})
	g.finish(st)
}

// claimsPending: claims of one class stay unbound in a few clusters.
func (g *generator) claimsPending(ms int64) {
	st := g.incident("claims-pending", "SharedStorageOutage", "VolumeProvisioningFailed")
	class := oneOf(g.world, g.clusters).storage
	ls := g.holders(func(l *load) bool {
		return l.s.class != "" && l.c.storage == class && g.taken[l] == nil && !l.c.alertsOnly
	})
	if len(ls) < 3 {
		return
	}
	for _, l := range shuffled(g.world, ls, max(3, g.spread(3))) {
		from := ms + int64(g.pick(int(9*minute)))
		pvc := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: l.s.ns, Name: "data-" + l.pods[0].name}
		s := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/kube", Entity: pvc, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: "ProvisioningFailed", Message: "rpc error: code = Unavailable", Factors: incident.Factors{incident.FactorStorage: class}}
		s.Cause, s.Confidence = g.opinion("VolumeProvisioningFailed")
		for i := range int64(7) {
			g.emit(st, l.c, s, from+i*4*minute)
		}
		g.fail(st, l, trouble{from: from + 30*second, to: from + 30*minute, pods: l.pods[:1], reasons: []string{"FailedScheduling"}, message: "pod has unbound immediate PersistentVolumeClaims", related: []incident.Entity{pvc}, alerts: []string{"KubePodNotReady"}})
		s.Status = incident.Resolved
		g.emit(st, l.c, s, from+30*minute)
	}
	st.shared(incident.FactorStorage, class)
	g.finish(st)
}

// networkPolicy: a policy that is rolled out cuts workloads off.
func (g *generator) networkPolicy(ms int64) {
	st := g.incident("network-policy", "SharedPolicyChange", "NetworkPolicyBlocks")
	ns := g.services[g.pick(5)].ns
	policy := ns + "-guard-5"
	for _, c := range shuffled(g.world, g.clusters, g.spread(2)) {
		from := ms + int64(g.pick(int(15*minute)))
		s := incident.Signal{Source: "/clusters/" + string(c.name) + "/collectors/changes", Entity: incident.Entity{Kind: "NetworkPolicy", Namespace: ns, Name: "guard"}, Kind: incident.Change, Status: incident.Firing, Severity: incident.Info, Reason: "PolicyUpdated", Factors: incident.Factors{incident.FactorPolicy: policy}}
		g.emit(st, c, s, from)
		for _, l := range c.loads {
			if l.s.ns == ns {
				l.policy = policy
				if g.chance(0.8) {
					g.fail(st, l, trouble{from: from + minute + int64(g.pick(int(3*minute))), to: from + 30*minute, reasons: []string{oneOf(g.world, []string{"ConnectionTimeout", "UpstreamRequestFailed"})}, message: "i/o timeout", cause: "NetworkPolicyBlocks", alerts: []string{"ServiceHighErrorRate"}})
				}
			}
		}
		g.publish(c, from+minute)
	}
	st.shared(incident.FactorPolicy, policy)
	g.finish(st)
}
