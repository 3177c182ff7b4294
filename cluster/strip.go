package cluster

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Limits of what is kept of one ConfigMap: addresses and switches are short, files are not read.
const maxConfigValue = 32 << 10

// Strip drops from obj, in place, what no detector reads: managed fields, the last applied
// configuration, Secret values, long ConfigMap values, image lists of nodes. It is idempotent and
// has the form of a client-go TransformFunc; anything that is no API object passes unchanged.
func Strip(obj any) (any, error) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil
	}
	m.SetManagedFields(nil)
	if an := m.GetAnnotations(); an[corev1.LastAppliedConfigAnnotation] != "" {
		delete(an, corev1.LastAppliedConfigAnnotation)
		m.SetAnnotations(an)
	}
	switch v := obj.(type) {
	case *corev1.Secret:
		stripSecret(v)
	case *corev1.ConfigMap:
		for k, s := range v.Data {
			if len(s) > maxConfigValue {
				v.Data[k] = s[:maxConfigValue]
			}
		}
		v.BinaryData = nil
	case *corev1.Node:
		v.Status.Images = nil
		v.Status.VolumesInUse = nil
	case *unstructured.Unstructured:
		unstructured.RemoveNestedField(v.Object, "status", "history")
		unstructured.RemoveNestedField(v.Object, "status", "operationState", "syncResult")
	}
	return obj, nil
}

func stripSecret(v *corev1.Secret) {
	for k := range v.StringData {
		if v.Data == nil {
			v.Data = map[string][]byte{}
		}
		v.Data[k] = nil
	}
	v.StringData = nil
	for k := range v.Data {
		v.Data[k] = nil
	}
}

// withoutValues returns v when it holds no values, else a copy that keeps the key names only.
func withoutValues(v *corev1.Secret) *corev1.Secret {
	clean := len(v.StringData) == 0
	for _, b := range v.Data {
		clean = clean && len(b) == 0
	}
	if clean {
		return v
	}
	c := &corev1.Secret{TypeMeta: v.TypeMeta, ObjectMeta: *v.ObjectMeta.DeepCopy(), Type: v.Type, Data: map[string][]byte{}}
	for k := range v.Data {
		c.Data[k] = nil
	}
	for k := range v.StringData {
		c.Data[k] = nil
	}
	if c.Annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(c.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	return c
}
