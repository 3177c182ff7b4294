package remediations

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// paramAppProtocol of PatchServicePort.
const paramAppProtocol = "appProtocol"

func patchServicePort() Action {
	return Action{
		Name: incident.PatchServicePort, Kinds: []string{"Service"}, Risk: incident.RiskReversible, Touches: true, Window: 2 * time.Minute,
		Summary: "send one port of a Service to a port its pods have",
		Undo:    "the port that was there before is put back",
		Signal:  "the Service has ready endpoints; the incident's signals resolved",
		Params: []Param{need(incident.ParamPort, "number of the Service's port", checkCount(1, 65535)),
			need(incident.ParamTargetPort, "port number or name", checkPort),
			aside(incident.ParamProtocol, "TCP, UDP or SCTP", oneOf("TCP", "UDP", "SCTP")),
			aside(paramAppProtocol, "application protocol", checkQualified)},
		Rules: patchServices(),
		plan:  planServicePort,
	}
}

func planServicePort(ctx context.Context, r *request) (plan, error) {
	s, err := as[corev1.Service](r.object)
	if err != nil {
		return plan{}, err
	}
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return fmt.Sprint(p.Port) == r.params[incident.ParamPort] })
	if i < 0 {
		return plan{}, incident.Invalidf("%s has no port %s", r.target, r.params[incident.ParamPort])
	}
	if len(s.Spec.Selector) == 0 {
		return plan{}, incident.Invalidf("%s has no selector: its endpoints are not pods", r.target)
	}
	pods, err := podsMatching(ctx, r, r.target.Namespace, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	if err != nil {
		return plan{}, err
	}
	want := r.params[incident.ParamTargetPort]
	if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return hasPort(&p, want) }) {
		return plan{}, incident.Invalidf("no pod behind %s has port %q", r.target, want)
	}
	var target any = want
	if n, err := strconv.ParseInt(want, 10, 32); err == nil {
		target = n
	}
	base := []string{"spec", "ports", strconv.Itoa(i)}
	p := edit(r.object)
	p.ops = append(p.ops, Op{Op: "test", Path: pointer(under(base, "port")...), Value: p.raw(s.Spec.Ports[i].Port)})
	p.set(target, under(base, "targetPort")...)
	for _, k := range []string{incident.ParamProtocol, paramAppProtocol} {
		if v := r.params[k]; v != "" {
			p.set(v, under(base, k)...)
		}
	}
	pl, err := fieldPatch(p)
	pl.Pods = pods
	return pl, err
}

// hasPort reports whether a container of p declares the port, or declares none at all and the
// port is a number.
func hasPort(p *corev1.Pod, port string) bool {
	declared := false
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			declared = true
			if x.Name == port || fmt.Sprint(x.ContainerPort) == port {
				return true
			}
		}
	}
	_, err := strconv.Atoi(port)
	return !declared && err == nil
}
