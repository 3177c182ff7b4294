package cluster

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/incident"
)

// Factors returns what an entity shares with others: of a workload or pod its image, registry,
// application, chart, revision and configuration, of a pod or node the node, zone, region and
// versions, of a claim its storage class. Nil when none are known.
func (s *State) Factors(e incident.Entity) incident.Factors {
	f := incident.Factors{}
	switch e.Kind {
	case "Node":
		s.nodeFactors(f, e.Name)
	case "PersistentVolumeClaim":
		if c, ok := s.Claims.Get(e.Namespace, e.Name); ok && c.Spec.StorageClassName != nil {
			put(f, incident.FactorStorage, *c.Spec.StorageClassName)
		}
	case "Pod":
		if p, ok := s.Pods.Get(e.Namespace, e.Name); ok {
			s.nodeFactors(f, p.Spec.NodeName)
			if w := s.WorkloadOf(p); w != nil {
				workloadFactors(f, w)
			}
		}
	default:
		if w := s.Workload(e); w != nil {
			workloadFactors(f, w)
			if node := oneNode(w.Pods); node != "" {
				s.nodeFactors(f, node)
			}
		}
	}
	if len(f) == 0 {
		return nil
	}
	return f
}

// oneNode returns the node that all pods are on; "" when they are on several or none.
func oneNode(pods []*corev1.Pod) string {
	node := ""
	for i, p := range pods {
		if p.Spec.NodeName == "" || i > 0 && p.Spec.NodeName != node {
			return ""
		}
		node = p.Spec.NodeName
	}
	return node
}

func put(f incident.Factors, n incident.FactorName, v string) {
	if v != "" && len(v) <= 1024 {
		f[n] = v
	}
}

func (s *State) nodeFactors(f incident.Factors, name string) {
	put(f, incident.FactorNode, name)
	n, ok := s.Nodes.Get("", name)
	if !ok {
		return
	}
	put(f, incident.FactorZone, or(n.Labels["topology.kubernetes.io/zone"], n.Labels["failure-domain.beta.kubernetes.io/zone"]))
	put(f, incident.FactorRegion, or(n.Labels["topology.kubernetes.io/region"], n.Labels["failure-domain.beta.kubernetes.io/region"]))
	put(f, incident.FactorKubelet, n.Status.NodeInfo.KubeletVersion)
	put(f, incident.FactorKernel, n.Status.NodeInfo.KernelVersion)
	if provider, _, ok := strings.Cut(n.Spec.ProviderID, "://"); ok {
		put(f, incident.FactorProvider, provider)
	}
}

func workloadFactors(f incident.Factors, w *Workload) {
	if cs := w.Template.Spec.Containers; len(cs) > 0 {
		put(f, incident.FactorImage, cs[0].Image)
		put(f, incident.FactorRegistry, Registry(cs[0].Image))
	}
	if w.Meta == nil {
		return
	}
	an, la := w.Meta.Annotations, w.Meta.Labels
	if app, _, ok := strings.Cut(an["argocd.argoproj.io/tracking-id"], ":"); ok {
		put(f, incident.FactorApplication, "argocd/"+app)
	} else if app := la["argocd.argoproj.io/instance"]; app != "" {
		put(f, incident.FactorApplication, "argocd/"+app)
	} else if k := la["kustomize.toolkit.fluxcd.io/name"]; k != "" {
		put(f, incident.FactorApplication, "flux/"+la["kustomize.toolkit.fluxcd.io/namespace"]+"/"+k)
	} else if h := la["helm.toolkit.fluxcd.io/name"]; h != "" {
		put(f, incident.FactorApplication, "flux/"+la["helm.toolkit.fluxcd.io/namespace"]+"/"+h)
	}
	put(f, incident.FactorChart, la["helm.sh/chart"])
	ta := w.Template.Annotations
	for _, k := range []string{"checksum/config", "checksum/configmap", "config-hash", "configHash"} {
		put(f, incident.FactorConfigHash, ta[k])
	}
	for _, k := range []string{"app.kubernetes.io/git-revision", "gitRevision", "git-revision", "git.commit"} {
		put(f, incident.FactorGitRevision, or(an[k], or(ta[k], la[k])))
	}
}

// Registry returns the registry host of an image reference; docker.io where it names none.
func Registry(image string) string {
	first, _, ok := strings.Cut(image, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first
	}
	return "docker.io"
}

// Inventory counts workloads per factor value, so that the unaffected can be counted. A workload
// on several nodes counts once for each of their zones and nodes.
func Inventory(s *State) incident.Inventory {
	inv := incident.Inventory{Cluster: s.Name, Time: s.At, Factors: map[incident.FactorName]map[string]int{}}
	for _, w := range s.Workloads() {
		inv.Workloads++
		seen := map[incident.FactorName]map[string]bool{}
		add := func(f incident.Factors) {
			for n, v := range f {
				if seen[n] == nil {
					seen[n] = map[string]bool{}
				}
				if !seen[n][v] {
					seen[n][v] = true
					if inv.Factors[n] == nil {
						inv.Factors[n] = map[string]int{}
					}
					inv.Factors[n][v]++
				}
			}
		}
		f := incident.Factors{}
		workloadFactors(f, w)
		nodes := map[string]bool{}
		for _, p := range w.Pods {
			if !nodes[p.Spec.NodeName] {
				nodes[p.Spec.NodeName] = true
				g := maps.Clone(f)
				s.nodeFactors(g, p.Spec.NodeName)
				add(g)
			}
		}
		if len(nodes) == 0 {
			add(f)
		}
	}
	return inv
}

// maxEdges bounds a topology on the wire.
const maxEdges = 20_000

// Topology returns the dependencies that the state knows: Service to workload, caller to Service
// (from the source's own topology), workload to node and claim. At most 20,000 edges.
func Topology(s *State) incident.Topology {
	t := incident.Topology{Cluster: s.Name, Time: s.At, Edges: []incident.Edge{}}
	seen := map[incident.Edge]bool{}
	add := func(from, to incident.Entity, kind incident.EdgeKind) {
		e := incident.Edge{From: from.Key(), To: to.Key(), Kind: kind}
		if !seen[e] && len(t.Edges) < maxEdges && e.From.Name != "" && e.To.Name != "" {
			seen[e] = true
			t.Edges = append(t.Edges, e)
		}
	}
	for _, w := range s.Workloads() {
		for _, svc := range w.Services {
			add(EntityOf("Service", svc), w.Entity, incident.RoutesTo)
		}
		for _, p := range w.Pods {
			add(w.Entity, incident.Entity{Kind: "Node", Name: p.Spec.NodeName}, incident.RunsOn)
		}
		for _, v := range w.Template.Spec.Volumes {
			if v.PersistentVolumeClaim != nil {
				add(w.Entity, incident.Entity{Kind: "PersistentVolumeClaim", Namespace: w.Entity.Namespace, Name: v.PersistentVolumeClaim.ClaimName}, incident.Mounts)
			}
		}
	}
	for _, c := range s.Calls {
		from, to := s.Resolve(c.Namespace, c.From), s.Resolve(c.Namespace, c.To)
		if from.Service == nil || to.Service == nil {
			continue
		}
		ws, _ := s.ServiceWorkloads(from.Service)
		for _, w := range ws {
			add(w.Entity, EntityOf("Service", to.Service), incident.Calls)
		}
	}
	return t
}
