package causes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// route is one rule of a gateway: requests whose path begins with prefix go to a service.
type route struct {
	prefix    string
	name      string // the route's own name, where it has one
	namespace string // of the service
	service   string
	owner     incident.Entity // the Ingress, HTTPRoute or ConfigMap
	source    string
	path      string // field path of the backend
	rewrite   bool   // the path is changed on the way: the prefix says nothing about the backend
}

// ingresses names Ingresses whose backend, class or TLS Secret is not there.
func ingresses(c *scan) {
	for _, in := range c.Ingresses.All() {
		e := cluster.EntityOf("Ingress", in)
		for i, r := range in.Spec.Rules {
			if r.HTTP == nil {
				continue
			}
			for j, p := range r.HTTP.Paths {
				c.ingressBackend(in, p.Backend, "spec.rules["+itoa(i)+"].http.paths["+itoa(j)+"].backend.service")
			}
		}
		if in.Spec.DefaultBackend != nil {
			c.ingressBackend(in, *in.Spec.DefaultBackend, "spec.defaultBackend.service")
		}
		c.ingressClass(in, e)
		c.ingressTLS(in, e)
	}
}

func (c *scan) ingressBackend(in *networkingv1.Ingress, b networkingv1.IngressBackend, path string) {
	if b.Service == nil || !c.SeesIn("objects/services", in.Namespace) {
		return
	}
	e := cluster.EntityOf("Ingress", in)
	missing := incident.Entity{Kind: "Service", Namespace: in.Namespace, Name: b.Service.Name}
	svc, ok := c.Services.Get(in.Namespace, b.Service.Name)
	if !ok && b.Service.Port.Name == "use-annotation" {
		return
	}
	if !ok {
		s := c.blame("IngressBackendMissing", e, 0.95, "%s names service %s, which does not exist", e, missing).explain(e, "").relate(missing)
		near := c.nearService(in.Namespace, b.Service.Name)
		s.see("objects/ingresses", e, path+".name", b.Service.Name, "an existing service"+near)
		s.step(e, "Create service %s or correct %s.name of %s%s", missing, path, e, near)
		return
	}
	port, name := b.Service.Port.Number, b.Service.Port.Name
	offered := slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return name != "" && p.Name == name || name == "" && p.Port == port })
	annotated := name == "use-annotation" // the AWS controller's actions are no services' ports
	if offered || annotated || name == "" && port == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	asked := or(name, strconv.Itoa(int(port)))
	s := c.blame("IngressBackendMissing", e, 0.94, "%s sends requests to port %s of %s, which does not offer it", e, asked, missing).explain(e, "").relate(missing)
	s.see("objects/ingresses", e, path+".port", asked, servicePorts(svc)).see("objects/services", missing, "spec.ports", servicePorts(svc), asked)
	s.step(e, "Let %s.port of %s name a port of service %s: %s", path, e, svc.Name, servicePorts(svc))
}

// nearService names the service whose name is closest, as ", e.g. NAME".
func (c *scan) nearService(ns, name string) string {
	var names []string
	for _, s := range c.Services.In(ns) {
		names = append(names, s.Name)
	}
	if n := nearest(name, names); n != "" {
		return ", e.g. " + n
	}
	return ""
}

// ingressClass names an Ingress that no controller serves: its class does not exist, or it names
// none, none is the default and no controller took it up all the same.
func (c *scan) ingressClass(in *networkingv1.Ingress, e incident.Entity) {
	if !c.Sees("objects/ingressclasses") || len(in.Status.LoadBalancer.Ingress) > 0 {
		return
	}
	have := make([]string, 0, c.IngressClasses.Len())
	byDefault := false
	for _, k := range c.IngressClasses.All() {
		have = append(have, k.Name)
		byDefault = byDefault || k.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"
	}
	class, path := "", "spec.ingressClassName"
	if in.Spec.IngressClassName != nil {
		class = *in.Spec.IngressClassName
	} else if class = in.Annotations["kubernetes.io/ingress.class"]; class != "" {
		path = "metadata.annotations[kubernetes.io/ingress.class]"
	}
	if class == "" && byDefault || slices.Contains(have, class) || c.age(in.CreationTimestamp.Time) < 2*time.Minute && !in.CreationTimestamp.IsZero() {
		return
	}
	want := or(strings.Join(have, " or "), "a class that exists")
	score, level := 0.93, incident.Critical
	if in.Spec.IngressClassName == nil && class != "" {
		score, level = 0.4, incident.Info // a controller may serve the old annotation without a class object
	}
	s := c.blame("IngressClassMissing", e, score, "%s names class %q, which no controller serves", e, class).level(level).explain(e, "")
	s.see("objects/ingresses", e, path, or(class, "none"), want).see("objects/ingresses", e, "status.loadBalancer.ingress", "none", "an address")
	s.step(e, "Set spec.ingressClassName of %s to %s", e, want)
}

func (c *scan) ingressTLS(in *networkingv1.Ingress, e incident.Entity) {
	for i, t := range in.Spec.TLS {
		if t.SecretName == "" || !c.SeesIn("objects/secrets", in.Namespace) {
			continue
		}
		if _, ok := c.Secrets.Get(in.Namespace, t.SecretName); ok {
			continue
		}
		secret := incident.Entity{Kind: "Secret", Namespace: in.Namespace, Name: t.SecretName}
		s := c.blame("TLSSecretMissing", e, 0.95, "%s names TLS secret %s, which does not exist", e, t.SecretName).explain(e, "").relate(secret)
		s.see("objects/ingresses", e, "spec.tls["+itoa(i)+"].secretName", t.SecretName, "an existing Secret of type kubernetes.io/tls")
		for _, crt := range c.Custom("Certificate") {
			if crt.GetNamespace() == in.Namespace && field(crt, "spec", "secretName") == t.SecretName {
				ready := conditionOf(crt, "Ready")
				s.relate(customEntity(crt)).quote("objects/certificates", customEntity(crt), ready.Reason+": "+ready.Message, ready.At)
			}
		}
		s.step(e, "Create the TLS secret %s, or name one that exists", secret)
	}
}

// misrouted names workloads whose requests a gateway sends elsewhere: a prefix that speaks of one
// service leads to another one, which answers that it has no such path.
func misrouted(c *scan) {
	routes := c.routes()
	for _, r := range routes {
		meant := c.meantBy(r)
		if meant == nil {
			c.misspelledPath(r, routes)
			continue
		}
		svc, ok := c.Services.Get(r.namespace, r.service)
		if !ok || svc == meant || r.rewrite {
			continue
		}
		right := c.backing(meant)
		score, level := 0.4, incident.Info // names need not say where requests go
		text, at := c.lost(r, svc)
		switch {
		case text != "":
			score, level = 0.93, incident.Critical
		case slices.ContainsFunc(c.symptoms, func(y *symptom) bool { return y.Reason == "RequestsFail" }):
			score, level = 0.85, incident.Critical
		case len(c.symptoms) > 0:
			score, level = 0.6, incident.Warning
		}
		s := c.blame("GatewayMisrouted", right, score, "%s sends %s to service %s instead of %s", r.owner, r.prefix, r.service, meant.Name).level(level)
		s.see(r.source, r.owner, r.path, r.service, meant.Name).relate(r.owner, cluster.EntityOf("Service", meant), cluster.EntityOf("Service", svc)).explain(right, "")
		if text != "" {
			s.quote("logs", at, text, time.Time{})
		}
		s.step(r.owner, "Let %s of %s lead to service %s", r.prefix, r.owner, meant.Name)
	}
}

// meantBy returns the Service that a route speaks of by its name or a segment of its path: the
// service's name, with or without what all names of the namespace share and a common ending. Nil
// when none is meant, or the route's own one is.
func (c *scan) meantBy(r route) *corev1.Service {
	shared := c.sharedPrefix(r.namespace)
	own, segments := stem(r.service, shared), c.segments(r, shared)
	if slices.Contains(segments, own) {
		return nil
	}
	var found *corev1.Service
	for _, svc := range c.Services.In(r.namespace) {
		if n := stem(svc.Name, shared); len(n) >= 3 && slices.Contains(segments, n) && svc.Name != r.service && (found == nil || len(svc.Name) < len(found.Name)) {
			found = svc
		}
	}
	return found
}

// misspelledPath names the workload of a route whose path is nearly, but not quite, the service's
// name while the gateway's other routes spell theirs in full.
func (c *scan) misspelledPath(r route, routes []route) {
	svc, ok := c.Services.Get(r.namespace, r.service)
	if !ok || r.prefix == "" {
		return
	}
	shared := c.sharedPrefix(r.namespace)
	spelled := func(o route) bool { // by its path: a name says nothing about requests
		o.name = ""
		return slices.Contains(c.segments(o, shared), stem(o.service, shared))
	}
	right, near := 0, ""
	for _, o := range routes {
		if o.owner.Key() == r.owner.Key() && o.service != r.service && spelled(o) {
			right++
		}
		if o.owner.Key() == r.owner.Key() && o.service == r.service && spelled(o) {
			return // another route leads there by the right path
		}
	}
	own := stem(r.service, shared)
	for _, s := range c.segments(r, shared) {
		if len(own) >= 4 && s != own && (distance(s, own, 2) <= 2 || len(s) > len(own) && strings.HasPrefix(s, own) && len(s)-len(own) <= 5) {
			near = s
		}
	}
	if right < 2 || near == "" {
		return
	}
	e := c.backing(svc)
	s := c.blame("GatewayMisrouted", e, 0.75, "%s leads %s to %s, whose path the other routes would spell %q", r.owner, r.prefix, r.service, own).level(incident.Warning)
	s.see(r.source, r.owner, r.path, r.prefix, "a path with "+own).relate(r.owner, cluster.EntityOf("Service", svc)).explain(e, "")
	s.step(r.owner, "Correct the path %s in %s", r.prefix, r.owner)
}

// segments returns the stems of a route's path segments and of its own name.
func (c *scan) segments(r route, shared string) []string {
	segments := strings.FieldsFunc(r.prefix, func(b rune) bool { return strings.ContainsRune("/^*$~ (){}|.?+\\", b) })
	if r.name != "" {
		segments = append(segments, r.name)
	}
	for i := range segments {
		segments[i] = stem(segments[i], shared)
	}
	return segments
}

// sharedPrefix returns the first word that most service names of a namespace begin with, with its
// dash; "" when they share none.
func (c *scan) sharedPrefix(ns string) string {
	count := map[string]int{}
	all := c.Services.In(ns)
	for _, svc := range all {
		if i := strings.IndexByte(svc.Name, '-'); i > 0 {
			count[svc.Name[:i+1]]++
		}
	}
	for p, n := range count {
		if n >= 4 && n*10 >= len(all)*6 {
			return p
		}
	}
	return ""
}

var serviceEnding = regexp.MustCompile(`(service|svc|api|server|backend)s?$`)

// stem reduces a service name or path segment to what tells it from others.
func stem(name, shared string) string {
	s := strings.TrimPrefix(strings.ToLower(name), shared)
	s = strings.NewReplacer("-", "", "_", "").Replace(s)
	if t := serviceEnding.ReplaceAllString(s, ""); len(t) >= 3 {
		s = t
	}
	return strings.TrimSuffix(s, "s")
}

// lost returns a line in which the wrong backend or the gateway says that a path of the route was
// not found, and who said it.
func (c *scan) lost(r route, svc *corev1.Service) (string, incident.Entity) {
	prefix := strings.TrimRight(strings.TrimLeft(r.prefix, "^~= "), "/*$")
	ws, _ := c.ServiceWorkloads(svc)
	for _, w := range ws {
		for _, p := range w.Pods {
			if line := c.notFound(p, prefix); line != "" {
				return line, podEntity(p)
			}
		}
	}
	for _, p := range c.Pods.In(r.namespace) {
		if w := c.WorkloadOf(p); w != nil && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.ConfigMap != nil && v.ConfigMap.Name == r.owner.Name && r.owner.Kind == "ConfigMap"
		}) {
			if line := c.notFound(p, prefix); line != "" {
				return line, podEntity(p)
			}
		}
	}
	return "", incident.Entity{}
}

func (c *scan) notFound(p *corev1.Pod, prefix string) string {
	for _, l := range c.PodLogs(p.Namespace, p.Name) {
		n := 0
		for line := range strings.Lines(l.Current) {
			if strings.Contains(line, prefix) && strings.Contains(line, "404") {
				if n++; n > 1 || len(l.Current) < 4<<10 {
					return incident.Clip(strings.TrimSpace(line), 500)
				}
			}
		}
	}
	return ""
}

// routes returns what Ingresses, HTTPRoutes, VirtualServices and proxies' ConfigMaps route by
// path, in that order.
func (c *scan) routes() []route {
	var out []route
	for _, in := range c.Ingresses.All() {
		rewrite := false
		for k := range in.Annotations {
			rewrite = rewrite || strings.HasSuffix(k, "/rewrite-target")
		}
		for i, r := range in.Spec.Rules {
			if r.HTTP == nil {
				continue
			}
			for j, p := range r.HTTP.Paths {
				if p.Backend.Service != nil {
					out = append(out, route{prefix: p.Path, namespace: in.Namespace, service: p.Backend.Service.Name, owner: cluster.EntityOf("Ingress", in), source: "objects/ingresses",
						path: "spec.rules[" + itoa(i) + "].http.paths[" + itoa(j) + "].backend.service.name", rewrite: rewrite && strings.Contains(p.Path, "(")})
				}
			}
		}
	}
	for _, u := range c.Custom("HTTPRoute") {
		out = append(out, httpRoutes(u)...)
	}
	for _, u := range c.Custom("VirtualService") {
		out = append(out, c.virtualRoutes(u)...)
	}
	for _, cm := range c.ConfigMaps.All() {
		out = append(out, c.proxyRoutes(cm)...)
	}
	for _, w := range c.Workloads() {
		out = append(out, c.springRoutes(w)...)
	}
	return out
}

func httpRoutes(u *unstructured.Unstructured) []route {
	var out []route
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
	for i, e := range rules {
		rule, _ := e.(map[string]any)
		matches, _, _ := unstructured.NestedSlice(rule, "matches")
		refs, _, _ := unstructured.NestedSlice(rule, "backendRefs")
		for _, m := range matches {
			mm, _ := m.(map[string]any)
			prefix, _, _ := unstructured.NestedString(mm, "path", "value")
			for j, b := range refs {
				bm, _ := b.(map[string]any)
				name, _ := bm["name"].(string)
				ns, _ := bm["namespace"].(string)
				if prefix != "" && name != "" && len(refs) == 1 {
					out = append(out, route{prefix: prefix, namespace: or(ns, u.GetNamespace()), service: name, owner: customEntity(u), source: customSource(u),
						path: "spec.rules[" + itoa(i) + "].backendRefs[" + itoa(j) + "].name"})
				}
			}
		}
	}
	return out
}
