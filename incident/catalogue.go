package incident

// Family groups causes as the catalogue does; one family is one file in package causes.
type Family string

// Families of causes.
const (
	FamilyAdmission      Family = "admission"
	FamilyScheduling     Family = "scheduling"
	FamilyStartup        Family = "startup"
	FamilyRuntime        Family = "runtime"
	FamilyRouting        Family = "routing"
	FamilyPerformance    Family = "performance"
	FamilyInfrastructure Family = "infrastructure"
	FamilyDelivery       Family = "delivery"
	FamilyFleet          Family = "fleet"
)

// CauseInfo is one row of the catalogue.
type CauseInfo struct {
	Name    CauseName
	Family  Family
	Blames  string // the kind blamed; "Workload": the owning workload, "Factor": the shared thing
	Line    string // what is wrong, for a person, without the object
	Generic bool   // yields to any narrower cause
}

// causes is the catalogue. Names are stable: rows are added, never renamed or removed.
var causes = []CauseInfo{
	{Name: "QuotaExceededCPU", Family: FamilyAdmission, Blames: "Namespace", Line: "a ResourceQuota has no CPU left"},
	{Name: "QuotaExceededMemory", Family: FamilyAdmission, Blames: "Namespace", Line: "a ResourceQuota has no memory left"},
	{Name: "QuotaExceededPods", Family: FamilyAdmission, Blames: "Namespace", Line: "a ResourceQuota allows no more pods"},
	{Name: "QuotaExceededServices", Family: FamilyAdmission, Blames: "Namespace", Line: "a ResourceQuota allows no more services"},
	{Name: "QuotaExceededStorage", Family: FamilyAdmission, Blames: "Namespace", Line: "a ResourceQuota has no storage or claims left"},
	{Name: "ServiceAccountMissing", Family: FamilyAdmission, Blames: "Workload", Line: "the service account does not exist"},
	{Name: "LimitRangeViolation", Family: FamilyAdmission, Blames: "Workload", Line: "a LimitRange refuses the pod's resources"},
	{Name: "PodSecurityViolation", Family: FamilyAdmission, Blames: "Workload", Line: "the namespace's Pod Security level refuses the pod"},
	{Name: "AdmissionPolicyDenied", Family: FamilyAdmission, Blames: "Workload", Line: "an admission policy or webhook refuses the object"},
	{Name: "AdmissionWebhookUnavailable", Family: FamilyAdmission, Blames: "WebhookConfiguration", Line: "an admission webhook does not answer"},
	{Name: "NodeCordoned", Family: FamilyScheduling, Blames: "Workload", Line: "the only nodes that fit are cordoned"},
	{Name: "NodeSelectorMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no node has the labels of the node selector"},
	{Name: "NodeAffinityMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no node satisfies the required node affinity"},
	{Name: "PodAntiAffinityConflict", Family: FamilyScheduling, Blames: "Workload", Line: "required pod (anti-)affinity leaves no node"},
	{Name: "TaintNotTolerated", Family: FamilyScheduling, Blames: "Workload", Line: "every node that fits has a taint the pod does not tolerate"},
	{Name: "InsufficientCPU", Family: FamilyScheduling, Blames: "Workload", Line: "no node has the requested CPU free"},
	{Name: "InsufficientMemory", Family: FamilyScheduling, Blames: "Workload", Line: "no node has the requested memory free"},
	{Name: "TopologySpreadUnsatisfiable", Family: FamilyScheduling, Blames: "Workload", Line: "a topology spread constraint cannot be met"},
	{Name: "HostPortConflict", Family: FamilyScheduling, Blames: "Workload", Line: "the host port is taken on every node that fits"},
	{Name: "PreemptedByPriority", Family: FamilyScheduling, Blames: "Workload", Line: "pods of higher priority took its place"},
	{Name: "PVMissing", Family: FamilyScheduling, Blames: "Workload", Line: "the claim's volume does not exist"},
	{Name: "PVAlreadyBound", Family: FamilyScheduling, Blames: "Workload", Line: "the wanted volume is bound by another claim"},
	{Name: "PVCMissing", Family: FamilyScheduling, Blames: "Workload", Line: "the claim a pod mounts does not exist"},
	{Name: "PVCSelectorMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no volume has the labels of the claim's selector"},
	{Name: "PVCStorageClassMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no volume or class matches the claim's storage class"},
	{Name: "PVCCapacityMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no volume is as large as the claim"},
	{Name: "PVCAccessModeMismatch", Family: FamilyScheduling, Blames: "Workload", Line: "no volume offers the claim's access mode"},
	{Name: "VolumeNodeAffinityConflict", Family: FamilyScheduling, Blames: "Workload", Line: "the bound volume is not reachable from any node that fits"},
	{Name: "VolumeProvisioningFailed", Family: FamilyScheduling, Blames: "PersistentVolumeClaim", Line: "the storage provisioner fails to make the volume"},
	{Name: "ImageNotFound", Family: FamilyStartup, Blames: "Workload", Line: "the image's name or tag does not exist"},
	{Name: "ImageRegistryDNSFailure", Family: FamilyStartup, Blames: "Workload", Line: "the registry's name does not resolve"},
	{Name: "ImagePullUnauthorized", Family: FamilyStartup, Blames: "Workload", Line: "the registry refuses the credentials, or none were given"},
	{Name: "ImageRegistryUnavailable", Family: FamilyStartup, Blames: "Workload", Line: "the registry is down or limits the rate"},
	{Name: "ImagePlatformMismatch", Family: FamilyStartup, Blames: "Workload", Line: "the image is built for another platform"},
	{Name: "SecretMissing", Family: FamilyStartup, Blames: "Workload", Line: "a Secret the pod needs does not exist"},
	{Name: "SecretKeyMissing", Family: FamilyStartup, Blames: "Workload", Line: "a Secret lacks the key the pod needs"},
	{Name: "ConfigMapMissing", Family: FamilyStartup, Blames: "Workload", Line: "a ConfigMap the pod needs does not exist"},
	{Name: "ConfigMapKeyMissing", Family: FamilyStartup, Blames: "Workload", Line: "a ConfigMap lacks the key the pod needs"},
	{Name: "VolumeMountPermissionDenied", Family: FamilyStartup, Blames: "Workload", Line: "the process or mount may not use its volume"},
	{Name: "VolumeAttachFailed", Family: FamilyStartup, Blames: "Workload", Line: "the volume cannot be attached to the node"},
	{Name: "InvalidCommand", Family: FamilyStartup, Blames: "Workload", Line: "the container's command cannot be run"},
	{Name: "InitContainerFailing", Family: FamilyStartup, Blames: "Workload", Line: "an init container exits with an error", Generic: true},
	{Name: "InitContainerHanging", Family: FamilyStartup, Blames: "Workload", Line: "an init container does not end"},
	{Name: "SecurityContextInvalid", Family: FamilyStartup, Blames: "Workload", Line: "the security context forbids what the image needs"},
	{Name: "SandboxCreationFailed", Family: FamilyStartup, Blames: "Node", Line: "the node cannot create pod sandboxes (network plugin or runtime)"},
	{Name: "OOMKilled", Family: FamilyRuntime, Blames: "Workload", Line: "a container exceeds its memory limit"},
	{Name: "EvictedByNodePressure", Family: FamilyRuntime, Blames: "Node", Line: "the node evicts pods because it lacks memory, disk or PIDs"},
	{Name: "EphemeralStorageExceeded", Family: FamilyRuntime, Blames: "Workload", Line: "a pod exceeds its ephemeral storage limit"},
	{Name: "LivenessProbeWrongProtocol", Family: FamilyRuntime, Blames: "Workload", Line: "the liveness probe uses a protocol the container does not speak"},
	{Name: "LivenessProbeWrongPort", Family: FamilyRuntime, Blames: "Workload", Line: "the liveness probe asks a port nothing listens on"},
	{Name: "LivenessProbeWrongPath", Family: FamilyRuntime, Blames: "Workload", Line: "the liveness probe asks a path that does not exist"},
	{Name: "LivenessProbeTooAggressive", Family: FamilyRuntime, Blames: "Workload", Line: "the liveness probe kills the container before it has started"},
	{Name: "ReadinessProbeWrongProtocol", Family: FamilyRuntime, Blames: "Workload", Line: "the readiness probe uses a protocol the container does not speak"},
	{Name: "ReadinessProbeWrongPort", Family: FamilyRuntime, Blames: "Workload", Line: "the readiness probe asks a port nothing listens on"},
	{Name: "ReadinessProbeWrongPath", Family: FamilyRuntime, Blames: "Workload", Line: "the readiness probe asks a path that does not exist"},
	{Name: "StartupProbeTooShort", Family: FamilyRuntime, Blames: "Workload", Line: "the startup probe gives up before the container has started"},
	{Name: "ContainerPortConflict", Family: FamilyRuntime, Blames: "Workload", Line: "two containers of a pod want the same port"},
	{Name: "EnvironmentVariableMissing", Family: FamilyRuntime, Blames: "Workload", Line: "the process exits because an environment variable is missing"},
	{Name: "ApplicationCrash", Family: FamilyRuntime, Blames: "Workload", Line: "the process exits by itself, nothing narrower explains it", Generic: true},
	{Name: "DatabaseInvalidCredentials", Family: FamilyRuntime, Blames: "Workload", Line: "the client's database user or password is refused"},
	{Name: "DatabaseInvalidPort", Family: FamilyRuntime, Blames: "Workload", Line: "the client uses a wrong address or port for its database"},
	{Name: "DatabaseReadOnly", Family: FamilyRuntime, Blames: "Workload", Line: "the database accepts no writes"},
	{Name: "DatabaseConnectionsExhausted", Family: FamilyRuntime, Blames: "Workload", Line: "the database accepts no more connections"},
	{Name: "ScaledToZero", Family: FamilyRuntime, Blames: "Workload", Line: "the workload is scaled to zero and something needs it"},
	{Name: "JobDeadlineExceeded", Family: FamilyRuntime, Blames: "Job", Line: "the Job ran past its deadline"},
	{Name: "JobBackoffLimitExceeded", Family: FamilyRuntime, Blames: "Job", Line: "the Job failed as often as it may", Generic: true},
	{Name: "CronJobSuspended", Family: FamilyRuntime, Blames: "CronJob", Line: "the CronJob is suspended"},
	{Name: "CertificateExpired", Family: FamilyRuntime, Blames: "Workload", Line: "a certificate has expired"},
	{Name: "HPAMisconfigured", Family: FamilyRuntime, Blames: "HorizontalPodAutoscaler", Line: "the autoscaler cannot read its metric or target"},
	{Name: "HPAAtMaximum", Family: FamilyRuntime, Blames: "HorizontalPodAutoscaler", Line: "the autoscaler is at its maximum and wants more"},
	{Name: "PDBBlocksEviction", Family: FamilyRuntime, Blames: "PodDisruptionBudget", Line: "the disruption budget allows no eviction"},
	{Name: "StuckTerminating", Family: FamilyRuntime, Blames: "Object", Line: "a finalizer nobody removes keeps the object"},
	{Name: "VolumeFull", Family: FamilyRuntime, Blames: "PersistentVolumeClaim", Line: "the volume has no space left"},
	{Name: "BadRollout", Family: FamilyRuntime, Blames: "Workload", Line: "healthy before a template change, failing after, nothing narrower explains it", Generic: true},
	{Name: "RolloutStuck", Family: FamilyRuntime, Blames: "Workload", Line: "a rollout makes no progress", Generic: true},
	{Name: "ServiceSelectorMismatch", Family: FamilyRouting, Blames: "Service", Line: "the service selects no pod"},
	{Name: "ServicePortMismatch", Family: FamilyRouting, Blames: "Service", Line: "the service's target port is one no container listens on"},
	{Name: "ServiceProtocolMismatch", Family: FamilyRouting, Blames: "Service", Line: "the service's protocol is not the container's"},
	{Name: "ServiceAddressEnvWrong", Family: FamilyRouting, Blames: "Workload", Line: "the caller's configuration names a service or port that is not there"},
	{Name: "ServiceMissing", Family: FamilyRouting, Blames: "Workload", Line: "the service the caller needs does not exist"},
	{Name: "ServiceDNSFailure", Family: FamilyRouting, Blames: "Workload", Line: "names do not resolve inside the pods"},
	{Name: "DNSPolicyWrong", Family: FamilyRouting, Blames: "Workload", Line: "the pod's DNS policy or configuration cannot resolve cluster names"},
	{Name: "GatewayMisrouted", Family: FamilyRouting, Blames: "Workload", Line: "a gateway or ingress sends requests to the wrong service or path"},
	{Name: "IngressBackendMissing", Family: FamilyRouting, Blames: "Ingress", Line: "the ingress names a service that does not exist"},
	{Name: "IngressClassMissing", Family: FamilyRouting, Blames: "Ingress", Line: "the ingress names a class no controller serves"},
	{Name: "TLSSecretMissing", Family: FamilyRouting, Blames: "Ingress", Line: "the ingress names a TLS secret that does not exist"},
	{Name: "NetworkPolicyBlocks", Family: FamilyRouting, Blames: "Workload", Line: "a network policy blocks traffic the workload needs"},
	{Name: "MeshAuthorizationDenied", Family: FamilyRouting, Blames: "Workload", Line: "a mesh authorization policy denies the calls"},
	{Name: "MeshMTLSMismatch", Family: FamilyRouting, Blames: "Workload", Line: "mesh peers disagree about mutual TLS"},
	{Name: "NoReadyEndpoints", Family: FamilyRouting, Blames: "Service", Line: "the service has no ready endpoint", Generic: true},
	{Name: "PodCPUSaturated", Family: FamilyPerformance, Blames: "Workload", Line: "pods use all CPU they can get"},
	{Name: "PodCPUThrottled", Family: FamilyPerformance, Blames: "Workload", Line: "the CPU limit throttles the pods"},
	{Name: "PodMemoryPressure", Family: FamilyPerformance, Blames: "Workload", Line: "pods are close to their memory limit"},
	{Name: "PodNetworkDelay", Family: FamilyPerformance, Blames: "Workload", Line: "the pods' network adds delay"},
	{Name: "PodNetworkLoss", Family: FamilyPerformance, Blames: "Workload", Line: "the pods' network loses packets"},
	{Name: "NodeNetworkDelay", Family: FamilyPerformance, Blames: "Node", Line: "the node's network adds delay"},
	{Name: "NodeNetworkLoss", Family: FamilyPerformance, Blames: "Node", Line: "the node's network loses packets"},
	{Name: "NodeCPUSaturated", Family: FamilyPerformance, Blames: "Node", Line: "the node has no CPU left"},
	{Name: "NoisyNeighbour", Family: FamilyPerformance, Blames: "Workload", Line: "another workload takes the node's resources"},
	{Name: "KubeletDown", Family: FamilyInfrastructure, Blames: "Node", Line: "the kubelet does not run"},
	{Name: "ContainerRuntimeDown", Family: FamilyInfrastructure, Blames: "Node", Line: "the container runtime does not run"},
	{Name: "KubeProxyDown", Family: FamilyInfrastructure, Blames: "Node", Line: "kube-proxy does not run"},
	{Name: "SchedulerDown", Family: FamilyInfrastructure, Blames: "Node", Line: "the scheduler does not run"},
	{Name: "ControllerManagerDown", Family: FamilyInfrastructure, Blames: "Node", Line: "the controller manager does not run"},
	{Name: "APIServerOverloaded", Family: FamilyInfrastructure, Blames: "Cluster", Line: "the API server answers late or refuses"},
	{Name: "EtcdSlow", Family: FamilyInfrastructure, Blames: "Cluster", Line: "etcd is slow"},
	{Name: "CoreDNSDown", Family: FamilyInfrastructure, Blames: "Deployment", Line: "the cluster's DNS does not run"},
	{Name: "NetworkPluginDown", Family: FamilyInfrastructure, Blames: "Node", Line: "the network plugin does not run"},
	{Name: "NodeNotReady", Family: FamilyInfrastructure, Blames: "Node", Line: "the node is not ready, the cause is not known", Generic: true},
	{Name: "NodeDiskPressure", Family: FamilyInfrastructure, Blames: "Node", Line: "the node lacks disk"},
	{Name: "NodeMemoryPressure", Family: FamilyInfrastructure, Blames: "Node", Line: "the node lacks memory"},
	{Name: "NodePIDPressure", Family: FamilyInfrastructure, Blames: "Node", Line: "the node lacks process ids"},
	{Name: "NodeCertificateExpired", Family: FamilyInfrastructure, Blames: "Node", Line: "the node's certificate has expired"},
	{Name: "NodeProvisioningFailed", Family: FamilyInfrastructure, Blames: "Machine", Line: "a machine cannot be provisioned"},
	{Name: "GitOpsSyncFailed", Family: FamilyDelivery, Blames: "Application", Line: "the GitOps controller cannot apply its source"},
	{Name: "GitOpsDrift", Family: FamilyDelivery, Blames: "Application", Line: "the live objects differ from Git"},
	{Name: "HelmReleaseFailed", Family: FamilyDelivery, Blames: "HelmRelease", Line: "the Helm release fails"},
	{Name: "ClusterProvisioningFailed", Family: FamilyDelivery, Blames: "Cluster", Line: "a cluster cannot be provisioned"},
	{Name: "SharedImageRegression", Family: FamilyFleet, Blames: "Factor", Line: "one image breaks its holders"},
	{Name: "SharedConfigRegression", Family: FamilyFleet, Blames: "Factor", Line: "one configuration or revision breaks its holders"},
	{Name: "SharedRegistryOutage", Family: FamilyFleet, Blames: "Factor", Line: "one registry fails its users"},
	{Name: "SharedDNSOutage", Family: FamilyFleet, Blames: "Factor", Line: "one DNS name or server fails its users"},
	{Name: "SharedDependencyOutage", Family: FamilyFleet, Blames: "Factor", Line: "one dependency fails its users"},
	{Name: "SharedCertificateExpiry", Family: FamilyFleet, Blames: "Factor", Line: "one issuer's certificates have expired"},
	{Name: "SharedPolicyChange", Family: FamilyFleet, Blames: "Factor", Line: "one policy refuses its subjects"},
	{Name: "SharedStorageOutage", Family: FamilyFleet, Blames: "Factor", Line: "one storage class fails its users"},
	{Name: "ZoneOutage", Family: FamilyFleet, Blames: "Factor", Line: "one zone fails"},
	{Name: "NodeImageRegression", Family: FamilyFleet, Blames: "Factor", Line: "one kubelet, kernel or node image breaks its nodes"},
}

var causeIndex = func() map[CauseName]int {
	m := make(map[CauseName]int, len(causes))
	for i, c := range causes {
		m[c.Name] = i
	}
	return m
}()

// Causes returns the catalogue in its stable order. The caller owns the slice.
func Causes() []CauseInfo { return append([]CauseInfo(nil), causes...) }

// LookupCause returns the row of name and whether there is one.
func LookupCause(name CauseName) (CauseInfo, bool) {
	i, ok := causeIndex[name]
	if !ok {
		return CauseInfo{}, false
	}
	return causes[i], true
}
