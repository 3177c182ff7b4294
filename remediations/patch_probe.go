package remediations

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var probeTimings = []string{"initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"}

func patchProbe() Action {
	params := []Param{need(incident.ParamContainer, "name of the container", checkLabelName),
		need(incident.ParamProbe, "liveness, readiness or startup", oneOf("liveness", "readiness", "startup")),
		may(incident.ParamPort, "port number or name", checkPort), may(incident.ParamPath, "HTTP path", checkHTTPPath),
		may(incident.ParamScheme, "HTTP or HTTPS", oneOf("HTTP", "HTTPS")),
		may(incident.ParamType, "httpGet, tcpSocket or grpc", oneOf("httpGet", "tcpSocket", "grpc"))}
	for _, t := range probeTimings {
		params = append(params, may(t, "seconds or count", checkCount(0, 3600)))
	}
	return Action{
		Name: incident.PatchProbe, Kinds: templated, Risk: incident.RiskReversible, Touches: true, Window: rollWindow, AnyOf: true,
		Summary: "correct port, path, scheme, type or timing of one probe that is there",
		Undo:    "the probe that was there before is put back",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Params:  params, Rules: patchApps("deployments", "statefulsets", "daemonsets"),
		plan: planPatchProbe,
	}
}

var probeTypes = []string{"httpGet", "tcpSocket", "grpc"}

func planPatchProbe(ctx context.Context, r *request) (plan, error) {
	name, which := r.params[incident.ParamContainer], r.params[incident.ParamProbe]+"Probe"
	path, c, err := container(r.object, name)
	if err != nil {
		return plan{}, err
	}
	live, ok, _ := unstructured.NestedMap(c, which)
	if !ok {
		return plan{}, incident.Invalidf("container %q has no %s", name, which)
	}
	kind, handler := "", map[string]any{}
	for _, t := range probeTypes {
		if h, ok := live[t].(map[string]any); ok {
			kind, handler = t, h
		}
	}
	if kind == "" {
		return plan{}, incident.Invalidf("%s of %q runs a command: it is not one to correct here", which, name)
	}
	next, err := nextHandler(r, c, kind, handler)
	if err != nil {
		return plan{}, err
	}
	delete(live, kind)
	if t := r.params[incident.ParamType]; t != "" {
		kind = t
	}
	live[kind] = next
	for _, t := range probeTimings {
		if v, ok := r.params[t]; ok {
			n, _ := strconv.ParseInt(v, 10, 32)
			if n == 0 && t != "initialDelaySeconds" {
				return plan{}, incident.Invalidf("%s of %s must be at least 1", t, which)
			}
			live[t] = n
		}
	}
	return patched(ctx, r, edit(r.object).guard(path, name).set(live, under(path, which)...))
}

// nextHandler returns the probe's handler with the parameters applied. A port must be one the
// container declares when it declares any.
func nextHandler(r *request, c map[string]any, kind string, old map[string]any) (map[string]any, error) {
	next := map[string]any{"port": old["port"]}
	if t := r.params[incident.ParamType]; t != "" {
		kind = t
	}
	if kind == "httpGet" {
		for k, v := range old {
			if k != "service" {
				next[k] = v
			}
		}
	}
	if v := r.params[incident.ParamPort]; v != "" {
		port, err := declaredPort(c, v)
		if err != nil {
			return nil, err
		}
		next["port"] = port
	}
	for _, k := range []string{incident.ParamPath, incident.ParamScheme} {
		if v := r.params[k]; v != "" {
			if kind != "httpGet" {
				return nil, incident.Invalidf("%s is for httpGet, the probe is %s", k, kind)
			}
			next[k] = v
		}
	}
	if _, named := next["port"].(string); named && kind == "grpc" {
		return nil, incident.Invalidf("a grpc probe takes a port number")
	}
	return next, nil
}

// declaredPort returns v as the API wants it, if the container declares such a port or none.
func declaredPort(c map[string]any, v string) (any, error) {
	ports, _, _ := unstructured.NestedSlice(c, "ports")
	n, numErr := strconv.ParseInt(v, 10, 32)
	for _, x := range ports {
		m, _ := x.(map[string]any)
		if numErr == nil && fmt.Sprint(m["containerPort"]) == v {
			return n, nil
		}
		if numErr != nil && m["name"] == v {
			return v, nil
		}
	}
	if numErr == nil && len(ports) == 0 {
		return n, nil
	}
	return nil, incident.Invalidf("the container declares no port %q", v)
}
