package incident

// Parameters of the actions, by name; every value is a string in the form given. Package
// remediations validates them strictly: an unknown or missing one is refused.
//
//	RolloutUndo               revision (decimal, the revision to go back to), image (comma-joined images expected after)
//	RolloutRestart            –
//	PauseRollout, ResumeRollout –
//	Scale                     replicas (decimal), from (decimal, the count it was proposed at)
//	SetHPABounds              min, max (decimal; at least one)
//	PatchResources            container; any of requests.cpu, requests.memory, limits.cpu, limits.memory (Kubernetes quantities)
//	PatchProbe                container, probe (liveness|readiness|startup); any of port (number or name), path, scheme (HTTP|HTTPS),
//	                          type (httpGet|tcpSocket|grpc), initialDelaySeconds, periodSeconds, timeoutSeconds, failureThreshold
//	PatchServiceSelector      selector (k=v,k=v sorted by key; the whole new selector)
//	PatchServicePort          port (the service port's number), targetPort (number or name); optional protocol (TCP|UDP|SCTP), appProtocol
//	PatchEnv                  container, name, value, from (the value it was proposed at)
//	PatchScheduling           any of nodeSelector (k=v,… whole; "-" removes), dropNodeAffinity (true), dropPodAntiAffinity (true),
//	                          toleration (key[=value]:Effect)
//	DeletePod, EvictPod       – (the target is the Pod)
//	DeleteJob, RerunJob       – (the target is the Job)
//	SuspendCronJob, ResumeCronJob –
//	CordonNode, UncordonNode, DrainNode –
//	ExpandPVC                 size (quantity)
//	RaiseQuota                resource (e.g. requests.cpu, pods), hard (quantity)
//	CreateImagePullSecretCopy fromNamespace, secret (name, same in the target's namespace); the target is the Namespace
//	RestartDaemonPod          – (the target is the Pod of a DaemonSet)
//	RemoveFinalizer           finalizer
//	GitOpsRollback            revision; GitOpsResync –; GitOpsSuspend –
//	GitChange                 path, edit (see remediations)
const (
	ParamRevision   = "revision"
	ParamImage      = "image"
	ParamReplicas   = "replicas"
	ParamFrom       = "from"
	ParamContainer  = "container"
	ParamProbe      = "probe"
	ParamPort       = "port"
	ParamPath       = "path"
	ParamScheme     = "scheme"
	ParamType       = "type"
	ParamSelector   = "selector"
	ParamTargetPort = "targetPort"
	ParamProtocol   = "protocol"
	ParamName       = "name"
	ParamValue      = "value"
	ParamSize       = "size"
	ParamResource   = "resource"
	ParamHard       = "hard"
	ParamFinalizer  = "finalizer"
)
