package remediations

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object is a live Kubernetes object. Objects are read for one decision and never changed.
type Object = unstructured.Unstructured

// Reader reads one cluster live, never from a cache.
type Reader interface {
	// Get returns incident.ErrNotFound when there is no such object. The UID of e is ignored.
	Get(ctx context.Context, e incident.Entity) (*Object, error)
	// List returns the objects of a kind in a namespace ("" is all) whose labels match the
	// selector ("" is all), in no order and without managed fields.
	List(ctx context.Context, kind, namespace, selector string) ([]Object, error)
}

// Writer changes one cluster. All its writes carry the field manager "tocsin".
type Writer interface {
	// Apply sends one write with the preconditions UID and resourceVersion, and returns the
	// object after it (nil for a delete). Errors: ErrStale (a precondition failed), ErrNotFound,
	// ErrDenied (forbidden, or an eviction a budget refuses), ErrInvalid (the server refuses the
	// content): nothing was written. Any other error leaves it open whether it was.
	Apply(ctx context.Context, w Write, how Apply) (*Object, error)
	// Allowed asks the server (SelfSubjectAccessReview) whether the write is permitted.
	Allowed(ctx context.Context, w Write) (ok bool, reason string, err error)
	// Event leaves a Kubernetes Event on the target; its loss is not an error of the action.
	Event(ctx context.Context, target incident.Entity, reason, message string) error
}

// Action is one row of the catalogue. Everything a person needs to judge it is data.
type Action struct {
	Name    incident.ActionName
	Kinds   []string // of targets
	Summary string   // what it does, one line
	Undo    string   // how it is undone, or why it cannot be
	Signal  string   // what is measured after it
	Window  time.Duration
	Risk    incident.Risk
	// Contains says that the action limits the harm and does not cure: the incident's signals
	// need not resolve for it to count as verified.
	Contains bool
	// Touches says that fields a Git repository or operator may own are changed.
	Touches bool
	Params  []Param
	Rules   []rbacv1.PolicyRule // what the actor needs beyond the read role
	AnyOf   bool                // at least one of the optional parameters must be given

	plan   func(ctx context.Context, r *request) (plan, error)
	health func(ctx context.Context, r Reader, p *probe) (Health, error)
}

// request is what a planner works from.
type request struct {
	Reader
	id     string // of the execution; writes are stamped with it
	target incident.Entity
	params map[string]string
	object *Object // the target, live
	bounds Bounds
	git    Git
	// evidence goes into the message of a Git change: incident, cause and execution.
	evidence string
}

// plan is exact writes, in order, and what they interrupt.
type plan struct {
	Writes []Write
	// Pods that can be interrupted and how many of the ready ones at once. Where they are
	// evicted or deleted the disruption budgets count.
	Pods     []corev1.Pod
	AtOnce   int
	Of       int // ready pods the share is taken of; 0: those of Pods
	Disrupts bool
	Nodes    int
	Notes    []string // for a person
}

// Catalogue returns every action by name. The caller owns the map.
func Catalogue() map[incident.ActionName]Action {
	return map[incident.ActionName]Action{
		incident.RolloutUndo:               rolloutUndo(),
		incident.RolloutRestart:            rolloutRestart(),
		incident.PauseRollout:              pauseRollout(),
		incident.ResumeRollout:             resumeRollout(),
		incident.Scale:                     scale(),
		incident.SetHPABounds:              setHPABounds(),
		incident.PatchResources:            patchResources(),
		incident.PatchProbe:                patchProbe(),
		incident.PatchServiceSelector:      patchServiceSelector(),
		incident.PatchServicePort:          patchServicePort(),
		incident.PatchEnv:                  patchEnv(),
		incident.PatchScheduling:           patchScheduling(),
		incident.DeletePod:                 deletePod(),
		incident.EvictPod:                  evictPod(),
		incident.DeleteJob:                 deleteJob(),
		incident.RerunJob:                  rerunJob(),
		incident.SuspendCronJob:            suspendCronJob(),
		incident.ResumeCronJob:             resumeCronJob(),
		incident.CordonNode:                cordonNode(),
		incident.UncordonNode:              uncordonNode(),
		incident.DrainNode:                 drainNode(),
		incident.ExpandPVC:                 expandPVC(),
		incident.RaiseQuota:                raiseQuota(),
		incident.CreateImagePullSecretCopy: createImagePullSecretCopy(),
		incident.RestartDaemonPod:          restartDaemonPod(),
		incident.RemoveFinalizer:           removeFinalizer(),
		incident.GitOpsRollback:            gitOpsRollback(),
		incident.GitOpsResync:              gitOpsResync(),
		incident.GitOpsSuspend:             gitOpsSuspend(),
		incident.GitChange:                 gitChange(),
	}
}

// Lookup returns the action a proposal names after checking target and parameters. The error
// wraps ErrInvalid.
func Lookup(p incident.Proposal) (Action, error) {
	a, ok := Catalogue()[p.Action]
	if !ok {
		return Action{}, incident.Invalidf("action %q is not in the catalogue", incident.Clip(string(p.Action), 60))
	}
	return a, a.Validate(p)
}

// Validate refuses a proposal whose target kind the action does not take, and unknown, missing
// or malformed parameters.
func (a Action) Validate(p incident.Proposal) error {
	if err := p.Target.Cluster.Validate(); err != nil {
		return err
	}
	if err := p.Target.Entity.Validate(); err != nil {
		return err
	}
	kind, ok := kinds[p.Target.Entity.Kind]
	if !ok || (len(a.Kinds) > 0 && !slices.Contains(a.Kinds, p.Target.Entity.Kind)) {
		return incident.Invalidf("%s does not act on a %s", a.Name, incident.Clip(p.Target.Entity.Kind, 60))
	}
	if kind.namespaced != (p.Target.Entity.Namespace != "") {
		return incident.Invalidf("%s: target %s: namespace wrong for its kind", a.Name, p.Target.Entity)
	}
	if err := checkObjectName(p.Target.Entity); err != nil {
		return err
	}
	return a.validateParams(p.Params)
}

func (a Action) validateParams(params map[string]string) error {
	known := make(map[string]bool, len(a.Params))
	optional, given := 0, 0
	for _, par := range a.Params {
		known[par.Name] = true
		v, ok := params[par.Name]
		if !par.Required {
			if !par.Aside {
				optional++
			}
			if !ok {
				continue
			}
			if !par.Aside {
				given++
			}
		} else if !ok {
			return incident.Invalidf("%s: parameter %s is missing", a.Name, par.Name)
		}
		if err := par.Check(v); err != nil {
			return fmt.Errorf("%s: parameter %s: %w", a.Name, par.Name, err)
		}
	}
	for name := range params {
		if !known[name] {
			return incident.Invalidf("%s: parameter %q is not known", a.Name, incident.Clip(name, 60))
		}
	}
	if a.AnyOf && optional > 0 && given == 0 {
		return incident.Invalidf("%s: none of its optional parameters is given", a.Name)
	}
	return nil
}

// Bounds limits parameters on the agent's side. The zero value takes the defaults.
type Bounds struct {
	MaxReplicas   int     `json:"maxReplicas,omitempty"`   // of Scale and SetHPABounds; default 50
	MaxRaise      float64 `json:"maxRaise,omitempty"`      // new/old of resources, quotas, volumes; default 4
	MaxDrainPods  int     `json:"maxDrainPods,omitempty"`  // of DrainNode; default 30
	AllowFinalize bool    `json:"allowFinalize,omitempty"` // RemoveFinalizer may be planned at all
}

func (b Bounds) withDefaults() Bounds {
	if b.MaxReplicas <= 0 {
		b.MaxReplicas = 50
	}
	if b.MaxRaise <= 0 {
		b.MaxRaise = 4
	}
	if b.MaxDrainPods <= 0 {
		b.MaxDrainPods = 30
	}
	return b
}
