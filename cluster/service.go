package cluster

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/tocsin-io/tocsin/incident"
)

type serviceIndex struct {
	byIP map[string]*corev1.Service
	// extra holds the workloads of Services by their endpoints where the selector tells none.
	workloads map[nsName][]*Workload
}

// ServiceWorkloads returns the workloads behind a Service: whose template matches its selector;
// when there are none, those whose pods its endpoints name; when there are none again, the one
// workload of its name (so that a Service with a wrong selector is joined to the workload it was
// made for). The second result says whether the selector told.
func (s *State) ServiceWorkloads(svc *corev1.Service) (ws []*Workload, selected bool) {
	ws = s.services().workloads[nsName{svc.Namespace, svc.Name}]
	if len(ws) > 0 {
		return ws, true
	}
	if ep, ok := s.Endpoints.Get(svc.Namespace, svc.Name); ok {
		for _, sub := range ep.Subsets {
			for _, a := range slices.Concat(sub.Addresses, sub.NotReadyAddresses) {
				if p := s.PodByIP(a.IP); p != nil {
					if w := s.WorkloadOf(p); w != nil && !slices.Contains(ws, w) {
						ws = append(ws, w)
					}
				}
			}
		}
	}
	if len(ws) > 0 {
		return ws, false
	}
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Pod"} {
		if w := s.Workload(incident.Entity{Kind: kind, Namespace: svc.Namespace, Name: svc.Name}); w != nil {
			return []*Workload{w}, false
		}
	}
	return nil, false
}

func (s *State) services() serviceIndex {
	return s.idx.services.get(func() serviceIndex {
		x := serviceIndex{byIP: map[string]*corev1.Service{}, workloads: map[nsName][]*Workload{}}
		for _, svc := range s.Services.All() {
			for _, ip := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
				if ip != "" && ip != corev1.ClusterIPNone {
					x.byIP[ip] = svc
				}
			}
		}
		for _, w := range s.Workloads() {
			for _, svc := range w.Services {
				k := nsName{svc.Namespace, svc.Name}
				x.workloads[k] = append(x.workloads[k], w)
			}
		}
		return x
	})
}

// Host is what a host name or address means to a pod of a namespace.
type Host struct {
	Namespace, Name string          // of the Service it names; empty when it is no cluster name
	Service         *corev1.Service // nil: there is none of that name
	Pod             *corev1.Pod     // set when the address is a pod's
	Cluster         bool            // the name can only be a cluster name (….svc, ….cluster.local, or a single label)
}

// Resolve tells what host means inside a namespace: a Service by short or full name or by
// address, or a pod by address. A name with dots is a cluster name when it ends in .svc or
// .cluster.local or when its second label is a namespace of the state.
func (s *State) Resolve(namespace, host string) Host {
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if host == "" {
		return Host{}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		if svc := s.services().byIP[host]; svc != nil {
			return Host{Namespace: svc.Namespace, Name: svc.Name, Service: svc, Cluster: true}
		}
		if p := s.PodByIP(host); p != nil {
			return Host{Pod: p, Cluster: true}
		}
		return Host{}
	}
	parts := strings.Split(host, ".")
	h := Host{Name: parts[0], Namespace: namespace}
	switch {
	case len(parts) == 1:
		h.Cluster = host != "localhost"
	case len(parts) == 2 || parts[2] == "svc":
		h.Namespace = parts[1]
		_, known := s.Namespaces.Get("", parts[1])
		h.Cluster = len(parts) > 2 || known || len(s.Services.In(parts[1])) > 0
	case len(parts) >= 4 && parts[3] == "svc": // pod.service.namespace.svc of a StatefulSet
		h.Name, h.Namespace, h.Cluster = parts[1], parts[2], true
	default:
		return Host{}
	}
	if !h.Cluster {
		return Host{}
	}
	h.Service, _ = s.Services.Get(h.Namespace, h.Name)
	return h
}

// slicesOf returns the EndpointSlices of a Service.
func (s *State) slicesOf(svc *corev1.Service) []*discoveryv1.EndpointSlice {
	return s.idx.slices.get(func() map[nsName][]*discoveryv1.EndpointSlice {
		m := map[nsName][]*discoveryv1.EndpointSlice{}
		for _, es := range s.EndpointSlices.All() {
			k := nsName{es.Namespace, es.Labels["kubernetes.io/service-name"]}
			m[k] = append(m[k], es)
		}
		return m
	})[nsName{svc.Namespace, svc.Name}]
}

// ReadyAddresses returns how many ready and not ready addresses a Service has, from its
// EndpointSlices or else its Endpoints; known is false when the state holds neither for it.
func (s *State) ReadyAddresses(svc *corev1.Service) (ready, notReady int, known bool) {
	for _, es := range s.slicesOf(svc) {
		known = true
		for _, e := range es.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready += len(e.Addresses)
			} else {
				notReady += len(e.Addresses)
			}
		}
	}
	if known {
		return ready, notReady, true
	}
	ep, ok := s.Endpoints.Get(svc.Namespace, svc.Name)
	if !ok {
		return 0, 0, s.Sees("objects/endpoints") || s.Sees("objects/endpointslices")
	}
	for _, sub := range ep.Subsets {
		ready += len(sub.Addresses)
		notReady += len(sub.NotReadyAddresses)
	}
	return ready, notReady, true
}
