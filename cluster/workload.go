package cluster

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/incident"
)

// Workload is what owns pods: a Deployment, StatefulSet, DaemonSet, Job (of no CronJob), CronJob,
// a custom controller, or a bare Pod. It is shared by all who ask and must not be changed.
type Workload struct {
	Entity   incident.Entity
	Meta     *metav1.ObjectMeta      // nil when only owner references name it
	Template *corev1.PodTemplateSpec // what it makes pods of; of a pod when the object was not seen; never nil
	Desired  int32                   // replicas wanted; -1: not known
	Ready    int32                   // replicas that are ready, by its status or else by its pods
	Selector labels.Selector         // nil: not known

	Pods        []*corev1.Pod        // in name order, also those that ended
	ReplicaSets []*appsv1.ReplicaSet // of a Deployment or Rollout, newest revision first
	Jobs        []*batchv1.Job       // of a CronJob, or the Job itself
	Services    []*corev1.Service    // whose selector matches the template, in name order
}

// Revision returns the deployment revision of a ReplicaSet; 0 when it has none.
func Revision(rs *appsv1.ReplicaSet) int64 {
	n, _ := strconv.ParseInt(rs.Annotations["deployment.kubernetes.io/revision"], 10, 64)
	return n
}

// EventTime returns when an event last happened: the latest of its times, the zero time when it
// has none.
func EventTime(e *corev1.Event) time.Time {
	t := e.LastTimestamp.Time
	if e.Series != nil && e.Series.LastObservedTime.After(t) {
		t = e.Series.LastObservedTime.Time
	}
	if e.EventTime.After(t) {
		t = e.EventTime.Time
	}
	if e.FirstTimestamp.After(t) {
		t = e.FirstTimestamp.Time
	}
	if t.IsZero() {
		t = e.CreationTimestamp.Time
	}
	return t
}

type workloadIndex struct {
	list  []*Workload
	byKey map[incident.Entity]*Workload
	ofPod map[nsName]*Workload
}

// Workloads returns all workloads in kind, namespace and name order.
func (s *State) Workloads() []*Workload { return s.workloads().list }

// Workload returns the workload of that entity, or nil. The UID is not compared.
func (s *State) Workload(e incident.Entity) *Workload { return s.workloads().byKey[e.Key()] }

// WorkloadOf returns the workload that owns a pod, at the top of its owner chain; nil when the
// state does not hold the pod.
func (s *State) WorkloadOf(p *corev1.Pod) *Workload {
	return s.workloads().ofPod[nsName{p.Namespace, p.Name}]
}

// OwnerOf returns the entity at the top of e's owner chain; e itself when nothing owns it or it
// is not in the state. Cycles end after eight steps.
func (s *State) OwnerOf(e incident.Entity) incident.Entity {
	for range 8 {
		m := s.meta(e)
		if m == nil {
			return e
		}
		up, ok := controller(m)
		if !ok {
			return e
		}
		e = up
	}
	return e
}

// controller returns the owner a pod or set belongs to; Nodes (static pods) do not count.
func controller(m *metav1.ObjectMeta) (incident.Entity, bool) {
	for i := range m.OwnerReferences {
		r := &m.OwnerReferences[i]
		if r.Kind == "" || r.Name == "" || r.Kind == "Node" || (r.Controller != nil && !*r.Controller) {
			continue
		}
		return incident.Entity{Kind: r.Kind, Namespace: m.Namespace, Name: r.Name, UID: string(r.UID)}, true
	}
	return incident.Entity{}, false
}

func metaOf[T any](o *T, ok bool, m func(*T) *metav1.ObjectMeta) *metav1.ObjectMeta {
	if !ok {
		return nil
	}
	return m(o)
}

// meta returns the metadata of a workload-like object, nil when it is not in the state.
func (s *State) meta(e incident.Entity) *metav1.ObjectMeta {
	ns, n := e.Namespace, e.Name
	switch e.Kind {
	case "Pod":
		o, ok := s.Pods.Get(ns, n)
		return metaOf(o, ok, func(o *corev1.Pod) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "ReplicaSet":
		o, ok := s.ReplicaSets.Get(ns, n)
		return metaOf(o, ok, func(o *appsv1.ReplicaSet) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "Deployment":
		o, ok := s.Deployments.Get(ns, n)
		return metaOf(o, ok, func(o *appsv1.Deployment) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "StatefulSet":
		o, ok := s.StatefulSets.Get(ns, n)
		return metaOf(o, ok, func(o *appsv1.StatefulSet) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "DaemonSet":
		o, ok := s.DaemonSets.Get(ns, n)
		return metaOf(o, ok, func(o *appsv1.DaemonSet) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "Job":
		o, ok := s.Jobs.Get(ns, n)
		return metaOf(o, ok, func(o *batchv1.Job) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "CronJob":
		o, ok := s.CronJobs.Get(ns, n)
		return metaOf(o, ok, func(o *batchv1.CronJob) *metav1.ObjectMeta { return &o.ObjectMeta })
	}
	return nil
}

func (s *State) workloads() *workloadIndex { return s.idx.workloads.get(s.buildWorkloads) }

func (s *State) buildWorkloads() *workloadIndex {
	x := &workloadIndex{byKey: map[incident.Entity]*Workload{}, ofPod: map[nsName]*Workload{}}
	for _, o := range s.Deployments.All() {
		x.put(&Workload{Entity: s.topOf("Deployment", o), Meta: &o.ObjectMeta, Template: &o.Spec.Template, Desired: deref(o.Spec.Replicas, 1),
			Ready: o.Status.ReadyReplicas, Selector: selectorOf(o.Spec.Selector)})
	}
	for _, o := range s.StatefulSets.All() {
		x.put(&Workload{Entity: s.topOf("StatefulSet", o), Meta: &o.ObjectMeta, Template: &o.Spec.Template, Desired: deref(o.Spec.Replicas, 1),
			Ready: o.Status.ReadyReplicas, Selector: selectorOf(o.Spec.Selector)})
	}
	for _, o := range s.DaemonSets.All() {
		x.put(&Workload{Entity: s.topOf("DaemonSet", o), Meta: &o.ObjectMeta, Template: &o.Spec.Template, Desired: o.Status.DesiredNumberScheduled,
			Ready: o.Status.NumberReady, Selector: selectorOf(o.Spec.Selector)})
	}
	for _, o := range s.CronJobs.All() {
		x.put(&Workload{Entity: s.topOf("CronJob", o), Meta: &o.ObjectMeta, Template: &o.Spec.JobTemplate.Spec.Template, Desired: -1})
	}
	for _, o := range s.Jobs.All() {
		w := x.owner(s.OwnerOf(EntityOf("Job", o)), &o.ObjectMeta, &o.Spec.Template)
		w.Jobs = append(w.Jobs, o)
	}
	for _, o := range s.ReplicaSets.All() {
		w := x.owner(s.OwnerOf(EntityOf("ReplicaSet", o)), &o.ObjectMeta, &o.Spec.Template)
		w.ReplicaSets = append(w.ReplicaSets, o)
		if w.Entity.Kind == "ReplicaSet" {
			w.Desired, w.Ready = deref(o.Spec.Replicas, 1), o.Status.ReadyReplicas
		}
	}
	for _, p := range s.Pods.All() {
		w := x.owner(s.OwnerOf(EntityOf("Pod", p)), &p.ObjectMeta, &corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec})
		w.Pods = append(w.Pods, p)
		if w.Entity.Kind == "Pod" {
			w.Desired = 1
		}
		x.ofPod[nsName{p.Namespace, p.Name}] = w
	}
	x.finish(s)
	return x
}

// topOf names a workload object by its own name: a Deployment that an operator owns is still what
// people act on.
func (s *State) topOf(kind string, o metav1.Object) incident.Entity { return EntityOf(kind, o) }

func (x *workloadIndex) put(w *Workload) {
	x.byKey[w.Entity.Key()] = w
	x.list = append(x.list, w)
}

// owner returns the workload e, made from one of its parts when its object was not seen.
func (x *workloadIndex) owner(e incident.Entity, part *metav1.ObjectMeta, t *corev1.PodTemplateSpec) *Workload {
	if w := x.byKey[e.Key()]; w != nil {
		return w
	}
	w := &Workload{Entity: e, Template: t, Desired: -1}
	if e.Name == part.Name {
		w.Meta = part
	}
	x.put(w)
	return w
}

func (x *workloadIndex) finish(s *State) {
	slices.SortFunc(x.list, func(a, b *Workload) int {
		return compareStrings(a.Entity.Kind, b.Entity.Kind, a.Entity.Namespace, b.Entity.Namespace, a.Entity.Name, b.Entity.Name)
	})
	for _, w := range x.list {
		slices.SortStableFunc(w.ReplicaSets, func(a, b *appsv1.ReplicaSet) int {
			return cmp.Or(cmp.Compare(Revision(b), Revision(a)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		if ready := int32(countReady(w.Pods)); ready > w.Ready && (w.Meta == nil || w.Entity.Kind == "Pod" || w.Entity.Kind == "Job") {
			w.Ready = ready
		}
	}
	x.joinServices(s)
}

// joinServices joins Services to the workloads whose templates they select, by the rarest pair of
// their selectors.
func (x *workloadIndex) joinServices(s *State) {
	byLabel := map[labelKey][]*Workload{}
	for _, w := range x.list {
		for k, v := range w.Template.Labels {
			key := labelKey{w.Entity.Namespace, k, v}
			byLabel[key] = append(byLabel[key], w)
		}
	}
	for _, svc := range s.Services.All() {
		var rarest []*Workload
		first := true
		for k, v := range svc.Spec.Selector {
			if ws := byLabel[labelKey{svc.Namespace, k, v}]; first || len(ws) < len(rarest) {
				rarest, first = ws, false
			}
		}
		sel := labels.SelectorFromSet(svc.Spec.Selector)
		for _, w := range rarest {
			if sel.Matches(labels.Set(w.Template.Labels)) {
				w.Services = append(w.Services, svc)
			}
		}
	}
}

func countReady(pods []*corev1.Pod) int {
	n := 0
	for _, p := range pods {
		if PodReady(p) {
			n++
		}
	}
	return n
}

// PodReady reports whether the pod's Ready condition is true and it is not being deleted.
func PodReady(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func deref(p *int32, zero int32) int32 {
	if p == nil {
		return zero
	}
	return *p
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	if s == nil {
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	return sel
}
