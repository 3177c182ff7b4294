package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// dnsBroken reports whether the workload's pods cannot resolve names by their own settings.
func (c *scan) dnsBroken(w *cluster.Workload) bool {
	spec := &w.Template.Spec
	return spec.DNSPolicy == corev1.DNSNone || spec.DNSPolicy == corev1.DNSDefault || spec.HostNetwork && spec.DNSPolicy == corev1.DNSClusterFirst
}

// nameResolution names pods that cannot resolve names: because of their own DNS settings, or
// because the resolver does not answer them.
func nameResolution(c *scan) {
	for _, w := range c.Workloads() {
		var bad []*logFact
		facts := c.said(w.Entity, logUnknownHost, logDNSTimeout)
		if c.dnsBroken(w) { // the pod's own settings: a proxy's words count too
			for _, f := range c.factsOf[w.Entity.Key()] {
				if proxyContainer(f.container) && (f.class == logUnknownHost || f.class == logDNSTimeout) {
					facts = append(facts, f)
				}
			}
		}
		for _, f := range facts {
			h := c.Resolve(w.Entity.Namespace, f.host)
			if f.class == logDNSTimeout || h.Service != nil || f.host == "" || !h.Cluster && c.dnsBroken(w) {
				bad = append(bad, f)
			}
		}
		if len(bad) > 0 || c.strangeResolver(w) && c.callerSuffers(w) {
			c.blameDNS(w, bad)
		}
	}
}

// strangeResolver reports whether the pods ask nameservers of their own that are no Service of
// the cluster and that no other workload uses.
func (c *scan) strangeResolver(w *cluster.Workload) bool {
	spec := &w.Template.Spec
	if spec.DNSPolicy != corev1.DNSNone || spec.DNSConfig == nil {
		return false
	}
	for _, ns := range spec.DNSConfig.Nameservers {
		if c.Resolve(w.Entity.Namespace, ns).Cluster {
			return false
		}
		for _, o := range c.Workloads() {
			if o != w && o.Ready > 0 && o.Template.Spec.DNSConfig != nil && slices.Contains(o.Template.Spec.DNSConfig.Nameservers, ns) {
				return false
			}
		}
	}
	return true
}

func (c *scan) blameDNS(w *cluster.Workload, bad []*logFact) {
	spec := &w.Template.Spec
	suffers := c.callerSuffers(w)
	cause, score := incident.CauseName("ServiceDNSFailure"), 0.85
	switch {
	case spec.DNSPolicy == corev1.DNSNone && len(bad) == 0:
		score = 0.8
	case spec.DNSPolicy == corev1.DNSNone:
		score = 0.96
	case c.dnsBroken(w):
		cause, score = "DNSPolicyWrong", 0.95
	case !suffers && !slices.ContainsFunc(bad, func(f *logFact) bool { return f.last && f.count >= 2 }):
		return
	case !suffers:
		score = 0.75
	}
	s := c.blame(cause, w.Entity, score, "%s: names do not resolve inside its pods", w.Entity).explain(w.Entity, "")
	policy := string(spec.DNSPolicy)
	if spec.DNSConfig != nil && len(spec.DNSConfig.Nameservers) > 0 {
		policy += ", nameservers " + strings.Join(spec.DNSConfig.Nameservers, ", ")
	}
	if c.dnsBroken(w) {
		s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.dnsPolicy", policy, "ClusterFirst, or ClusterFirstWithHostNet on the host's network")
		c.rollback(s, w)
		s.step(w.Entity, "Set dnsPolicy of %s to ClusterFirst and drop its own nameservers", w.Entity)
	} else {
		s.step(w.Entity, "See whether the cluster's DNS answers from the node of %s", w.Entity)
	}
	for _, f := range bad {
		s.quote("logs", f.pod, f.text, time.Time{}).explain(f.pod, "")
	}
}
