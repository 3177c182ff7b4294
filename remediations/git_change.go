package remediations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
	// Find returns the path of the one YAML file that holds the object; ErrNotFound when none or
	// several do.
	Find(ctx context.Context, doc gitops.Document) (path string, err error)
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
		Before: before, Content: after, Title: fmt.Sprintf("%s: set %s", r.target, field), Body: r.evidence}}}}, nil
}

// instead returns what to do where an owner would revert the live patch p: the same change in
// Git, when it is one field of one file, and the owner's own rollback or sync.
func (a *Agent) instead(ctx context.Context, p incident.Proposal, own Owner) []incident.Proposal {
	var out []incident.Proposal
	add := func(action incident.ActionName, target incident.Entity, summary string, params map[string]string) {
		q := incident.Proposal{Incident: p.Incident, Action: action, Target: incident.Ref{Cluster: p.Target.Cluster, Entity: target}, Params: params,
			Summary: summary, Why: "instead of " + string(p.Action) + ": " + own.String() + " would revert it", Cause: p.Cause, Confidence: p.Confidence, Evidence: p.Evidence}
		q.ID = incident.NewProposalID(q)
		out = append(out, q)
	}
	e := p.Target.Entity
	if edit := a.gitEdit(ctx, p); edit != "" && a.cfg.Git != nil {
		if path, err := a.cfg.Git.Find(ctx, gitops.Document{Kind: e.Kind, Namespace: e.Namespace, Name: e.Name}); err == nil {
			add(incident.GitChange, e, "change "+path+": "+edit, map[string]string{incident.ParamPath: path, paramEdit: edit})
		}
	}
	if own.System == OwnedByArgo && own.Object.Namespace != "" && !own.Heals {
		if app, err := a.cfg.Reader.Get(ctx, own.Object); err == nil {
			if rev := lastRevision(app); rev != "" {
				add(incident.GitOpsRollback, own.Object, "roll back "+own.Object.String()+" to "+incident.Clip(rev, 12), map[string]string{incident.ParamRevision: rev})
			}
		}
	}
	return out
}

// gitEdit writes a proposal as one field of the target's manifest; empty when it is not one.
func (a *Agent) gitEdit(ctx context.Context, p incident.Proposal) string {
	switch p.Action {
	case incident.Scale:
		return "spec.replicas=" + p.Params[incident.ParamReplicas]
	case incident.RolloutUndo:
		o, err := a.cfg.Reader.Get(ctx, p.Target.Entity)
		if err != nil {
			return ""
		}
		tmpl, err := templateOf(ctx, &request{Reader: a.cfg.Reader, target: entityOf(o), object: o}, p.Params[incident.ParamRevision])
		if err != nil {
			return ""
		}
		return imageEdit(o, tmpl)
	case incident.PatchResources:
		var edits []string
		for _, f := range resourceFields {
			if v := p.Params[f]; v != "" {
				edits = append(edits, "spec.template.spec.containers["+p.Params[incident.ParamContainer]+"].resources."+f+"="+v)
			}
		}
		if len(edits) == 1 {
			return edits[0]
		}
	}
	return ""
}

// imageEdit returns the one image in which the template differs; empty when there is more.
func imageEdit(o *Object, tmpl map[string]any) string {
	now, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	then, _, _ := unstructured.NestedSlice(tmpl, "spec", "containers")
	was := map[any]any{}
	for _, x := range then {
		if m, ok := x.(map[string]any); ok {
			was[m["name"]] = m["image"]
		}
	}
	edit := ""
	for _, x := range now {
		m, ok := x.(map[string]any)
		if !ok || was[m["name"]] == m["image"] {
			continue
		}
		if edit != "" || was[m["name"]] == nil {
			return ""
		}
		edit = fmt.Sprintf("spec.template.spec.containers[%v].image=%v", m["name"], was[m["name"]])
	}
	return edit
}

// lastRevision is the revision an Application was at before the present one.
func lastRevision(app *Object) string {
	now, _, _ := unstructured.NestedString(app.Object, "status", "sync", "revision")
	items, _, _ := unstructured.NestedSlice(app.Object, "status", "history")
	for i := len(items) - 1; i >= 0; i-- {
		if m, ok := items[i].(map[string]any); ok {
			if rev, ok := m["revision"].(string); ok && rev != now {
				return rev
			}
		}
	}
	return ""
}
