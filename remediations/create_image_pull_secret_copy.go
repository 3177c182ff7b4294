package remediations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Parameters of CreateImagePullSecretCopy.
const (
	paramFromNamespace = "fromNamespace"
	paramSecret        = "secret"
)

func createImagePullSecretCopy() Action {
	return Action{
		Name: incident.CreateImagePullSecretCopy, Kinds: []string{"Namespace"}, Risk: incident.RiskReversible, Touches: false, Window: 3 * time.Minute,
		Summary: "copy one image pull secret from a named namespace; its content is never shown",
		Undo:    "the copy is deleted",
		Signal:  "the secret exists in the namespace; the incident's signals resolved",
		Params: []Param{need(paramFromNamespace, "namespace to copy from", checkLabelName),
			need(paramSecret, "name of the secret, the same in both", checkSubdomain)},
		Rules: []rbacv1.PolicyRule{rule("", []string{"secrets"}, "get", "create", "delete")},
		plan:  planSecretCopy,
		health: func(ctx context.Context, r Reader, p *probe) (Health, error) {
			// The reader may not see Secrets; that the pods start is the signal.
			return Health{OK: true, Ready: -1, Detail: "secrets are not read to verify"}, nil
		},
	}
}

func planSecretCopy(ctx context.Context, r *request) (plan, error) {
	src := incident.Entity{Kind: "Secret", Namespace: r.params[paramFromNamespace], Name: r.params[paramSecret]}
	if src.Namespace == r.target.Name {
		return plan{}, incident.Invalidf("the secret is in %s already", src.Namespace)
	}
	o, err := r.Get(ctx, src)
	if err != nil {
		return plan{}, err
	}
	if t, _, _ := unstructured.NestedString(o.Object, "type"); t != "kubernetes.io/dockerconfigjson" && t != "kubernetes.io/dockercfg" {
		return plan{}, incident.Invalidf("%s is not an image pull secret", src)
	}
	dst := incident.Entity{Kind: "Secret", Namespace: r.target.Name, Name: src.Name}
	if _, err := r.Get(ctx, dst); !errors.Is(err, incident.ErrNotFound) {
		if err == nil {
			err = incident.Invalidf("it exists already")
		}
		return plan{}, fmt.Errorf("copy to %s: %w", dst, err)
	}
	src = entityOf(o)
	return plan{Writes: []Write{{Verb: VerbCopy, Target: dst, Source: &src}}}, nil
}
