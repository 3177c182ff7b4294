package remediations

import (
	"slices"
	"strings"
	"unicode"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of the roles of deploy/rbac.
const (
	RoleNameRead = "tocsin-read"
	RoleNameBase = "tocsin-act"
)

// ActRoleName returns the name of an action's role: tocsin-act-rollout-undo.
func ActRoleName(a incident.ActionName) string {
	var b strings.Builder
	word := false
	for i, r := range string(a) {
		next := i+1 < len(a) && unicode.IsLower(rune(a[i+1]))
		if unicode.IsUpper(r) && i > 0 && (word || next) {
			b.WriteByte('-')
		}
		word = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.ReplaceAll(RoleNameBase+"-"+b.String(), "git-ops", "gitops")
}

// ReadRole is all the reader may do: get, list and watch, no Secrets, no writes, no wildcards.
func ReadRole() rbacv1.ClusterRole {
	look := func(group string, resources ...string) rbacv1.PolicyRule {
		return rule(group, resources, "get", "list", "watch")
	}
	return clusterRole(RoleNameRead,
		look("", "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes",
			"pods", "resourcequotas", "serviceaccounts", "services"),
		rule("", []string{"pods/log"}, "get"),
		look("apps", "controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"),
		look("batch", "cronjobs", "jobs"),
		look("autoscaling", "horizontalpodautoscalers"),
		look("policy", "poddisruptionbudgets"),
		look("discovery.k8s.io", "endpointslices"),
		look("networking.k8s.io", "ingressclasses", "ingresses", "networkpolicies"),
		look("storage.k8s.io", "storageclasses", "volumeattachments"),
		look("scheduling.k8s.io", "priorityclasses"),
		look("coordination.k8s.io", "leases"),
		look("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
		look("argoproj.io", "applications", "rollouts"),
		look("kustomize.toolkit.fluxcd.io", "kustomizations"),
		look("helm.toolkit.fluxcd.io", "helmreleases"),
		look("source.toolkit.fluxcd.io", "gitrepositories", "helmrepositories"),
		look("cluster.x-k8s.io", "clusters", "machinedeployments", "machines"),
		look("controlplane.cluster.x-k8s.io", "kubeadmcontrolplanes"),
		look("karpenter.sh", "nodeclaims", "nodepools"),
		look("cert-manager.io", "certificates"),
		look("gateway.networking.k8s.io", "gateways", "httproutes", "referencegrants"),
		look("networking.istio.io", "destinationrules", "gateways", "virtualservices"),
		look("security.istio.io", "authorizationpolicies", "peerauthentications", "requestauthentications"),
		rule("authorization.k8s.io", []string{"selfsubjectaccessreviews"}, "create"))
}

// BaseRole is what every actor needs: to ask what it may, and to leave an Event.
func BaseRole() rbacv1.ClusterRole {
	return clusterRole(RoleNameBase, rule("authorization.k8s.io", []string{"selfsubjectaccessreviews"}, "create"),
		rule("", []string{"events"}, "create"))
}

// ActRoles returns one role per action that calls the API server, in catalogue order.
func ActRoles() []rbacv1.ClusterRole {
	var out []rbacv1.ClusterRole
	all := Catalogue()
	for _, name := range incident.Actions() {
		if a, ok := all[name]; ok && len(a.Rules) > 0 {
			out = append(out, clusterRole(ActRoleName(name), slices.Clone(a.Rules)...))
		}
	}
	return out
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "tocsin"}}, Rules: rules}
}
