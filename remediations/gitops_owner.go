package remediations

import (
	"context"
	"errors"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// OwnerSystem is who keeps an object as it is.
type OwnerSystem string

// Owner systems.
const (
	OwnedByNobody   OwnerSystem = ""
	OwnedByArgo     OwnerSystem = "Argo CD"
	OwnedByFlux     OwnerSystem = "Flux"
	OwnedByHelm     OwnerSystem = "Helm"
	OwnedByOperator OwnerSystem = "operator"
)

// Owner says who keeps an object as it is, and how sure a live patch is to be reverted.
type Owner struct {
	System OwnerSystem     `json:"system,omitempty"`
	Object incident.Entity `json:"object,omitzero"` // Application, Kustomization, HelmRelease, custom resource
	Heals  bool            `json:"heals,omitempty"` // it would put back what is patched
	Why    string          `json:"why,omitempty"`   // the mark it was told by
}

// Marks by which controllers label what they own.
const (
	argoTracking  = "argocd.argoproj.io/tracking-id"
	argoInstance  = "argocd.argoproj.io/instance"
	instanceLabel = "app.kubernetes.io/instance"
	fluxKustomize = "kustomize.toolkit.fluxcd.io/"
	fluxHelm      = "helm.toolkit.fluxcd.io/"
	helmRelease   = "meta.helm.sh/release-name"
)

// nativeControllers make objects of their own accord; they are not operators.
var nativeControllers = map[string]bool{"Deployment": true, "ReplicaSet": true, "StatefulSet": true, "DaemonSet": true, "Job": true, "CronJob": true, "Node": true}

// OwnerOf tells who owns o: by Argo CD's tracking annotation or instance label, Flux's labels,
// a controller that is not Kubernetes' own, field managers, and Helm's annotations, in this order.
func OwnerOf(ctx context.Context, r Reader, o *Object) (Owner, error) {
	ann, lab := o.GetAnnotations(), o.GetLabels()
	if id := ann[argoTracking]; id != "" {
		app, _, _ := strings.Cut(id, ":")
		return argoOwner(ctx, r, app, "annotation "+argoTracking)
	}
	if app := lab[argoInstance]; app != "" {
		return argoOwner(ctx, r, app, "label "+argoInstance)
	}
	for _, f := range []struct{ prefix, kind string }{{fluxHelm, "HelmRelease"}, {fluxKustomize, "Kustomization"}} {
		if name := lab[f.prefix+"name"]; name != "" {
			return fluxOwner(ctx, r, incident.Entity{Kind: f.kind, Namespace: lab[f.prefix+"namespace"], Name: name}, "label "+f.prefix+"name")
		}
	}
	if c := controllerOf(o); c != nil && !nativeControllers[c.Kind] {
		return Owner{System: OwnedByOperator, Object: *c, Heals: true, Why: "its controller is " + c.String()}, nil
	}
	if own, ok := byManager(o); ok {
		return own, nil
	}
	if app := lab[instanceLabel]; app != "" && lab["app.kubernetes.io/managed-by"] != "Helm" {
		if own, err := argoOwner(ctx, r, app, "label "+instanceLabel); err == nil && own.Object.UID != "" && argoLists(ctx, r, own.Object, o) {
			return own, nil
		}
	}
	if rel := ann[helmRelease]; rel != "" {
		return Owner{System: OwnedByHelm, Object: incident.Entity{Kind: "Release", Namespace: ann["meta.helm.sh/release-namespace"], Name: rel},
			Why: "annotation " + helmRelease}, nil
	}
	return Owner{}, nil
}

// argoOwner reads the Application, wherever it lives. One that cannot be read is taken to heal.
func argoOwner(ctx context.Context, r Reader, app, why string) (Owner, error) {
	own := Owner{System: OwnedByArgo, Object: incident.Entity{Kind: "Application", Name: app}, Heals: true, Why: why}
	// "namespace_name" is the form of an Application outside Argo CD's own namespace.
	if ns, name, ok := strings.Cut(app, "_"); ok {
		own.Object.Namespace, own.Object.Name = ns, name
	}
	apps, err := r.List(ctx, "Application", own.Object.Namespace, "")
	if errors.Is(err, incident.ErrNotFound) || errors.Is(err, incident.ErrDenied) {
		return own, nil
	}
	if err != nil {
		return Owner{}, err
	}
	for i := range apps {
		if apps[i].GetName() != own.Object.Name {
			continue
		}
		own.Object = entityOf(&apps[i])
		_, own.Heals, _ = unstructured.NestedMap(apps[i].Object, "spec", "syncPolicy", "automated")
		break
	}
	return own, nil
}

// argoLists says whether the Application lists o among its resources: the plain instance label
// is set by many tools.
func argoLists(ctx context.Context, r Reader, app incident.Entity, o *Object) bool {
	a, err := r.Get(ctx, app)
	if err != nil {
		return false
	}
	items, _, _ := unstructured.NestedSlice(a.Object, "status", "resources")
	for _, x := range items {
		m, _ := x.(map[string]any)
		if m["kind"] == o.GetKind() && m["name"] == o.GetName() && (m["namespace"] == o.GetNamespace() || m["namespace"] == nil) {
			return true
		}
	}
	return false
}

// fluxOwner reads the Kustomization or HelmRelease; suspended it does not heal. One that cannot
// be read is taken to heal.
func fluxOwner(ctx context.Context, r Reader, e incident.Entity, why string) (Owner, error) {
	own := Owner{System: OwnedByFlux, Object: e, Heals: true, Why: why}
	o, err := r.Get(ctx, e)
	if errors.Is(err, incident.ErrNotFound) || errors.Is(err, incident.ErrDenied) {
		return own, nil
	}
	if err != nil {
		return Owner{}, err
	}
	own.Object = entityOf(o)
	suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend")
	own.Heals = !suspended
	return own, nil
}

// byManager recognises a GitOps controller by the fields it manages, when labels were stripped.
func byManager(o *Object) (Owner, bool) {
	for _, m := range o.GetManagedFields() {
		switch {
		case m.Subresource != "":
		case strings.HasPrefix(m.Manager, "argocd-"):
			return Owner{System: OwnedByArgo, Object: incident.Entity{Kind: "Application"}, Heals: true, Why: "field manager " + m.Manager}, true
		case m.Manager == "kustomize-controller":
			return Owner{System: OwnedByFlux, Object: incident.Entity{Kind: "Kustomization"}, Heals: true, Why: "field manager " + m.Manager}, true
		case m.Manager == "helm-controller":
			return Owner{System: OwnedByFlux, Object: incident.Entity{Kind: "HelmRelease"}, Heals: true, Why: "field manager " + m.Manager}, true
		}
	}
	return Owner{}, false
}
