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

// outOfMemory names containers that the kernel killed for their memory.
func outOfMemory(c *scan) {
	for _, w := range c.Workloads() {
		for _, p := range live(w) {
			for _, ct := range containersOf(p) {
				e := ct.ended()
				if e == nil || e.Reason != "OOMKilled" {
					continue
				}
				t := trouble{container: ct, workload: w, reason: "OOMKilled", message: e.Message, at: e.FinishedAt.Time, source: "objects/pods"}
				if ct.ready() && c.age(t.at) > 12*time.Hour && ct.restarts() < 3 {
					continue // once, long ago: that is over
				}
				score := 0.95
				if ct.ready() && c.age(t.at) > 30*time.Minute {
					score = 0.6
				}
				c.oom(t, score, "")
			}
		}
	}
}

func (c *scan) oom(t trouble, score float64, message string) {
	limit := t.Spec.Resources.Limits[corev1.ResourceMemory]
	s := t.cite(c.blame("OOMKilled", t.workload.Entity, score, "%s: container %s needs more than its memory limit (%s)", t.workload.Entity, t.Spec.Name, limit.String()))
	if message != "" {
		s.quote(t.source, podEntity(t.Pod), message, t.at)
	}
	s.explain(t.workload.Entity, "PodMemoryPressure")
	expected := "more than the process needs"
	if rs := previous(t.workload); rs != nil {
		for _, ct := range rs.Spec.Template.Spec.Containers {
			if q := ct.Resources.Limits[corev1.ResourceMemory]; ct.Name == t.Spec.Name && q.Cmp(limit) > 0 {
				expected = q.String() + " (the revision before)"
				c.rollback(s, t.workload)
			}
		}
	}
	s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, t.path("resources.limits.memory"), limit.String(), expected)
	if t.reason == "OOMKilled" && t.ready() && c.age(t.at) > 30*time.Minute {
		s.level(incident.Warning)
	}
	if limit.Sign() <= 0 {
		s.step(t.workload.Entity, "Give container %s of %s a memory request that fits its use", t.Spec.Name, t.workload.Entity)
		return
	}
	more := c.betterLimit(t, limit)
	params := []string{incident.ParamContainer, t.Spec.Name, "limits.memory", more.String()}
	s.propose(incident.PatchResources, t.workload.Entity, "raise the memory limit of container "+t.Spec.Name+" from "+limit.String()+" to "+more.String(), params...)
}

// betterLimit returns twice the limit, or what the kernel's minimum and the highest observed use
// with a quarter on top demand, whichever is more.
func (c *scan) betterLimit(t trouble, limit resource.Quantity) resource.Quantity {
	n := max(limit.Value()*2, 64<<20)
	for _, s := range c.Series {
		if s.Object.Kind == "Pod" && s.Object.Name == t.Pod.Name && strings.Contains(s.Name, "mem") {
			for _, p := range s.Points {
				n = max(n, int64(p.Value*1.25))
			}
		}
	}
	n = (n + (1<<20 - 1)) &^ (1<<20 - 1)
	return *resource.NewQuantity(n, resource.BinarySI)
}

// evicted names nodes that evict and pods that outgrow their ephemeral storage.
func evicted(c *scan) {
	for _, p := range c.Pods.All() {
		if p.Status.Reason != "Evicted" && p.Status.Reason != "Preempting" {
			continue
		}
		m, e := p.Status.Message, podEntity(p)
		at := p.CreationTimestamp.Time
		if ev := c.lastWarning(e, "Evicted"); ev != nil {
			m, at = or(m, ev.Message), cluster.EventTime(ev)
		}
		if c.age(at) > 24*time.Hour {
			continue
		}
		w := c.owner(p)
		switch {
		case has(m, "ephemeral local storage usage exceeds", "exceeded its local ephemeral storage limit", "usage of emptydir volume"):
			s := c.blame("EphemeralStorageExceeded", w, 0.95, "%s writes more to ephemeral storage than it may: %s", w, m)
			s.quote("objects/pods", e, m, at).explain(w, "").explain(e, "").relate(e, nodeEntity(p.Spec.NodeName)).first(at)
			s.step(w, "Raise the ephemeral-storage limit of %s or let it write to a volume", w)
		case has(m, "low on resource", "node had condition", "diskpressure", "memorypressure", "pidpressure"):
			n := nodeEntity(p.Spec.NodeName)
			s := c.blame("EvictedByNodePressure", n, 0.92, "node %s evicts pods: %s", n.Name, m)
			s.quote("objects/pods", e, m, at).explain(w, "").explain(e, "").explain(n, "").relate(w, e).first(at)
			s.propose(incident.CordonNode, n, "keep new pods off node "+n.Name)
			s.step(n, "See what uses up node %s; pods without requests or far above them go first", n.Name)
		}
	}
}

// changedJustBefore reports whether the workload's newest revision is recent and its older one
// still has ready pods or was in use until then.
func (c *scan) changedJustBefore(w *cluster.Workload) bool {
	newest := w.ReplicaSets[0]
	for _, rs := range w.ReplicaSets[1:] {
		if rs.Status.ReadyReplicas > 0 {
			return true
		}
	}
	return c.age(newest.CreationTimestamp.Time) < time.Hour && newest.CreationTimestamp.Sub(w.ReplicaSets[1].CreationTimestamp.Time) > time.Minute
}

// seeChange cites what the newest revision changed: images, variables, commands.
func (c *scan) seeChange(s *suspect, w *cluster.Workload) {
	rs := previous(w)
	if rs == nil {
		return
	}
	old := map[string]corev1.Container{}
	for _, ct := range rs.Spec.Template.Spec.Containers {
		old[ct.Name] = ct
	}
	for i, ct := range w.ReplicaSets[0].Spec.Template.Spec.Containers {
		if o, ok := old[ct.Name]; ok && o.Image != ct.Image {
			s.see("objects/deployments", w.Entity, "spec.template.spec.containers["+itoa(i)+"].image", ct.Image, o.Image+" (revision "+itoa(int(cluster.Revision(rs)))+")")
		}
	}
}

// stuckRollouts names rollouts past their deadline or paused half way, and those whose new pods
// do not get ready while the old ones are.
func stuckRollouts(c *scan) {
	for _, d := range c.Deployments.All() {
		w := c.Workload(cluster.EntityOf("Deployment", d))
		if w == nil {
			continue
		}
		if d.Spec.Paused && d.Status.UpdatedReplicas < d.Status.Replicas {
			s := c.blame("RolloutStuck", w.Entity, 0.6, "%s is paused in the middle of a rollout", w.Entity).level(incident.Warning).explain(w.Entity, "")
			s.see("objects/deployments", w.Entity, "spec.paused", "true with "+itoa(int(d.Status.UpdatedReplicas))+" of "+itoa(int(d.Status.Replicas))+" pods updated", "false")
			s.propose(incident.ResumeRollout, w.Entity, "resume the rollout of "+w.Entity.String())
		}
		for _, cond := range d.Status.Conditions {
			if cond.Type == "Progressing" && cond.Status == corev1.ConditionFalse && cond.Reason == "ProgressDeadlineExceeded" {
				s := c.blame("RolloutStuck", w.Entity, 0.6, "%s: its rollout makes no progress", w.Entity)
				s.see("objects/deployments", w.Entity, "status.conditions[Progressing]", cond.Reason+": "+cond.Message, "True").explain(w.Entity, "").first(cond.LastTransitionTime.Time)
				c.rollback(s, w)
				c.badRevision(w, cond.Message)
			}
		}
	}
}

// badRevision blames the newest revision of a Deployment none of whose pods is ready while pods
// of the one before are.
func (c *scan) badRevision(w *cluster.Workload, message string) {
	rs := previous(w)
	if rs == nil || rs.Status.ReadyReplicas == 0 || w.ReplicaSets[0].Status.ReadyReplicas > 0 {
		return
	}
	s := c.blame("BadRollout", w.Entity, 0.75, "%s does not get ready since its last change of template; revision %d is well", w.Entity, cluster.Revision(rs))
	s.see("objects/deployments", w.Entity, "status.conditions[Progressing]", message, "True").relate(cluster.EntityOf("ReplicaSet", w.ReplicaSets[0])).explain(w.Entity, "")
	c.seeChange(s, w)
	for _, p := range current(w) {
		if ev := c.lastWarning(podEntity(p), "Unhealthy"); ev != nil {
			s.quote("events", podEntity(p), ev.Message, cluster.EventTime(ev))
			break
		}
	}
	c.rollback(s, w)
}

// scaledToZero names workloads without replicas that something needs.
func scaledToZero(c *scan) {
	for _, w := range c.Workloads() {
		if w.Desired != 0 || w.Entity.Kind != "Deployment" && w.Entity.Kind != "StatefulSet" || len(w.Services) == 0 {
			continue
		}
		var by []incident.Entity
		for _, n := range c.needs() {
			if n.host.Service != nil && slices.Contains(w.Services, n.host.Service) && n.caller != w {
				by = append(by, n.caller.Entity)
			}
		}
		failing := ""
		for _, svc := range w.Services {
			failing = or(failing, c.serviceFails(svc, by))
		}
		score, level := 0.3, incident.Info
		switch {
		case failing != "":
			score, level = 0.93, incident.Critical
		case len(by) > 0:
			score, level = 0.8, incident.Warning
		}
		s := c.blame("ScaledToZero", w.Entity, score, "%s is scaled to zero and %s needs it", w.Entity, describe(by)).level(level).relate(by...)
		s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.replicas", "0", "at least 1").explain(w.Entity, "")
		for _, svc := range w.Services {
			s.explain(cluster.EntityOf("Service", svc), "").relate(cluster.EntityOf("Service", svc))
		}
		if failing != "" {
			s.quote("symptoms", w.Entity, failing, time.Time{})
		}
		s.propose(incident.Scale, w.Entity, "scale "+w.Entity.String()+" to 1", incident.ParamReplicas, "1", incident.ParamFrom, "0")
	}
}

func describe(es []incident.Entity) string {
	switch len(es) {
	case 0:
		return "nothing known"
	case 1:
		return es[0].String()
	}
	return es[0].String() + " and " + itoa(len(es)-1) + " more"
}
