package cluster

import (
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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/incident"
)

// State is one cluster at one time. It is immutable and safe for concurrent use; its objects may
// be shared with informer caches and must not be changed.
type State struct {
	Name      incident.ClusterName
	At        time.Time // when the collection ended; never zero
	Namespace string    // the namespace somebody asked about; usually empty
	Report    incident.UntrustedText

	Objects  // typed objects, each kind a Table
	Logs     []Log
	Alerts   []Alert
	Series   []Series
	Probes   []Probe
	Calls    []Call
	Partials []*corev1.Pod // pods of which only placement and pod-level resources are known: node accounting only

	sources map[string]incident.SourceCoverage
	gaps    []string
	idx     index
}

// Objects holds the typed objects of a state.
type Objects struct {
	Pods               Table[*corev1.Pod]
	Services           Table[*corev1.Service]
	Endpoints          Table[*corev1.Endpoints]
	EndpointSlices     Table[*discoveryv1.EndpointSlice]
	Deployments        Table[*appsv1.Deployment]
	ReplicaSets        Table[*appsv1.ReplicaSet]
	StatefulSets       Table[*appsv1.StatefulSet]
	DaemonSets         Table[*appsv1.DaemonSet]
	Jobs               Table[*batchv1.Job]
	CronJobs           Table[*batchv1.CronJob]
	Nodes              Table[*corev1.Node]
	Claims             Table[*corev1.PersistentVolumeClaim]
	Volumes            Table[*corev1.PersistentVolume]
	StorageClasses     Table[*storagev1.StorageClass]
	VolumeAttachments  Table[*storagev1.VolumeAttachment]
	ConfigMaps         Table[*corev1.ConfigMap]
	Secrets            Table[*corev1.Secret] // Data holds the key names with nil values
	ServiceAccounts    Table[*corev1.ServiceAccount]
	Quotas             Table[*corev1.ResourceQuota]
	LimitRanges        Table[*corev1.LimitRange]
	Namespaces         Table[*corev1.Namespace]
	NetworkPolicies    Table[*networkingv1.NetworkPolicy]
	Ingresses          Table[*networkingv1.Ingress]
	IngressClasses     Table[*networkingv1.IngressClass]
	Autoscalers        Table[*autoscalingv2.HorizontalPodAutoscaler]
	Budgets            Table[*policyv1.PodDisruptionBudget]
	Events             Table[*corev1.Event]
	Leases             Table[*coordinationv1.Lease]
	PriorityClasses    Table[*schedulingv1.PriorityClass]
	ValidatingWebhooks Table[*admissionv1.ValidatingWebhookConfiguration]
	MutatingWebhooks   Table[*admissionv1.MutatingWebhookConfiguration]
	Customs            Table[*unstructured.Unstructured] // custom resources of the kinds in CustomKinds, bounded fields
}

// Log is what is known of one container's output: at most MaxLogBytes of its end each.
type Log struct {
	Namespace, Pod, Container string
	Current                   string // the running or last container; "" when there is none
	Previous                  string // the run before
	Err                       string // what the API server answered instead of a log
}

// Alert is something another system already judged. Text is untrusted.
type Alert struct {
	Name     string
	Object   incident.Entity // zero when it names none
	Category string          // the source's own class, e.g. LATENCY_DEGRADATION
	Text     []string
	Labels   map[string]string
	From, To time.Time // zero when not told

	// A failed user request: the service it entered by and the error the user got. Empty for others.
	Entry   string
	Request string
	Count   int
}

// Point is one sample: Unix time in milliseconds and value.
type Point struct {
	At    int64
	Value float64
}

// Series is one metric of one entity, points in time order.
type Series struct {
	Name   string // the source's metric name
	Labels map[string]string
	Object incident.Entity // Service, Pod or Node; zero when the labels tell none
	Points []Point
}

// Probe is one active check. Kind is "tcp" (Service, Port, OK) or "unit" (Node, Unit, OK).
type Probe struct {
	Kind      string
	From      string
	Namespace string
	Service   string
	Port      int
	Node      string
	Unit      string
	OK        bool
	Detail    string
}

// Call is a known dependency between two services of a namespace: "calls" or "database".
type Call struct {
	Namespace string
	From, To  string
	Kind      string
}

// CustomKinds are the kinds of custom resources that a state keeps, with their API groups.
func CustomKinds() map[string]string {
	return map[string]string{
		"Application":           "argoproj.io",
		"Rollout":               "argoproj.io",
		"Kustomization":         "kustomize.toolkit.fluxcd.io",
		"HelmRelease":           "helm.toolkit.fluxcd.io",
		"GitRepository":         "source.toolkit.fluxcd.io",
		"HelmRepository":        "source.toolkit.fluxcd.io",
		"Machine":               "cluster.x-k8s.io",
		"MachineDeployment":     "cluster.x-k8s.io",
		"KubeadmControlPlane":   "controlplane.cluster.x-k8s.io",
		"Cluster":               "cluster.x-k8s.io",
		"NodeClaim":             "karpenter.sh",
		"NodePool":              "karpenter.sh",
		"Certificate":           "cert-manager.io",
		"AuthorizationPolicy":   "security.istio.io",
		"PeerAuthentication":    "security.istio.io",
		"RequestAuthentication": "security.istio.io",
		"DestinationRule":       "networking.istio.io",
		"VirtualService":        "networking.istio.io",
		"Gateway":               "gateway.networking.k8s.io,networking.istio.io",
		"HTTPRoute":             "gateway.networking.k8s.io",
		"ReferenceGrant":        "gateway.networking.k8s.io",
	}
}
