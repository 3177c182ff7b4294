package remediations

import (
	"context"
	"errors"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func gitOpsSuspend() Action {
	return Action{
		Name: incident.GitOpsSuspend, Kinds: []string{"Application", "Kustomization", "HelmRelease"}, Risk: incident.RiskReversible, Contains: true, Window: time.Minute,
		Summary: "stop a GitOps controller from healing its objects, until a person resumes it",
		Undo:    "automated sync is put back as it was",
		Signal:  "the controller's resource is suspended",
		Rules:   patchGitOps(),
		plan: func(_ context.Context, r *request) (plan, error) {
			if r.target.Kind == "Application" {
				return fieldPatch(edit(r.object).set(nil, "spec", "syncPolicy", "automated"))
			}
			return fieldPatch(edit(r.object).set(true, "spec", "suspend"))
		},
		health: func(ctx context.Context, r Reader, p *probe) (Health, error) {
			o, err := r.Get(ctx, p.target)
			if errors.Is(err, incident.ErrNotFound) {
				return Health{Ready: -1, Detail: "it does not exist"}, nil
			}
			if err != nil {
				return Health{}, err
			}
			if p.target.Kind == "Application" {
				_, on, _ := unstructured.NestedMap(o.Object, "spec", "syncPolicy", "automated")
				return Health{OK: !on, Ready: -1, Detail: "automated sync is " + map[bool]string{true: "on", false: "off"}[on]}, nil
			}
			s, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend")
			return Health{OK: s, Ready: -1, Detail: "suspended is " + map[bool]string{true: "true", false: "false"}[s]}, nil
		},
	}
}
