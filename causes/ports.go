package causes

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

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
