package causes

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// callersOf returns the workloads that depend on a Service by settings or topology.
func (c *scan) callersOf(svc *corev1.Service) []*cluster.Workload {
	var out []*cluster.Workload
	for _, n := range c.needs() {
		if n.host.Service == svc && !slices.Contains(out, n.caller) {
			out = append(out, n.caller)
		}
	}
	return out
}

// serviceFails returns a sign that connections to a Service fail: a check, a caller's log or a
// failed user request; "" when there is none.
func (c *scan) serviceFails(svc *corev1.Service, _ []incident.Entity) string {
	for _, p := range c.Probes {
		if p.Kind == "tcp" && !p.OK && p.Service == svc.Name && (p.Namespace == svc.Namespace || p.Namespace == "") {
			return "TCP check of " + svc.Name + ":" + strconv.Itoa(p.Port) + " from " + or(p.From, "the cluster") + ": " + p.Detail
		}
	}
	for _, f := range c.facts() {
		switch f.class {
		case logRefused, logTimeout, logDBDown, logUnavailable, logUnknownHost:
			if f.host != "" && f.last {
				if h := c.Resolve(f.pod.Namespace, f.host); h.Service == svc {
					return f.owner.String() + ": " + f.text
				}
			}
		}
	}
	return ""
}

// backing returns what a finding about a Service blames: the one workload behind it, else the
// Service.
func (c *scan) backing(svc *corev1.Service) incident.Entity {
	ws, _ := c.ServiceWorkloads(svc)
	if len(ws) == 1 {
		return ws[0].Entity
	}
	for _, w := range ws {
		if w.Entity.Name == svc.Name {
			return w.Entity
		}
	}
	return cluster.EntityOf("Service", svc)
}

// wrongSelectors names Services that select no pod though pods for them are there.
func wrongSelectors(c *scan) {
	for _, svc := range c.Services.All() {
		if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || len(c.PodsMatching(svc.Namespace, svc.Spec.Selector)) > 0 {
			continue
		}
		if ws, selected := c.ServiceWorkloads(svc); selected && len(ws) > 0 {
			continue // its workload has no pods: that has another cause
		}
		w := c.meant(svc)
		sign := c.serviceFails(svc, nil)
		callers := c.callersOf(svc)
		if w == nil && sign == "" {
			continue
		}
		e, object := cluster.EntityOf("Service", svc), cluster.EntityOf("Service", svc)
		score, level := 0.94, incident.Critical
		if w != nil {
			object = w.Entity
		} else {
			score = 0.55
		}
		if sign == "" && len(callers) == 0 {
			score, level = 0.75, incident.Warning
		}
		s := c.blame("ServiceSelectorMismatch", object, score, "service %s selects no pod: no pod has %s", e, labels.FormatLabels(svc.Spec.Selector)).level(level)
		s.explain(e, "").explain(object, "").relate(e)
		expected := "labels that pods have"
		if w != nil {
			expected = labels.FormatLabels(w.Template.Labels)
			fixed := fixedSelector(svc.Spec.Selector, w.Template.Labels)
			s.propose(incident.PatchServiceSelector, e, "let service "+svc.Name+" select "+fixed, incident.ParamSelector, fixed)
		}
		s.see("objects/services", e, "spec.selector", labels.FormatLabels(svc.Spec.Selector), expected)
		if sign != "" {
			s.quote("symptoms", e, sign, time.Time{})
		}
		for _, w := range callers {
			s.relate(w.Entity)
		}
	}
}

// meant returns the workload a Service with a wrong selector was made for: of its name, or the
// one that no Service selects and that shares most of the selector; nil when none is plausible.
func (c *scan) meant(svc *corev1.Service) *cluster.Workload {
	if ws, _ := c.ServiceWorkloads(svc); len(ws) == 1 {
		return ws[0]
	}
	var best *cluster.Workload
	bestScore := 0
	for _, w := range c.Workloads() {
		if w.Entity.Namespace != svc.Namespace || strings.HasSuffix(w.Entity.Kind, "Job") {
			continue
		}
		score := 0
		for k, v := range svc.Spec.Selector {
			switch o, ok := w.Template.Labels[k]; {
			case ok && o == v:
				score += 2
			case ok && nearest(v, []string{o}) != "":
				score++
			case !ok && hasValue(w.Template.Labels, v):
				score++
			}
		}
		if w.Entity.Name == svc.Name || strings.HasPrefix(svc.Name, w.Entity.Name+"-") || strings.HasPrefix(w.Entity.Name, svc.Name+"-") {
			score += 2
		}
		if score > bestScore && score >= 2 || score == bestScore && best != nil && len(best.Services) > 0 && len(w.Services) == 0 {
			best, bestScore = w, score
		}
		if score == 1 && best == nil && len(w.Services) == 0 {
			best, bestScore = w, score
		}
	}
	return best
}

func hasValue(m map[string]string, v string) bool {
	for _, o := range m {
		if o == v {
			return true
		}
	}
	return false
}

// fixedSelector keeps the keys of a selector with the values that the pods have; a key that pods
// lack is replaced by the label with that value, or dropped.
func fixedSelector(sel, have map[string]string) string {
	out := map[string]string{}
	for k, v := range sel {
		if o, ok := have[k]; ok {
			out[k] = o
			continue
		}
		for hk, hv := range have {
			if hv == v {
				out[hk] = hv
			}
		}
	}
	if len(out) == 0 {
		for k, v := range have {
			if k != "pod-template-hash" {
				out[k] = v
			}
		}
	}
	var parts []string
	for _, k := range sortedKeys(out) {
		parts = append(parts, k+"="+out[k])
	}
	return strings.Join(parts, ",")
}

// noEndpoints names Services without ready endpoints: a symptom, in case nothing explains it.
func noEndpoints(c *scan) {
	for _, sy := range c.symptoms {
		if sy.Reason != "NoReadyEndpoints" {
			continue
		}
		s := c.blame("NoReadyEndpoints", sy.Entity, 0.5, "service %s has no ready endpoint", sy.Entity)
		s.see("objects/endpoints", sy.Entity, "subsets[].addresses", "none", "at least one").relate(sy.Owner).explain(sy.Entity, "")
		s.step(sy.Entity, "See why the pods behind %s are not ready", sy.Entity)
	}
}
