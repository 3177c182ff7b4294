package causes

import (
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// autoscalers names autoscalers that cannot read their target or metric, and those that want more
// replicas than they may have.
func autoscalers(c *scan) {
	for _, h := range c.Autoscalers.All() {
		e := cluster.EntityOf("HorizontalPodAutoscaler", h)
		target := incident.Entity{Kind: h.Spec.ScaleTargetRef.Kind, Namespace: h.Namespace, Name: h.Spec.ScaleTargetRef.Name}
		broken := false
		for _, k := range h.Status.Conditions {
			if k.Status != corev1.ConditionFalse || k.Type != autoscalingv2.ScalingActive && k.Type != autoscalingv2.AbleToScale || !c.autoscalerBroken(h, k) {
				continue
			}
			broken = true
			s := c.blame("HPAMisconfigured", e, 0.93, "%s cannot scale %s: %s", e, target, k.Message).explain(e, "").relate(target).first(k.LastTransitionTime.Time)
			s.see("objects/horizontalpodautoscalers", e, "status.conditions["+string(k.Type)+"]", "False "+k.Reason+": "+k.Message, "True")
			s.step(e, "%s", autoscalerFix(k.Reason, target))
		}
		if !broken {
			c.atMaximum(h, e, target)
		}
	}
}

// autoscalerBroken tells a lasting fault from what every start-up shows and from a target that is
// scaled to zero or whose pods do not run.
func (c *scan) autoscalerBroken(h *autoscalingv2.HorizontalPodAutoscaler, k autoscalingv2.HorizontalPodAutoscalerCondition) bool {
	if k.Reason == "ScalingDisabled" || k.Reason == "BackoffBoth" || k.Reason == "BackoffDownscale" || k.Reason == "BackoffUpscale" {
		return false
	}
	if w := c.Workload(incident.Entity{Kind: h.Spec.ScaleTargetRef.Kind, Namespace: h.Namespace, Name: h.Spec.ScaleTargetRef.Name}); w != nil && (w.Desired == 0 || w.Ready == 0) {
		return false
	}
	t := k.LastTransitionTime.Time
	return t.IsZero() || c.age(t) >= 3*time.Minute
}

func autoscalerFix(reason string, target incident.Entity) string {
	switch reason {
	case "FailedGetScale":
		return "Let scaleTargetRef name a workload that exists; " + target.String() + " cannot be read"
	case "FailedGetResourceMetric":
		return "Give every container of " + target.String() + " a request for the resource, and see whether metrics-server answers"
	}
	return "See whether the metrics API serves the metric that the autoscaler names"
}

func (c *scan) atMaximum(h *autoscalingv2.HorizontalPodAutoscaler, e, target incident.Entity) {
	for _, k := range h.Status.Conditions {
		if k.Type != autoscalingv2.ScalingLimited || k.Status != corev1.ConditionTrue || k.Reason != "TooManyReplicas" || h.Status.CurrentReplicas < h.Spec.MaxReplicas {
			continue
		}
		limit := strconv.Itoa(int(h.Spec.MaxReplicas))
		more := strconv.Itoa(int(h.Spec.MaxReplicas + max(h.Spec.MaxReplicas/2, 1)))
		s := c.blame("HPAAtMaximum", e, 0.9, "%s is at its maximum of %s replicas and wants more", e, limit).level(incident.Warning).explain(e, "").relate(target).first(k.LastTransitionTime.Time)
		s.see("objects/horizontalpodautoscalers", e, "status.conditions[ScalingLimited]", "True TooManyReplicas", "False").see("objects/horizontalpodautoscalers", e, "spec.maxReplicas", limit, more)
		s.propose(incident.SetHPABounds, e, "raise maxReplicas of "+e.String()+" from "+limit+" to "+more, "max", more)
	}
}

// budgets names disruption budgets that hold up an eviction which somebody asks for. A budget
// that allows none is no fault by itself.
func budgets(c *scan) {
	for _, b := range c.Budgets.All() {
		if b.Status.DisruptionsAllowed > 0 || b.Status.ExpectedPods == 0 || b.Spec.Selector == nil {
			continue
		}
		e := cluster.EntityOf("PodDisruptionBudget", b)
		object, text, at := c.blockedBy(b)
		if text == "" {
			continue
		}
		s := c.blame("PDBBlocksEviction", e, 0.92, "%s allows no eviction, and %s waits for one", e, object).level(incident.Warning).explain(e, "").explain(object, "").relate(object).first(at)
		s.see("objects/poddisruptionbudgets", e, "status.disruptionsAllowed", "0", "at least 1").quote("events", object, text, at)
		for _, p := range c.budgetPods(b) {
			s.explain(podEntity(p), "").relate(c.owner(p))
		}
		switch {
		case b.Status.CurrentHealthy < b.Status.ExpectedPods:
			s.step(e, "Bring the pods of %s back first: %d of %d are healthy", e, b.Status.CurrentHealthy, b.Status.ExpectedPods)
		case b.Spec.MinAvailable != nil:
			s.step(e, "Add a replica, or set minAvailable of %s below the %d replicas", e, b.Status.ExpectedPods)
		default:
			s.step(e, "Set maxUnavailable of %s to at least 1", e)
		}
	}
}

func (c *scan) budgetPods(b *policyv1.PodDisruptionBudget) []*corev1.Pod {
	return c.PodsMatching(b.Namespace, b.Spec.Selector.MatchLabels)
}

// blockedBy returns the event in which an eviction was refused because of the budget.
func (c *scan) blockedBy(b *policyv1.PodDisruptionBudget) (incident.Entity, string, time.Time) {
	pods := c.budgetPods(b)
	nodes := map[string]bool{}
	for _, p := range pods {
		nodes[p.Spec.NodeName] = true
		for _, ev := range c.EventsOn(podEntity(p)) {
			if has(ev.Message, "violate the pod's disruption budget", "pod disruption budget", "poddisruptionbudget") {
				return podEntity(p), ev.Message, cluster.EventTime(ev)
			}
		}
	}
	for _, ev := range c.Events.All() {
		o := ev.InvolvedObject
		if o.Kind == "Node" && nodes[o.Name] && has(ev.Message, "disruption budget", "pdb "+b.Name, b.Namespace+"/"+b.Name) {
			return nodeEntity(o.Name), ev.Message, cluster.EventTime(ev)
		}
	}
	return incident.Entity{}, "", time.Time{}
}
