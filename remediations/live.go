package remediations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	authv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

type kindInfo struct {
	gvr        schema.GroupVersionResource
	namespaced bool
}

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

// kinds are all kinds this package can read or write; there is no discovery, so nothing else can
// be reached.
var kinds = map[string]kindInfo{
	"Deployment":              {gvr("apps", "v1", "deployments"), true},
	"StatefulSet":             {gvr("apps", "v1", "statefulsets"), true},
	"DaemonSet":               {gvr("apps", "v1", "daemonsets"), true},
	"ReplicaSet":              {gvr("apps", "v1", "replicasets"), true},
	"ControllerRevision":      {gvr("apps", "v1", "controllerrevisions"), true},
	"Pod":                     {gvr("", "v1", "pods"), true},
	"Service":                 {gvr("", "v1", "services"), true},
	"Secret":                  {gvr("", "v1", "secrets"), true},
	"ConfigMap":               {gvr("", "v1", "configmaps"), true},
	"PersistentVolumeClaim":   {gvr("", "v1", "persistentvolumeclaims"), true},
	"ResourceQuota":           {gvr("", "v1", "resourcequotas"), true},
	"Node":                    {gvr("", "v1", "nodes"), false},
	"Namespace":               {gvr("", "v1", "namespaces"), false},
	"PersistentVolume":        {gvr("", "v1", "persistentvolumes"), false},
	"StorageClass":            {gvr("storage.k8s.io", "v1", "storageclasses"), false},
	"Job":                     {gvr("batch", "v1", "jobs"), true},
	"CronJob":                 {gvr("batch", "v1", "cronjobs"), true},
	"HorizontalPodAutoscaler": {gvr("autoscaling", "v2", "horizontalpodautoscalers"), true},
	"PodDisruptionBudget":     {gvr("policy", "v1", "poddisruptionbudgets"), true},
	"EndpointSlice":           {gvr("discovery.k8s.io", "v1", "endpointslices"), true},
	"Application":             {gvr("argoproj.io", "v1alpha1", "applications"), true},
	"Kustomization":           {gvr("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"), true},
	"HelmRelease":             {gvr("helm.toolkit.fluxcd.io", "v2", "helmreleases"), true},
	"GitRepository":           {gvr("source.toolkit.fluxcd.io", "v1", "gitrepositories"), true},
}

// callTimeout bounds one API call. The API server's own default for a request is 60 s; a write
// that takes longer than this is looked for, not sent again.
const callTimeout = 15 * time.Second

// Live is one cluster through client-go. Give it a reader's identity for Reader and an actor's
// identity for Writer; they are separate ServiceAccounts.
type Live struct{ client dynamic.Interface }

// NewLive returns the cluster behind client. The client's QPS and timeouts are the caller's.
func NewLive(client dynamic.Interface) *Live { return &Live{client: client} }

func (l *Live) on(kind, namespace string) (dynamic.ResourceInterface, error) {
	k, ok := kinds[kind]
	if !ok {
		return nil, incident.Invalidf("kind %q is not one that can be read", incident.Clip(kind, 60))
	}
	if namespace == "" {
		return l.client.Resource(k.gvr), nil
	}
	return l.client.Resource(k.gvr).Namespace(namespace), nil
}

// Get implements Reader: a consistent read, not one from the API server's cache.
func (l *Live) Get(ctx context.Context, e incident.Entity) (*Object, error) {
	ri, err := l.on(e.Kind, e.Namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := ri.Get(ctx, e.Name, metav1.GetOptions{})
	return o, apiError("get", e, err)
}

// List implements Reader.
func (l *Live) List(ctx context.Context, kind, namespace, selector string) ([]Object, error) {
	ri, err := l.on(kind, namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out []Object
	for opts := (metav1.ListOptions{Limit: listPage, LabelSelector: selector}); ; {
		page, err := ri.List(ctx, opts)
		if err != nil {
			return nil, apiError("list", incident.Entity{Kind: kind, Namespace: namespace, Name: "*"}, err)
		}
		for i := range page.Items {
			if page.Items[i].GetKind() == "" {
				page.Items[i].SetKind(kind)
			}
			page.Items[i].SetManagedFields(nil) // a third of the memory, and read of the target alone
		}
		out = append(out, page.Items...)
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			return out, nil
		}
	}
}

// listPage is how many objects one reply holds: what kubectl uses.
const listPage = 500

// Apply implements Writer.
func (l *Live) Apply(ctx context.Context, w Write, how Apply) (*Object, error) {
	ri, err := l.on(w.Target.Kind, w.Target.Namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var dry []string
	if how.DryRun {
		dry = []string{metav1.DryRunAll}
	}
	switch w.Verb {
	case VerbPatch:
		return l.patch(ctx, ri, w, how, dry)
	case VerbDelete:
		policy := metav1.DeletePropagationBackground
		err := ri.Delete(ctx, w.Target.Name, metav1.DeleteOptions{DryRun: dry, PropagationPolicy: &policy,
			Preconditions: preconditions(w)})
		return nil, apiError("delete", w.Target, err)
	case VerbEvict:
		return nil, l.evict(ctx, ri, w, dry)
	case VerbCopy, VerbCreate:
		return l.create(ctx, ri, w, how, dry)
	}
	return nil, incident.Invalidf("verb %q is not an API call", w.Verb)
}

func preconditions(w Write) *metav1.Preconditions {
	uid := types.UID(w.Target.UID)
	pre := &metav1.Preconditions{UID: &uid}
	if w.Version != "" {
		pre.ResourceVersion = &w.Version
	}
	return pre
}

func (l *Live) patch(ctx context.Context, ri dynamic.ResourceInterface, w Write, how Apply, dry []string) (*Object, error) {
	live, err := ri.Get(ctx, w.Target.Name, metav1.GetOptions{})
	if err != nil {
		return nil, apiError("get", w.Target, err)
	}
	body, err := encodePatch(live, w, how)
	if err != nil {
		return nil, err
	}
	o, err := ri.Patch(ctx, w.Target.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: FieldManager, DryRun: dry})
	return o, apiError("patch", w.Target, err)
}

func (l *Live) evict(ctx context.Context, ri dynamic.ResourceInterface, w Write, dry []string) error {
	eviction := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": map[string]any{"name": w.Target.Name, "namespace": w.Target.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": w.Target.UID,
			"resourceVersion": w.Version}},
	}}
	if dry != nil {
		eviction.Object["deleteOptions"].(map[string]any)["dryRun"] = []any{metav1.DryRunAll}
	}
	_, err := ri.Create(ctx, eviction, metav1.CreateOptions{DryRun: dry, FieldManager: FieldManager}, "eviction")
	if apierrors.IsTooManyRequests(err) {
		return fmt.Errorf("evict %s: a disruption budget allows no eviction now: %w", w.Target, incident.ErrDenied)
	}
	return apiError("evict", w.Target, err)
}

// create makes Target from Source, read now; its UID must be the approved one.
func (l *Live) create(ctx context.Context, ri dynamic.ResourceInterface, w Write, how Apply, dry []string) (*Object, error) {
	src, err := l.Get(ctx, *w.Source)
	if err != nil {
		return nil, err
	}
	if string(src.GetUID()) != w.Source.UID || (w.Version != "" && src.GetResourceVersion() != w.Version) {
		return nil, fmt.Errorf("copy %s: it changed since it was shown: %w", w.Source, incident.ErrStale)
	}
	o := derived(src, w, how)
	o, err = ri.Create(ctx, o, metav1.CreateOptions{FieldManager: FieldManager, DryRun: dry})
	if apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create %s: it exists already: %w", w.Target, incident.ErrStale)
	}
	return o, apiError("create", w.Target, err)
}

// derived returns the object a copy or create makes: content of src, name of the target, stamp.
func derived(src *Object, w Write, how Apply) *Object {
	o := &Object{Object: map[string]any{"apiVersion": src.GetAPIVersion(), "kind": src.GetKind()}}
	o.SetName(w.Target.Name)
	o.SetNamespace(w.Target.Namespace)
	stamp := map[string]string{"tocsin.io/copied-from": w.Source.Namespace + "." + w.Source.Name}
	if how.Execution != "" {
		stamp[AnnotationExecution], stamp[AnnotationIncident] = how.Execution, string(how.Incident)
	}
	o.SetAnnotations(stamp)
	o.SetLabels(map[string]string{"app.kubernetes.io/managed-by": FieldManager})
	if w.Verb == VerbCopy {
		for _, f := range []string{"type", "data"} {
			if v, ok := src.Object[f]; ok {
				o.Object[f] = v
			}
		}
		return o
	}
	spec, _, _ := unstructured.NestedMap(src.Object, "spec")
	// The controller chooses a new selector; the old one would select the old pods.
	delete(spec, "selector")
	delete(spec, "manualSelector")
	unstructured.RemoveNestedField(spec, "template", "metadata", "labels")
	o.Object["spec"] = spec
	return o
}

// Allowed implements Writer.
func (l *Live) Allowed(ctx context.Context, w Write) (bool, string, error) {
	k, ok := kinds[w.Target.Kind]
	if !ok {
		return false, "kind is not known", nil
	}
	attr := map[string]any{"group": k.gvr.Group, "resource": k.gvr.Resource, "namespace": w.Target.Namespace, "name": w.Target.Name}
	switch w.Verb {
	case VerbPatch, VerbDelete:
		attr["verb"] = string(w.Verb)
	case VerbEvict:
		attr["verb"], attr["subresource"] = "create", "eviction"
	case VerbCopy, VerbCreate:
		attr["verb"] = "create"
		delete(attr, "name") // RBAC cannot restrict create by name
	default:
		return true, "no API call", nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authorization.k8s.io/v1",
		"kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": attr}}}
	got, err := l.client.Resource(authv1.SchemeGroupVersion.WithResource("selfsubjectaccessreviews")).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, "", fmt.Errorf("ask whether %s %s is allowed: %w", w.Verb, w.Target, err)
	}
	allowed, _, _ := unstructured.NestedBool(got.Object, "status", "allowed")
	reason, _, _ := unstructured.NestedString(got.Object, "status", "reason")
	return allowed, reason, nil
}

// Event implements Writer.
func (l *Live) Event(ctx context.Context, target incident.Entity, reason, message string) error {
	ns := target.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	now := time.Now().UTC()
	e := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Event",
		"metadata": map[string]any{"generateName": "tocsin-", "namespace": ns},
		"involvedObject": map[string]any{"kind": target.Kind, "namespace": target.Namespace, "name": target.Name,
			"uid": target.UID, "apiVersion": kinds[target.Kind].gvr.GroupVersion().String()},
		"reason": reason, "message": incident.Clip(message, 1000), "type": "Normal", "count": int64(1),
		"source": map[string]any{"component": FieldManager}, "firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339),
		"reportingComponent": FieldManager, "reportingInstance": FieldManager}}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := l.client.Resource(gvr("", "v1", "events")).Namespace(ns).Create(ctx, e, metav1.CreateOptions{FieldManager: FieldManager})
	return apiError("event on", target, err)
}

// apiError maps a definite answer of the server to our sentinels. What is not definite (no
// answer, a timeout, an error of the server itself) stays unmapped: it may have been written.
func apiError(verb string, e incident.Entity, err error) error {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	sentinel := error(nil)
	switch {
	case !errors.As(err, &status):
	case apierrors.IsNotFound(err), apierrors.IsGone(err):
		sentinel = incident.ErrNotFound
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		sentinel = incident.ErrStale
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsTooManyRequests(err):
		sentinel = incident.ErrDenied
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		sentinel = incident.ErrInvalid
	}
	if sentinel == nil {
		return fmt.Errorf("%s %s: %w", verb, e, err)
	}
	return fmt.Errorf("%s %s: %w: %s", verb, e, sentinel, incident.Clip(err.Error(), 400))
}
