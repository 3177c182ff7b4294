package causes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// clusterDNS names a cluster DNS without a ready pod. What cannot resolve names for it is
// explained by it.
func clusterDNS(c *scan) {
	for _, w := range c.Workloads() {
		l := w.Template.Labels["k8s-app"]
		if w.Entity.Kind != "Deployment" && w.Entity.Kind != "DaemonSet" || !systemNamespace(w.Entity.Namespace) && w.Entity.Namespace != "openshift-dns" ||
			l != "kube-dns" && l != "coredns" && !strings.HasPrefix(w.Entity.Name, "coredns") && w.Entity.Name != "kube-dns" && w.Entity.Name != "dns-default" {
			continue
		}
		if w.Ready > 0 || strings.Contains(w.Entity.Name, "autoscaler") {
			continue
		}
		c.dnsDown(w)
	}
	ready, down := 0, []string{}
	for _, p := range c.Partials {
		if p.Namespace != "kube-system" || !strings.HasPrefix(p.Name, "coredns-") {
			continue
		}
		if !saysNotReady(p) {
			ready++
		} else if !c.nodeGone(p.Spec.NodeName) {
			down = append(down, p.Name)
		}
	}
	if ready == 0 && len(down) > 0 {
		c.dnsDown(&cluster.Workload{Entity: incident.Entity{Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}, Template: &corev1.PodTemplateSpec{}, Desired: int32(len(down))})
	}
}

func (c *scan) dnsDown(w *cluster.Workload) {
	s := c.blame("CoreDNSDown", w.Entity, 0.95, "%s has no ready pod: no name resolves in the cluster", w.Entity).explain(w.Entity, "")
	s.see("objects/"+plural(w.Entity.Kind), w.Entity, "status.readyReplicas", "0 of "+strconv.Itoa(int(w.Desired)), "at least 1")
	for _, cause := range []string{"ApplicationCrash", "ScaledToZero", "BadRollout", "RolloutStuck"} {
		s.explain(w.Entity, cause)
	}
	for _, p := range live(w) {
		s.explain(podEntity(p), "")
		for _, l := range c.PodLogs(p.Namespace, p.Name) {
			if t := lastLine(or(l.Previous, l.Current)); t != "" {
				s.quote("logs", podEntity(p), t, time.Time{})
			}
		}
	}
	for _, svc := range w.Services {
		s.relate(cluster.EntityOf("Service", svc)).explain(cluster.EntityOf("Service", svc), "")
	}
	for _, o := range c.suspects {
		switch o.cause {
		case "ServiceDNSFailure", "ServiceMissing", "ServiceAddressEnvWrong":
			if slices.ContainsFunc(c.said(o.object, logDNSTimeout, logUnknownHost, logRefused, logTimeout), lookupFails) {
				s.explain(o.object, string(o.cause)).relate(o.object)
			}
		}
	}
	for _, f := range c.facts() {
		if lookupFails(f) {
			s.explain(f.owner, "").explain(f.pod, "").relate(f.owner)
			if len(s.ev) < 6 {
				s.quote("logs", f.pod, f.text, time.Time{})
			}
		}
	}
	if w.Desired == 0 {
		s.propose(incident.Scale, w.Entity, "scale "+w.Entity.String()+" to 2", incident.ParamReplicas, "2", incident.ParamFrom, "0")
		return
	}
	c.rollback(s, w)
	s.step(w.Entity, "Read the last log lines of %s and its ConfigMap", w.Entity)
}

// lookupFails reports whether a line is about a name that the resolver did not answer for.
func lookupFails(f *logFact) bool {
	return f.class == logDNSTimeout || has(f.text, "lookup ", "resolve", "getaddrinfo", "name resolution", "unknownhost", "name or service not known")
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n ")
	return incident.Clip(s[strings.LastIndexByte(s, '\n')+1:], 500)
}

// controllerManager names a controller manager that does not run: its pod fails or its lease is
// stale, and objects wait for a controller.
func controllerManager(c *scan) {
	node, sign := "", ""
	alive := false
	for _, p := range slices.Concat(c.Pods.In("kube-system"), c.Partials) {
		if p.Namespace != "kube-system" || !strings.HasPrefix(p.Name, "kube-controller-manager") || c.nodeGone(p.Spec.NodeName) {
			continue
		}
		if !saysNotReady(p) {
			alive = alive || cluster.PodReady(p)
			continue
		}
		node, sign = p.Spec.NodeName, "pod "+p.Name+" is not ready"
	}
	if l, ok := c.Leases.Get("kube-system", "kube-controller-manager"); ok && l.Spec.RenewTime != nil {
		if old := c.age(l.Spec.RenewTime.Time); old < time.Minute {
			alive = true
		} else if !alive {
			sign = or(sign, "its lease was renewed last "+old.Round(time.Second).String()+" ago")
			if l.Spec.HolderIdentity != nil && node == "" {
				node, _, _ = strings.Cut(*l.Spec.HolderIdentity, "_")
			}
		}
	}
	if alive || sign == "" || node == "" {
		return
	}
	n := nodeEntity(node)
	waiting := c.unobserved()
	score := 0.85
	if len(waiting) > 0 {
		score = 0.95
	}
	s := c.blame("ControllerManagerDown", n, score, "the controller manager does not run: %s", sign).explain(n, "").quote("objects/pods", n, sign, time.Time{})
	c.explainStaticPod(s, "kube-controller-manager", node)
	for _, w := range waiting {
		s.explain(w, "").relate(w).see("objects/"+plural(w.Kind), w, "status.observedGeneration", "older than metadata.generation", "equal")
	}
	s.step(n, "See the kube-controller-manager on node %s", node)
}

// explainStaticPod says that a fault of a control plane component explains what its static pod
// shows.
func (c *scan) explainStaticPod(s *suspect, component, node string) {
	for _, p := range c.Pods.In("kube-system") {
		if strings.HasPrefix(p.Name, component) && p.Spec.NodeName == node {
			e := c.owner(p)
			s.explain(podEntity(p), "").relate(podEntity(p))
			for _, o := range c.suspects {
				if o.object.Key() == e.Key() {
					s.explain(e, string(o.cause))
				}
			}
			for _, l := range c.PodLogs(p.Namespace, p.Name) {
				s.quote("logs", podEntity(p), lastLine(or(l.Previous, l.Current)), time.Time{})
			}
		}
	}
}

// unobserved returns the workloads whose latest spec no controller has looked at.
func (c *scan) unobserved() []incident.Entity {
	var out []incident.Entity
	for _, d := range c.Deployments.All() {
		if d.Status.ObservedGeneration < d.Generation && d.Status.ObservedGeneration > 0 {
			out = append(out, cluster.EntityOf("Deployment", d))
		}
	}
	for _, d := range c.StatefulSets.All() {
		if d.Status.ObservedGeneration < d.Generation && d.Status.ObservedGeneration > 0 {
			out = append(out, cluster.EntityOf("StatefulSet", d))
		}
	}
	return out
}

var etcdTook = regexp.MustCompile(`"took":"([0-9.]+(?:ms|s|m[0-9.]+s))"`)

// slowRequest is how long etcd may take for a request before it counts as slow. Its own warning
// begins at 100 ms, which busy healthy clusters pass now and then.
const slowRequest = 500 * time.Millisecond

// slowStore names an etcd that answers late, by its own words and the API server's.
func slowStore(c *scan) {
	lines := c.systemLines("etcd", "lost leader", "failed to send out heartbeat on time", "slow fdatasync")
	for _, l := range c.systemLines("etcd", "took too long") {
		if m := etcdTook.FindStringSubmatch(l.text); m != nil && !strings.Contains(l.text, "heartbeat") {
			if took, err := time.ParseDuration(m[1]); err == nil && took >= slowRequest {
				lines = append(lines, l)
			}
		}
	}
	lines = append(lines, c.systemLines("kube-apiserver", "etcdserver: request timed out", "etcdserver: leader changed")...)
	if len(lines) < 3 {
		return
	}
	e := c.itself()
	s := c.blame("EtcdSlow", e, 0.93, "etcd is slow: %d lines say so", len(lines)).explain(e, "").explain(e, "APIServerOverloaded")
	for _, l := range lines[:min(len(lines), 5)] {
		s.quote("logs", l.pod, l.text, time.Time{}).relate(l.pod)
	}
	s.step(e, "See the disk latency of the etcd members (fsync below 10 ms) and what else writes to that disk")
}

// busyAPIServer names an API server that turns requests away or answers too late.
func busyAPIServer(c *scan) {
	lines := c.systemLines("", "the server has received too many requests", "too many requests: Please try again later", "http: Handler timeout", "Post-timeout activity",
		"was unable to return a response in the time allotted", "the server is currently unable to handle the request")
	rejected := 0.0
	for i := range c.Series {
		if p := c.Series[i].Points; c.Series[i].Name == "apiserver_flowcontrol_rejected_requests_total" && len(p) > 1 {
			rejected += p[len(p)-1].Value - p[0].Value
		}
	}
	if len(lines) < 3 && rejected < 10 {
		return
	}
	e := c.itself()
	s := c.blame("APIServerOverloaded", e, 0.92, "the API server answers late or refuses").explain(e, "")
	for _, l := range lines[:min(len(lines), 5)] {
		s.quote("logs", l.pod, l.text, time.Time{}).relate(l.pod)
	}
	if rejected >= 10 {
		s.see("metrics", e, "apiserver_flowcontrol_rejected_requests_total", strconv.Itoa(int(rejected))+" requests rejected", "0")
	}
	s.step(e, "Find the client that asks most (apiserver_request_total by user agent) and slow it down or give it its own priority level")
}

// itself is the cluster as an entity.
func (c *scan) itself() incident.Entity {
	return incident.Entity{Kind: "Cluster", Name: or(string(c.Name), "cluster")}
}

type systemLine struct {
	pod  incident.Entity
	text string
}

// systemLines returns the log lines with any of the phrases, of the pods of a control plane
// component in kube-system; of all pods for the empty component. At most 200, none that says it is
// older than an hour or that is about the metrics API, which another server answers.
func (c *scan) systemLines(component string, phrases ...string) []systemLine {
	var out []systemLine
	for i := range c.Logs {
		l := &c.Logs[i]
		if component != "" && (l.Namespace != "kube-system" || !strings.HasPrefix(l.Pod, component)) || !anyOf(l.Current, phrases) {
			continue
		}
		for text := range strings.Lines(l.Current) {
			if len(out) < 200 && anyOf(text, phrases) && !strings.Contains(text, "metrics.k8s.io") && c.fresh(text) {
				out = append(out, systemLine{incident.Entity{Kind: "Pod", Namespace: l.Namespace, Name: l.Pod}, incident.Clip(strings.TrimSpace(text), 500)})
			}
		}
	}
	return out
}

func anyOf(s string, phrases []string) bool {
	return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(s, p) })
}

var (
	klogTime = regexp.MustCompile(`^[IWEF](\d{4} \d{2}:\d{2}:\d{2})`)
	jsonTime = regexp.MustCompile(`"(?:ts|time|timestamp)":"(\d{4}-\d{2}-\d{2}T[0-9:.]+(?:Z|[+-]\d{2}:?\d{2}))"`)
)

// fresh reports whether a log line is not known to be older than an hour: klog's and JSON's time
// are read, other lines pass.
func (c *scan) fresh(text string) bool {
	var at time.Time
	var err error
	if m := klogTime.FindStringSubmatch(text); m != nil {
		at, err = time.Parse("20060102 15:04:05", strconv.Itoa(c.At.Year())+m[1])
		if at.After(c.At.Add(24 * time.Hour)) {
			at = at.AddDate(-1, 0, 0) // written before the turn of the year
		}
	} else if m := jsonTime.FindStringSubmatch(text); m != nil {
		at, err = time.Parse(time.RFC3339Nano, m[1])
	}
	return err != nil || at.IsZero() || c.age(at) < time.Hour
}
