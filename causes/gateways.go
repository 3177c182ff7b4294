package causes

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// virtualRoutes reads the HTTP routes of an Istio VirtualService that match by path and have one
// destination.
func (c *scan) virtualRoutes(u *unstructured.Unstructured) []route {
	var out []route
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "http")
	for i, e := range rules {
		rule, _ := e.(map[string]any)
		matches, _, _ := unstructured.NestedSlice(rule, "match")
		to, _, _ := unstructured.NestedSlice(rule, "route")
		if len(to) != 1 {
			continue
		}
		first, _ := to[0].(map[string]any)
		host, _, _ := unstructured.NestedString(first, "destination", "host")
		name, _ := rule["name"].(string)
		for _, m := range matches {
			mm, _ := m.(map[string]any)
			for _, kind := range []string{"prefix", "exact", "regex"} {
				if p, _, _ := unstructured.NestedString(mm, "uri", kind); p != "" {
					out = append(out, c.routeTo(host, route{prefix: p, name: name, namespace: u.GetNamespace(), owner: customEntity(u), source: customSource(u),
						path: fmt.Sprintf("spec.http[%d].route[0].destination.host", i)})...)
				}
			}
		}
	}
	return out
}

// routeTo completes a route with the service behind a host; nothing when the host is none.
func (c *scan) routeTo(host string, r route) []route {
	h := c.Resolve(r.namespace, host)
	if h.Name == "" || !h.Cluster {
		return nil
	}
	r.namespace, r.service = h.Namespace, h.Name
	return []route{r}
}

// The forms in which proxies write a route in a file: nginx, Envoy, Spring Cloud Gateway.
var (
	nginxRoute  = regexp.MustCompile(`(?s)location\s+(?:[~^=*]+\s+)?(/[^\s{]*)\s*\{[^{}]*?proxy_pass\s+https?://([a-z0-9][a-z0-9.-]*)`)
	envoyRoute  = regexp.MustCompile(`(?:prefix|path):\s*"?(/[^"\s}]+)"?\s*\}?[^/]{0,200}?cluster:\s*"?([a-z0-9][a-z0-9._-]*)`)
	springRoute = regexp.MustCompile(`(?m)-\s+id:\s*"?([\w.-]+)"?\s*$[^#]{0,40}?uri:\s*"?(?:lb|http|https)://([a-z0-9][a-z0-9.-]*)[^#]{0,120}?Path=(/[^\s"]*)`)
)

// proxyRoutes reads the routes that a proxy's configuration file holds.
func (c *scan) proxyRoutes(cm *corev1.ConfigMap) []route {
	var out []route
	for _, k := range sortedKeys(cm.Data) {
		text := cm.Data[k]
		r := route{namespace: cm.Namespace, owner: cluster.EntityOf("ConfigMap", cm), source: "objects/configmaps", path: "data." + k}
		switch {
		case strings.Contains(text, "proxy_pass"):
			for _, m := range nginxRoute.FindAllStringSubmatch(text, 256) {
				r.prefix = m[1]
				out = append(out, c.routeTo(m[2], r)...)
			}
		case strings.Contains(text, "Path="):
			for _, m := range springRoute.FindAllStringSubmatch(text, 256) {
				r.prefix, r.name = m[3], m[1]
				out = append(out, c.routeTo(m[2], r)...)
			}
		case strings.Contains(text, "cluster:"):
			for _, m := range envoyRoute.FindAllStringSubmatch(text, 256) {
				r.prefix = m[1]
				out = append(out, c.routeTo(m[2], r)...)
			}
		}
	}
	return out
}

var springVariable = regexp.MustCompile(`^SPRING_CLOUD_GATEWAY_(?:SERVER_WEBFLUX_)?ROUTES_(\d+)_(ID|URI|PREDICATES_\d+)$`)

// springRoutes reads the routes of a Spring Cloud Gateway from its environment:
// SPRING_CLOUD_GATEWAY_ROUTES_0_ID, _URI and _PREDICATES_0.
func (c *scan) springRoutes(w *cluster.Workload) []route {
	var out []route
	for i := range w.Template.Spec.Containers {
		type parts struct{ id, uri, path, at string }
		found := map[string]*parts{}
		var order []string
		for j, e := range w.Template.Spec.Containers[i].Env {
			if !strings.HasPrefix(e.Name, "SPRING_CLOUD_GATEWAY_") {
				continue
			}
			m := springVariable.FindStringSubmatch(e.Name)
			if m == nil {
				continue
			}
			p := found[m[1]]
			if p == nil {
				p = &parts{}
				found[m[1]], order = p, append(order, m[1])
			}
			switch {
			case m[2] == "ID":
				p.id = e.Value
			case m[2] == "URI":
				_, p.uri, _ = strings.Cut(e.Value, "://")
				p.at = fmt.Sprintf("spec.template.spec.containers[%d].env[%d].value", i, j)
			default:
				if path, ok := strings.CutPrefix(e.Value, "Path="); ok {
					p.path = path
				}
			}
		}
		for _, n := range order {
			p := found[n]
			host, _, _ := strings.Cut(strings.Trim(p.uri, "/"), ":")
			if host != "" && (p.path != "" || p.id != "") {
				out = append(out, c.routeTo(host, route{prefix: p.path, name: p.id, namespace: w.Entity.Namespace, owner: incident.Entity{Kind: w.Entity.Kind, Namespace: w.Entity.Namespace, Name: w.Entity.Name},
					source: "objects/" + plural(w.Entity.Kind), path: p.at})...)
			}
		}
	}
	return out
}
