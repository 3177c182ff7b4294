package incident

// Actions of the catalogue. What each does, its parameters, undo and RBAC stand in package
// remediations; the names are here because causes, runbooks and policies refer to them.
const (
	RolloutUndo               ActionName = "RolloutUndo"
	RolloutRestart            ActionName = "RolloutRestart"
	PauseRollout              ActionName = "PauseRollout"
	ResumeRollout             ActionName = "ResumeRollout"
	Scale                     ActionName = "Scale"
	SetHPABounds              ActionName = "SetHPABounds"
	PatchResources            ActionName = "PatchResources"
	PatchProbe                ActionName = "PatchProbe"
	PatchServiceSelector      ActionName = "PatchServiceSelector"
	PatchServicePort          ActionName = "PatchServicePort"
	PatchEnv                  ActionName = "PatchEnv"
	PatchScheduling           ActionName = "PatchScheduling"
	DeletePod                 ActionName = "DeletePod"
	EvictPod                  ActionName = "EvictPod"
	DeleteJob                 ActionName = "DeleteJob"
	RerunJob                  ActionName = "RerunJob"
	SuspendCronJob            ActionName = "SuspendCronJob"
	ResumeCronJob             ActionName = "ResumeCronJob"
	CordonNode                ActionName = "CordonNode"
	UncordonNode              ActionName = "UncordonNode"
	DrainNode                 ActionName = "DrainNode"
	ExpandPVC                 ActionName = "ExpandPVC"
	RaiseQuota                ActionName = "RaiseQuota"
	CreateImagePullSecretCopy ActionName = "CreateImagePullSecretCopy"
	RestartDaemonPod          ActionName = "RestartDaemonPod"
	RemoveFinalizer           ActionName = "RemoveFinalizer"
	GitOpsRollback            ActionName = "GitOpsRollback"
	GitOpsResync              ActionName = "GitOpsResync"
	GitOpsSuspend             ActionName = "GitOpsSuspend"
	GitChange                 ActionName = "GitChange"
)

// Actions returns the names of all catalogued actions in a stable order. The caller owns the
// slice.
func Actions() []ActionName {
	return []ActionName{RolloutUndo, RolloutRestart, PauseRollout, ResumeRollout, Scale, SetHPABounds, PatchResources, PatchProbe,
		PatchServiceSelector, PatchServicePort, PatchEnv, PatchScheduling, DeletePod, EvictPod, DeleteJob, RerunJob, SuspendCronJob,
		ResumeCronJob, CordonNode, UncordonNode, DrainNode, ExpandPVC, RaiseQuota, CreateImagePullSecretCopy, RestartDaemonPod,
		RemoveFinalizer, GitOpsRollback, GitOpsResync, GitOpsSuspend, GitChange}
}
