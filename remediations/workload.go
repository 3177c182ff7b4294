package remediations

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Kinds that hold a pod template at spec.template.
var templated = []string{"Deployment", "StatefulSet", "DaemonSet"}

// rollWindow is how long a rollout gets: the default progressDeadlineSeconds of a Deployment is
// 600; half of it shows whether pods become ready.
const rollWindow = 5 * time.Minute

func rule(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

func patchApps(resources ...string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("apps", resources, "get", "patch")}
}

// container returns the path of a container of the pod template and the container. Init
// containers are found too.
func container(o *Object, name string) (path []string, c map[string]any, err error) {
	for _, list := range []string{"containers", "initContainers"} {
		items, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", list)
		i := slices.IndexFunc(items, func(x any) bool {
			m, ok := x.(map[string]any)
			return ok && m["name"] == name
		})
		if i >= 0 {
			return []string{"spec", "template", "spec", list, strconv.Itoa(i)}, items[i].(map[string]any), nil
		}
	}
	return nil, nil, incident.Invalidf("%s has no container %q", entityOf(o), incident.Clip(name, 63))
}

// guard tests that the container at path is still the one meant: list positions can shift.
func (p *patch) guard(path []string, name string) *patch {
	p.ops = append(p.ops, Op{Op: "test", Path: pointer(append(slices.Clone(path), "name")...), Value: p.raw(name)})
	return p
}

func under(path []string, more ...string) []string { return append(slices.Clone(path), more...) }

// images returns the images of a pod template or pod, containers first, comma-joined.
func images(o *Object) string {
	var out string
	for _, base := range [][]string{{"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}, {"spec"}} {
		items, ok, _ := unstructured.NestedSlice(o.Object, append(slices.Clone(base), "containers")...)
		if !ok {
			continue
		}
		for _, x := range items {
			if m, ok := x.(map[string]any); ok {
				if out != "" {
					out += ","
				}
				out += fmt.Sprint(m["image"])
			}
		}
		return out
	}
	return out
}

// patched finishes a plan that is one patch and rolls the workload's pods.
func patched(ctx context.Context, r *request, p *patch, notes ...string) (plan, error) {
	writes, err := p.write()
	if err != nil {
		return plan{}, err
	}
	return rolling(ctx, r, plan{Writes: writes, Notes: notes})
}

// fieldPatch finishes a plan that is one patch and interrupts nothing.
func fieldPatch(p *patch, notes ...string) (plan, error) {
	writes, err := p.write()
	return plan{Writes: writes, Notes: notes}, err
}

func readyCount(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		n += count(podReady(&pods[i]))
	}
	return n
}
