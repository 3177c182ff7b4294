package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/retry"
)

var getOptions = metav1.GetOptions{}

func applyClients(cfg *rest.Config) (dynamic.Interface, *restmapper.DeferredDiscoveryRESTMapper, error) {
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	return dyn, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)), nil
}

// Apply creates or changes the objects of a YAML text (documents parted by "---") by server-side
// apply, field manager "lab", in order. Namespaces they name are made first.
func (c *Cluster) Apply(ctx context.Context, text string) error {
	return c.each(text, func(res dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		if err := c.ensureNamespace(ctx, obj.GetNamespace()); err != nil {
			return err
		}
		_, err := res.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "lab", Force: true})
		return err
	})
}

// Delete removes the objects of a YAML text; those that do not exist are no error.
func (c *Cluster) Delete(ctx context.Context, text string) error {
	return c.each(text, func(res dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		background := metav1.DeletePropagationBackground
		err := res.Delete(ctx, obj.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

func (c *Cluster) each(text string, do func(dynamic.ResourceInterface, *unstructured.Unstructured) error) error {
	dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for i := 0; ; i++ {
		obj := &unstructured.Unstructured{}
		if err := dec.Decode(&obj.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("lab: document %d: %w", i, err)
		}
		if len(obj.Object) == 0 {
			continue
		}
		gvk := obj.GroupVersionKind()
		m, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) { // it may have been defined a moment ago
			c.mapper.Reset()
			m, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		}
		if err != nil {
			return fmt.Errorf("lab: %s %s: %w", gvk.Kind, obj.GetName(), err)
		}
		var res dynamic.ResourceInterface = c.dynamic.Resource(m.Resource)
		if m.Scope.Name() == meta.RESTScopeNameNamespace {
			if obj.GetNamespace() == "" {
				obj.SetNamespace("default")
			}
			res = c.dynamic.Resource(m.Resource).Namespace(obj.GetNamespace())
		}
		if err := do(res, obj); err != nil {
			return fmt.Errorf("lab: %s %s/%s on %s: %w", gvk.Kind, obj.GetNamespace(), obj.GetName(), c.Name, err)
		}
	}
}

func (c *Cluster) ensureNamespace(ctx context.Context, name string) error {
	if name == "" || name == "default" {
		return nil
	}
	_, err := c.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// Pods of a namespace without its service account are refused.
	return c.Wait(ctx, "the service account of "+name, func(ctx context.Context) error {
		_, err := c.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", getOptions)
		return err
	})
}

// Deployment returns the YAML of a deployment of one container called like it, labelled
// app=<name>, with a memory limit of 64Mi. annotations are lines "key: value" for its pod
// template.
func Deployment(namespace, name string, replicas int, image string, annotations ...string) string {
	var notes string
	for _, a := range annotations {
		notes += "\n        " + a
	}
	if notes != "" {
		notes = "\n      annotations:" + notes
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {app: %[2]s}
spec:
  replicas: %[3]d
  selector:
    matchLabels: {app: %[2]s}
  template:
    metadata:
      labels: {app: %[2]s}%[5]s
    spec:
      containers:
      - name: %[2]s
        image: %[4]s
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {memory: 64Mi}
`, namespace, name, replicas, image, notes)
}

// WaitReady waits until the newest revision of a deployment has n ready pods and no others.
func (c *Cluster) WaitReady(ctx context.Context, namespace, name string, n int) error {
	return c.Wait(ctx, fmt.Sprintf("%d ready pods of %s/%s", n, namespace, name), func(ctx context.Context) error {
		d, err := c.Client.AppsV1().Deployments(namespace).Get(ctx, name, getOptions)
		if err != nil {
			return err
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != int32(n) || s.ReadyReplicas != int32(n) || s.Replicas != int32(n) {
			return fmt.Errorf("%d pods, %d updated, %d ready", s.Replicas, s.UpdatedReplicas, s.ReadyReplicas)
		}
		return nil
	})
}

// WaitWaiting waits until a container of some pod labelled app=<app> waits for the given reason
// (ImagePullBackOff, CrashLoopBackOff, …) and returns that pod.
func (c *Cluster) WaitWaiting(ctx context.Context, namespace, app, reason string) (pod *corev1.Pod, err error) {
	err = c.Wait(ctx, fmt.Sprintf("a pod of %s/%s in %s", namespace, app, reason), func(ctx context.Context) error {
		list, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		var seen []string
		for i := range list.Items {
			for _, s := range list.Items[i].Status.ContainerStatuses {
				if w := s.State.Waiting; w != nil && w.Reason == reason {
					pod = &list.Items[i]
					return nil
				} else if w != nil {
					seen = append(seen, w.Reason)
				}
			}
		}
		return fmt.Errorf("%d pods, waiting for %v", len(list.Items), seen)
	})
	return pod, err
}

// SetPodStatus changes the status of a pod, as a kubelet would.
func (c *Cluster) SetPodStatus(ctx context.Context, namespace, name string, change func(*corev1.PodStatus)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		pod, err := c.Client.CoreV1().Pods(namespace).Get(ctx, name, getOptions)
		if err != nil {
			return err
		}
		change(&pod.Status)
		_, err = c.Client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
