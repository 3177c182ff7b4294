package causes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// need is a dependency of a workload on an address: from its configuration or from the topology.
type need struct {
	caller *cluster.Workload
	host   cluster.Host
	text   string // host as written
	port   int    // 0: not told
	path   string // field path of the setting; "" for the topology
	object incident.Entity
	name   string // of the variable; "" when it is none
	value  string
	ct     string // container
	portAt string // the variable that gives the port, where another one than name does
}

var hostPort = regexp.MustCompile(`^(?:[a-z][a-z0-9+:]*://)?(?:[^@/\s]+@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(\d{1,5}))?(?:[/?].*)?$`)

// addressName tells variables that hold an address from others by their names.
var addressName = regexp.MustCompile(`(?i)(addr|address|host|url|uri|endpoint|server|service|broker|upstream|dsn|backend|target)s?(_|$)|_(host|addr|svc)$`)

// parseAddress reads host and port from a value such as "cart:7070", "http://cart/x" or
// "jdbc:mysql://db:3306/shop"; ok is false when it is no single address.
func parseAddress(v string) (host string, port int, scheme, ok bool) {
	v = strings.TrimSpace(v)
	if len(v) > 300 || strings.ContainsAny(v, " \n\t{}$") {
		return "", 0, false, false
	}
	m := hostPort.FindStringSubmatch(v)
	if m == nil {
		return "", 0, false, false
	}
	port, _ = strconv.Atoi(m[2])
	return strings.ToLower(m[1]), port, strings.Contains(v, "://"), port <= 65535
}

// needs returns what workloads depend on, in workload order: addresses in the environment (also
// from ConfigMaps) and calls of the topology.
func (c *scan) needs() []need {
	if c.wants != nil {
		return c.wants
	}
	c.wants = []need{}
	for _, w := range c.Workloads() {
		spec := &w.Template.Spec
		for i := range spec.Containers {
			c.wants = append(c.wants, c.envNeeds(w, &spec.Containers[i], "spec.template.spec.containers["+itoa(i)+"]")...)
		}
		for i := range spec.InitContainers { // what they wait for; only services that are there
			for _, h := range c.hostsIn(w, &spec.InitContainers[i]) {
				if h.Service != nil {
					c.wants = append(c.wants, need{caller: w, host: h, text: h.Name})
				}
			}
		}
	}
	for _, call := range c.Calls {
		h := c.Resolve(call.Namespace, call.To)
		for _, w := range c.named(call.Namespace, call.From) {
			c.wants = append(c.wants, need{caller: w, host: h, text: call.To})
		}
	}
	return c.wants
}

// named returns the workloads behind a service name, or of that name.
func (c *scan) named(ns, name string) []*cluster.Workload {
	if svc, ok := c.Services.Get(ns, name); ok {
		if ws, _ := c.ServiceWorkloads(svc); len(ws) > 0 {
			return ws
		}
	}
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		if w := c.Workload(incident.Entity{Kind: kind, Namespace: ns, Name: name}); w != nil {
			return []*cluster.Workload{w}
		}
	}
	return nil
}

func (c *scan) envNeeds(w *cluster.Workload, ct *corev1.Container, path string) []need {
	var out []need
	ns := w.Entity.Namespace
	env := map[string]string{}
	add := func(name, value, at string, o incident.Entity) {
		env[name] = value
		host, port, scheme, ok := parseAddress(value)
		if !ok || !scheme && port == 0 && !addressName.MatchString(name) {
			return
		}
		h := c.Resolve(ns, host)
		if h.Service == nil && h.Pod == nil && !scheme && port == 0 && !strings.Contains(host, "-") && !strings.Contains(host, ".") && !hasSisterPort(ct, name) {
			return // a word, not a host
		}
		if h.Service == nil && h.Pod == nil && (!strings.ContainsAny(host, "abcdefghijklmnopqrstuvwxyz") || !h.Cluster) {
			return
		}
		out = append(out, need{caller: w, host: h, text: host, port: port, path: at, object: o, name: name, value: value, ct: ct.Name})
	}
	for i, e := range ct.Env {
		at := path + ".env[" + itoa(i) + "].value"
		switch r := e.ValueFrom; {
		case r == nil:
			add(e.Name, e.Value, at, w.Entity)
		case r.ConfigMapKeyRef != nil:
			if cm, ok := c.ConfigMaps.Get(ns, r.ConfigMapKeyRef.Name); ok {
				add(e.Name, cm.Data[r.ConfigMapKeyRef.Key], "data."+r.ConfigMapKeyRef.Key, cluster.EntityOf("ConfigMap", cm))
			}
		}
	}
	for i, arg := range ct.Args {
		if flag, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(flag, "-") && addressName.MatchString(strings.ReplaceAll(strings.TrimLeft(flag, "-"), "-", "_")) {
			add(flag, value, path+".args["+itoa(i)+"]", w.Entity)
		}
	}
	for _, e := range ct.EnvFrom {
		if e.ConfigMapRef == nil {
			continue
		}
		if cm, ok := c.ConfigMaps.Get(ns, e.ConfigMapRef.Name); ok {
			for _, k := range sortedKeys(cm.Data) {
				add(e.Prefix+k, cm.Data[k], "data."+k, cluster.EntityOf("ConfigMap", cm))
			}
		}
	}
	joinPorts(out, env)
	return out
}

// hasSisterPort reports whether the container sets X_PORT beside X_HOST.
func hasSisterPort(ct *corev1.Container, name string) bool {
	stem, ok := strings.CutSuffix(strings.ToUpper(name), "HOST")
	return ok && slices.ContainsFunc(ct.Env, func(e corev1.EnvVar) bool { return strings.ToUpper(e.Name) == stem+"PORT" })
}

// joinPorts gives a host without port the port of its sister variable (X_HOST and X_PORT).
func joinPorts(ns []need, env map[string]string) {
	for i := range ns {
		if ns[i].port != 0 || ns[i].name == "" {
			continue
		}
		for _, suffix := range []string{"HOST", "ADDR", "ADDRESS", "SERVER"} {
			if stem, ok := strings.CutSuffix(strings.ToUpper(ns[i].name), suffix); ok {
				for name, v := range env {
					if strings.ToUpper(name) == stem+"PORT" {
						ns[i].port, _ = strconv.Atoi(v)
						ns[i].portAt = name
					}
				}
			}
		}
	}
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// needsOf returns the dependencies of one workload.
func (c *scan) needsOf(w incident.Entity) []need {
	if c.wantsOf == nil {
		c.wantsOf = map[incident.Entity][]need{}
		for _, n := range c.needs() {
			c.wantsOf[n.caller.Entity.Key()] = append(c.wantsOf[n.caller.Entity.Key()], n)
		}
	}
	return c.wantsOf[w.Key()]
}

// hostsIn returns the cluster hosts that a container's command, arguments and environment name.
func (c *scan) hostsIn(w *cluster.Workload, ct *corev1.Container) []cluster.Host {
	var out []cluster.Host
	for _, s := range slices.Concat(ct.Command, ct.Args) {
		for _, m := range peerPlain.FindAllStringSubmatch(s, 8) {
			if h := c.Resolve(w.Entity.Namespace, m[1]); h.Cluster {
				out = append(out, h)
			}
		}
		for _, f := range strings.Fields(s) {
			if h := c.Resolve(w.Entity.Namespace, strings.Trim(f, `"';,`)); h.Service != nil {
				out = append(out, h)
			}
		}
	}
	for _, n := range c.envNeeds(w, ct, "") {
		out = append(out, n.host)
	}
	return out
}

// servicePorts lists the ports of a Service as text.
func servicePorts(svc *corev1.Service) string {
	var out []string
	for _, p := range svc.Spec.Ports {
		out = append(out, strconv.Itoa(int(p.Port)))
	}
	return strings.Join(out, ", ")
}

func hasPort(svc *corev1.Service, port int) bool {
	return slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return int(p.Port) == port })
}

// databaseImages and databasePorts tell a database by what it runs or where it listens.
var (
	databaseImages = regexp.MustCompile(`(?i)(mysql|mariadb|percona|postgres|pgbouncer|cockroach|mongo|redis|valkey|cassandra|mssql|sqlserver|oracle|couchdb|etcd|elasticsearch|clickhouse)`)
	databasePorts  = []int32{3306, 33060, 5432, 27017, 6379, 1433, 1521, 9042, 26257}
)

// database reports whether a workload looks like a database.
func database(w *cluster.Workload) bool {
	for _, ct := range w.Template.Spec.Containers {
		image := ct.Image[strings.LastIndexByte(ct.Image, '/')+1:]
		if databaseImages.MatchString(image) && !strings.Contains(image, "exporter") {
			return true
		}
		for _, p := range ct.Ports {
			if slices.Contains(databasePorts, p.ContainerPort) {
				return true
			}
		}
	}
	return false
}
