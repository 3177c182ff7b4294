package cluster

import (
	"cmp"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/incident"
)

// index holds what is derived from the objects; each part is built once, at its first use.
type index struct {
	workloads lazy[*workloadIndex]
	podsByIP  lazy[map[string]*corev1.Pod]
	onNode    lazy[map[string][]*corev1.Pod]
	events    lazy[map[incident.Entity][]*corev1.Event]
	logs      lazy[map[nsName][]*Log]
	services  lazy[serviceIndex]
	slices    lazy[map[nsName][]*discoveryv1.EndpointSlice]
	labelled  lazy[map[labelKey][]*corev1.Pod]
}

type lazy[T any] struct {
	once sync.Once
	v    T
}

func (l *lazy[T]) get(build func() T) T {
	l.once.Do(func() { l.v = build() })
	return l.v
}

type labelKey struct{ namespace, key, value string }

// PodsMatching returns the pods of a namespace whose labels match the selector, in name order. An
// empty selector matches nothing, as in a Service.
func (s *State) PodsMatching(namespace string, selector map[string]string) []*corev1.Pod {
	if len(selector) == 0 {
		return nil
	}
	byLabel := s.idx.labelled.get(func() map[labelKey][]*corev1.Pod {
		m := map[labelKey][]*corev1.Pod{}
		for _, p := range s.Pods.All() {
			for k, v := range p.Labels {
				key := labelKey{p.Namespace, k, v}
				m[key] = append(m[key], p)
			}
		}
		return m
	})
	best := []*corev1.Pod(nil)
	first := true
	for k, v := range selector {
		c := byLabel[labelKey{namespace, k, v}]
		if first || len(c) < len(best) {
			best, first = c, false
		}
	}
	sel := labels.SelectorFromSet(selector)
	var out []*corev1.Pod
	for _, p := range best {
		if sel.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// PodsOnNode returns the pods placed on a node, in namespace and name order; partial ones are not
// among them.
func (s *State) PodsOnNode(node string) []*corev1.Pod {
	return s.idx.onNode.get(func() map[string][]*corev1.Pod {
		m := map[string][]*corev1.Pod{}
		for _, p := range s.Pods.All() {
			if p.Spec.NodeName != "" {
				m[p.Spec.NodeName] = append(m[p.Spec.NodeName], p)
			}
		}
		return m
	})[node]
}

// PodByIP returns the running pod that has the address (IPv4 or IPv6), or nil. Pods on the host's
// network are not told apart by address and never returned.
func (s *State) PodByIP(ip string) *corev1.Pod {
	return s.idx.podsByIP.get(func() map[string]*corev1.Pod {
		m := map[string]*corev1.Pod{}
		for _, p := range s.Pods.All() {
			if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			for _, a := range p.Status.PodIPs {
				m[a.IP] = p
			}
			if p.Status.PodIP != "" {
				m[p.Status.PodIP] = p
			}
		}
		return m
	})[ip]
}

// EventsOn returns the events about an entity, the latest last. The UID is not compared: events
// of an earlier object of that name are among them.
func (s *State) EventsOn(e incident.Entity) []*corev1.Event {
	return s.idx.events.get(func() map[incident.Entity][]*corev1.Event {
		m := map[incident.Entity][]*corev1.Event{}
		for _, ev := range s.Events.All() {
			o := ev.InvolvedObject
			k := incident.Entity{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
			m[k] = append(m[k], ev)
		}
		for _, l := range m {
			slices.SortStableFunc(l, func(a, b *corev1.Event) int {
				return cmp.Or(EventTime(a).Compare(EventTime(b)), cmp.Compare(a.Name, b.Name))
			})
		}
		return m
	})[incident.Entity{Kind: e.Kind, Namespace: e.Namespace, Name: e.Name}]
}

// PodLogs returns the logs of a pod's containers, in container order.
func (s *State) PodLogs(namespace, pod string) []*Log {
	return s.idx.logs.get(func() map[nsName][]*Log {
		m := map[nsName][]*Log{}
		for i := range s.Logs {
			k := nsName{s.Logs[i].Namespace, s.Logs[i].Pod}
			m[k] = append(m[k], &s.Logs[i])
		}
		return m
	})[nsName{namespace, pod}]
}

// Custom returns the custom resources of a kind, in namespace and name order.
func (s *State) Custom(kind string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range s.Customs.All() {
		if o.GetKind() == kind {
			out = append(out, o)
		}
	}
	return out
}

// Sees reports whether the source was asked in whole: an absent object is then really absent. A
// source that was seen in part, was not allowed or is not mentioned gives false.
func (s *State) Sees(source string) bool { return s.sources[source].State == incident.Seen }

// Source returns how much of a source was seen; NotSeen when nobody mentioned it.
func (s *State) Source(source string) incident.SourceCoverage {
	if c, ok := s.sources[source]; ok {
		return c
	}
	return incident.SourceCoverage{Source: source, State: incident.NotSeen}
}

// Gaps returns what was left out while the state was made, one line each.
func (s *State) Gaps() []string { return s.gaps }

// EntityOf names a typed object. Kind must be given: typed objects often lack it.
func EntityOf(kind string, o metav1.Object) incident.Entity {
	return incident.Entity{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID())}
}

// SeesIn reports whether an object of a namespace that the state does not hold is really absent:
// the source was seen in whole and the state holds something of that namespace, or knows that the
// namespace does not exist.
func (s *State) SeesIn(source, namespace string) bool {
	if !s.Sees(source) {
		return false
	}
	if len(s.Pods.In(namespace))+len(s.Services.In(namespace))+len(s.Deployments.In(namespace))+len(s.ConfigMaps.In(namespace)) > 0 {
		return true
	}
	_, ok := s.Namespaces.Get("", namespace)
	return !ok && s.Sees("objects/namespaces")
}
