package causes

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

func (c *scan) configError(t trouble) {
	if t.message == "" || !has(t.message, "not found", "key", "root", "non-existent") {
		if ev := c.eventAbout(t.Pod, t.Spec, []string{"Failed"}); ev != nil && ev.Message != "" {
			t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
		}
	}
	switch m := t.message; {
	case missingKey.MatchString(m):
		g := missingKey.FindStringSubmatch(m)
		name := g[3][strings.LastIndex(g[3], "/")+1:]
		c.refMissing(t, kindOfRef(g[2]), name, g[1])
	case missingRef.MatchString(m):
		g := missingRef.FindStringSubmatch(m)
		c.refMissing(t, kindOfRef(g[1]), g[2], "")
	case has(m, "runasnonroot", "run as root", "non-root", "non-numeric user", "runasuser", "privilege"):
		s := t.cite(c.blame("SecurityContextInvalid", t.workload.Entity, 0.95, "%s: container %s may not start: %s", t.workload.Entity, t.Spec.Name, m))
		s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, t.path("securityContext"), describeSecurity(t), "a runAsUser that is not 0, or an image with a numeric non-root user")
		c.rollback(s, t.workload)
		s.step(t.workload.Entity, "Set runAsUser to a non-root id in %s or use an image that does not run as root", t.workload.Entity)
	default:
		c.refsByLookup(t)
	}
}

func kindOfRef(s string) string {
	if strings.EqualFold(s, "secret") {
		return "Secret"
	}
	return "ConfigMap"
}

func describeSecurity(t trouble) string {
	var out []string
	if sc := t.Pod.Spec.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil && *sc.RunAsNonRoot {
			out = append(out, "runAsNonRoot: true")
		}
	}
	if sc := t.Spec.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil && *sc.RunAsNonRoot {
			out = append(out, "runAsNonRoot: true")
		}
		if sc.RunAsUser != nil {
			out = append(out, "runAsUser: "+itoa(int(*sc.RunAsUser)))
		}
	}
	return strings.Join(slices.Compact(out), ", ")
}

// refMissing blames a missing Secret or ConfigMap, or a key of one; name and key are as the
// kubelet says them.
func (c *scan) refMissing(t trouble, kind, name, key string) {
	name = strings.Trim(name, `"`)
	if i := strings.LastIndex(name, "/"); i >= 0 {
		name = name[i+1:]
	}
	cause := incident.CauseName(kind + "Missing")
	what := kind + " " + name + ", which does not exist"
	if key != "" {
		cause, what = incident.CauseName(kind+"KeyMissing"), "key "+key+" of "+kind+" "+name+", which has no such key"
	}
	e := incident.Entity{Kind: kind, Namespace: t.Pod.Namespace, Name: name}
	s := t.cite(c.blame(cause, t.workload.Entity, 0.96, "%s needs %s", t.workload.Entity, what)).relate(e)
	var names []string
	if kind == "Secret" {
		for _, o := range c.Secrets.In(t.Pod.Namespace) {
			names = append(names, o.Name)
		}
	} else {
		for _, o := range c.ConfigMaps.In(t.Pod.Namespace) {
			names = append(names, o.Name)
		}
	}
	expected := "an existing " + kind
	if key != "" {
		expected, names = "a key that "+kind+" "+name+" has", c.keysOf(kind, t.Pod.Namespace, name)
		if n := nearest(key, names); n != "" {
			expected += ", e.g. " + n
		}
	} else if n := nearest(name, names); n != "" {
		expected += ", e.g. " + n
	}
	s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, c.refPath(t, kind, name, key), or(key, name), expected)
	c.rollback(s, t.workload)
	s.step(t.workload.Entity, "Create %s or correct its name in %s (expected: %s)", e, t.workload.Entity, expected)
}

func (c *scan) keysOf(kind, ns, name string) []string {
	var out []string
	if kind == "Secret" {
		if o, ok := c.Secrets.Get(ns, name); ok {
			for k := range o.Data {
				out = append(out, k)
			}
		}
	} else if o, ok := c.ConfigMaps.Get(ns, name); ok {
		for k := range o.Data {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// refPath returns the field path of the reference in the pod template.
func (c *scan) refPath(t trouble, kind, name, key string) string {
	for i, e := range t.Spec.Env {
		if f := e.ValueFrom; f != nil && (kind == "Secret" && f.SecretKeyRef != nil && f.SecretKeyRef.Name == name && (key == "" || f.SecretKeyRef.Key == key) ||
			kind == "ConfigMap" && f.ConfigMapKeyRef != nil && f.ConfigMapKeyRef.Name == name && (key == "" || f.ConfigMapKeyRef.Key == key)) {
			return t.path("env[" + itoa(i) + "].valueFrom")
		}
	}
	for i, e := range t.Spec.EnvFrom {
		if kind == "Secret" && e.SecretRef != nil && e.SecretRef.Name == name || kind == "ConfigMap" && e.ConfigMapRef != nil && e.ConfigMapRef.Name == name {
			return t.path("envFrom[" + itoa(i) + "]")
		}
	}
	return "spec.template.spec.volumes"
}

// refsByLookup checks the references of a container against the objects, when the kubelet's
// words were not seen.
func (c *scan) refsByLookup(t trouble) {
	ns := t.Pod.Namespace
	gone := func(kind, name, key string, optional *bool) bool {
		if name == "" || optional != nil && *optional {
			return false
		}
		var ok bool
		if kind == "Secret" {
			_, ok = c.Secrets.Get(ns, name)
		} else {
			_, ok = c.ConfigMaps.Get(ns, name)
		}
		switch {
		case !ok && c.Sees("objects/"+plural(kind)):
			c.refMissing(t, kind, name, "")
			return true
		case ok && key != "" && !slices.Contains(c.keysOf(kind, ns, name), key):
			c.refMissing(t, kind, name, key)
			return true
		}
		return false
	}
	for _, e := range t.Spec.EnvFrom {
		if r := e.SecretRef; r != nil && gone("Secret", r.Name, "", r.Optional) {
			return
		}
		if r := e.ConfigMapRef; r != nil && gone("ConfigMap", r.Name, "", r.Optional) {
			return
		}
	}
	for _, e := range t.Spec.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil && gone("Secret", r.Name, r.Key, r.Optional) {
			return
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil && gone("ConfigMap", r.Name, r.Key, r.Optional) {
			return
		}
	}
}

// namedAlready reports whether the object that an event calls missing exists by now.
func (c *scan) namedAlready(ns, kind, name string) bool {
	name = strings.Trim(name[strings.LastIndex(name, "/")+1:], `"`)
	if kind == "Secret" {
		_, ok := c.Secrets.Get(ns, name)
		return ok
	}
	_, ok := c.ConfigMaps.Get(ns, name)
	return ok
}

// volumeRef returns the object behind the volume that a mount error names.
func (c *scan) volumeRef(p *corev1.Pod, kind, message string) string {
	g := mountVolume.FindStringSubmatch(message)
	for _, v := range p.Spec.Volumes {
		if g != nil && v.Name != g[1] {
			continue
		}
		if kind == "Secret" && v.Secret != nil {
			return v.Secret.SecretName
		}
		if kind == "ConfigMap" && v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
}
