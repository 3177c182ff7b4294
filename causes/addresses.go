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

// wrongAddresses names callers whose settings name a service or port that is not there, and
// services that are missing.
func wrongAddresses(c *scan) {
	for _, n := range c.needs() {
		if !n.host.Cluster || n.host.Pod != nil || n.caller.Desired == 0 {
			continue
		}
		if svc := n.host.Service; svc != nil {
			if n.port != 0 && n.path != "" && !c.acceptsPort(svc, n.port) {
				c.portNotThere(n)
			}
			continue
		}
		if c.SeesIn("objects/services", n.host.Namespace) {
			c.hostNotThere(n)
		}
	}
}

// acceptsPort reports whether connections to the port of a Service can work: it is one of its
// ports or, for a headless Service, one a pod listens on.
func (c *scan) acceptsPort(svc *corev1.Service, port int) bool {
	if hasPort(svc, port) || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return true
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		return false
	}
	ws, _ := c.ServiceWorkloads(svc)
	return slices.ContainsFunc(ws, func(w *cluster.Workload) bool {
		return slices.ContainsFunc(w.Template.Spec.Containers, func(ct corev1.Container) bool { return slices.Contains(listening(&ct, ""), port) })
	})
}

// callFails returns what a caller's log says about a host and port; "" when it says nothing.
func (c *scan) callFails(n need) *logFact {
	for _, f := range c.said(n.caller.Entity, logRefused, logTimeout, logUnknownHost, logDNSTimeout, logDBDown, logUnavailable) {
		if f.host == "" && f.class == logUnknownHost && n.host.Service == nil {
			return f // it does not say which name; this one does not resolve
		}
		if f.host == n.text || strings.HasPrefix(f.host, n.text+".") || n.host.Name != "" && f.host == n.host.Name {
			if n.port == 0 || f.port == "" || f.port == strconv.Itoa(n.port) {
				return f
			}
		}
	}
	return nil
}

// mentioned reports whether any log of the caller speaks of the host (and port, where told).
func (c *scan) mentioned(n need) bool {
	word := n.text
	if n.port != 0 {
		word += ":" + strconv.Itoa(n.port)
	}
	for _, p := range n.caller.Pods {
		for _, l := range c.PodLogs(p.Namespace, p.Name) {
			if strings.Contains(l.Current, word) && has(l.Current, "error", "fail", "unable", "refused", "timed out") {
				return true
			}
		}
	}
	return false
}

// callerSuffers reports whether the caller itself shows that something is wrong.
func (c *scan) callerSuffers(w *cluster.Workload) bool {
	if short(w) || slices.ContainsFunc(c.brokenContainers(), func(t trouble) bool { return t.workload == w }) {
		return true
	}
	return false
}

func (c *scan) portNotThere(n need) {
	svc := n.host.Service
	e := cluster.EntityOf("Service", svc)
	score, level := 0.85, incident.Critical
	f := c.callFails(n)
	switch {
	case f != nil:
		score = 0.96
	case c.mentioned(n), c.callerSuffers(n.caller):
		score = 0.93
	}
	cause := addressCause(c, svc)
	s := c.blame(cause, n.caller.Entity, score, "%s: %s names %s:%d, but service %s has port %s", n.caller.Entity, n.name, n.text, n.port, svc.Name, servicePorts(svc)).level(level)
	c.seeAddress(s, n, f, e)
	if len(svc.Spec.Ports) != 1 {
		return
	}
	right := int(svc.Spec.Ports[0].Port)
	if n.portAt != "" {
		n.name, n.value = n.portAt, strconv.Itoa(n.port)
		c.fixAddress(s, n, strconv.Itoa(right))
		return
	}
	c.fixAddress(s, n, replacePort(n.value, n.port, right))
}

// addressCause tells a wrong address of a database from one of any other service. Caches and
// search engines count as services: their clients live without them.
func addressCause(c *scan, svc *corev1.Service) incident.CauseName {
	ws, _ := c.ServiceWorkloads(svc)
	for _, w := range ws {
		for _, ct := range w.Template.Spec.Containers {
			if image := ct.Image[strings.LastIndexByte(ct.Image, '/')+1:]; database(w) && !has(image, "redis", "valkey", "etcd", "elasticsearch", "exporter") {
				return "DatabaseInvalidPort"
			}
		}
	}
	return "ServiceAddressEnvWrong"
}

func replacePort(value string, from, to int) string {
	return strings.Replace(value, ":"+strconv.Itoa(from), ":"+strconv.Itoa(to), 1)
}

func (c *scan) seeAddress(s *suspect, n need, f *logFact, svc incident.Entity) {
	s.see("objects/"+plural(n.object.Kind), n.object, n.path, n.name+"="+n.value, "the name and port of a service").relate(svc, n.object).explain(n.caller.Entity, "")
	if f != nil {
		s.quote("logs", f.pod, f.text, time.Time{})
	}
	c.rollback(s, n.caller)
}

// fixAddress proposes the corrected value of a variable that stands in the pod template.
func (c *scan) fixAddress(s *suspect, n need, value string) {
	if n.object.Kind == "ConfigMap" {
		s.step(n.object, "Set %s of %s to %s and restart %s", n.path, n.object, value, n.caller.Entity)
		return
	}
	if strings.HasPrefix(n.name, "-") {
		s.step(n.caller.Entity, "Set argument %s of %s to %s", n.name, n.caller.Entity, value)
		return
	}
	s.propose(incident.PatchEnv, n.caller.Entity, "set "+n.name+" of "+n.caller.Entity.String()+" to "+value,
		incident.ParamContainer, n.ct, incident.ParamName, n.name, incident.ParamValue, value, incident.ParamFrom, n.value)
}

// hostNotThere tells a misspelled address from a service that is missing.
func (c *scan) hostNotThere(n need) {
	var names []string
	for _, svc := range c.Services.In(n.host.Namespace) {
		names = append(names, svc.Name)
	}
	near := nearest(n.host.Name, names)
	for _, name := range names { // an invented ending is no spelling
		if near == "" && (strings.HasPrefix(n.host.Name, name+"-") || strings.HasPrefix(name, n.host.Name+"-") || strings.HasPrefix(n.host.Name, name) && len(name) >= 5) {
			near = name
		}
	}
	wanted := c.serviceMeant(n)
	if near != "" && c.namesAlready(n, near) {
		near = "" // the caller knows that one by another variable
	}
	f := c.callFails(n)
	sign := f != nil || c.mentioned(n)
	if sign && n.path != "" && near == "" && !wanted && c.elsewhere(n, f) {
		return
	}
	missing := incident.Entity{Kind: "Service", Namespace: n.host.Namespace, Name: n.host.Name}
	switch {
	case wanted && (sign || c.checkFails(missing) || n.path != "" && c.callerSuffers(n.caller)):
		score := 0.9
		s := c.blame("ServiceMissing", n.caller.Entity, score, "%s calls service %s, which does not exist", n.caller.Entity, missing)
		c.citeMissing(s, n, f, missing)
	case near != "" && n.path != "" && (sign || c.callerSuffers(n.caller) || c.knownToCall(n, near)):
		score := 0.9
		if sign {
			score = 0.96
		}
		there, _ := c.Services.Get(n.host.Namespace, near)
		s := c.blame(addressCause(c, there), n.caller.Entity, score, "%s: %s names service %s, which does not exist; there is %s", n.caller.Entity, n.name, n.host.Name, near)
		c.seeAddress(s, n, f, incident.Entity{Kind: "Service", Namespace: n.host.Namespace, Name: near})
		c.fixAddress(s, n, strings.Replace(n.value, n.host.Name, near, 1))
	case sign && n.path != "":
		s := c.blame("ServiceMissing", n.caller.Entity, 0.8, "%s calls service %s, which does not exist", n.caller.Entity, missing)
		c.citeMissing(s, n, f, missing)
	default:
		s := c.blame("ServiceMissing", n.caller.Entity, 0.3, "%s names service %s, which does not exist; nothing shows that it is needed", n.caller.Entity, missing).level(incident.Info)
		c.citeMissing(s, n, f, missing)
	}
}

// elsewhere blames the namespace in an address when the service is in another one, and reports
// whether it is.
func (c *scan) elsewhere(n need, f *logFact) bool {
	for _, svc := range c.Services.All() {
		if svc.Name != n.host.Name || svc.Namespace == n.host.Namespace {
			continue
		}
		e := cluster.EntityOf("Service", svc)
		s := c.blame(addressCause(c, svc), n.caller.Entity, 0.93, "%s: %s names service %s of namespace %s; it is in %s", n.caller.Entity, n.name, svc.Name, n.host.Namespace, svc.Namespace)
		c.seeAddress(s, n, f, e)
		fixed := svc.Name + "." + svc.Namespace
		if strings.Contains(n.text, ".svc") {
			fixed += n.text[strings.Index(n.text, ".svc"):]
		}
		c.fixAddress(s, n, strings.Replace(n.value, n.text, fixed, 1))
		return true
	}
	return false
}

func (c *scan) citeMissing(s *suspect, n need, f *logFact, missing incident.Entity) {
	if n.path != "" {
		s.see("objects/"+plural(n.object.Kind), n.object, n.path, n.name+"="+n.value, "an existing service")
	} else {
		s.see("topology", n.caller.Entity, "calls", n.text, "an existing service")
	}
	if f != nil {
		s.quote("logs", f.pod, f.text, time.Time{})
	}
	s.relate(missing).explain(n.caller.Entity, "").explain(missing, "")
	s.step(missing, "Create service %s for its pods", missing)
}

// serviceMeant reports whether the missing name is really the name of something: a workload is
// called so, others call it too, the topology or a check names it.
func (c *scan) serviceMeant(n need) bool {
	if len(c.named(n.host.Namespace, n.host.Name)) > 0 || n.path == "" {
		return true
	}
	if c.checkFails(incident.Entity{Namespace: n.host.Namespace, Name: n.host.Name}) {
		return true
	}
	return slices.ContainsFunc(c.needs(), func(o need) bool {
		return o.caller != n.caller && o.host.Name == n.host.Name && o.host.Namespace == n.host.Namespace
	})
}

// checkFails reports whether a TCP check names the service.
func (c *scan) checkFails(svc incident.Entity) bool {
	return slices.ContainsFunc(c.Probes, func(p cluster.Probe) bool {
		return p.Kind == "tcp" && !p.OK && p.Service == svc.Name && (p.Namespace == svc.Namespace || p.Namespace == "")
	})
}

// knownToCall reports whether the topology says that the caller calls a service, or its revision
// before named it.
func (c *scan) knownToCall(n need, service string) bool {
	if slices.ContainsFunc(c.needsOf(n.caller.Entity), func(o need) bool { return o.path == "" && o.host.Name == service }) {
		return true
	}
	rs := previous(n.caller)
	return rs != nil && slices.ContainsFunc(rs.Spec.Template.Spec.Containers, func(ct corev1.Container) bool {
		return slices.ContainsFunc(ct.Env, func(e corev1.EnvVar) bool { return e.Name == n.name && strings.Contains(e.Value, service) })
	})
}

// namesAlready reports whether another setting of the caller names the service.
func (c *scan) namesAlready(n need, service string) bool {
	return slices.ContainsFunc(c.needsOf(n.caller.Entity), func(o need) bool {
		return o.path != "" && o.path != n.path && o.host.Service != nil && o.host.Name == service
	})
}
