package kube

import (
	"context"

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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

type lister = func(context.Context, kubernetes.Interface, metav1.ListOptions) (runtime.Object, error)

// kind is one resource that is watched: a new one is one row.
type kind struct {
	group, version, resource string
	list                     lister
	quiet                    bool // changes all the time; does not start an analysis by itself
}

func (k kind) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.group, Version: k.version, Resource: k.resource}
}

// source is the name in the coverage; events are a source of their own, as in snapshots.
func (k kind) source() string {
	if k.resource == "events" {
		return "events"
	}
	return "objects/" + k.resource
}

// The type parameter is a typed list; reflection is not worth the saved line per row.
func ls[L runtime.Object](f func(context.Context, kubernetes.Interface, metav1.ListOptions) (L, error)) lister {
	return func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (runtime.Object, error) {
		return f(ctx, c, o)
	}
}

// kinds are all resources that detectors read. Secrets are not among them: what is known of a
// missing one comes from events. Leases are those of kube-system only (who leads, and since when).
func kinds() []kind {
	return []kind{
		{group: "", version: "v1", resource: "pods",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.PodList, error) {
				return c.CoreV1().Pods("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "services",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.ServiceList, error) {
				return c.CoreV1().Services("").List(ctx, o)
			})},
		{group: "discovery.k8s.io", version: "v1", resource: "endpointslices",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*discoveryv1.EndpointSliceList, error) {
				return c.DiscoveryV1().EndpointSlices("").List(ctx, o)
			})},
		{group: "apps", version: "v1", resource: "deployments",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*appsv1.DeploymentList, error) {
				return c.AppsV1().Deployments("").List(ctx, o)
			})},
		{group: "apps", version: "v1", resource: "replicasets",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*appsv1.ReplicaSetList, error) {
				return c.AppsV1().ReplicaSets("").List(ctx, o)
			})},
		{group: "apps", version: "v1", resource: "statefulsets",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*appsv1.StatefulSetList, error) {
				return c.AppsV1().StatefulSets("").List(ctx, o)
			})},
		{group: "apps", version: "v1", resource: "daemonsets",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*appsv1.DaemonSetList, error) {
				return c.AppsV1().DaemonSets("").List(ctx, o)
			})},
		{group: "batch", version: "v1", resource: "jobs",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*batchv1.JobList, error) {
				return c.BatchV1().Jobs("").List(ctx, o)
			})},
		{group: "batch", version: "v1", resource: "cronjobs",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*batchv1.CronJobList, error) {
				return c.BatchV1().CronJobs("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "nodes",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.NodeList, error) {
				return c.CoreV1().Nodes().List(ctx, o)
			})},
		{group: "", version: "v1", resource: "persistentvolumeclaims",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.PersistentVolumeClaimList, error) {
				return c.CoreV1().PersistentVolumeClaims("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "persistentvolumes",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.PersistentVolumeList, error) {
				return c.CoreV1().PersistentVolumes().List(ctx, o)
			})},
		{group: "storage.k8s.io", version: "v1", resource: "storageclasses",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*storagev1.StorageClassList, error) {
				return c.StorageV1().StorageClasses().List(ctx, o)
			})},
		{group: "storage.k8s.io", version: "v1", resource: "volumeattachments",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*storagev1.VolumeAttachmentList, error) {
				return c.StorageV1().VolumeAttachments().List(ctx, o)
			})},
		{group: "", version: "v1", resource: "configmaps",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.ConfigMapList, error) {
				return c.CoreV1().ConfigMaps("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "serviceaccounts",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.ServiceAccountList, error) {
				return c.CoreV1().ServiceAccounts("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "resourcequotas",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.ResourceQuotaList, error) {
				return c.CoreV1().ResourceQuotas("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "limitranges",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.LimitRangeList, error) {
				return c.CoreV1().LimitRanges("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "namespaces",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.NamespaceList, error) {
				return c.CoreV1().Namespaces().List(ctx, o)
			})},
		{group: "networking.k8s.io", version: "v1", resource: "networkpolicies",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*networkingv1.NetworkPolicyList, error) {
				return c.NetworkingV1().NetworkPolicies("").List(ctx, o)
			})},
		{group: "networking.k8s.io", version: "v1", resource: "ingresses",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*networkingv1.IngressList, error) {
				return c.NetworkingV1().Ingresses("").List(ctx, o)
			})},
		{group: "networking.k8s.io", version: "v1", resource: "ingressclasses",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*networkingv1.IngressClassList, error) {
				return c.NetworkingV1().IngressClasses().List(ctx, o)
			})},
		{group: "autoscaling", version: "v2", resource: "horizontalpodautoscalers",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*autoscalingv2.HorizontalPodAutoscalerList, error) {
				return c.AutoscalingV2().HorizontalPodAutoscalers("").List(ctx, o)
			})},
		{group: "policy", version: "v1", resource: "poddisruptionbudgets",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*policyv1.PodDisruptionBudgetList, error) {
				return c.PolicyV1().PodDisruptionBudgets("").List(ctx, o)
			})},
		{group: "", version: "v1", resource: "events",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*corev1.EventList, error) {
				return c.CoreV1().Events("").List(ctx, o)
			})},
		{group: "scheduling.k8s.io", version: "v1", resource: "priorityclasses",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*schedulingv1.PriorityClassList, error) {
				return c.SchedulingV1().PriorityClasses().List(ctx, o)
			})},
		{group: "admissionregistration.k8s.io", version: "v1", resource: "validatingwebhookconfigurations",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*admissionv1.ValidatingWebhookConfigurationList, error) {
				return c.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, o)
			})},
		{group: "admissionregistration.k8s.io", version: "v1", resource: "mutatingwebhookconfigurations",
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*admissionv1.MutatingWebhookConfigurationList, error) {
				return c.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, o)
			})},
		{group: "coordination.k8s.io", version: "v1", resource: "leases", quiet: true,
			list: ls(func(ctx context.Context, c kubernetes.Interface, o metav1.ListOptions) (*coordinationv1.LeaseList, error) {
				return c.CoordinationV1().Leases(metav1.NamespaceSystem).List(ctx, o)
			})},
	}
}
