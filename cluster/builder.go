package cluster

import (
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/incident"
)

// Limits that keep a state bounded whatever is put in.
const (
	MaxObjects  = 400_000  // objects of all kinds; more are refused
	MaxLogBytes = 1 << 20  // of one container's log that are kept, from its end
	maxLogTotal = 96 << 20 // of all logs together
	maxGaps     = 50
)

// Builder collects what a State is made of. It is not safe for concurrent use. The zero value is
// not usable: call New.
type Builder struct {
	st       *State
	objects  int
	logBytes int
	logAt    map[[3]string]int
}

// New returns a builder for the state of the cluster name at the given time.
func New(name incident.ClusterName, at time.Time) *Builder {
	return &Builder{
		st:    &State{Name: name, At: at, sources: map[string]incident.SourceCoverage{}},
		logAt: map[[3]string]int{},
	}
}

// Saw records how much of a source was seen, e.g. "objects/pods", "logs", "metrics", "probes",
// "alerts", "events". A source that nobody mentions counts as not seen; adding an object does
// not mark its kind as seen in whole. The later call wins.
func (b *Builder) Saw(source string, state incident.SourceState, detail string) {
	b.st.sources[source] = incident.SourceCoverage{Source: source, State: state, Detail: incident.Clip(detail, 400)}
}

// Gap records, for a person, something that was left out. At most 50 are kept.
func (b *Builder) Gap(format string, args ...any) {
	if len(b.st.gaps) < maxGaps {
		b.st.gaps = append(b.st.gaps, incident.UntrustedText(fmt.Sprintf(format, args...)).Plain(400))
	}
}

// Asked records what somebody complained about: a namespace and a line of untrusted text.
func (b *Builder) Asked(namespace, report string) {
	b.st.Namespace, b.st.Report = namespace, incident.UntrustedText(incident.Clip(report, 2000))
}

// Add keeps a typed object (a pointer, shared and never changed) or a custom resource as
// *unstructured.Unstructured. Kinds that no detector reads are ignored. An object without a name
// and one beyond MaxObjects are refused with an error that wraps incident.ErrInvalid. Of two
// objects of one kind and name the later is kept.
func (b *Builder) Add(obj metav1.Object) error {
	if obj == nil || obj.GetName() == "" {
		return incident.Invalidf("object %T without a name", obj)
	}
	if b.objects++; b.objects > MaxObjects {
		return incident.Invalidf("more than %d objects", MaxObjects)
	}
	o := &b.st.Objects
	switch v := obj.(type) {
	case *corev1.Pod:
		o.Pods.add(v)
	case *corev1.Service:
		o.Services.add(v)
	case *corev1.Endpoints:
		o.Endpoints.add(v)
	case *discoveryv1.EndpointSlice:
		o.EndpointSlices.add(v)
	case *appsv1.Deployment:
		o.Deployments.add(v)
	case *appsv1.ReplicaSet:
		o.ReplicaSets.add(v)
	case *appsv1.StatefulSet:
		o.StatefulSets.add(v)
	case *appsv1.DaemonSet:
		o.DaemonSets.add(v)
	case *batchv1.Job:
		o.Jobs.add(v)
	case *batchv1.CronJob:
		o.CronJobs.add(v)
	case *corev1.Node:
		o.Nodes.add(v)
	case *corev1.Event:
		o.Events.add(v)
	default:
		b.addRare(obj)
	}
	return nil
}

func (b *Builder) addRare(obj metav1.Object) {
	o := &b.st.Objects
	switch v := obj.(type) {
	case *corev1.PersistentVolumeClaim:
		o.Claims.add(v)
	case *corev1.PersistentVolume:
		o.Volumes.add(v)
	case *storagev1.StorageClass:
		o.StorageClasses.add(v)
	case *storagev1.VolumeAttachment:
		o.VolumeAttachments.add(v)
	case *corev1.ConfigMap:
		o.ConfigMaps.add(v)
	case *corev1.Secret:
		o.Secrets.add(withoutValues(v))
	case *corev1.ServiceAccount:
		o.ServiceAccounts.add(v)
	case *corev1.ResourceQuota:
		o.Quotas.add(v)
	case *corev1.LimitRange:
		o.LimitRanges.add(v)
	case *corev1.Namespace:
		o.Namespaces.add(v)
	case *networkingv1.NetworkPolicy:
		o.NetworkPolicies.add(v)
	case *networkingv1.Ingress:
		o.Ingresses.add(v)
	case *networkingv1.IngressClass:
		o.IngressClasses.add(v)
	case *autoscalingv2.HorizontalPodAutoscaler:
		o.Autoscalers.add(v)
	case *policyv1.PodDisruptionBudget:
		o.Budgets.add(v)
	case *coordinationv1.Lease:
		o.Leases.add(v)
	case *schedulingv1.PriorityClass:
		o.PriorityClasses.add(v)
	case *admissionv1.ValidatingWebhookConfiguration:
		o.ValidatingWebhooks.add(v)
	case *admissionv1.MutatingWebhookConfiguration:
		o.MutatingWebhooks.add(v)
	case *unstructured.Unstructured:
		if _, ok := CustomKinds()[v.GetKind()]; ok {
			o.Customs.add(v)
		}
	}
}

// AddPartial keeps a pod of which only placement and pod-level resources are known. It counts
// for node accounting and nothing else.
func (b *Builder) AddPartial(p *corev1.Pod) {
	if p.Name != "" && len(b.st.Partials) < MaxObjects {
		b.st.Partials = append(b.st.Partials, p)
	}
}

// AddLog keeps the end of a container's logs: MaxLogBytes of each, and no more than 96 MiB of
// all together (a Gap then says so). A second call for a container adds what the first left empty.
func (b *Builder) AddLog(l Log) {
	for _, s := range []*string{&l.Current, &l.Previous, &l.Err} {
		if len(*s) > MaxLogBytes {
			*s = (*s)[len(*s)-MaxLogBytes:]
		}
		b.logBytes += len(*s)
	}
	if b.logBytes > maxLogTotal {
		b.Gap("logs: more than %d MiB; the rest was not read", maxLogTotal>>20)
		return
	}
	key := [3]string{l.Namespace, l.Pod, l.Container}
	if i, ok := b.logAt[key]; ok {
		o := &b.st.Logs[i]
		o.Current, o.Previous, o.Err = or(o.Current, l.Current), or(o.Previous, l.Previous), or(o.Err, l.Err)
		return
	}
	b.logAt[key] = len(b.st.Logs)
	b.st.Logs = append(b.st.Logs, l)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// AddAlerts, AddSeries, AddProbes and AddCalls keep what they are given.
func (b *Builder) AddAlerts(a ...Alert) { b.st.Alerts = append(b.st.Alerts, a...) }

// AddSeries keeps metric series; see AddAlerts.
func (b *Builder) AddSeries(s ...Series) { b.st.Series = append(b.st.Series, s...) }

// AddProbes keeps probe results; see AddAlerts.
func (b *Builder) AddProbes(p ...Probe) { b.st.Probes = append(b.st.Probes, p...) }

// AddCalls keeps known dependencies; see AddAlerts.
func (b *Builder) AddCalls(c ...Call) { b.st.Calls = append(b.st.Calls, c...) }

// Seal sorts and indexes what was added and returns the state. The builder must not be used
// afterwards.
func (b *Builder) Seal() *State {
	st := b.st
	b.st = nil
	if st.At.IsZero() {
		st.At = time.Now().UTC()
	}
	st.Objects.seal()
	slices.SortStableFunc(st.Logs, func(a, b Log) int {
		return compareStrings(a.Namespace, b.Namespace, a.Pod, b.Pod, a.Container, b.Container)
	})
	return st
}

func (o *Objects) seal() {
	for _, t := range []interface{ seal() }{&o.Pods, &o.Services, &o.Endpoints, &o.EndpointSlices, &o.Deployments, &o.ReplicaSets,
		&o.StatefulSets, &o.DaemonSets, &o.Jobs, &o.CronJobs, &o.Nodes, &o.Claims, &o.Volumes, &o.StorageClasses, &o.VolumeAttachments,
		&o.ConfigMaps, &o.Secrets, &o.ServiceAccounts, &o.Quotas, &o.LimitRanges, &o.Namespaces, &o.NetworkPolicies, &o.Ingresses,
		&o.IngressClasses, &o.Autoscalers, &o.Budgets, &o.Events, &o.Leases, &o.PriorityClasses, &o.ValidatingWebhooks, &o.MutatingWebhooks} {
		t.seal()
	}
	sealCustoms(&o.Customs)
}

// sealCustoms orders custom resources by kind too: two kinds may share a name, so Get is not
// used for them (see State.Custom).
func sealCustoms(t *Table[*unstructured.Unstructured]) {
	slices.SortStableFunc(t.list, func(a, b *unstructured.Unstructured) int {
		return compareStrings(a.GetNamespace(), b.GetNamespace(), a.GetKind(), b.GetKind(), a.GetName(), b.GetName())
	})
}

// compareStrings compares pairs in turn.
func compareStrings(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] < pairs[i+1] {
			return -1
		}
		if pairs[i] > pairs[i+1] {
			return 1
		}
	}
	return 0
}
