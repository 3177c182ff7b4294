package remediations

import (
	"context"
	"slices"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// resourceFields in the order they are written.
var resourceFields = []string{"requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}

func patchResources() Action {
	params := []Param{need(incident.ParamContainer, "name of the container", checkLabelName)}
	for _, f := range resourceFields {
		params = append(params, may(f, "Kubernetes quantity", checkQuantity))
	}
	return Action{
		Name: incident.PatchResources, Kinds: templated, Risk: incident.RiskReversible, Touches: true, Window: rollWindow, AnyOf: true,
		Summary: "set requests or limits of one container, within bounds",
		Undo:    "the requests and limits that were there before are put back",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Params:  params, Rules: patchApps("deployments", "statefulsets", "daemonsets"),
		plan: planPatchResources,
	}
}

func planPatchResources(ctx context.Context, r *request) (plan, error) {
	name := r.params[incident.ParamContainer]
	path, c, err := container(r.object, name)
	if err != nil {
		return plan{}, err
	}
	pods, err := podsOf(ctx, r, r.object)
	if err != nil {
		return plan{}, err
	}
	p := edit(r.object).guard(path, name)
	after := map[string]resource.Quantity{}
	res, _, _ := unstructured.NestedMap(c, "resources")
	if res == nil {
		res = map[string]any{}
	}
	for _, f := range resourceFields {
		group, unit := f[:len(f)-len("."+f[lastDot(f)+1:])], f[lastDot(f)+1:]
		old, has, _ := unstructured.NestedString(res, group, unit)
		want, given := r.params[f]
		if has && !given {
			want = old
		}
		if want == "" {
			continue
		}
		q := resource.MustParse(want)
		after[f] = q
		if !given {
			continue
		}
		if err := bounded(f, old, q, r.bounds, readyCount(pods) > 0); err != nil {
			return plan{}, err
		}
		if err := unstructured.SetNestedField(res, q.String(), group, unit); err != nil {
			return plan{}, incident.Invalidf("resources of %s: %v", name, err)
		}
	}
	if err := fits(ctx, r, after); err != nil {
		return plan{}, err
	}
	return patched(ctx, r, p.set(res, under(path, "resources")...))
}

func lastDot(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i
		}
	}
	return -1
}

// bounded refuses a raise above the bound, and a cut below half of what ready pods run with:
// what they use is not known here, that they run with it is.
func bounded(name, old string, q resource.Quantity, b Bounds, ready bool) error {
	if old == "" {
		return nil
	}
	o := resource.MustParse(old)
	was, is := o.AsApproximateFloat64(), q.AsApproximateFloat64()
	if was > 0 && is > was*b.MaxRaise {
		return incident.Invalidf("%s from %s to %s is more than the bound of %g times", name, old, q.String(), b.MaxRaise)
	}
	if ready && is < was/2 {
		return incident.Invalidf("%s from %s to %s is less than half of what ready pods run with", name, old, q.String())
	}
	return nil
}

// fits refuses requests above limits and requests no node could hold when empty.
func fits(ctx context.Context, r *request, after map[string]resource.Quantity) error {
	for _, unit := range []string{"cpu", "memory"} {
		req, ok := after["requests."+unit]
		limit, limited := after["limits."+unit]
		if ok && limited && req.Cmp(limit) > 0 {
			return incident.Invalidf("requests.%s %s would be above limits.%s %s", unit, req.String(), unit, limit.String())
		}
		if !ok && limited {
			req, ok = limit, true // the API server sets the request to the limit
		}
		if !ok {
			continue
		}
		nodes, err := list[corev1.Node](ctx, r, "Node", "")
		if err != nil {
			return err
		}
		if len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n corev1.Node) bool {
			have := n.Status.Allocatable[corev1.ResourceName(unit)]
			return have.Cmp(req) >= 0
		}) {
			return incident.Invalidf("requests.%s %s is more than any node has", unit, req.String())
		}
	}
	return nil
}
