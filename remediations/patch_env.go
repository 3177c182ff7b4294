package remediations

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func patchEnv() Action {
	return Action{
		Name: incident.PatchEnv, Kinds: templated, Risk: incident.RiskReversible, Touches: true, Window: rollWindow,
		Summary: "set one environment variable to a value that exists: one used before or beside, or the address of a Service",
		Undo:    "the value that was there before is put back",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Params: []Param{need(incident.ParamContainer, "name of the container", checkLabelName), need(incident.ParamName, "name of the variable", checkEnvName),
			need(incident.ParamValue, "the new value", checkText(1024)), need(incident.ParamFrom, "the value it was proposed at; empty: not set", checkText(1024))},
		Rules: patchApps("deployments", "statefulsets", "daemonsets"),
		plan:  planPatchEnv,
	}
}

func planPatchEnv(ctx context.Context, r *request) (plan, error) {
	name, env, value := r.params[incident.ParamContainer], r.params[incident.ParamName], r.params[incident.ParamValue]
	if secretName.MatchString(env) || shaped(value) {
		return plan{}, incident.Invalidf("variable %s looks like a secret: it belongs in a Secret, by a person", env)
	}
	path, c, err := container(r.object, name)
	if err != nil {
		return plan{}, err
	}
	items, _, _ := unstructured.NestedSlice(c, "env")
	i := slices.IndexFunc(items, func(x any) bool { m, ok := x.(map[string]any); return ok && m["name"] == env })
	was := ""
	if i >= 0 {
		m := items[i].(map[string]any)
		if m["valueFrom"] != nil {
			return plan{}, incident.Invalidf("variable %s comes from another object", env)
		}
		was, _ = m["value"].(string)
	}
	if was != r.params[incident.ParamFrom] {
		return plan{}, fmt.Errorf("variable %s of %s is not what the proposal was made at: %w", env, r.target, incident.ErrStale)
	}
	where, err := valueExists(ctx, r, env, value)
	if err != nil {
		return plan{}, err
	}
	p := edit(r.object).guard(path, name)
	switch {
	case i >= 0:
		at := under(path, "env", strconv.Itoa(i))
		p.ops = append(p.ops, Op{Op: "test", Path: pointer(under(at, "name")...), Value: p.raw(env)})
		p.set(value, under(at, "value")...)
	default:
		p.set(append(slices.Clone(items), map[string]any{"name": env, "value": value}), under(path, "env")...)
	}
	return patched(ctx, r, p, "the value is "+where)
}

// valueExists says where value is in use already. Text from logs may have named the value; only
// one that the namespace itself holds is taken.
func valueExists(ctx context.Context, r *request, env, value string) (string, error) {
	for _, kind := range []string{"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet"} {
		all, err := r.List(ctx, kind, r.target.Namespace, "")
		if err != nil {
			return "", err
		}
		for i := range all {
			if envValue(&all[i], env) == value && value != "" {
				return "used by " + entityOf(&all[i]).String(), nil
			}
		}
	}
	services, err := list[corev1.Service](ctx, r, "Service", r.target.Namespace)
	if err != nil {
		return "", err
	}
	host, port := address(value)
	for _, s := range services {
		forms := []string{s.Name, s.Name + "." + s.Namespace, s.Name + "." + s.Namespace + ".svc", s.Name + "." + s.Namespace + ".svc.cluster.local"}
		if host != "" && !slices.Contains(forms, strings.TrimSuffix(host, ".")) {
			continue
		}
		if port == "" || slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return fmt.Sprint(p.Port) == port }) {
			return "the address of Service/" + s.Namespace + "/" + s.Name, nil
		}
	}
	return "", incident.Invalidf("nothing in %s uses the value for %s, and no Service has that address", r.target.Namespace, env)
}

// address reads host and port of a URL, "host:port", a bare port or a bare host.
func address(v string) (host, port string) {
	if u, err := url.Parse(v); err == nil && u.Host != "" {
		return u.Hostname(), u.Port()
	}
	if checkCount(1, 65535)(v) == nil {
		return "", v
	}
	host, port, found := strings.Cut(v, ":")
	if found && checkCount(1, 65535)(port) != nil {
		return v, ""
	}
	return host, port
}

func envValue(o *Object, env string) string {
	for _, list := range []string{"containers", "initContainers"} {
		cs, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", list)
		for _, c := range cs {
			m, _ := c.(map[string]any)
			items, _, _ := unstructured.NestedSlice(m, "env")
			for _, x := range items {
				if e, ok := x.(map[string]any); ok && e["name"] == env {
					if v, ok := e["value"].(string); ok {
						return v
					}
				}
			}
		}
	}
	return ""
}
