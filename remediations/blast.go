package remediations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// as reads a live object as a typed one.
func as[T any](o *Object) (T, error) {
	var t T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &t); err != nil {
		return t, fmt.Errorf("read %s: %w", entityOf(o), incident.Invalidf("%v", err))
	}
	return t, nil
}

// list reads all objects of a kind as typed ones.
func list[T any](ctx context.Context, r Reader, kind, namespace string) ([]T, error) {
	return listMatching[T](ctx, r, kind, namespace, "")
}

func listMatching[T any](ctx context.Context, r Reader, kind, namespace, selector string) ([]T, error) {
	objects, err := r.List(ctx, kind, namespace, selector)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(objects))
	for i := range objects {
		t, err := as[T](&objects[i])
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func podReady(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// podsOf returns the pods that a workload's selector matches and that are not finished.
func podsOf(ctx context.Context, r Reader, o *Object) ([]corev1.Pod, error) {
	raw, ok, _ := unstructured.NestedMap(o.Object, "spec", "selector")
	if !ok {
		return nil, nil
	}
	var sel metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &sel); err != nil {
		return nil, incident.Invalidf("selector of %s: %v", entityOf(o), err)
	}
	return podsMatching(ctx, r, o.GetNamespace(), &sel)
}

func podsMatching(ctx context.Context, r Reader, namespace string, sel *metav1.LabelSelector) ([]corev1.Pod, error) {
	match, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return nil, incident.Invalidf("selector: %v", err)
	}
	pods, err := listMatching[corev1.Pod](ctx, r, "Pod", namespace, match.String())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { // an empty selector matches all, and one that matches nothing has no text
		return !match.Matches(labels.Set(p.Labels)) || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	}), nil
}

// rolling fills in what a change of the pod template interrupts.
func rolling(ctx context.Context, r *request, pl plan) (plan, error) {
	pods, err := podsOf(ctx, r, r.object)
	if err != nil {
		return plan{}, err
	}
	pl.Pods, pl.AtOnce = pods, 1
	switch r.object.GetKind() {
	case "Deployment":
		d, err := as[appsv1.Deployment](r.object)
		if err != nil {
			return plan{}, err
		}
		pl.AtOnce = deploymentAtOnce(&d)
	case "DaemonSet":
		d, err := as[appsv1.DaemonSet](r.object)
		if err != nil {
			return plan{}, err
		}
		if ru := d.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(ru.MaxUnavailable, len(pods), true); err == nil {
				pl.AtOnce = n
			}
		}
	}
	return pl, nil
}

// deploymentAtOnce is how many ready pods a rollout may take away at the same time.
func deploymentAtOnce(d *appsv1.Deployment) int {
	replicas := 1
	if d.Spec.Replicas != nil {
		replicas = int(*d.Spec.Replicas)
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return replicas
	}
	unavailable, surge := intstr.FromString("25%"), intstr.FromString("25%")
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		if ru.MaxUnavailable != nil {
			unavailable = *ru.MaxUnavailable
		}
		if ru.MaxSurge != nil {
			surge = *ru.MaxSurge
		}
	}
	u, errU := intstr.GetScaledValueFromIntOrPercent(&unavailable, replicas, false)
	s, errS := intstr.GetScaledValueFromIntOrPercent(&surge, replicas, true)
	if errU != nil || errS != nil {
		return replicas
	}
	if u == 0 && s == 0 {
		return 1 // the API server refuses both zero; Kubernetes then takes one
	}
	return u
}

// maxListed bounds the entities a blast radius names; the counts are not bounded.
const maxListed = 20

// blastOf counts what a plan can change or interrupt, against live pods, services and budgets.
func blastOf(ctx context.Context, r Reader, pl plan) (*incident.BlastRadius, []policyv1.PodDisruptionBudget, error) {
	b := &incident.BlastRadius{Pods: len(pl.Pods), Nodes: pl.Nodes}
	workloads, ready, byNamespace := map[incident.Entity]bool{}, 0, map[string][]corev1.Pod{}
	for i := range pl.Pods {
		p := &pl.Pods[i]
		if len(b.Entities) < maxListed {
			b.Entities = append(b.Entities, incident.Entity{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)})
		}
		if podReady(p) {
			ready++
		}
		if c := metav1.GetControllerOf(p); c != nil {
			workloads[incident.Entity{Kind: c.Kind, Namespace: p.Namespace, Name: c.Name}] = true
		}
		byNamespace[p.Namespace] = append(byNamespace[p.Namespace], *p)
	}
	b.Workloads, ready = len(workloads), max(ready, pl.Of)
	if ready > 0 {
		b.Share = min(float64(pl.AtOnce)/float64(ready), 1)
	}
	var budgets []policyv1.PodDisruptionBudget
	for ns, pods := range byNamespace {
		found, err := matching(ctx, r, ns, pods, b)
		if err != nil {
			return nil, nil, err
		}
		budgets = append(budgets, found...)
	}
	slices.Sort(b.Services)
	slices.Sort(b.Budgets)
	return b, budgets, nil
}

// matching adds the services and budgets of one namespace that select any of pods.
func matching(ctx context.Context, r Reader, ns string, pods []corev1.Pod, b *incident.BlastRadius) ([]policyv1.PodDisruptionBudget, error) {
	services, err := list[corev1.Service](ctx, r, "Service", ns)
	if err != nil {
		b.Incomplete = strings.TrimSpace(b.Incomplete + " services could not be read")
	}
	for _, s := range services {
		if len(s.Spec.Selector) > 0 && anyPod(pods, labels.SelectorFromSet(s.Spec.Selector)) {
			b.Services = append(b.Services, ns+"/"+s.Name)
		}
	}
	all, err := list[policyv1.PodDisruptionBudget](ctx, r, "PodDisruptionBudget", ns)
	if err != nil {
		return nil, fmt.Errorf("disruption budgets: %w", err)
	}
	var found []policyv1.PodDisruptionBudget
	for _, d := range all {
		sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && anyPod(pods, sel) {
			found = append(found, d)
			b.Budgets = append(b.Budgets, ns+"/"+d.Name)
		}
	}
	return found, nil
}

func anyPod(pods []corev1.Pod, sel labels.Selector) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return sel.Matches(labels.Set(p.Labels)) })
}
