package remediations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/gitops"
)

// paramEdit of GitChange: field.path[name]=value in the document of the target.
const paramEdit = "edit"

// Git is the one repository an agent may propose changes to. Nothing is ever pushed to the
// branch that is deployed: a person merges.
type Git interface {
	// Read returns a file of the deployed branch and the commit it is of.
	Read(ctx context.Context, path string) (content, commit string, err error)
	// Push makes one commit on a new branch from base and pushes it; ErrStale when base is no
	// longer the tip of the deployed branch or the branch exists.
	Push(ctx context.Context, c gitops.Commit) (commit string, err error)
	// Branch returns the commit a branch stands at; ErrNotFound when there is none.
	Branch(ctx context.Context, name string) (commit string, err error)
}

func gitChange() Action {
	return Action{
		Name: incident.GitChange, Risk: incident.RiskReversible, Contains: true, Window: time.Minute,
		Kinds: []string{"Deployment", "StatefulSet", "DaemonSet", "Service", "HorizontalPodAutoscaler", "CronJob", "ConfigMap",
			"HelmRelease", "Kustomization", "Application", "GitRepository", "ResourceQuota", "PersistentVolumeClaim"},
		Summary: "push the exact edit as a branch of the configured repository; a person merges it",
		Undo:    "the branch is deleted, by a person; nothing is deployed before it is merged",
		Signal:  "the branch is in the repository; the incident resolves after it is merged",
		Params: []Param{need(incident.ParamPath, "file in the repository", checkRepoPath),
			need(paramEdit, "field.path[name]=value in the target's document", checkText(2000))},
		plan:   planGitChange,
		health: func(context.Context, Reader, *probe) (Health, error) { return Health{}, nil },
	}
}

func checkRepoPath(v string) error {
	bad := strings.HasPrefix(v, "/") || strings.Contains("/"+v+"/", "/../") || strings.Contains("/"+v+"/", "/.git/") || strings.Contains(v, "\\")
	if bad || checkText(500)(v) != nil || !(strings.HasSuffix(v, ".yaml") || strings.HasSuffix(v, ".yml")) {
		return incident.Invalidf("%q: want the path of a YAML file inside the repository", incident.Clip(v, 80))
	}
	return nil
}

func planGitChange(ctx context.Context, r *request) (plan, error) {
	if r.git == nil {
		return plan{}, incident.Invalidf("no repository is configured for changes")
	}
	path := r.params[incident.ParamPath]
	before, commit, err := r.git.Read(ctx, path)
	if err != nil {
		return plan{}, fmt.Errorf("read %s: %w", path, err)
	}
	field, value, ok := strings.Cut(r.params[paramEdit], "=")
	if !ok {
		return plan{}, incident.Invalidf("edit: want field=value")
	}
	after, err := gitops.Edit(before, gitops.Document{Kind: r.target.Kind, Namespace: r.target.Namespace, Name: r.target.Name}, field, value)
	if err != nil {
		return plan{}, err
	}
	if after == before {
		return plan{}, incident.Invalidf("%s: nothing to change, it is so already", path)
	}
	return plan{Writes: []Write{{Verb: VerbPush, Target: entityOf(r.object), Push: &Push{Base: commit, Branch: "tocsin/" + r.id, Path: path,
		Before: before, Content: after, Title: fmt.Sprintf("%s: set %s", r.target, field)}}}}, nil
}
