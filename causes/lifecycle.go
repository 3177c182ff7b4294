package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// stuckAfter is how long a deletion may take before its finalizers are held to be forgotten.
// Controllers retry within minutes; custom resources, behind which whole machines are taken down,
// get six times as long.
const stuckAfter = 10 * time.Minute

// stuckTerminating names objects that a finalizer keeps although they were deleted long ago.
func stuckTerminating(c *scan) {
	for _, ns := range c.Namespaces.All() {
		if !c.deletedLong(&ns.ObjectMeta) {
			continue
		}
		s := c.stuck("Namespace", &ns.ObjectMeta)
		for _, k := range ns.Status.Conditions {
			if k.Status == corev1.ConditionTrue {
				s.see("objects/namespaces", s.object, "status.conditions["+string(k.Type)+"]", k.Message, "False").first(ns.DeletionTimestamp.Time)
			}
		}
	}
	for _, p := range c.Pods.All() {
		if c.deletedLong(&p.ObjectMeta) && len(foreign(p.Finalizers)) > 0 {
			c.stuck("Pod", &p.ObjectMeta)
		}
	}
	for _, v := range c.Claims.All() {
		if c.deletedLong(&v.ObjectMeta) && len(v.Finalizers) > 0 && !c.claimUsed(v) {
			c.stuck("PersistentVolumeClaim", &v.ObjectMeta)
		}
	}
	for _, v := range c.Volumes.All() {
		if c.deletedLong(&v.ObjectMeta) && len(v.Finalizers) > 0 && v.Status.Phase != corev1.VolumeBound {
			c.stuck("PersistentVolume", &v.ObjectMeta)
		}
	}
	for _, u := range c.Customs.All() {
		at := u.GetDeletionTimestamp()
		if at != nil && c.age(at.Time) > 6*stuckAfter && len(u.GetFinalizers()) > 0 {
			c.stuck(u.GetKind(), &metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), DeletionTimestamp: at, Finalizers: u.GetFinalizers()})
		}
	}
}

func (c *scan) deletedLong(m *metav1.ObjectMeta) bool {
	return m.DeletionTimestamp != nil && c.age(m.DeletionTimestamp.Time) > stuckAfter
}

// foreign returns the finalizers that Kubernetes itself does not take care of.
func foreign(finalizers []string) []string {
	return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool {
		return f == "kubernetes" || f == "foregroundDeletion" || f == "orphan" || strings.HasPrefix(f, "kubernetes.io/") || f == "batch.kubernetes.io/job-tracking"
	})
}

// claimUsed reports whether a pod still mounts the claim, which keeps it on purpose.
func (c *scan) claimUsed(v *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(c.Pods.In(v.Namespace), func(p *corev1.Pod) bool { return slices.Contains(claimsOf(&p.Spec), v.Name) })
}

func (c *scan) stuck(kind string, m *metav1.ObjectMeta) *suspect {
	e := cluster.EntityOf(kind, m)
	names := strings.Join(m.Finalizers, ", ")
	s := c.blame("StuckTerminating", e, 0.93, "%s was deleted %s ago; finalizers keep it: %s", e, c.age(m.DeletionTimestamp.Time).Round(time.Minute), or(names, "of its content")).level(incident.Warning)
	s.see("objects/"+plural(kind), e, "metadata.deletionTimestamp", m.DeletionTimestamp.UTC().Format(time.RFC3339), "gone").explain(e, "").first(m.DeletionTimestamp.Time)
	if names != "" {
		s.see("objects/"+plural(kind), e, "metadata.finalizers", names, "none")
	}
	if own := foreign(m.Finalizers); len(own) == 1 {
		s.propose(incident.RemoveFinalizer, e, "remove finalizer "+own[0]+" of "+e.String()+" if its controller is gone for good", incident.ParamFinalizer, own[0])
	} else {
		s.step(e, "See why the controllers of these finalizers do not finish: %s", or(names, "those named in status.conditions"))
	}
	return s
}

// fullVolumes names claims that the kubelet's volume metrics or a running container's log say are
// full.
func fullVolumes(c *scan) {
	capacity := map[incident.Entity]float64{}
	claim := func(s *cluster.Series) incident.Entity {
		return incident.Entity{Kind: "PersistentVolumeClaim", Namespace: s.Labels["namespace"], Name: s.Labels["persistentvolumeclaim"]}
	}
	for i := range c.Series {
		if s := &c.Series[i]; s.Name == "kubelet_volume_stats_capacity_bytes" && len(s.Points) > 0 {
			capacity[claim(s)] = s.Points[len(s.Points)-1].Value
		}
	}
	for i := range c.Series {
		s := &c.Series[i]
		e := claim(s)
		if s.Name != "kubelet_volume_stats_available_bytes" || len(s.Points) == 0 || capacity[e] <= 0 {
			continue
		}
		left := s.Points[len(s.Points)-1].Value / capacity[e]
		if left < 0.01 {
			b := c.blame("VolumeFull", e, 0.93, "claim %s has no space left", e).explain(e, "")
			b.see("metrics", e, s.Name, percent(left)+" of the volume free", "more than 1%")
			c.expand(b, e)
			for _, p := range c.Pods.In(e.Namespace) {
				if slices.Contains(claimsOf(&p.Spec), e.Name) {
					b.relate(c.owner(p)).explain(c.owner(p), "").explain(c.owner(p), "ApplicationCrash").explain(podEntity(p), "")
				}
			}
		}
	}
}

func percent(share float64) string { return itoa(int(share*100+0.5)) + "%" }
