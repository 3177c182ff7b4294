package correlator

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// sharedOf counts what the shared factor's holders and the others show. A node that takes
// several workloads with it is such a factor too.
func (c *Correlator) sharedOf(b *bundle, es []*episode) *incident.SharedFactor {
	var f factorKey
	hit := make(map[spanKey]bool)
	switch {
	case b.shared && c.dependencyRoot(b) != nil:
		return nil // one workload of the cluster is at fault
	case b.shared:
		f = c.factors[b.factor]
	case len(b.groups) == 1 && b.groups[0].root.key.kind == "Node":
		root := b.groups[0].root
		f = factorKey{name: incident.FactorNode, value: root.key.name, scope: root.cl.name}
	default:
		return nil
	}
	out := &incident.SharedFactor{Name: f.name, Value: f.value}
	clusters := make(map[incident.ClusterName]bool)
	others := make(map[spanKey]bool)
	for _, e := range es {
		k := spanKey{e.cl.name, e.key}
		holds := false
		if b.shared {
			holds = slices.Contains(e.factors, b.factor)
		} else {
			holds = e.key.kind == "" && (e.parent != nil)
		}
		switch {
		case holds && (e.key.kind == "" || b.shared):
			hit[k], clusters[e.cl.name] = true, true
		case e.key.kind == "":
			others[k] = true
		}
	}
	id, known := c.factorIDs[f]
	for _, cl := range c.order {
		if cl.inv.known {
			out.OthersOf += cl.inv.workloads
			if known {
				out.Total += cl.inv.holders(id)
			}
		}
	}
	out.Affected, out.Others, out.Clusters = len(hit), len(others), len(clusters)
	out.Total = max(out.Total, out.Affected)
	out.OthersOf = max(out.OthersOf-out.Total, out.Others)
	if f.name == incident.FactorNode && out.Affected < 2 {
		return nil
	}
	return out
}

// rootOf names the entity to repair, nil where it is none of one cluster.
func (c *Correlator) rootOf(b *bundle) *incident.Ref {
	first := b.groups[0].root
	one := true
	for _, g := range b.groups {
		one = one && g.root.cl == first.cl
	}
	if !one {
		return nil
	}
	same := true
	for _, g := range b.groups {
		same = same && g.root.key == first.key
	}
	if same {
		return &incident.Ref{Cluster: first.cl.name, Entity: first.entity}
	}
	if ref := c.dependencyRoot(b); ref != nil {
		return ref
	}
	if b.shared {
		f := &c.factors[b.factor]
		switch f.name {
		case incident.FactorNode:
			return &incident.Ref{Cluster: first.cl.name, Entity: incident.Entity{Kind: "Node", Name: f.value}}
		case incident.FactorStorage:
			return &incident.Ref{Cluster: first.cl.name, Entity: incident.Entity{Kind: "StorageClass", Name: f.value}}
		}
		return nil
	}
	return placeRoot(first, b.place)
}

// dependencyRoot returns the workload that the shared dependency is, where it runs in the one
// cluster that is hit.
func (c *Correlator) dependencyRoot(b *bundle) *incident.Ref {
	if !b.shared || c.factors[b.factor].name != incident.FactorDependency {
		return nil
	}
	cl := b.groups[0].root.cl
	for _, g := range b.groups {
		if g.root.cl != cl {
			return nil
		}
	}
	ns, name, ok := strings.Cut(c.factors[b.factor].value, "/")
	if !ok || cl.res == nil {
		return nil
	}
	if e, known := cl.res.known[subjectKey{namespace: ns, name: name}]; known {
		return &incident.Ref{Cluster: cl.name, Entity: e}
	}
	return nil
}

// placeRoot names the part of a cluster that accounts for trouble all over it.
func placeRoot(first *episode, place subjectKey) *incident.Ref {
	ref := func(e incident.Entity) *incident.Ref { return &incident.Ref{Cluster: first.cl.name, Entity: e} }
	if place.kind == "Namespace" {
		return ref(incident.Entity{Kind: "Namespace", Name: place.name})
	}
	if first.class == classDNS || first.class == classNet {
		var best incident.Entity
		for k, e := range first.cl.topo.kinds {
			if r, ok := role(k); ok && r == first.class && (best.IsZero() || compareEntities(e, best) < 0) {
				best = e
			}
		}
		if !best.IsZero() {
			return ref(best)
		}
		if first.class == classDNS { // the name every distribution of Kubernetes gives it
			return ref(incident.Entity{Kind: "Deployment", Namespace: "kube-system", Name: "coredns"})
		}
	}
	if first.class == classNode {
		return ref(first.entity)
	}
	return ref(incident.Entity{Kind: "Cluster", Name: string(first.cl.name)})
}

// fleetCause is the catalogue's cause for a factor that fails its holders.
func fleetCause(n incident.FactorName) incident.CauseName {
	switch n {
	case incident.FactorImage:
		return "SharedImageRegression"
	case incident.FactorConfigHash, incident.FactorGitRevision, incident.FactorChart, incident.FactorApplication:
		return "SharedConfigRegression"
	case incident.FactorRegistry:
		return "SharedRegistryOutage"
	case incident.FactorDNSName:
		return "SharedDNSOutage"
	case incident.FactorDependency, incident.FactorHost:
		return "SharedDependencyOutage"
	case incident.FactorIssuer:
		return "SharedCertificateExpiry"
	case incident.FactorPolicy:
		return "SharedPolicyChange"
	case incident.FactorStorage:
		return "SharedStorageOutage"
	case incident.FactorZone, incident.FactorRegion, incident.FactorProvider:
		return "ZoneOutage"
	case incident.FactorKubelet, incident.FactorKernel:
		return "NodeImageRegression"
	}
	return ""
}

// causeOf weighs the causes that the signals of the roots name: detectors' findings more than
// symptoms, narrow causes more than generic ones.
func (c *Correlator) causeOf(b *bundle, inc *incident.Incident) (incident.CauseName, float64) {
	weights := make(map[incident.CauseName]float64)
	top := make(map[incident.CauseName]int32)
	sum := 0.0
	for _, g := range b.groups {
		for i := range g.root.parts {
			t := g.root.parts[i].tr
			for _, v := range t.votes {
				w := float64(v.conf) / 1000
				if t.kind == incident.Found {
					w *= 2
				}
				if info, ok := incident.LookupCause(v.name); !ok || info.Generic {
					w *= 0.35
				}
				weights[v.name] += w
				top[v.name] = max(top[v.name], v.conf)
				sum += w
			}
		}
	}
	if b.shared && c.dependencyRoot(b) == nil {
		if name := fleetCause(c.factors[b.factor].name); name != "" {
			return name, share(inc.Shared)
		}
	}
	names := make([]incident.CauseName, 0, len(weights))
	for n := range weights {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y incident.CauseName) int {
		return cmp.Or(-cmp.Compare(weights[x], weights[y]), cmp.Compare(x, y))
	})
	if len(names) == 0 {
		return guess(b.groups[0].root), 0
	}
	return names[0], float64(top[names[0]]) / 1000 * weights[names[0]] / sum
}

// share is the confidence in a factor: how many of its holders are hit.
func share(f *incident.SharedFactor) float64 {
	if f == nil || f.Total == 0 {
		return 0
	}
	return min(0.99, 0.5+0.49*float64(f.Affected)/float64(f.Total))
}

// guess names a cause from the way an episode fails, where no detector said one.
func guess(e *episode) incident.CauseName {
	switch e.class {
	case classOOM:
		return "OOMKilled"
	case classCrash:
		return "ApplicationCrash"
	case classNode:
		return "NodeNotReady"
	case classDNS:
		return "ServiceDNSFailure"
	case classTLS:
		return "CertificateExpired"
	case classControl:
		return "APIServerOverloaded"
	case classPull:
		return "ImageRegistryUnavailable"
	case classQuota:
		return "QuotaExceededPods"
	case classAdmit:
		return "AdmissionPolicyDenied"
	case classSync:
		return "GitOpsSyncFailed"
	case classJob:
		return "JobBackoffLimitExceeded"
	}
	return ""
}

// title says what it is in one line.
func title(inc *incident.Incident) string {
	what := string(inc.Cause)
	if what == "" {
		what = "Trouble"
	}
	where := ""
	if n := len(inc.Clusters); n == 1 {
		where = " in " + string(inc.Clusters[0])
	} else if n > 1 {
		where = " in " + strconv.Itoa(n) + " clusters"
	}
	if f := inc.Shared; f != nil {
		return incident.Clip(fmt.Sprintf("%s: %s %s, %d of %d workloads%s", what, f.Name, f.Value, f.Affected, f.Total, where), 300)
	}
	if inc.Root != nil {
		what += ": " + inc.Root.Entity.String()
	}
	return incident.Clip(what+where, 300)
}
