package causes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// probeFault is how a probe fails: what a kubelet's message says about port, protocol and path.
type probeFault struct {
	kind     string // liveness, readiness, startup
	message  string
	count    int32
	at       time.Time
	ct       container
	probe    *corev1.Probe
	port     int
	workload *cluster.Workload
}

var probePort = regexp.MustCompile(`(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):(\d{1,5})`)

// failingProbes returns the probes that fail now, one per workload, container and kind.
func (c *scan) failingProbes() []probeFault {
	var out []probeFault
	seen := map[string]bool{}
	for _, w := range c.Workloads() {
		for _, p := range live(w) {
			for _, ev := range c.warnings(podEntity(p), "Unhealthy", "ProbeWarning", "Killing") {
				kind, rest, ok := strings.Cut(ev.Message, " probe ")
				if !ok || ev.Reason == "Killing" {
					continue
				}
				kind = strings.ToLower(kind)
				if kind != "liveness" && kind != "readiness" && kind != "startup" {
					continue
				}
				f := probeFault{kind: kind, message: rest, count: max(ev.Count, 1), at: cluster.EventTime(ev), workload: w}
				if !c.probeOf(p, ev, &f) {
					continue
				}
				if c.probeMatters(f) && !seen[w.Entity.String()+f.ct.Spec.Name+kind] {
					seen[w.Entity.String()+f.ct.Spec.Name+kind] = true
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// probeOf finds the container and probe an event is about: by field path, by port, or because
// only one container has such a probe.
func (c *scan) probeOf(p *corev1.Pod, ev *corev1.Event, f *probeFault) bool {
	named := between(ev.InvolvedObject.FieldPath, "{", "}")
	if m := probePort.FindStringSubmatch(f.message); m != nil {
		f.port, _ = strconv.Atoi(m[1])
	}
	found := 0
	for _, ct := range containersOf(p) {
		probe := map[string]*corev1.Probe{"liveness": ct.Spec.LivenessProbe, "readiness": ct.Spec.ReadinessProbe, "startup": ct.Spec.StartupProbe}[f.kind]
		if probe == nil || named != "" && ct.Spec.Name != named {
			continue
		}
		if port := probeTarget(probe, ct.Spec); f.port != 0 && port != 0 && port != f.port {
			continue
		}
		if proxyContainer(ct.Spec.Name) && named == "" {
			continue
		}
		f.ct, f.probe = ct, probe
		found++
	}
	if found > 0 && f.port == 0 {
		f.port = probeTarget(f.probe, f.ct.Spec)
	}
	return found > 0
}

// probeTarget returns the port a probe asks; 0 when it asks none.
func probeTarget(p *corev1.Probe, ct *corev1.Container) int {
	switch {
	case p.HTTPGet != nil:
		return portNumber(p.HTTPGet.Port, ct)
	case p.TCPSocket != nil:
		return portNumber(p.TCPSocket.Port, ct)
	case p.GRPC != nil:
		return int(p.GRPC.Port)
	}
	return 0
}

func portNumber(p intstr.IntOrString, ct *corev1.Container) int {
	if p.Type == intstr.Int {
		return int(p.IntVal)
	}
	for _, cp := range ct.Ports {
		if cp.Name == p.StrVal {
			return int(cp.ContainerPort)
		}
	}
	return 0
}

// probeMatters leaves out what passes by itself: failures while a container starts that is ready
// by now, and single ones.
func (c *scan) probeMatters(f probeFault) bool {
	pod := f.ct.Pod
	ready := cluster.PodReady(pod) && f.ct.ready()
	switch f.kind {
	case "readiness", "startup":
		return !ready
	}
	if !ready {
		return true
	}
	if f.ct.restarts() > 0 && c.age(f.at) < 15*time.Minute {
		return true
	}
	started := pod.CreationTimestamp.Time
	if r := f.ct.Status; r != nil && r.State.Running != nil {
		started = r.State.Running.StartedAt.Time
	}
	return f.count >= 3 && f.at.Sub(started) > 30*time.Second
}

// wrongProbes names probes that ask the wrong port, protocol or path, or too soon.
func wrongProbes(c *scan) {
	for _, f := range c.failingProbes() {
		if c.crashedItself(f) {
			continue
		}
		switch {
		case c.wrongPort(f):
			c.blameProbe(f, "WrongPort", 0.95)
		case f.wrongProtocol(), c.serverPuzzled(f):
			c.blameProbe(f, "WrongProtocol", 0.95)
		case c.grpcOfHTTP(f):
			c.blameProbe(f, "WrongProtocol", 0.85)
		case has(f.message, "statuscode: 404", "statuscode: 405", "statuscode: 410", "statuscode: 401", "statuscode: 403"):
			c.blameProbe(f, "WrongPath", 0.94)
		case f.kind == "startup":
			c.tooSoon(f, "StartupProbeTooShort")
		case f.kind == "liveness":
			c.tooSoon(f, "LivenessProbeTooAggressive")
		}
	}
}

// crashedItself reports whether the container ends by itself with an error: its probes then fail
// because of that. A container that a liveness probe kills ends on a signal.
func (c *scan) crashedItself(f probeFault) bool {
	e := f.ct.ended()
	if e == nil || f.ct.restarts() == 0 {
		return false
	}
	if e.Reason == "OOMKilled" {
		return true
	}
	if f.kind != "readiness" && c.killedByProbe(f) {
		return false
	}
	return e.ExitCode != 0 && e.ExitCode != 137 && e.ExitCode != 143 && !f.ct.ready()
}

// killedByProbe reports whether the kubelet said that it kills the container for its probe.
func (c *scan) killedByProbe(f probeFault) bool {
	return slices.ContainsFunc(c.warnings(podEntity(f.ct.Pod), "Killing"), func(ev *corev1.Event) bool {
		return has(ev.Message, "failed "+f.kind+" probe")
	})
}

// listening returns the ports the container is known to listen on: declared, named by PORT
// variables, or asked by its other probes. Empty: nothing is known.
func listening(ct *corev1.Container, besides string) []int {
	var out []int
	for _, p := range ct.Ports {
		out = append(out, int(p.ContainerPort))
	}
	for _, e := range ct.Env {
		if n, err := strconv.Atoi(e.Value); err == nil && n > 0 && (e.Name == "PORT" || strings.HasSuffix(e.Name, "_PORT") && strings.Contains(e.Name, "LISTEN") || strings.HasSuffix(e.Name, "SERVER_PORT")) {
			out = append(out, n)
		}
	}
	for kind, p := range map[string]*corev1.Probe{"liveness": ct.LivenessProbe, "readiness": ct.ReadinessProbe, "startup": ct.StartupProbe} {
		if p != nil && kind != besides {
			if n := probeTarget(p, ct); n != 0 && len(ct.Ports) == 0 {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wrongPort reports whether nothing is known to listen where the probe asks, and the answer fits.
func (c *scan) wrongPort(f probeFault) bool {
	if f.probe.Exec != nil || f.port == 0 || !has(f.message, "refused", "failed to connect", "timeout", "deadline exceeded", "no route") {
		return false
	}
	ports := listening(f.ct.Spec, f.kind)
	for _, o := range containersOf(f.ct.Pod) { // a probe may ask another container of the pod
		if o.Spec != f.ct.Spec {
			ports = append(ports, listening(o.Spec, "")...)
		}
	}
	return len(ports) > 0 && !slices.Contains(ports, f.port)
}

// wrongProtocol reports whether the answer is one of another protocol.
func (f probeFault) wrongProtocol() bool {
	return has(f.message, "malformed http", "transport connection broken", "http response to https client", "first record does not look like a tls", "frame too large", "server preface",
		"http request to an https server", "unimplemented", "does not implement the grpc health protocol", "unexpected http status", "wrong version number", "statuscode: 415", "http/2 frame") ||
		f.probe.HTTPGet != nil && has(f.message, ": eof", "connection reset by peer", "tls: ")
}

// serverPuzzled reports whether the container's log shows that it was spoken to in another
// protocol on the port: TLS servers and HTTP/1 servers say so.
func (c *scan) serverPuzzled(f probeFault) bool {
	var words []string
	switch {
	case f.probe.HTTPGet != nil && f.probe.HTTPGet.Scheme != corev1.URISchemeHTTPS && has(f.message, "statuscode: 400", "eof", "reset", "malformed"):
		words = []string{"sent an HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "http request to an https"}
	case f.probe.GRPC != nil:
		words = []string{`"PRI * HTTP/2.0`, "PRI * HTTP/2.0", `method "PRI"`, "bogus greeting"}
	default:
		return false
	}
	return slices.ContainsFunc(c.PodLogs(f.ct.Pod.Namespace, f.ct.Pod.Name), func(l *cluster.Log) bool {
		return l.Container == f.ct.Spec.Name && (anyOf(l.Current, words) || anyOf(l.Previous, words))
	})
}

// grpcOfHTTP reports whether a gRPC probe that never connects asks a port that another probe of
// the container asks over HTTP or plain TCP, with success.
func (c *scan) grpcOfHTTP(f probeFault) bool {
	if f.probe.GRPC == nil || !has(f.message, "failed to connect", "deadline exceeded", "connection closed", "unavailable") {
		return false
	}
	for kind, p := range map[string]*corev1.Probe{"liveness": f.ct.Spec.LivenessProbe, "readiness": f.ct.Spec.ReadinessProbe, "startup": f.ct.Spec.StartupProbe} {
		if kind != f.kind && p != nil && p.GRPC == nil && p.Exec == nil && probeTarget(p, f.ct.Spec) == f.port {
			return kind != "readiness" || f.ct.ready() || f.ct.Status != nil && f.ct.Status.State.Running != nil
		}
	}
	return c.oldProbeDiffers(f)
}

// oldProbeDiffers reports whether the revision before asked the same port in another way.
func (c *scan) oldProbeDiffers(f probeFault) bool {
	o := c.oldProbe(f)
	return o != nil && (o.GRPC == nil) != (f.probe.GRPC == nil) && probeTarget(o, f.ct.Spec) == f.port
}

// oldProbe returns the same probe in the revision before; nil when there is none.
func (c *scan) oldProbe(f probeFault) *corev1.Probe {
	rs := previous(f.workload)
	if rs == nil {
		return nil
	}
	for i := range rs.Spec.Template.Spec.Containers {
		ct := &rs.Spec.Template.Spec.Containers[i]
		if ct.Name == f.ct.Spec.Name {
			return map[string]*corev1.Probe{"liveness": ct.LivenessProbe, "readiness": ct.ReadinessProbe, "startup": ct.StartupProbe}[f.kind]
		}
	}
	return nil
}

// cite adds what a failing probe shows.
func (f probeFault) cite(s *suspect) *suspect {
	e := podEntity(f.ct.Pod)
	return s.quote("events", e, strings.ToUpper(f.kind[:1])+f.kind[1:]+" probe "+f.message, f.at).explain(f.workload.Entity, "").explain(e, "").relate(e).first(f.ct.Pod.CreationTimestamp.Time)
}

func (f probeFault) path(field string) string {
	p := strings.Replace(f.ct.Path, "spec.", "spec.template.spec.", 1)
	return p + "." + f.kind + "Probe" + field
}

func (c *scan) blameProbe(f probeFault, fault string, score float64) {
	w := f.workload.Entity
	name := map[string]string{"liveness": "Liveness", "readiness": "Readiness", "startup": "Startup"}[f.kind]
	cause := incident.CauseName(name + "Probe" + fault)
	if f.kind == "startup" {
		cause = "StartupProbeTooShort" // the catalogue knows no narrower one for startup probes
	}
	if f.kind == "liveness" && fault == "WrongPath" && f.ct.ready() && f.ct.restarts() == 0 && f.count < 3 {
		return
	}
	s := f.cite(c.blame(cause, w, score, "%s: %s", w, line(cause)))
	switch fault {
	case "WrongPort":
		ports := listening(f.ct.Spec, f.kind)
		s.see("objects/"+plural(w.Kind), w, f.path(".port"), itoa(f.port), "a port it listens on: "+joinInts(ports))
		if right := c.portMeant(f, ports); right != 0 {
			s.propose(incident.PatchProbe, w, "let the "+f.kind+" probe of container "+f.ct.Spec.Name+" ask port "+itoa(right),
				incident.ParamContainer, f.ct.Spec.Name, incident.ParamProbe, f.kind, incident.ParamPort, itoa(right))
		}
	case "WrongProtocol":
		s.see("objects/"+plural(w.Kind), w, f.path(""), probeType(f.probe), "the protocol that port "+itoa(f.port)+" speaks")
		c.protocolFix(s, f)
	case "WrongPath":
		s.see("objects/"+plural(w.Kind), w, f.path(".httpGet.path"), httpPath(f.probe), "a path the container serves")
		c.pathFix(s, f)
	}
	c.rollback(s, f.workload)
}

// portMeant returns the port that a probe should ask: the one of the revision before, of the
// container's other probe, the one spelled most like the wrong one, else the first.
func (c *scan) portMeant(f probeFault, ports []int) int {
	for _, p := range []*corev1.Probe{c.oldProbe(f), f.otherProbe()} {
		if p != nil && p.Exec == nil {
			if n := probeTarget(p, f.ct.Spec); n != f.port && slices.Contains(ports, n) {
				return n
			}
		}
	}
	best, at := 0, 3
	for _, n := range ports {
		if d := distance(itoa(n), itoa(f.port), 3); best == 0 || d < at {
			best, at = n, d
		}
	}
	return best
}

func joinInts(ns []int) string {
	var out []string
	for _, n := range ns {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ", ")
}

func httpPath(p *corev1.Probe) string {
	if p.HTTPGet == nil {
		return ""
	}
	return p.HTTPGet.Path
}

func probeType(p *corev1.Probe) string {
	switch {
	case p.HTTPGet != nil && p.HTTPGet.Scheme == corev1.URISchemeHTTPS:
		return "httpGet (HTTPS)"
	case p.HTTPGet != nil:
		return "httpGet"
	case p.TCPSocket != nil:
		return "tcpSocket"
	case p.GRPC != nil:
		return "grpc"
	}
	return "exec"
}

// otherProbe returns another probe of the container that asks the same port and does not fail.
func (f probeFault) otherProbe() *corev1.Probe {
	for _, p := range []*corev1.Probe{f.ct.Spec.ReadinessProbe, f.ct.Spec.LivenessProbe, f.ct.Spec.StartupProbe} {
		if p != nil && p != f.probe && probeTarget(p, f.ct.Spec) == f.port && probeType(p) != probeType(f.probe) {
			return p
		}
	}
	return nil
}

func (c *scan) protocolFix(s *suspect, f probeFault) {
	good := f.otherProbe()
	if good == nil {
		good = c.oldProbe(f)
	}
	w, ct := f.workload.Entity, f.ct.Spec.Name
	switch {
	case good != nil && good.GRPC != nil:
		s.propose(incident.PatchProbe, w, "make the "+f.kind+" probe of container "+ct+" a gRPC one, like its other probe",
			incident.ParamContainer, ct, incident.ParamProbe, f.kind, incident.ParamType, "grpc", incident.ParamPort, itoa(f.port))
	case good != nil && good.HTTPGet != nil && f.probe.HTTPGet == nil:
		s.propose(incident.PatchProbe, w, "make the "+f.kind+" probe of container "+ct+" an HTTP one",
			incident.ParamContainer, ct, incident.ParamProbe, f.kind, incident.ParamType, "httpGet", incident.ParamPort, itoa(f.port), incident.ParamPath, or(good.HTTPGet.Path, "/"))
	case f.probe.HTTPGet != nil && f.probe.HTTPGet.Scheme == corev1.URISchemeHTTPS && has(f.message, "http response to https client"):
		s.propose(incident.PatchProbe, w, "let the "+f.kind+" probe of container "+ct+" ask over HTTP", incident.ParamContainer, ct, incident.ParamProbe, f.kind, incident.ParamScheme, "HTTP")
	case f.probe.HTTPGet != nil && f.probe.HTTPGet.Scheme != corev1.URISchemeHTTPS && (has(f.message, "https server") || c.serverPuzzled(f)):
		s.propose(incident.PatchProbe, w, "let the "+f.kind+" probe of container "+ct+" ask over HTTPS", incident.ParamContainer, ct, incident.ParamProbe, f.kind, incident.ParamScheme, "HTTPS")
	default:
		s.propose(incident.PatchProbe, w, "let the "+f.kind+" probe of container "+ct+" only open port "+itoa(f.port),
			incident.ParamContainer, ct, incident.ParamProbe, f.kind, incident.ParamType, "tcpSocket", incident.ParamPort, itoa(f.port))
	}
}

func (c *scan) pathFix(s *suspect, f probeFault) {
	for _, p := range []*corev1.Probe{c.oldProbe(f), f.ct.Spec.ReadinessProbe, f.ct.Spec.LivenessProbe, f.ct.Spec.StartupProbe} {
		if p != nil && p.HTTPGet != nil && p.HTTPGet.Path != httpPath(f.probe) {
			s.propose(incident.PatchProbe, f.workload.Entity, "let the "+f.kind+" probe of container "+f.ct.Spec.Name+" ask "+p.HTTPGet.Path,
				incident.ParamContainer, f.ct.Spec.Name, incident.ParamProbe, f.kind, incident.ParamPath, p.HTTPGet.Path)
			return
		}
	}
	s.step(f.workload.Entity, "Correct the path of the %s probe of container %s in %s", f.kind, f.ct.Spec.Name, f.workload.Entity)
}

// grace returns how long a container has before a probe kills it.
func grace(p *corev1.Probe) time.Duration {
	period, n := p.PeriodSeconds, p.FailureThreshold
	if period == 0 {
		period = 10
	}
	if n == 0 {
		n = 3
	}
	return time.Duration(p.InitialDelaySeconds+period*n) * time.Second
}

// tooSoon names probes that kill a container before it has started: it is killed and not at odds
// with itself, or its probe gives little time.
func (c *scan) tooSoon(f probeFault, cause incident.CauseName) {
	killed := c.killedByProbe(f)
	if !killed && f.ct.restarts() == 0 && f.count < 3 || has(f.message, "statuscode: 5") && f.ct.restarts() == 0 {
		return
	}
	score := 0.72
	g := grace(f.probe)
	switch {
	case killed && g <= 30*time.Second, f.ct.restarts() > 0 && g <= 30*time.Second:
		score = 0.9
	case killed || f.ct.restarts() > 0:
		score = 0.82
	}
	if has(f.message, "statuscode: 5") {
		score -= 0.3
	}
	w := f.workload.Entity
	s := f.cite(c.blame(cause, w, score, "%s: its %s probe gives container %s %s and kills it before it has started", w, f.kind, f.ct.Spec.Name, g))
	s.see("objects/"+plural(w.Kind), w, f.path(".initialDelaySeconds"), itoa(int(f.probe.InitialDelaySeconds))+" s, then "+g.String()+" in all", "more than the start takes")
	delay, n := max(f.probe.InitialDelaySeconds*2, 30), max(f.probe.FailureThreshold, 3)
	if f.kind == "startup" {
		s.propose(incident.PatchProbe, w, "give the startup probe of container "+f.ct.Spec.Name+" four times as long",
			incident.ParamContainer, f.ct.Spec.Name, incident.ParamProbe, f.kind, "failureThreshold", itoa(int(n*4)))
	} else {
		s.propose(incident.PatchProbe, w, "let the liveness probe of container "+f.ct.Spec.Name+" wait longer",
			incident.ParamContainer, f.ct.Spec.Name, incident.ParamProbe, f.kind, "initialDelaySeconds", itoa(int(delay)), "failureThreshold", itoa(int(n)), "timeoutSeconds", itoa(int(max(f.probe.TimeoutSeconds, 5))))
	}
	c.rollback(s, f.workload)
}
