package remediations

import (
	"context"
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/incident"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Health is what the target's own conditions say. The zero value is "not healthy".
type Health struct {
	OK     bool   `json:"ok"`
	Ready  int    `json:"ready"`  // ready pods or endpoints; -1: not counted
	Detail string `json:"detail"` // "2 of 3 updated, 1 available"
}

// probe is what a health check is told.
type probe struct {
	target incident.Entity
	params map[string]string
	id     string           // of the execution
	owner  *incident.Entity // of a target that was deleted: who replaces it
}

// healthOf reads the target's conditions by its kind. A target that is gone is judged by its
// owner; without one it is not healthy.
func healthOf(ctx context.Context, r Reader, p *probe) (Health, error) {
	e := p.target
	if p.owner != nil {
		e = *p.owner
	}
	o, err := r.Get(ctx, e)
	if errors.Is(err, incident.ErrNotFound) {
		return Health{Ready: -1, Detail: e.String() + " does not exist"}, nil
	}
	if err != nil {
		return Health{}, err
	}
	switch e.Kind {
	case "Deployment":
		return deploymentHealth(o)
	case "StatefulSet":
		return statefulSetHealth(o)
	case "DaemonSet":
		return daemonSetHealth(o)
	case "ReplicaSet":
		return replicaSetHealth(o)
	case "Service":
		return serviceHealth(ctx, r, o)
	case "Job":
		return jobHealth(o)
	case "Node":
		return nodeHealth(o)
	case "HorizontalPodAutoscaler":
		return hpaHealth(o)
	case "Pod":
		pod, err := as[corev1.Pod](o)
		return Health{OK: podReady(&pod), Ready: count(podReady(&pod)), Detail: string(pod.Status.Phase)}, err
	}
	return Health{OK: true, Ready: -1, Detail: "it has no conditions to watch"}, nil
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func replicasOf(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

func deploymentHealth(o *Object) (Health, error) {
	d, err := as[appsv1.Deployment](o)
	if err != nil {
		return Health{}, err
	}
	want, s := replicasOf(d.Spec.Replicas), d.Status
	h := Health{Ready: int(s.ReadyReplicas), Detail: fmt.Sprintf("%d wanted, %d updated, %d ready, %d available", want, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas)}
	if s.ObservedGeneration < d.Generation {
		h.Detail = "the controller has not seen the change yet"
		return h, nil
	}
	h.OK = int(s.UpdatedReplicas) == want && int(s.AvailableReplicas) == want && int(s.Replicas) == want
	return h, nil
}

func statefulSetHealth(o *Object) (Health, error) {
	d, err := as[appsv1.StatefulSet](o)
	if err != nil {
		return Health{}, err
	}
	want, s := replicasOf(d.Spec.Replicas), d.Status
	return Health{Ready: int(s.ReadyReplicas),
		OK:     s.ObservedGeneration >= d.Generation && int(s.ReadyReplicas) == want && s.UpdateRevision == s.CurrentRevision,
		Detail: fmt.Sprintf("%d wanted, %d updated, %d ready", want, s.UpdatedReplicas, s.ReadyReplicas)}, nil
}

func daemonSetHealth(o *Object) (Health, error) {
	d, err := as[appsv1.DaemonSet](o)
	if err != nil {
		return Health{}, err
	}
	s := d.Status
	return Health{Ready: int(s.NumberReady),
		OK:     s.ObservedGeneration >= d.Generation && s.NumberReady == s.DesiredNumberScheduled && s.UpdatedNumberScheduled == s.DesiredNumberScheduled,
		Detail: fmt.Sprintf("%d wanted, %d updated, %d ready", s.DesiredNumberScheduled, s.UpdatedNumberScheduled, s.NumberReady)}, nil
}

func replicaSetHealth(o *Object) (Health, error) {
	d, err := as[appsv1.ReplicaSet](o)
	if err != nil {
		return Health{}, err
	}
	want := replicasOf(d.Spec.Replicas)
	return Health{Ready: int(d.Status.ReadyReplicas), OK: d.Status.ObservedGeneration >= d.Generation && int(d.Status.ReadyReplicas) == want,
		Detail: fmt.Sprintf("%d wanted, %d ready", want, d.Status.ReadyReplicas)}, nil
}

// serviceHealth wants a ready endpoint with a port.
func serviceHealth(ctx context.Context, r Reader, o *Object) (Health, error) {
	slices, err := list[discoveryv1.EndpointSlice](ctx, r, "EndpointSlice", o.GetNamespace())
	if err != nil {
		return Health{}, err
	}
	ready := 0
	for _, s := range slices {
		if s.Labels[discoveryv1.LabelServiceName] != o.GetName() || len(s.Ports) == 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready += len(e.Addresses)
			}
		}
	}
	return Health{OK: ready > 0, Ready: ready, Detail: fmt.Sprintf("%d ready endpoints", ready)}, nil
}

func jobHealth(o *Object) (Health, error) {
	j, err := as[batchv1.Job](o)
	if err != nil {
		return Health{}, err
	}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return Health{OK: true, Ready: -1, Detail: "the Job completed"}, nil
		case batchv1.JobFailed:
			return Health{Ready: -1, Detail: "the Job failed: " + incident.UntrustedText(c.Reason).Plain(80)}, nil
		}
	}
	return Health{Ready: -1, Detail: fmt.Sprintf("the Job runs: %d active", j.Status.Active)}, nil
}

func nodeHealth(o *Object) (Health, error) {
	n, err := as[corev1.Node](o)
	if err != nil {
		return Health{}, err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return Health{OK: c.Status == corev1.ConditionTrue, Ready: -1, Detail: "Ready is " + string(c.Status)}, nil
		}
	}
	return Health{Ready: -1, Detail: "the node reports no readiness"}, nil
}

func hpaHealth(o *Object) (Health, error) {
	h, err := as[autoscalingv2.HorizontalPodAutoscaler](o)
	if err != nil {
		return Health{}, err
	}
	return Health{OK: h.Status.CurrentReplicas >= replicaMin(&h) && h.Status.CurrentReplicas <= h.Spec.MaxReplicas,
		Ready: int(h.Status.CurrentReplicas), Detail: fmt.Sprintf("%d current, %d desired, %d..%d allowed", h.Status.CurrentReplicas,
			h.Status.DesiredReplicas, replicaMin(&h), h.Spec.MaxReplicas)}, nil
}

func replicaMin(h *autoscalingv2.HorizontalPodAutoscaler) int32 {
	if h.Spec.MinReplicas == nil {
		return 1
	}
	return *h.Spec.MinReplicas
}

// field returns a health check that wants one field of the target to have a value.
func field(want func(params map[string]string) any, path ...string) func(context.Context, Reader, *probe) (Health, error) {
	return func(ctx context.Context, r Reader, p *probe) (Health, error) {
		o, err := r.Get(ctx, p.target)
		if errors.Is(err, incident.ErrNotFound) {
			return Health{Ready: -1, Detail: p.target.String() + " does not exist"}, nil
		}
		if err != nil {
			return Health{}, err
		}
		got, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
		w := want(p.params)
		// A boolean that is false is as good as absent.
		ok := got == w || (w == false && got == nil)
		return Health{OK: ok, Ready: -1, Detail: fmt.Sprintf("%s is %v, wanted %v", join("", path[len(path)-1]), got, w)}, nil
	}
}

// gone wants the target to be away, whoever took it.
func gone(ctx context.Context, r Reader, p *probe) (Health, error) {
	o, err := r.Get(ctx, p.target)
	switch {
	case errors.Is(err, incident.ErrNotFound):
		return Health{OK: true, Ready: -1, Detail: p.target.String() + " is gone"}, nil
	case err != nil:
		return Health{}, err
	case p.target.UID != "" && string(o.GetUID()) != p.target.UID:
		return Health{OK: true, Ready: -1, Detail: p.target.String() + " was replaced"}, nil
	}
	return Health{Ready: -1, Detail: p.target.String() + " is still there"}, nil
}

// replaced wants a deleted pod gone and its controller complete again.
func replaced(ctx context.Context, r Reader, p *probe) (Health, error) {
	h, err := gone(ctx, r, &probe{target: p.target})
	if err != nil || p.owner == nil {
		return h, err
	}
	after, err := healthOf(ctx, r, p)
	if !h.OK {
		after.OK, after.Detail = false, h.Detail
	}
	return after, err
}

// controllerOf returns the controller of a live object, nil when it has none.
func controllerOf(o *Object) *incident.Entity {
	c := metav1.GetControllerOf(o)
	if c == nil {
		return nil
	}
	return &incident.Entity{Kind: c.Kind, Namespace: o.GetNamespace(), Name: c.Name, UID: string(c.UID)}
}
