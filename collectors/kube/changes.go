package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/incident"
)

// changeOf tells whether an update is one that people or pipelines make (a new template, another
// replica count, a cordon, new configuration), and says it as a change signal without time.
func changeOf(old, now any) (incident.Signal, bool) {
	switch n := now.(type) {
	case *appsv1.Deployment:
		o := old.(*appsv1.Deployment)
		return workloadChange("Deployment", n, &o.Spec.Template, &n.Spec.Template, o.Spec.Replicas, n.Spec.Replicas)
	case *appsv1.StatefulSet:
		o := old.(*appsv1.StatefulSet)
		return workloadChange("StatefulSet", n, &o.Spec.Template, &n.Spec.Template, o.Spec.Replicas, n.Spec.Replicas)
	case *appsv1.DaemonSet:
		o := old.(*appsv1.DaemonSet)
		return workloadChange("DaemonSet", n, &o.Spec.Template, &n.Spec.Template, nil, nil)
	case *corev1.Node:
		o := old.(*corev1.Node)
		if o.Spec.Unschedulable != n.Spec.Unschedulable {
			if n.Spec.Unschedulable {
				return change("Node", n, "NodeCordoned", "cordoned"), true
			}
			return change("Node", n, "NodeUncordoned", "uncordoned"), true
		}
	case *corev1.ConfigMap:
		o := old.(*corev1.ConfigMap)
		// Leader election once wrote its lock into ConfigMaps; such a one changes all the time.
		if n.Annotations["control-plane.alpha.kubernetes.io/leader"] == "" && !maps.Equal(o.Data, n.Data) {
			return change("ConfigMap", n, "ConfigChanged", "keys "+changedKeys(o.Data, n.Data)), true
		}
	case *corev1.ResourceQuota:
		o := old.(*corev1.ResourceQuota)
		if !equality.Semantic.DeepEqual(o.Spec, n.Spec) {
			return change("ResourceQuota", n, "QuotaChanged", "limits changed"), true
		}
	case *corev1.Service:
		o := old.(*corev1.Service)
		if !maps.Equal(o.Spec.Selector, n.Spec.Selector) || !equality.Semantic.DeepEqual(o.Spec.Ports, n.Spec.Ports) {
			return change("Service", n, "ServiceChanged", "selector or ports changed"), true
		}
	}
	return incident.Signal{}, false
}

func workloadChange(kind string, n metav1.Object, ot, nt *corev1.PodTemplateSpec, or, nr *int32) (incident.Signal, bool) {
	if !equality.Semantic.DeepEqual(ot.Spec, nt.Spec) {
		if a, b := images(ot), images(nt); a != b {
			return change(kind, n, "ImageChanged", a+" → "+b), true
		}
		return change(kind, n, "TemplateChanged", "the pod template changed"), true
	}
	if or != nil && nr != nil && *or != *nr {
		return change(kind, n, "Scaled", fmt.Sprintf("%d → %d replicas", *or, *nr)), true
	}
	return incident.Signal{}, false
}

func change(kind string, o metav1.Object, reason, text string) incident.Signal {
	e := incident.Entity{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID())}
	return incident.Signal{Entity: e, Owner: &e, Kind: incident.Change, Status: incident.Firing, Severity: incident.Info, Reason: reason,
		Message: incident.UntrustedText(incident.Clip(text, 1000))}
}

func images(t *corev1.PodTemplateSpec) string {
	var out []string
	for _, c := range t.Spec.Containers {
		out = append(out, c.Image)
	}
	return strings.Join(out, ", ")
}

func changedKeys(a, b map[string]string) string {
	var out []string
	for k := range b {
		if a[k] != b[k] {
			out = append(out, k)
		}
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return incident.Clip(strings.Join(out, ", "), 200)
}

// sameNode tells heartbeats from changes: spec, labels, allocatable and the conditions' states.
func sameNode(a, b *corev1.Node) bool {
	if !equality.Semantic.DeepEqual(a.Spec, b.Spec) || !maps.Equal(a.Labels, b.Labels) || len(a.Status.Conditions) != len(b.Status.Conditions) ||
		!equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) {
		return false
	}
	for i := range a.Status.Conditions {
		if a.Status.Conditions[i].Status != b.Status.Conditions[i].Status || a.Status.Conditions[i].Type != b.Status.Conditions[i].Type {
			return false
		}
	}
	return true
}
