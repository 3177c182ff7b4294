package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// container is one container of a pod: what was asked for and what became of it. Status is nil
// when the kubelet told nothing.
type container struct {
	Pod    *corev1.Pod
	Spec   *corev1.Container
	Status *corev1.ContainerStatus
	Init   bool
	Path   string // field path in the pod, e.g. spec.containers[0]
}

// containersOf returns init containers, then containers.
func containersOf(p *corev1.Pod) []container {
	var out []container
	add := func(specs []corev1.Container, sts []corev1.ContainerStatus, path string, init bool) {
		for i := range specs {
			c := container{Pod: p, Spec: &specs[i], Init: init, Path: path + "[" + itoa(i) + "]"}
			for j := range sts {
				if sts[j].Name == specs[i].Name {
					c.Status = &sts[j]
				}
			}
			out = append(out, c)
		}
	}
	add(p.Spec.InitContainers, p.Status.InitContainerStatuses, "spec.initContainers", true)
	add(p.Spec.Containers, p.Status.ContainerStatuses, "spec.containers", false)
	return out
}

// sidecar reports whether an init container keeps running beside the others.
func (c container) sidecar() bool {
	return c.Init && c.Spec.RestartPolicy != nil && *c.Spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// waiting returns the reason and message a container waits with; empty when it does not.
func (c container) waiting() (reason, message string) {
	if c.Status == nil || c.Status.State.Waiting == nil {
		return "", ""
	}
	return c.Status.State.Waiting.Reason, c.Status.State.Waiting.Message
}

// ended returns the last termination: the current state's or the run before; nil when it never
// ended.
func (c container) ended() *corev1.ContainerStateTerminated {
	if c.Status == nil {
		return nil
	}
	if t := c.Status.State.Terminated; t != nil {
		return t
	}
	return c.Status.LastTerminationState.Terminated
}

func (c container) restarts() int32 {
	if c.Status == nil {
		return 0
	}
	return c.Status.RestartCount
}

// ready reports whether the kubelet calls the container ready.
func (c container) ready() bool { return c.Status != nil && c.Status.Ready }

// crashing reports whether the container ends with an error again and again or for good.
func (c container) crashing() bool {
	if c.Status == nil {
		return false
	}
	if r, _ := c.waiting(); r == "CrashLoopBackOff" {
		return true
	}
	if t := c.Status.State.Terminated; t != nil && t.ExitCode != 0 {
		return true
	}
	return c.Status.RestartCount > 0 && c.Status.LastTerminationState.Terminated != nil && !c.Status.Ready
}

func podEntity(p *corev1.Pod) incident.Entity { return cluster.EntityOf("Pod", p) }

func nodeEntity(name string) incident.Entity { return incident.Entity{Kind: "Node", Name: name} }

// owner returns the workload of a pod; the pod itself where none is known.
func (c *scan) owner(p *corev1.Pod) incident.Entity {
	if w := c.WorkloadOf(p); w != nil {
		return w.Entity
	}
	return podEntity(p)
}

// live returns the workload's pods that are neither being deleted nor ended well, nor lie around
// failed while the workload has all it wants.
func live(w *cluster.Workload) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range w.Pods {
		leftover := p.Status.Phase == corev1.PodFailed && w.Desired > 0 && w.Ready >= w.Desired && !strings.HasSuffix(w.Entity.Kind, "Job") && w.Entity.Kind != "Pod"
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && !leftover {
			out = append(out, p)
		}
	}
	return out
}

// gated reports whether a pod waits on purpose: the scheduler is told not to look at it yet.
func gated(p *corev1.Pod) bool { return len(p.Spec.SchedulingGates) > 0 }

// joining reports whether a node is so new that it need not be ready yet.
func (c *scan) joining(n *corev1.Node) bool {
	return !n.CreationTimestamp.IsZero() && c.age(n.CreationTimestamp.Time) < 3*time.Minute
}

// current returns the live pods of the newest revision that has any: half-finished rollouts keep
// healthy pods of the old one beside them.
func current(w *cluster.Workload) []*corev1.Pod {
	pods := live(w)
	for _, rs := range w.ReplicaSets {
		var out []*corev1.Pod
		for _, p := range pods {
			for _, o := range p.OwnerReferences {
				if o.Kind == "ReplicaSet" && o.Name == rs.Name {
					out = append(out, p)
				}
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return pods
}

// short reports whether the workload has fewer ready replicas than it wants. Jobs never are.
func short(w *cluster.Workload) bool {
	switch w.Entity.Kind {
	case "Job", "CronJob":
		return false
	}
	return w.Desired > 0 && w.Ready < w.Desired
}

// systemNamespace reports whether a namespace belongs to the cluster itself.
func systemNamespace(ns string) bool {
	return ns == "kube-system" || ns == "kube-public" || ns == "kube-node-lease"
}

// podRequests returns what the scheduler counts for a pod: the sum of its containers, at least
// the largest init container, plus sidecars and overhead; the pod-level resources where given.
func podRequests(s *corev1.PodSpec, name corev1.ResourceName) resource.Quantity {
	if s.Resources != nil {
		if q, ok := s.Resources.Requests[name]; ok {
			return q
		}
	}
	var sum, initMax, side resource.Quantity
	for i := range s.Containers {
		sum.Add(s.Containers[i].Resources.Requests[name])
	}
	for i := range s.InitContainers {
		q := s.InitContainers[i].Resources.Requests[name]
		if r := s.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			side.Add(q)
			continue
		}
		q = q.DeepCopy()
		q.Add(side)
		if q.Cmp(initMax) > 0 {
			initMax = q
		}
	}
	sum.Add(side)
	if initMax.Cmp(sum) > 0 {
		sum = initMax
	}
	sum.Add(s.Overhead[name])
	return sum
}

// sinceCreation returns how old something was when the state was collected.
func (c *scan) age(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return c.At.Sub(t)
}

// warnings returns the warning events of an object with one of the reasons, the latest last.
func (c *scan) warnings(e incident.Entity, reasons ...string) []*corev1.Event {
	var out []*corev1.Event
	for _, ev := range c.EventsOn(e) {
		if slices.Contains(reasons, ev.Reason) {
			out = append(out, ev)
		}
	}
	return out
}

// lastWarning returns the latest event of an object with one of the reasons, or nil.
func (c *scan) lastWarning(e incident.Entity, reasons ...string) *corev1.Event {
	evs := c.warnings(e, reasons...)
	if len(evs) == 0 {
		return nil
	}
	return evs[len(evs)-1]
}

// has reports whether s contains any of the parts, ignoring case.
func has(s string, parts ...string) bool {
	s = strings.ToLower(s)
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// between returns what stands in s between a and b; "" when either is missing.
func between(s, a, b string) string {
	_, rest, ok := strings.Cut(s, a)
	if !ok {
		return ""
	}
	in, _, ok := strings.Cut(rest, b)
	if !ok {
		return ""
	}
	return in
}

func itoa(i int) string {
	if i >= 0 && i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}
