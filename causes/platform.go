package causes

import "github.com/tocsin-io/tocsin/incident"

// platformDetectors are the rows of what runs beside and below the workloads: routes, policies,
// meshes, batch, autoscaling, deletion, certificates and delivery.
func platformDetectors() []detector {
	return []detector{
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
