package correlator

import (
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// class is how a thing fails. It decides what can be the reason for it: a registry breaks pulls,
// not memory limits.
type class uint8

const (
	classGeneric  class = iota // a consequence that says nothing of the reason: replicas missing, not ready
	classPull                  // an image cannot be pulled
	classCrash                 // the process exits
	classOOM                   // killed for memory
	classConfig                // a secret, config map, key or variable is missing or wrong
	classProbe                 // a probe fails
	classSched                 // cannot be scheduled
	classQuota                 // a quota refuses
	classAdmit                 // admission, policy or security refuses
	classVolume                // volumes, claims, mounts
	classDNS                   // names do not resolve
	classTLS                   // certificates
	classUpstream              // calls to another thing fail or are slow
	classServe                 // requests to this thing fail or are slow
	classNode                  // a node is broken
	classLost                  // a pod lost its node, was evicted or drained
	classControl               // API server, etcd, controllers
	classUsage                 // CPU, memory or autoscaler saturation
	classNet                   // network, sandbox, mesh, network policy
	classSync                  // GitOps and Helm
	classJob                   // jobs
	classScaled                // scaled to zero, suspended
	classes
)

// generic reports whether c is only a consequence.
func (c class) generic() bool { return c == classGeneric || c == classJob }

// blamesOther reports whether c says that something else fails.
func (c class) blamesOther() bool { return c == classUpstream }

// consequence reports whether c can come from a dependency that fails.
func (c class) consequence() bool {
	switch c {
	case classGeneric, classUpstream, classServe, classProbe, classUsage, classJob:
		return true
	}
	return false
}

type classWord struct {
	word  string
	class class
}

// reasonWords are looked for in the lower-cased reason, first hit wins: Kubernetes event
// reasons, kube-prometheus alert names and the words teams use in their own alerts.
func reasonWords() []classWord {
	return []classWord{
		{"imagepull", classPull}, {"errimage", classPull}, {"pullimage", classPull}, {"imageinspect", classPull}, {"registry", classPull}, {"pullfail", classPull}, {"failedpull", classPull}, {"toomanyrequestspull", classPull},
		{"invalidimagename", classPull}, {"imagenotfound", classPull}, {"imageplatform", classPull},
		{"oom", classOOM}, {"outofmemory", classOOM},
		{"quota", classQuota},
		{"nodecert", classNode},
		{"cert", classTLS}, {"tls", classTLS}, {"x509", classTLS}, {"issuer", classTLS},
		{"coredns", classDNS}, {"dns", classDNS}, {"nameresolution", classDNS}, {"lookup", classDNS},
		{"etcd", classControl}, {"apiserver", classControl}, {"kubeapi", classControl}, {"controllermanager", classControl}, {"schedulerdown", classControl}, {"controlplane", classControl}, {"kubeclienterrors", classControl},
		{"aggregatedapi", classControl}, {"apierror", classControl}, {"apilatency", classControl}, {"apirequest", classControl}, {"apidown", classControl}, {"apiunavailable", classControl},
		{"createcontainerconfig", classConfig}, {"containerconfigerror", classConfig}, {"configmap", classConfig}, {"secret", classConfig}, {"envvar", classConfig}, {"environmentvariable", classConfig}, {"configinvalid", classConfig}, {"badconfig", classConfig}, {"configerror", classConfig}, {"invalidconfig", classConfig}, {"configload", classConfig}, {"configparse", classConfig},
		{"serviceaccountmissing", classConfig},
		{"sandbox", classNet}, {"networkpolicy", classNet}, {"cni", classNet}, {"networknotready", classNet}, {"networkplugin", classNet}, {"mesh", classNet}, {"mtls", classNet}, {"packetloss", classNet}, {"networkdelay", classNet}, {"networkloss", classNet}, {"networkunavailable", classNode}, {"kubeproxy", classNode},
		{"taintmanager", classLost}, {"nodelost", classLost}, {"evict", classLost}, {"preempt", classLost}, {"drain", classLost}, {"nodeshutdown", classLost}, {"podlost", classLost}, {"unreachablepod", classLost}, {"podkilled", classLost}, {"podunknown", classLost}, {"terminatedbynode", classLost},
		{"nodeprovision", classSched}, {"nodeselector", classSched}, {"nodeaffinity", classSched},
		{"volume", classVolume}, {"mount", classVolume}, {"attach", classVolume}, {"provisioning", classVolume}, {"persistent", classVolume}, {"pvc", classVolume}, {"storage", classVolume}, {"csi", classVolume}, {"disk full", classVolume}, {"diskfull", classVolume}, {"readonlyfilesystem", classVolume}, {"ioerror", classVolume}, {"filesystem", classVolume}, {"iolatency", classVolume},
		{"schedul", classSched}, {"pending", classSched}, {"insufficient", classSched}, {"notriggerscaleup", classSched}, {"unschedulable", classSched}, {"clusterautoscaler", classSched}, {"taintnottolerated", classSched}, {"capacity", classSched},
		{"admission", classAdmit}, {"policy", classAdmit}, {"forbidden", classAdmit}, {"denied", classAdmit}, {"webhook", classAdmit}, {"podsecurity", classAdmit}, {"limitrange", classAdmit}, {"violat", classAdmit}, {"securitycontext", classAdmit},
		{"node", classNode}, {"kubelet", classNode}, {"containerruntime", classNode}, {"diskpressure", classNode}, {"memorypressure", classNode}, {"pidpressure", classNode}, {"spot", classNode}, {"machine", classNode}, {"kernel", classNode}, {"rebooted", classNode}, {"freediskspace", classNode}, {"hostdown", classNode}, {"invaliddiskcapacity", classNode},
		{"sync", classSync}, {"gitops", classSync}, {"helm", classSync}, {"kustomiz", classSync}, {"reconcil", classSync}, {"argocd", classSync}, {"drift", classSync}, {"degraded", classSync}, {"buildfailed", classSync},
		{"upstream", classUpstream}, {"dependency", classUpstream}, {"connectionrefused", classUpstream}, {"connectionfailed", classUpstream}, {"connectiontimeout", classUpstream}, {"connecttimeout", classUpstream}, {"requestfailed", classUpstream}, {"requesttimeout", classUpstream}, {"callfail", classUpstream}, {"callsfail", classUpstream}, {"downstream", classUpstream}, {"externalservice", classUpstream}, {"backendunavailable", classUpstream}, {"database", classUpstream}, {"outbound", classUpstream}, {"egress", classUpstream}, {"circuit", classUpstream}, {"connectionpool", classUpstream}, {"remotecall", classUpstream}, {"unreachable", classUpstream}, {"misrout", classUpstream}, {"clienterror", classUpstream}, {"thirdparty", classUpstream},
		{"errorrate", classServe}, {"latency", classServe}, {"targetdown", classServe}, {"slo", classServe}, {"errorbudget", classServe}, {"burnrate", classServe}, {"5xx", classServe}, {"4xx", classServe}, {"404", classServe}, {"slow", classServe}, {"probefailed", classServe}, {"blackbox", classServe}, {"noreadyendpoints", classServe}, {"endpoint", classServe}, {"availability", classServe}, {"servicedown", classServe}, {"httperror", classServe}, {"responsetime", classServe}, {"ingress", classServe}, {"gateway", classServe}, {"errors", classServe}, {"apdex", classServe}, {"unavailable", classServe}, {"consumerlag", classServe}, {"backlog", classServe}, {"queue", classServe}, {"timeout", classServe},
		{"failedcreate", classAdmit}, {"failedcreatepod", classAdmit},
		{"crash", classCrash}, {"backoff", classCrash}, {"containerexited", classCrash}, {"exited", classCrash}, {"panic", classCrash}, {"segfault", classCrash}, {"terminated", classCrash}, {"runcontainererror", classCrash}, {"containercannotrun", classCrash}, {"createcontainererror", classCrash}, {"restart", classCrash}, {"startfailed", classCrash}, {"badrollout", classCrash}, {"exception", classCrash}, {"invalidcommand", classCrash}, {"poststarthook", classCrash}, {"initcontainer", classCrash}, {"regression", classCrash}, {"containerdied", classCrash}, {"fatal", classCrash},
		{"unhealthy", classProbe}, {"probe", classProbe}, {"readiness", classProbe}, {"liveness", classProbe}, {"healthcheck", classProbe}, {"probewarning", classProbe},
		{"throttl", classUsage}, {"hpa", classUsage}, {"cpu", classUsage}, {"memory", classUsage}, {"saturat", classUsage}, {"load", classUsage}, {"autoscal", classUsage}, {"maxedout", classUsage}, {"overcommit", classUsage},
		{"job", classJob}, {"deadline", classJob},
		{"scaledtozero", classScaled}, {"suspended", classScaled},
	}
}

// causeClass classifies the catalogue; causes not named here are classified by their words.
func causeClass(name incident.CauseName) (class, bool) {
	switch name {
	case "ServiceAccountMissing", "SecretMissing", "SecretKeyMissing", "ConfigMapMissing", "ConfigMapKeyMissing", "EnvironmentVariableMissing", "DatabaseInvalidCredentials", "DatabaseInvalidPort", "ServiceAddressEnvWrong", "DNSPolicyWrong":
		return classConfig, true
	case "LimitRangeViolation", "PodSecurityViolation", "AdmissionPolicyDenied", "AdmissionWebhookUnavailable", "SecurityContextInvalid", "SharedPolicyChange":
		return classAdmit, true
	case "NodeCordoned", "NodeSelectorMismatch", "NodeAffinityMismatch", "PodAntiAffinityConflict", "TaintNotTolerated", "InsufficientCPU", "InsufficientMemory", "TopologySpreadUnsatisfiable", "HostPortConflict", "NodeProvisioningFailed":
		return classSched, true
	case "PVMissing", "PVAlreadyBound", "PVCMissing", "VolumeNodeAffinityConflict", "VolumeFull", "DatabaseReadOnly", "SharedStorageOutage":
		return classVolume, true
	case "ImageNotFound", "ImageRegistryDNSFailure", "ImagePullUnauthorized", "ImageRegistryUnavailable", "ImagePlatformMismatch", "SharedRegistryOutage":
		return classPull, true
	case "SandboxCreationFailed", "NetworkPolicyBlocks", "MeshAuthorizationDenied", "MeshMTLSMismatch", "PodNetworkDelay", "PodNetworkLoss":
		return classNet, true
	case "EvictedByNodePressure", "PreemptedByPriority":
		return classLost, true
	case "NodeNetworkDelay", "NodeNetworkLoss", "NodeCPUSaturated", "KubeletDown", "ContainerRuntimeDown", "KubeProxyDown", "NetworkPluginDown", "NodeNotReady", "NodeDiskPressure", "NodeMemoryPressure", "NodePIDPressure", "NodeCertificateExpired", "ZoneOutage", "NodeImageRegression":
		return classNode, true
	case "SchedulerDown", "ControllerManagerDown", "APIServerOverloaded", "EtcdSlow":
		return classControl, true
	case "CoreDNSDown", "ServiceDNSFailure", "SharedDNSOutage":
		return classDNS, true
	case "CertificateExpired", "TLSSecretMissing", "SharedCertificateExpiry":
		return classTLS, true
	case "DatabaseConnectionsExhausted", "ServiceMissing", "GatewayMisrouted", "SharedDependencyOutage":
		return classUpstream, true
	case "NoReadyEndpoints", "ServiceSelectorMismatch", "ServicePortMismatch", "ServiceProtocolMismatch", "IngressBackendMissing", "IngressClassMissing":
		return classServe, true
	case "EphemeralStorageExceeded":
		return classLost, true
	case "ApplicationCrash", "BadRollout", "InvalidCommand", "InitContainerFailing", "InitContainerHanging", "ContainerPortConflict", "SharedImageRegression":
		return classCrash, true
	case "SharedConfigRegression":
		return classConfig, true
	case "RolloutStuck":
		return classGeneric, true
	case "PodMemoryPressure", "PodCPUSaturated", "PodCPUThrottled", "NoisyNeighbour", "HPAAtMaximum", "HPAMisconfigured":
		return classUsage, true
	case "ScaledToZero", "CronJobSuspended":
		return classScaled, true
	}
	return 0, false
}

// classifier remembers the class of every reason and cause it was asked about; both come from
// small vocabularies, and the memory is bounded.
type classifier struct {
	words []classWord
	known map[string]class
}

const maxKnownReasons = 10_000

func newClassifier() *classifier {
	return &classifier{words: reasonWords(), known: make(map[string]class)}
}

func (k *classifier) of(reason string) class {
	if c, ok := k.known[reason]; ok {
		return c
	}
	low, out := strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(reason)), classGeneric
	if c, ok := causeClass(incident.CauseName(reason)); ok {
		out = c
	} else if !strings.Contains(low, "replicas") && !strings.Contains(low, "rolloutstuck") && low != "kubepodnotready" && low != "podnotready" {
		for _, w := range k.words {
			if strings.Contains(low, w.word) {
				out = w.class
				break
			}
		}
	}
	if len(k.known) < maxKnownReasons {
		k.known[reason] = out
	}
	return out
}

// phrases are the words of Kubernetes, Go, Java and common proxies inside messages that tell
// one reason from another where the signal's reason is too wide (FailedCreate, a failed call).
func phrases() []classWord {
	return []classWord{
		{"exceeded quota", classQuota}, {"no such host", classDNS}, {"server misbehaving", classDNS}, {"name resolution", classDNS}, {"nxdomain", classDNS}, {"servfail", classDNS}, {"unknownhost", classDNS}, {"could not resolve", classDNS}, {"cannot resolve", classDNS},
		{"x509", classTLS}, {"certificate", classTLS}, {"admission webhook", classAdmit}, {"violates podsecurity", classAdmit},
	}
}

// refine narrows the class of a signal by its message where the reason alone is too wide.
func (k *classifier) refine(c class, kind string, message incident.UntrustedText) class {
	switch c {
	case classNode:
		if kind != "Node" && kind != "Machine" && kind != "NodeClaim" && kind != "Cluster" {
			c = classLost
		}
	case classLost, classSched:
		if kind == "Node" {
			c = classNode
		}
	case classAdmit, classUpstream, classServe, classCrash, classProbe, classGeneric:
		if len(message) < 8 {
			return c
		}
		low := strings.ToLower(string(message[:min(len(message), 400)]))
		for _, p := range phrases() {
			if strings.Contains(low, p.word) {
				if c == classCrash && p.class != classDNS && p.class != classTLS || c == classAdmit && p.class != classQuota {
					continue
				}
				return p.class
			}
		}
	}
	return c
}
