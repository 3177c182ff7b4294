package cluster

import (
	"bytes"
	"encoding/json"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/incident"
)

// maxDepth bounds the nesting of one object; real objects stay below 40.
const maxDepth = 200

// kindInfo says how a kind is called and decoded. Groups are matched without version: a beta
// form decodes into the stable type as far as their fields agree.
type kindInfo struct {
	group  string
	plural string
	make   func() metav1.Object
}

func kinds() map[string]kindInfo {
	return map[string]kindInfo{
		"Pod":                            {"", "pods", func() metav1.Object { return &corev1.Pod{} }},
		"Service":                        {"", "services", func() metav1.Object { return &corev1.Service{} }},
		"Endpoints":                      {"", "endpoints", func() metav1.Object { return &corev1.Endpoints{} }},
		"EndpointSlice":                  {"discovery.k8s.io", "endpointslices", func() metav1.Object { return &discoveryv1.EndpointSlice{} }},
		"Deployment":                     {"apps", "deployments", func() metav1.Object { return &appsv1.Deployment{} }},
		"ReplicaSet":                     {"apps", "replicasets", func() metav1.Object { return &appsv1.ReplicaSet{} }},
		"StatefulSet":                    {"apps", "statefulsets", func() metav1.Object { return &appsv1.StatefulSet{} }},
		"DaemonSet":                      {"apps", "daemonsets", func() metav1.Object { return &appsv1.DaemonSet{} }},
		"Job":                            {"batch", "jobs", func() metav1.Object { return &batchv1.Job{} }},
		"CronJob":                        {"batch", "cronjobs", func() metav1.Object { return &batchv1.CronJob{} }},
		"Node":                           {"", "nodes", func() metav1.Object { return &corev1.Node{} }},
		"PersistentVolumeClaim":          {"", "persistentvolumeclaims", func() metav1.Object { return &corev1.PersistentVolumeClaim{} }},
		"PersistentVolume":               {"", "persistentvolumes", func() metav1.Object { return &corev1.PersistentVolume{} }},
		"StorageClass":                   {"storage.k8s.io", "storageclasses", func() metav1.Object { return &storagev1.StorageClass{} }},
		"VolumeAttachment":               {"storage.k8s.io", "volumeattachments", func() metav1.Object { return &storagev1.VolumeAttachment{} }},
		"ConfigMap":                      {"", "configmaps", func() metav1.Object { return &corev1.ConfigMap{} }},
		"Secret":                         {"", "secrets", func() metav1.Object { return &corev1.Secret{} }},
		"ServiceAccount":                 {"", "serviceaccounts", func() metav1.Object { return &corev1.ServiceAccount{} }},
		"ResourceQuota":                  {"", "resourcequotas", func() metav1.Object { return &corev1.ResourceQuota{} }},
		"LimitRange":                     {"", "limitranges", func() metav1.Object { return &corev1.LimitRange{} }},
		"Namespace":                      {"", "namespaces", func() metav1.Object { return &corev1.Namespace{} }},
		"NetworkPolicy":                  {"networking.k8s.io", "networkpolicies", func() metav1.Object { return &networkingv1.NetworkPolicy{} }},
		"Ingress":                        {"networking.k8s.io", "ingresses", func() metav1.Object { return &networkingv1.Ingress{} }},
		"IngressClass":                   {"networking.k8s.io", "ingressclasses", func() metav1.Object { return &networkingv1.IngressClass{} }},
		"HorizontalPodAutoscaler":        {"autoscaling", "horizontalpodautoscalers", func() metav1.Object { return &autoscalingv2.HorizontalPodAutoscaler{} }},
		"PodDisruptionBudget":            {"policy", "poddisruptionbudgets", func() metav1.Object { return &policyv1.PodDisruptionBudget{} }},
		"Event":                          {"", "events", func() metav1.Object { return &corev1.Event{} }},
		"Lease":                          {"coordination.k8s.io", "leases", func() metav1.Object { return &coordinationv1.Lease{} }},
		"PriorityClass":                  {"scheduling.k8s.io", "priorityclasses", func() metav1.Object { return &schedulingv1.PriorityClass{} }},
		"ValidatingWebhookConfiguration": {"admissionregistration.k8s.io", "validatingwebhookconfigurations", func() metav1.Object { return &admissionv1.ValidatingWebhookConfiguration{} }},
		"MutatingWebhookConfiguration":   {"admissionregistration.k8s.io", "mutatingwebhookconfigurations", func() metav1.Object { return &admissionv1.MutatingWebhookConfiguration{} }},
	}
}

// decoder turns raw JSON objects into typed ones.
type decoder struct {
	kinds   map[string]kindInfo
	customs map[string]string
	plurals map[string]bool
}

func newDecoder() *decoder {
	d := &decoder{kinds: kinds(), customs: CustomKinds(), plurals: map[string]bool{}}
	for _, k := range d.kinds {
		d.plurals[k.plural] = true
	}
	for k := range d.customs {
		d.plurals[strings.ToLower(k)+"s"] = true
	}
	return d
}

// plural returns the resource name of a kind, "" for kinds that are not kept.
func (d *decoder) plural(group, kind string) string {
	if k, ok := d.kinds[kind]; ok && (k.group == group || kind == "Event" && group == "events.k8s.io") {
		return k.plural
	}
	if g, ok := d.customs[kind]; ok && strings.Contains(g, group) && group != "" {
		return strings.ToLower(kind) + "s"
	}
	return ""
}

func groupOf(apiVersion string) string {
	g, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return g
}

// object decodes one object of a known kind; nil without an error: a kind that is not kept.
func (d *decoder) object(apiVersion, kind string, raw []byte) (metav1.Object, error) {
	group := groupOf(apiVersion)
	if d.plural(group, kind) == "" {
		return nil, nil
	}
	if kind == "Event" && group == "events.k8s.io" {
		return decodeEvent(raw)
	}
	if k, ok := d.kinds[kind]; ok && k.group == group {
		o := k.make()
		if err := json.Unmarshal(raw, o); err != nil {
			return nil, incident.Invalidf("%s: %v", kind, err)
		}
		_, err := Strip(o)
		return o, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		return nil, incident.Invalidf("%s: %v", kind, err)
	}
	if _, ok := u.Object["metadata"].(map[string]any); !ok {
		return nil, incident.Invalidf("%s without metadata", kind)
	}
	_, err := Strip(u)
	return u, err
}

// decodeEvent reads an events.k8s.io event into the core form, which carries the same facts.
func decodeEvent(raw []byte) (metav1.Object, error) {
	var e eventsv1.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, incident.Invalidf("Event: %v", err)
	}
	o := &corev1.Event{ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Reason: e.Reason, Message: e.Note, Type: e.Type,
		EventTime: e.EventTime, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
		Source: e.DeprecatedSource, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance, Action: e.Action}
	if e.Series != nil {
		o.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	o.ManagedFields = nil
	return o, nil
}

// members returns the values of the wanted top-level keys of a JSON object, without decoding the
// rest. It stops at the first thing that is no JSON.
func members(raw []byte, want ...string) map[string][]byte {
	out := make(map[string][]byte, len(want))
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return out
	}
	for i++; ; {
		i = skipSpace(raw, i)
		if i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
		if i >= len(raw) || raw[i] != '"' {
			return out
		}
		end, ok := skipValue(raw, i)
		if !ok {
			return out
		}
		key := raw[i+1 : end-1]
		i = skipSpace(raw, end)
		if i >= len(raw) || raw[i] != ':' {
			return out
		}
		i = skipSpace(raw, i+1)
		if end, ok = skipValue(raw, i); !ok {
			return out
		}
		for _, w := range want {
			if string(key) == w {
				out[w] = raw[i:end]
			}
		}
		i = end
	}
}

// elements calls f with each element of a JSON array until f fails; ok is false when raw is no
// whole array.
func elements(raw []byte, f func([]byte) error) (ok bool, err error) {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return false, nil
	}
	for i++; ; {
		i = skipSpace(raw, i)
		if i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
		if i >= len(raw) {
			return false, nil
		}
		if raw[i] == ']' {
			return true, nil
		}
		end, ok := skipValue(raw, i)
		if !ok {
			return false, nil
		}
		if err := f(raw[i:end]); err != nil {
			return false, err
		}
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the JSON value at i. It does not check the value, only its
// brackets and strings; ok is false for one that does not end or is nested deeper than maxDepth.
func skipValue(b []byte, i int) (end int, ok bool) {
	depth := 0
	for i < len(b) {
		switch c := b[i]; c {
		case '"':
			if i = skipString(b, i); i < 0 {
				return 0, false
			}
			if depth == 0 {
				return i, true
			}
			continue
		case '{', '[':
			if depth++; depth > maxDepth {
				return 0, false
			}
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1, depth == 0
			}
		default:
			if depth == 0 {
				start := i
				for i < len(b) && !bytes.ContainsRune([]byte(" \t\r\n,]}:"), rune(b[i])) {
					i++
				}
				return i, i > start
			}
		}
		i++
	}
	return 0, false
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		j := bytes.IndexByte(b[i:], '"')
		if j < 0 {
			return -1
		}
		if k := bytes.IndexByte(b[i:i+j], '\\'); k >= 0 {
			i += k + 1
			continue
		}
		return i + j + 1
	}
	return -1
}

func text(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
