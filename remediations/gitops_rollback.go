package remediations

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func patchGitOps() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("argoproj.io", []string{"applications"}, "get", "patch"),
		rule("kustomize.toolkit.fluxcd.io", []string{"kustomizations"}, "get", "patch"),
		rule("helm.toolkit.fluxcd.io", []string{"helmreleases"}, "get", "patch")}
}

func gitOpsRollback() Action {
	return Action{
		Name: incident.GitOpsRollback, Kinds: []string{"Application", "HelmRelease", "GitRepository"}, Risk: incident.RiskReversible, Window: 10 * time.Minute,
		Summary: "go back to a revision through the GitOps controller's own resource",
		Undo:    "Flux: the reference that was there before is put back; Argo CD: sync to the target revision again, by a person",
		Signal:  "the controller reports the revision and health; the incident's signals resolved",
		Params:  []Param{need(incident.ParamRevision, "commit, tag or chart version", checkText(200))},
		Rules: append([]rbacv1.PolicyRule{rule("argoproj.io", []string{"applications"}, "get", "patch"),
			rule("helm.toolkit.fluxcd.io", []string{"helmreleases"}, "get", "patch")},
			rule("source.toolkit.fluxcd.io", []string{"gitrepositories"}, "get", "patch")),
		plan:   planGitOpsRollback,
		health: gitOpsHealth,
	}
}

func planGitOpsRollback(_ context.Context, r *request) (plan, error) {
	rev, p := r.params[incident.ParamRevision], edit(r.object)
	switch r.target.Kind {
	case "Application":
		if _, on, _ := unstructured.NestedMap(r.object.Object, "spec", "syncPolicy", "automated"); on {
			return plan{}, incident.Invalidf("%s syncs by itself and would come back: change Git (%s), or suspend it first as a step of its own (%s)",
				r.target, incident.GitChange, incident.GitOpsSuspend)
		}
		if !argoKnows(r.object, rev) {
			return plan{}, incident.Invalidf("%s has never been at revision %q", r.target, rev)
		}
		if _, busy := at(r.object.Object, "/operation"); busy {
			return plan{}, fmt.Errorf("%s: an operation is under way: %w", r.target, incident.ErrStale)
		}
		p.set(map[string]any{"initiatedBy": map[string]any{"username": FieldManager},
			"sync": map[string]any{"revision": rev}}, "operation")
	case "HelmRelease":
		p.set(rev, "spec", "chart", "spec", "version")
	case "GitRepository":
		if len(rev) != 40 {
			return plan{}, incident.Invalidf("revision %q: want a full commit", rev)
		}
		p.set(rev, "spec", "ref", "commit")
	}
	return fieldPatch(p)
}

// argoKnows says whether the Application's history holds the revision.
func argoKnows(o *Object, rev string) bool {
	items, _, _ := unstructured.NestedSlice(o.Object, "status", "history")
	for _, x := range items {
		if m, ok := x.(map[string]any); ok && m["revision"] == rev {
			return true
		}
	}
	return false
}

// gitOpsHealth reads what the controller itself reports.
func gitOpsHealth(ctx context.Context, r Reader, p *probe) (Health, error) {
	o, err := r.Get(ctx, p.target)
	if err != nil {
		return Health{}, err
	}
	if p.target.Kind == "Application" {
		health, _, _ := unstructured.NestedString(o.Object, "status", "health", "status")
		phase, _, _ := unstructured.NestedString(o.Object, "status", "operationState", "phase")
		at, _, _ := unstructured.NestedString(o.Object, "status", "sync", "revision")
		_, pending, _ := unstructured.NestedMap(o.Object, "operation")
		want := p.params[incident.ParamRevision]
		return Health{OK: health == "Healthy" && !pending && phase == "Succeeded" && (want == "" || want == at), Ready: -1,
			Detail: fmt.Sprintf("health %s, operation %s, at %s", health, phase, incident.Clip(at, 12))}, nil
	}
	items, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, x := range items {
		if m, ok := x.(map[string]any); ok && m["type"] == "Ready" {
			return Health{OK: m["status"] == "True" && observed(o), Ready: -1, Detail: fmt.Sprintf("Ready is %v", m["status"])}, nil
		}
	}
	return Health{Ready: -1, Detail: "the controller reports no readiness"}, nil
}

func observed(o *Object) bool {
	n, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
	return n >= o.GetGeneration()
}
