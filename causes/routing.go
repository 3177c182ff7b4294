package causes

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

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

// wrongPorts names Services whose target port no container listens on, or by another protocol.
func wrongPorts(c *scan) {
	for _, svc := range c.Services.All() {
		ws, selected := c.ServiceWorkloads(svc)
		if !selected || svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for i, sp := range svc.Spec.Ports {
			for _, w := range ws {
				c.checkPort(svc, i, sp, w)
			}
		}
	}
}

// target returns the number a service port leads to; 0 when no container has the named port.
func target(sp corev1.ServicePort, spec *corev1.PodSpec) int {
	t := sp.TargetPort
	if t.Type == intstr.Int {
		if t.IntVal == 0 {
			return int(sp.Port)
		}
		return int(t.IntVal)
	}
	for i := range spec.Containers {
		if n := portNumber(t, &spec.Containers[i]); n != 0 {
			return n
		}
	}
	for i := range spec.InitContainers {
		if n := portNumber(t, &spec.InitContainers[i]); n != 0 {
			return n
		}
	}
	return 0
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func (c *scan) checkPort(svc *corev1.Service, i int, sp corev1.ServicePort, w *cluster.Workload) {
	spec := &w.Template.Spec
	n := target(sp, spec)
	var known []int
	declared, sameProtocol := false, false
	for j := range spec.Containers {
		known = append(known, listening(&spec.Containers[j], "")...)
	}
	for _, cts := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for j := range cts {
			for _, p := range cts[j].Ports {
				if int(p.ContainerPort) == n {
					declared = true
					sameProtocol = sameProtocol || protocolOf(p.Protocol) == protocolOf(sp.Protocol)
				}
			}
		}
	}
	path := "spec.ports[" + itoa(i) + "]"
	switch {
	case declared && !sameProtocol:
		c.wrongProtocol(svc, path, sp, w, n)
	case n != 0 && !declared && slices.Contains(known, n) && protocolOf(sp.Protocol) != corev1.ProtocolTCP && c.portFails(svc, sp) != "":
		c.wrongProtocol(svc, path, sp, w, n)
	case n != 0 && (declared || slices.Contains(known, n)):
		c.appProtocol(svc, path, sp, w, n)
	case len(known) > 0:
		c.portMismatch(svc, path, sp, w, n, known)
	}
}

func (c *scan) portMismatch(svc *corev1.Service, path string, sp corev1.ServicePort, w *cluster.Workload, n int, known []int) {
	e := cluster.EntityOf("Service", svc)
	sign := c.portFails(svc, sp)
	score, level := 0.95, incident.Critical
	switch {
	case sign != "":
	case n == 0:
		score = 0.9
	case len(svc.Spec.Ports) == 1 && len(c.callersOf(svc)) > 0:
		score, level = 0.72, incident.Warning
	case len(svc.Spec.Ports) == 1:
		score, level = 0.5, incident.Warning
	default:
		return
	}
	if sign == "" && n != 0 && c.portWorks(svc, sp) {
		return
	}
	want := ""
	if o := c.obviousPort(w, sp, known); o != 0 {
		want = strconv.Itoa(o)
	}
	s := c.blame("ServicePortMismatch", w.Entity, score, "service %s leads to port %s of %s, where nothing listens (%s)", e, sp.TargetPort.String(), w.Entity, joinInts(known)).level(level)
	s.see("objects/services", e, path+".targetPort", sp.TargetPort.String(), or(want, joinInts(known))).relate(e).explain(e, "").explain(w.Entity, "NoReadyEndpoints")
	if want != "" {
		s.propose(incident.PatchServicePort, e, "let port "+strconv.Itoa(int(sp.Port))+" of service "+svc.Name+" lead to "+want,
			incident.ParamPort, strconv.Itoa(int(sp.Port)), incident.ParamTargetPort, want)
	}
	if sign != "" {
		s.quote("symptoms", e, sign, time.Time{})
	}
	for _, o := range c.callersOf(svc) {
		s.relate(o.Entity)
	}
}

// obviousPort returns the port a service port should lead to: the only one, or the one of its
// number or name.
func (c *scan) obviousPort(w *cluster.Workload, sp corev1.ServicePort, known []int) int {
	for _, ct := range w.Template.Spec.Containers {
		for _, p := range ct.Ports {
			if p.Name != "" && p.Name == sp.Name || p.ContainerPort == sp.Port {
				return int(p.ContainerPort)
			}
		}
	}
	if len(known) == 1 {
		return known[0]
	}
	return 0
}

// portFails returns a sign that this port of a Service fails; see serviceFails.
func (c *scan) portFails(svc *corev1.Service, sp corev1.ServicePort) string {
	for _, p := range c.Probes {
		if p.Kind == "tcp" && p.Service == svc.Name && (p.Namespace == svc.Namespace || p.Namespace == "") && p.Port == int(sp.Port) {
			if p.OK {
				return ""
			}
			return "TCP check of " + svc.Name + ":" + strconv.Itoa(p.Port) + ": " + p.Detail
		}
	}
	sign := c.serviceFails(svc, nil)
	if len(svc.Spec.Ports) > 1 && !strings.Contains(sign, ":"+strconv.Itoa(int(sp.Port))) {
		return ""
	}
	return sign
}

// portWorks reports whether a check reached this port.
func (c *scan) portWorks(svc *corev1.Service, sp corev1.ServicePort) bool {
	return slices.ContainsFunc(c.Probes, func(p cluster.Probe) bool {
		return p.Kind == "tcp" && p.OK && p.Service == svc.Name && (p.Namespace == svc.Namespace || p.Namespace == "") && p.Port == int(sp.Port)
	})
}

func (c *scan) wrongProtocol(svc *corev1.Service, path string, sp corev1.ServicePort, w *cluster.Workload, n int) {
	e := cluster.EntityOf("Service", svc)
	want := corev1.ProtocolTCP
	if protocolOf(sp.Protocol) == corev1.ProtocolTCP {
		want = corev1.ProtocolUDP
	}
	score, level := 0.94, incident.Critical
	if c.portFails(svc, sp) == "" && len(c.callersOf(svc)) == 0 {
		score, level = 0.85, incident.Warning
	}
	s := c.blame("ServiceProtocolMismatch", w.Entity, score, "service %s forwards %s to port %d of %s, which speaks %s", e, protocolOf(sp.Protocol), n, w.Entity, want).level(level)
	s.see("objects/services", e, path+".protocol", string(protocolOf(sp.Protocol)), string(want)).relate(e).explain(e, "")
	if sign := c.portFails(svc, sp); sign != "" {
		s.quote("symptoms", e, sign, time.Time{})
	}
	s.propose(incident.PatchServicePort, e, "let port "+strconv.Itoa(int(sp.Port))+" of service "+svc.Name+" forward "+string(want),
		incident.ParamPort, strconv.Itoa(int(sp.Port)), incident.ParamTargetPort, sp.TargetPort.String(), incident.ParamProtocol, string(want))
}

// appProtocol names ports whose declared application protocol is not what the container's own
// probe speaks on them.
func (c *scan) appProtocol(svc *corev1.Service, path string, sp corev1.ServicePort, w *cluster.Workload, n int) {
	said := ""
	if sp.AppProtocol != nil {
		said = strings.ToLower(*sp.AppProtocol)
	}
	isHTTP := said == "http" || said == "https" || said == "http/1.1"
	isGRPC := said == "grpc" || said == "kubernetes.io/h2c"
	if !isHTTP && !isGRPC {
		return
	}
	spoken := ""
	for i := range w.Template.Spec.Containers {
		ct := &w.Template.Spec.Containers[i]
		for _, p := range []*corev1.Probe{ct.ReadinessProbe, ct.LivenessProbe, ct.StartupProbe} {
			if p == nil || probeTarget(p, ct) != n {
				continue
			}
			if p.GRPC != nil {
				spoken = "grpc"
			} else if p.HTTPGet != nil {
				spoken = "http"
			}
		}
		for _, p := range ct.Ports {
			if int(p.ContainerPort) == n && spoken == "" {
				switch {
				case strings.HasPrefix(p.Name, "grpc"):
					spoken = "grpc"
				case strings.HasPrefix(p.Name, "http"):
					spoken = "http"
				}
			}
		}
	}
	sign := or(c.portFails(svc, sp), c.protocolError(svc, w))
	if spoken == "" || spoken == "grpc" && isGRPC || spoken == "http" && isHTTP || sign == "" && !c.meshed(w) {
		return
	}
	e := cluster.EntityOf("Service", svc)
	s := c.blame("ServiceProtocolMismatch", w.Entity, 0.88, "service %s declares %s for port %d, %s speaks %s there", e, said, sp.Port, w.Entity, spoken)
	s.see("objects/services", e, path+".appProtocol", said, spoken).relate(e).explain(e, "")
	s.propose(incident.PatchServicePort, e, "declare "+spoken+" for port "+strconv.Itoa(int(sp.Port))+" of service "+svc.Name,
		incident.ParamPort, strconv.Itoa(int(sp.Port)), incident.ParamTargetPort, sp.TargetPort.String(), "appProtocol", spoken)
}

// protocolError returns a line in which the server, or a proxy in front of it, says that it was
// spoken to in another protocol; "" when there is none.
func (c *scan) protocolError(svc *corev1.Service, w *cluster.Workload) string {
	puzzled := []string{`"PRI * HTTP/2.0`, "PRI * HTTP/2.0", `method "PRI"`, "bogus greeting"}
	for _, p := range w.Pods {
		for _, l := range c.PodLogs(p.Namespace, p.Name) {
			for line := range strings.Lines(l.Current) {
				if anyOf(line, puzzled) {
					return podEntity(p).String() + ": " + strings.TrimSpace(incident.Clip(line, 300))
				}
			}
		}
	}
	for _, o := range c.callersOf(svc) {
		for _, p := range o.Pods {
			for _, l := range c.PodLogs(p.Namespace, p.Name) {
				if i := strings.Index(l.Current, "protocol_error"); i >= 0 && strings.Contains(l.Current, svc.Name) {
					return podEntity(p).String() + ": " + strings.TrimSpace(incident.Clip(l.Current[max(0, i-200):], 300))
				}
			}
		}
	}
	return ""
}

// meshed reports whether the workload's pods carry a mesh proxy.
func (c *scan) meshed(w *cluster.Workload) bool {
	for _, p := range w.Pods {
		for _, ct := range containersOf(p) {
			if proxyContainer(ct.Spec.Name) {
				return true
			}
		}
	}
	return false
}

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
	if len(svc.Spec.Ports) == 1 {
		c.fixAddress(s, n, replacePort(n.value, n.port, int(svc.Spec.Ports[0].Port)))
	}
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
