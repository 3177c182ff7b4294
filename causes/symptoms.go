package causes

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// look gathers what is wrong before anybody asks why. Sources: workload and pod states, Services
// without endpoints, nodes, claims, checks, alerts.
func (c *scan) look() {
	for _, w := range c.Workloads() {
		c.lookWorkload(w)
	}
	for _, svc := range c.Services.All() {
		c.lookService(svc)
	}
	for _, n := range c.Nodes.All() {
		if s := nodeCondition(n, corev1.NodeReady); s != corev1.ConditionTrue && s != "" && !c.joining(n) {
			c.symptom(symptom{Entity: nodeEntity(n.Name), Reason: "NodeNotReady", Weight: 1})
		}
	}
	for _, pvc := range c.Claims.All() {
		if pvc.Status.Phase == corev1.ClaimPending && !c.waitsForConsumer(pvc) || pvc.Status.Phase == corev1.ClaimLost {
			c.symptom(symptom{Entity: cluster.EntityOf("PersistentVolumeClaim", pvc), Reason: "ClaimPending", Weight: 0.7, At: pvc.CreationTimestamp.Time})
		}
	}
	c.lookOutside()
}

func (c *scan) symptom(s symptom) {
	if s.Owner.IsZero() {
		s.Owner = s.Entity
	}
	c.symptoms = append(c.symptoms, &s)
}

// settleTime is how long a new pod may take before not being ready is a symptom.
const settleTime = 90 * time.Second

func (c *scan) lookWorkload(w *cluster.Workload) {
	if short(w) && !slices.ContainsFunc(w.Pods, gated) && (w.Meta == nil || c.age(w.Meta.CreationTimestamp.Time) > settleTime || w.Meta.CreationTimestamp.IsZero() || len(live(w)) == 0) {
		c.symptom(symptom{Entity: w.Entity, Reason: "ReplicasUnavailable", Weight: 1, Text: itoa(int(w.Ready)) + " of " + itoa(int(w.Desired)) + " ready"})
	}
	for _, p := range live(w) {
		if c.madeUpFor(p) || gated(p) {
			continue
		}
		s := symptom{Entity: podEntity(p), Owner: w.Entity, Weight: 0.5, At: p.CreationTimestamp.Time}
		switch {
		case p.Status.Phase == corev1.PodFailed && !strings.HasSuffix(w.Entity.Kind, "Job"):
			s.Reason, s.Text = or(p.Status.Reason, "PodFailed"), p.Status.Message
		case p.Status.Phase == corev1.PodPending && p.Spec.NodeName == "" && (c.age(p.CreationTimestamp.Time) > 30*time.Second || c.lastWarning(podEntity(p), "FailedScheduling") != nil):
			s.Reason = "Unschedulable"
		}
		for _, ct := range containersOf(p) {
			r, m := ct.waiting()
			switch {
			case r == "ContainerCreating" || r == "PodInitializing" || r == "":
			default:
				s.Reason, s.Text = r, m
			}
			if s.Reason == "" && ct.crashing() {
				s.Reason = "Crashing"
			}
		}
		if s.Reason == "" && !cluster.PodReady(p) && p.Status.Phase != corev1.PodFailed && c.age(p.CreationTimestamp.Time) > settleTime && w.Entity.Kind != "Job" && w.Entity.Kind != "CronJob" {
			s.Reason = "NotReady"
		}
		if s.Reason != "" {
			c.symptom(s)
		}
	}
}

func (c *scan) lookService(svc *corev1.Service) {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	ready, _, known := c.ReadyAddresses(svc)
	if !known || ready > 0 {
		return
	}
	ws, selected := c.ServiceWorkloads(svc)
	e := cluster.EntityOf("Service", svc)
	s := symptom{Entity: e, Reason: "NoReadyEndpoints", Weight: 0.6}
	if len(ws) > 0 {
		s.Owner = ws[0].Entity
		if ws[0].Desired == 0 {
			return
		}
	}
	if !selected && len(ws) == 0 && c.serviceFails(svc, nil) == "" {
		return // nobody's: leftovers are no symptom
	}
	c.symptom(s)
}

// lookOutside gathers what checks and alerts say.
func (c *scan) lookOutside() {
	for _, p := range c.Probes {
		switch {
		case p.OK:
		case p.Kind == "unit":
			c.symptom(symptom{Entity: nodeEntity(p.Node), Reason: "UnitInactive", Weight: 1, Text: p.Unit})
		case p.Service != "":
			e := incident.Entity{Kind: "Service", Namespace: p.Namespace, Name: p.Service}
			s := symptom{Entity: e, Reason: "ConnectionFailed", Weight: 0.6, Text: p.Service + ":" + strconv.Itoa(p.Port)}
			if svc, ok := c.Services.Get(p.Namespace, p.Service); ok {
				s.Owner = c.backing(svc)
			}
			c.symptom(s)
		}
	}
	for _, a := range c.Alerts {
		e := a.Object
		reason := or(a.Category, "Alert")
		if a.Entry != "" {
			e, reason = incident.Entity{Kind: "Service", Name: a.Entry}, "RequestsFail"
		}
		if e.IsZero() || a.Labels["severity"] == "info" || a.Labels["severity"] == "none" {
			continue
		}
		if e.Namespace == "" && e.Kind != "Node" {
			e.Namespace = c.Namespace
		}
		s := symptom{Entity: e, Reason: reason, Weight: 0.3, Text: strings.Join(a.Text, "; ")}
		if ws := c.named(e.Namespace, e.Name); len(ws) == 1 {
			s.Owner = ws[0].Entity
		}
		c.symptom(s)
	}
}

// madeUpFor reports whether a failed pod of a Job is of no account any more: the Job succeeded all
// the same or is at its second try, or a later one of its CronJob did.
func (c *scan) madeUpFor(p *corev1.Pod) bool {
	for _, o := range p.OwnerReferences {
		if j, ok := c.Jobs.Get(p.Namespace, o.Name); ok && o.Kind == "Job" {
			again := j.Status.Active > 0 && j.Status.Failed <= 1 && p.Status.Phase == corev1.PodFailed
			return again || j.Status.Succeeded > 0 || c.succeededSince(j)
		}
	}
	return false
}
