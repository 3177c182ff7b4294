package causes

import "github.com/tocsin-io/tocsin/incident"

// platformDetectors are the rows of what runs beside and below the workloads: nodes and
// control plane, routes, policies, meshes, batch, autoscaling, deletion, certificates, delivery.
func platformDetectors() []detector {
	return []detector{
		// scheduling
		{[]incident.CauseName{"PreemptedByPriority"}, []string{"objects/pods", "events"}, preempted},
		// infrastructure
		{[]incident.CauseName{"NodeCertificateExpired"}, []string{"objects/nodes", "events", "logs", "probes"}, nodeCertificates},
		{[]incident.CauseName{"NodeDiskPressure", "NodeMemoryPressure", "NodePIDPressure"}, []string{"objects/nodes"}, nodePressure},
		{[]incident.CauseName{"KubeProxyDown", "NetworkPluginDown"}, []string{"objects/daemonsets", "objects/pods", "probes"}, nodeAgents},
		{[]incident.CauseName{"ControllerManagerDown"}, []string{"objects/pods", "objects/leases", "objects/deployments"}, controllerManager},
		{[]incident.CauseName{"EtcdSlow"}, []string{"logs"}, slowStore},
		{[]incident.CauseName{"APIServerOverloaded"}, []string{"logs", "metrics"}, busyAPIServer},
		{[]incident.CauseName{"CoreDNSDown"}, []string{"objects/deployments", "objects/pods", "logs"}, clusterDNS},
		// runtime
		{[]incident.CauseName{"JobDeadlineExceeded", "JobBackoffLimitExceeded"}, []string{"objects/jobs"}, failedJobs},
		{[]incident.CauseName{"CronJobSuspended"}, []string{"objects/cronjobs", "alerts"}, suspendedCronJobs},
		{[]incident.CauseName{"HPAMisconfigured", "HPAAtMaximum"}, []string{"objects/horizontalpodautoscalers"}, autoscalers},
		{[]incident.CauseName{"PDBBlocksEviction"}, []string{"objects/poddisruptionbudgets", "events"}, budgets},
		{[]incident.CauseName{"StuckTerminating"}, []string{"objects/namespaces", "objects/pods", "objects/persistentvolumeclaims"}, stuckTerminating},
		{[]incident.CauseName{"VolumeFull"}, []string{"metrics", "objects/persistentvolumeclaims"}, fullVolumes},
		{[]incident.CauseName{"CertificateExpired"}, []string{"logs", "objects/certificates"}, expiredCertificates},
		// routing
		{[]incident.CauseName{"IngressBackendMissing", "IngressClassMissing", "TLSSecretMissing"}, []string{"objects/ingresses", "objects/services", "objects/ingressclasses", "objects/secrets"}, ingresses},
		{[]incident.CauseName{"GatewayMisrouted"}, []string{"objects/ingresses", "objects/httproutes", "objects/configmaps", "objects/services", "logs"}, misrouted},
		{[]incident.CauseName{"NetworkPolicyBlocks"}, []string{"objects/networkpolicies", "objects/services", "logs", "probes"}, blockedCalls},
		{[]incident.CauseName{"MeshAuthorizationDenied"}, []string{"logs", "objects/authorizationpolicys"}, meshDenials},
		{[]incident.CauseName{"MeshMTLSMismatch"}, []string{"logs", "objects/peerauthentications", "objects/destinationrules"}, meshTLS},
		// delivery
		{[]incident.CauseName{"GitOpsSyncFailed", "GitOpsDrift"}, []string{"objects/applications"}, argoApplications},
		{[]incident.CauseName{"GitOpsSyncFailed", "HelmReleaseFailed"}, []string{"objects/kustomizations", "objects/helmreleases", "objects/gitrepositorys"}, fluxObjects},
		{[]incident.CauseName{"GitOpsDrift"}, []string{"events"}, fluxDrift},
		{[]incident.CauseName{"ClusterProvisioningFailed", "NodeProvisioningFailed"}, []string{"objects/clusters", "objects/machines", "objects/nodeclaims"}, provisioning},
	}
}
