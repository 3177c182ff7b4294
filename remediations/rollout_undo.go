package remediations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func rolloutUndo() Action {
	return Action{
		Name: incident.RolloutUndo, Kinds: templated, Risk: incident.RiskReversible, Touches: true, Window: rollWindow,
		Summary: "put back the pod template of a named earlier revision",
		Undo:    "the pod template that was there before is put back",
		Signal:  "every replica updated and available; the incident's signals of the workload resolved",
		Params: []Param{need(incident.ParamRevision, "number of the revision to go back to", checkCount(1, 1<<31-1)),
			aside(incident.ParamImage, "images expected after, comma-joined", checkText(2000))},
		Rules: patchApps("deployments", "statefulsets", "daemonsets"),
		plan:  planRolloutUndo,
	}
}

func planRolloutUndo(ctx context.Context, r *request) (plan, error) {
	tmpl, err := templateOf(ctx, r, r.params[incident.ParamRevision])
	if err != nil {
		return plan{}, err
	}
	got := images(&Object{Object: map[string]any{"spec": map[string]any{"template": tmpl}}})
	if want := r.params[incident.ParamImage]; want != "" && !sameImages(want, got) {
		return plan{}, fmt.Errorf("revision %s of %s has images %s, the proposal was made for %s: %w", r.params[incident.ParamRevision],
			r.target, got, want, incident.ErrStale)
	}
	return patched(ctx, r, edit(r.object).set(tmpl, "spec", "template"))
}

func sameImages(a, b string) bool {
	x, y := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// templateOf reads the pod template of a revision from the ReplicaSet (Deployment) or the
// ControllerRevision (StatefulSet, DaemonSet) that holds it and that the workload controls.
func templateOf(ctx context.Context, r *request, revision string) (map[string]any, error) {
	kind := "ControllerRevision"
	if r.target.Kind == "Deployment" {
		kind = "ReplicaSet"
	}
	all, err := r.List(ctx, kind, r.target.Namespace, "")
	if err != nil {
		return nil, err
	}
	for i := range all {
		o := &all[i]
		if c := controllerOf(o); c == nil || c.UID != string(r.object.GetUID()) {
			continue
		}
		if kind == "ReplicaSet" {
			if o.GetAnnotations()["deployment.kubernetes.io/revision"] != revision {
				continue
			}
			tmpl, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
			unstructured.RemoveNestedField(tmpl, "metadata", "labels", "pod-template-hash")
			return tmpl, nil
		}
		n, _, _ := unstructured.NestedInt64(o.Object, "revision")
		if fmt.Sprint(n) != revision {
			continue
		}
		tmpl, _, _ := unstructured.NestedMap(o.Object, "data", "spec", "template")
		delete(tmpl, "$patch")
		return tmpl, nil
	}
	return nil, fmt.Errorf("revision %s of %s: %w", revision, r.target, incident.ErrNotFound)
}
