package causes

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// preempted names workloads whose pods had to go for pods of higher priority and that have not
// got them back.
func preempted(c *scan) {
	for _, p := range c.Pods.All() {
		for _, k := range p.Status.Conditions {
			if k.Type == corev1.DisruptionTarget && k.Status == corev1.ConditionTrue && k.Reason == corev1.PodReasonPreemptionByScheduler {
				c.blamePreemption(c.WorkloadOf(p), podEntity(p), k.Message, k.LastTransitionTime.Time)
			}
		}
	}
	for _, ev := range c.Events.All() {
		o := ev.InvolvedObject
		if o.Kind == "Pod" && ev.Reason == "Preempted" && c.age(cluster.EventTime(ev)) < time.Hour {
			e := incident.Entity{Kind: "Pod", Namespace: o.Namespace, Name: o.Name}
			c.blamePreemption(c.madeBy(e), e, ev.Message, cluster.EventTime(ev))
		}
	}
}

// madeBy returns the workload a pod belongs or belonged to: its owner, or by the beginning of its
// name the one whose ReplicaSet or set made it. Nil when none is known.
func (c *scan) madeBy(pod incident.Entity) *cluster.Workload {
	if p, ok := c.Pods.Get(pod.Namespace, pod.Name); ok {
		return c.WorkloadOf(p)
	}
	i := strings.LastIndexByte(pod.Name, '-')
	if i < 0 {
		return nil
	}
	set := pod.Name[:i]
	if w := c.workloadOfSet(pod.Namespace, set); w != nil {
		return w
	}
	for _, kind := range []string{"StatefulSet", "DaemonSet", "Job"} {
		if w := c.Workload(incident.Entity{Kind: kind, Namespace: pod.Namespace, Name: set}); w != nil {
			return w
		}
	}
	return nil
}

// workloadOfSet returns the workload above a ReplicaSet of that name, nil when there is none.
func (c *scan) workloadOfSet(namespace, name string) *cluster.Workload {
	if _, ok := c.ReplicaSets.Get(namespace, name); !ok {
		return nil
	}
	return c.Workload(c.OwnerOf(incident.Entity{Kind: "ReplicaSet", Namespace: namespace, Name: name}))
}

func (c *scan) blamePreemption(w *cluster.Workload, pod incident.Entity, message string, at time.Time) {
	if w == nil || !short(w) && !strings.HasSuffix(w.Entity.Kind, "Job") {
		return
	}
	s := c.blame("PreemptedByPriority", w.Entity, 0.94, "%s: pods of higher priority took its place", w.Entity).explain(w.Entity, "").first(at)
	s.quote("events", pod, message, at).relate(pod).explain(pod, "")
	for _, cause := range []string{"InsufficientCPU", "InsufficientMemory", "ApplicationCrash", "BadRollout", "HostPortConflict"} {
		s.explain(w.Entity, cause)
	}
	if w.Template.Spec.PriorityClassName != "" || w.Template.Spec.Priority != nil {
		s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.priorityClassName", or(w.Template.Spec.PriorityClassName, "none"), "a class above its rivals, or room for both")
	}
	for _, p := range live(w) {
		s.explain(podEntity(p), "")
	}
	s.step(w.Entity, "Add room for %s, or give it a higher priority class", w.Entity)
}
