package causes

import "github.com/tocsin-io/tocsin/incident"

// detector is one row of the table: the causes a function can name, what it must see to name
// them, and the function. Rows run in order.
type detector struct {
	causes []incident.CauseName
	reads  []string // sources: objects/<plural>, events, logs, metrics, alerts, probes
	run    func(*scan)
}

// detectors is the literal table of all detectors, by family.
func detectors() []detector {
	rows := []detector{
		// admission
		{[]incident.CauseName{"QuotaExceededCPU", "QuotaExceededMemory", "QuotaExceededPods", "QuotaExceededServices", "QuotaExceededStorage", "ServiceAccountMissing", "LimitRangeViolation",
			"PodSecurityViolation", "AdmissionPolicyDenied"}, []string{"events", "objects/replicasets", "objects/resourcequotas", "objects/limitranges", "objects/serviceaccounts"}, refusedPods},
		{[]incident.CauseName{"QuotaExceededServices", "QuotaExceededStorage"}, []string{"objects/resourcequotas", "objects/services", "objects/persistentvolumeclaims"}, fullQuota},
		{[]incident.CauseName{"AdmissionWebhookUnavailable"}, []string{"events", "objects/validatingwebhookconfigurations", "objects/mutatingwebhookconfigurations"}, webhookUnavailable},
		// scheduling
		{[]incident.CauseName{"NodeCordoned", "NodeSelectorMismatch", "NodeAffinityMismatch", "PodAntiAffinityConflict", "TaintNotTolerated", "InsufficientCPU", "InsufficientMemory",
			"TopologySpreadUnsatisfiable", "HostPortConflict", "VolumeNodeAffinityConflict", "PVMissing", "PVAlreadyBound", "PVCMissing", "PVCSelectorMismatch", "PVCStorageClassMismatch",
			"PVCCapacityMismatch", "PVCAccessModeMismatch", "VolumeProvisioningFailed"},
			[]string{"objects/pods", "events", "objects/nodes", "objects/persistentvolumeclaims", "objects/persistentvolumes", "objects/storageclasses"}, unplaced},
		{[]incident.CauseName{"VolumeProvisioningFailed"}, []string{"objects/persistentvolumeclaims", "events"}, loneClaims},
		// startup
		{[]incident.CauseName{"ImageNotFound", "ImageRegistryDNSFailure", "ImagePullUnauthorized", "ImageRegistryUnavailable", "ImagePlatformMismatch", "SecretMissing", "SecretKeyMissing",
			"ConfigMapMissing", "ConfigMapKeyMissing", "VolumeMountPermissionDenied", "VolumeAttachFailed", "InvalidCommand", "SecurityContextInvalid", "SandboxCreationFailed"},
			[]string{"objects/pods", "events", "objects/secrets", "objects/configmaps"}, failedStart},
		{[]incident.CauseName{"InitContainerFailing", "InitContainerHanging"}, []string{"objects/pods", "logs"}, initContainers},
		// runtime
		{[]incident.CauseName{"OOMKilled"}, []string{"objects/pods", "metrics"}, outOfMemory},
		{[]incident.CauseName{"EvictedByNodePressure", "EphemeralStorageExceeded"}, []string{"objects/pods", "events"}, evicted},
		{[]incident.CauseName{"LivenessProbeWrongProtocol", "LivenessProbeWrongPort", "LivenessProbeWrongPath", "LivenessProbeTooAggressive", "ReadinessProbeWrongProtocol",
			"ReadinessProbeWrongPort", "ReadinessProbeWrongPath", "StartupProbeTooShort"}, []string{"objects/pods", "events"}, wrongProbes},
		{[]incident.CauseName{"ContainerPortConflict", "EnvironmentVariableMissing", "ApplicationCrash", "BadRollout", "CertificateExpired", "InvalidCommand", "VolumeMountPermissionDenied",
			"SecurityContextInvalid", "VolumeFull", "ImagePlatformMismatch", "HostPortConflict", "OOMKilled"}, []string{"objects/pods", "logs"}, crashLogs},
		{[]incident.CauseName{"DatabaseInvalidCredentials", "DatabaseInvalidPort", "DatabaseReadOnly", "DatabaseConnectionsExhausted"}, []string{"logs", "objects/pods", "objects/services", "topology"}, databases},
		{[]incident.CauseName{"RolloutStuck"}, []string{"objects/deployments"}, stuckRollouts},
		{[]incident.CauseName{"ScaledToZero"}, []string{"objects/deployments", "objects/statefulsets", "objects/services", "topology"}, scaledToZero},
		// routing
		{[]incident.CauseName{"ServiceSelectorMismatch"}, []string{"objects/services", "objects/pods"}, wrongSelectors},
		{[]incident.CauseName{"ServicePortMismatch", "ServiceProtocolMismatch"}, []string{"objects/services", "objects/pods", "probes", "logs"}, wrongPorts},
		{[]incident.CauseName{"ServiceAddressEnvWrong", "ServiceMissing"}, []string{"objects/services", "objects/deployments", "objects/configmaps", "logs", "topology"}, wrongAddresses},
		{[]incident.CauseName{"ServiceDNSFailure", "DNSPolicyWrong"}, []string{"logs", "objects/pods"}, nameResolution},
		{[]incident.CauseName{"GatewayMisrouted"}, []string{"alerts", "logs", "topology"}, requestsAstray},
		{[]incident.CauseName{"NoReadyEndpoints"}, []string{"objects/endpoints", "objects/endpointslices"}, noEndpoints},
		// performance
		{[]incident.CauseName{"PodCPUSaturated", "PodCPUThrottled", "PodMemoryPressure", "PodNetworkDelay", "PodNetworkLoss", "NodeNetworkDelay", "NodeNetworkLoss", "NodeCPUSaturated", "NoisyNeighbour"},
			[]string{"metrics", "topology", "objects/pods"}, performance},
		// infrastructure
		{[]incident.CauseName{"KubeletDown", "ContainerRuntimeDown", "KubeProxyDown", "SchedulerDown", "ControllerManagerDown", "NetworkPluginDown"}, []string{"probes"}, nodeUnits},
		{[]incident.CauseName{"KubeletDown", "ContainerRuntimeDown", "NetworkPluginDown", "NodeNotReady"}, []string{"objects/nodes", "events"}, brokenNodes},
		{[]incident.CauseName{"SchedulerDown"}, []string{"objects/pods", "events", "objects/leases"}, schedulerDown},
	}
	return append(rows, platformDetectors()...)
}
