package causes

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// meshDenials names workloads whose callers a mesh authorization policy turns away: the proxy or
// the caller says so, and a policy selects the workload.
func meshDenials(c *scan) {
	for _, f := range c.facts() {
		if f.class != logMeshDenied || !f.last {
			continue
		}
		w := c.denied(f)
		if w == nil {
			continue
		}
		policies := c.policiesOf("AuthorizationPolicy", w)
		s := c.blame("MeshAuthorizationDenied", w.Entity, 0.94, "%s: a mesh authorization policy denies calls to it", w.Entity).explain(w.Entity, "").quote("logs", f.pod, f.text, time.Time{})
		if f.owner.Key() != w.Entity.Key() {
			s.relate(f.owner).explain(f.owner, "").explain(f.pod, "")
		}
		for _, p := range policies {
			e := customEntity(p)
			s.relate(e).see(customSource(p), e, "spec.action", or(field(p, "spec", "action"), "ALLOW"), "a rule that admits the caller")
			s.step(e, "Let %s admit the callers of %s, or delete it", e, w.Entity)
		}
		if len(policies) == 0 {
			s.lack("objects/authorizationpolicies: which policy denies")
		}
	}
}

// denied returns the workload whose proxy refused a call: the one that logged an inbound denial,
// else the one the caller's line names, else the only peer of the caller that a policy selects.
func (c *scan) denied(f *logFact) *cluster.Workload {
	caller := c.Workload(f.owner)
	if proxyContainer(f.container) && strings.Contains(f.text, "inbound|") {
		return caller
	}
	if h := c.Resolve(f.pod.Namespace, f.host); h.Service != nil {
		if ws, _ := c.ServiceWorkloads(h.Service); len(ws) > 0 {
			return ws[0]
		}
	}
	for _, n := range c.needsOf(f.owner) {
		if n.host.Service == nil {
			continue
		}
		ws, _ := c.ServiceWorkloads(n.host.Service)
		for _, w := range ws {
			if w != caller && len(c.policiesOf("AuthorizationPolicy", w)) > 0 {
				return w
			}
		}
	}
	if caller != nil && len(c.policiesOf("AuthorizationPolicy", caller)) > 0 {
		return caller
	}
	return nil
}

// policiesOf returns the mesh policies of a kind that select a workload: by labels in its
// namespace, or for all of its namespace, or in the mesh's root namespace.
func (c *scan) policiesOf(kind string, w *cluster.Workload) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, p := range c.Custom(kind) {
		root := p.GetNamespace() == "istio-system"
		if p.GetNamespace() != w.Entity.Namespace && !root {
			continue
		}
		sel, _, _ := unstructured.NestedStringMap(p.Object, "spec", "selector", "matchLabels")
		if labels.SelectorFromSet(sel).Matches(labels.Set(w.Template.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// mtlsMode returns the mutual TLS mode that a workload's peers must meet and the policy that says
// so: the narrowest one wins. Empty when none is set.
func (c *scan) mtlsMode(w *cluster.Workload) (string, *unstructured.Unstructured) {
	mode, rank := "", -1
	var by *unstructured.Unstructured
	for _, p := range c.policiesOf("PeerAuthentication", w) {
		m := field(p, "spec", "mtls", "mode")
		r := 0
		if p.GetNamespace() == w.Entity.Namespace {
			r = 1
		}
		if sel, _, _ := unstructured.NestedStringMap(p.Object, "spec", "selector", "matchLabels"); len(sel) > 0 {
			r = 2
		}
		if m != "" && m != "UNSET" && r > rank {
			mode, rank, by = m, r, p
		}
	}
	return mode, by
}

// meshTLS names workloads whose callers cannot agree with them about mutual TLS: the workload
// demands it and a caller has no proxy, or a DestinationRule turns it off.
func meshTLS(c *scan) {
	for _, n := range c.needs() {
		if n.host.Service == nil {
			continue
		}
		ws, _ := c.ServiceWorkloads(n.host.Service)
		for _, w := range ws {
			if w == n.caller || !c.meshed(w) {
				continue
			}
			mode, by := c.mtlsMode(w)
			rule, tls := c.destinationTLS(n)
			switch {
			case mode == "STRICT" && !c.meshed(n.caller):
				c.blameTLS(n, w, "the caller has no mesh proxy", by, "spec.mtls.mode", mode, "PERMISSIVE, or a proxy in "+n.caller.Entity.String())
			case mode == "STRICT" && rule != nil && tls == "DISABLE":
				c.blameTLS(n, w, "a DestinationRule turns TLS off", rule, "spec.trafficPolicy.tls.mode", tls, "ISTIO_MUTUAL")
			case mode == "DISABLE" && rule != nil && tls == "ISTIO_MUTUAL":
				c.blameTLS(n, w, "a DestinationRule demands what the workload does not offer", rule, "spec.trafficPolicy.tls.mode", tls, "DISABLE")
			}
		}
	}
}

// destinationTLS returns the DestinationRule for a call and the TLS mode it sets.
func (c *scan) destinationTLS(n need) (*unstructured.Unstructured, string) {
	for _, r := range c.Custom("DestinationRule") {
		host := field(r, "spec", "host")
		mode := field(r, "spec", "trafficPolicy", "tls", "mode")
		if mode == "" {
			continue
		}
		if h := c.Resolve(r.GetNamespace(), host); h.Service == n.host.Service {
			return r, mode
		}
		if strings.HasPrefix(host, "*.") && strings.HasSuffix(n.host.Name+"."+n.host.Namespace+".svc.cluster.local", host[1:]) {
			return r, mode
		}
	}
	return nil, ""
}

// blameTLS records a disagreement about mutual TLS; without a failing call it is only possible.
func (c *scan) blameTLS(n need, w *cluster.Workload, why string, by *unstructured.Unstructured, path, observed, expected string) {
	score, level := 0.5, incident.Warning
	var sign *logFact
	for _, f := range c.facts() {
		fails := f.class == logRefused || f.class == logUnavailable || f.class == logTLS || f.class == logTimeout
		if fails && f.owner.Key() == n.caller.Entity.Key() && (c.Resolve(n.caller.Entity.Namespace, f.host).Service == n.host.Service || proxyContainer(f.container)) {
			sign = f
		}
	}
	if sign != nil {
		score, level = 0.95, incident.Critical
	}
	s := c.blame("MeshMTLSMismatch", w.Entity, score, "%s and its caller %s disagree about mutual TLS: %s", w.Entity, n.caller.Entity, why).level(level).explain(w.Entity, "")
	s.relate(n.caller.Entity).explain(n.caller.Entity, "")
	if by != nil {
		s.relate(customEntity(by)).see(customSource(by), customEntity(by), path, observed, expected)
		s.step(customEntity(by), "Set %s of %s to %s", path, customEntity(by), expected)
	}
	if sign != nil {
		s.quote("logs", sign.pod, sign.text, time.Time{}).explain(sign.pod, "")
	}
}
