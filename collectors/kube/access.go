package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	authv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// access is what a server offers and what we may read of it.
type access struct {
	kinds   []kind                        // served and allowed
	customs []schema.GroupVersionResource // served and allowed
	sources []incident.SourceCoverage     // of the rest: why not
}

// probe asks the server which of our kinds it has (discovery) and which of them we may list (one
// SelfSubjectAccessReview each). An error means that the server did not answer at all.
func probe(ctx context.Context, client kubernetes.Interface, withCustom bool) (access, error) {
	lists, err := client.Discovery().ServerPreferredResources()
	if len(lists) == 0 && err != nil {
		return access{}, fmt.Errorf("discovery: %w", err)
	}
	served := map[schema.GroupResource]schema.GroupVersion{}
	var customs []schema.GroupVersionResource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range l.APIResources {
			served[schema.GroupResource{Group: gv.Group, Resource: r.Name}] = gv
			if groups, ok := cluster.CustomKinds()[r.Kind]; ok && withCustom && slices.Contains(strings.Split(groups, ","), gv.Group) {
				customs = append(customs, gv.WithResource(r.Name))
			}
		}
	}
	var a access
	var asked []schema.GroupVersionResource
	var known []kind
	for _, k := range kinds() {
		if _, ok := served[schema.GroupResource{Group: k.group, Resource: k.resource}]; !ok {
			a.sources = append(a.sources, incident.SourceCoverage{Source: k.source(), State: incident.NotSeen, Detail: "the API server does not have this kind"})
			continue
		}
		known = append(known, k)
		asked = append(asked, k.gvr())
	}
	allowed, err := mayList(ctx, client, append(asked, customs...))
	if err != nil {
		return access{}, err
	}
	for i, k := range known {
		if allowed[i] {
			a.kinds = append(a.kinds, k)
		} else {
			a.sources = append(a.sources, notAllowed(k.resource))
		}
	}
	for i, c := range customs {
		if allowed[len(known)+i] {
			a.customs = append(a.customs, c)
		} else {
			a.sources = append(a.sources, notAllowed(c.Resource))
		}
	}
	a.sources = append(a.sources, incident.SourceCoverage{Source: "objects/secrets", State: incident.NotAllowed, Detail: "Secrets are never read"})
	return a, nil
}

func notAllowed(resource string) incident.SourceCoverage {
	return incident.SourceCoverage{Source: "objects/" + resource, State: incident.NotAllowed,
		Detail: "permission missing: list " + resource + " (see deploy/rbac/read.yaml)"}
}

func mayList(ctx context.Context, client kubernetes.Interface, rs []schema.GroupVersionResource) ([]bool, error) {
	out := make([]bool, len(rs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, r := range rs {
		g.Go(func() error {
			attr := &authv1.ResourceAttributes{Verb: "list", Group: r.Group, Resource: r.Resource}
			if r.Resource == "leases" {
				attr.Namespace = metav1.NamespaceSystem
			}
			review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attr}}
			got, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask whether %s may be listed: %w", r.Resource, err)
			}
			out[i] = got.Status.Allowed
			return nil
		})
	}
	return out, g.Wait()
}

// Denied returns the kinds that exist and may not be listed, in our order. An error means that
// the server does not answer.
func Denied(ctx context.Context, client kubernetes.Interface, withCustom bool) ([]string, error) {
	a, err := probe(ctx, client, withCustom)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range a.sources {
		if s.State == incident.NotAllowed && s.Source != "objects/secrets" {
			out = append(out, strings.TrimPrefix(s.Source, "objects/"))
		}
	}
	return out, nil
}
