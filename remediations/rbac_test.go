package remediations

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

// TestRBAC compares deploy/rbac with the verbs that the actions declare, both ways.
func TestRBAC(t *testing.T) {
	dir := filepath.Join("..", "deploy", "rbac")
	want := map[string]rbacv1.ClusterRole{"read.yaml": ReadRole(), "act.yaml": BaseRole()}
	for _, r := range ActRoles() {
		want[strings.TrimPrefix(r.Name, "tocsin-")+".yaml"] = r
	}
	for name, role := range want {
		text, err := yaml.Marshal(struct {
			APIVersion string              `json:"apiVersion"`
			Kind       string              `json:"kind"`
			Metadata   map[string]any      `json:"metadata"`
			Rules      []rbacv1.PolicyRule `json:"rules"`
		}{role.APIVersion, role.Kind, map[string]any{"name": role.Name, "labels": role.Labels}, role.Rules})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if *updateGolden {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what the catalogue declares (%v); go test ./remediations -run RBAC -update", path, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		base := filepath.Base(f)
		if _, ok := want[base]; !ok && base != "reader.yaml" && base != "actor.yaml" {
			t.Errorf("%s belongs to no action", f)
		}
	}
}

func TestRolesAreLeast(t *testing.T) {
	for _, role := range append(ActRoles(), ReadRole(), BaseRole()) {
		for _, r := range role.Rules {
			for _, v := range slices.Concat(r.Verbs, r.Resources, r.APIGroups) {
				if slices.Contains([]string{"*", "escalate", "bind", "impersonate", "pods/exec", "pods/attach", "deletecollection", "update"}, v) {
					t.Errorf("%s holds %s", role.Name, v)
				}
			}
			if slices.Contains(r.Resources, "pods") && slices.Contains(r.Verbs, "create") {
				t.Errorf("%s may create pods", role.Name)
			}
			if role.Name != RoleNameRead {
				continue
			}
			for _, v := range r.Verbs {
				if !slices.Contains([]string{"get", "list", "watch"}, v) && r.Resources[0] != "selfsubjectaccessreviews" {
					t.Errorf("the read role may %s %v", v, r.Resources)
				}
			}
			if slices.Contains(r.Resources, "secrets") {
				t.Error("the read role reads Secrets")
			}
		}
	}
	for _, role := range ActRoles() {
		for _, r := range role.Rules {
			if slices.Contains(r.Resources, "secrets") && role.Name != ActRoleName(incident.CreateImagePullSecretCopy) {
				t.Errorf("%s reaches Secrets", role.Name)
			}
		}
	}
}

func TestEveryActionIsComplete(t *testing.T) {
	all := Catalogue()
	for _, name := range incident.Actions() {
		a, ok := all[name]
		if !ok || a.Name != name {
			t.Errorf("%s is not in the catalogue", name)
			continue
		}
		if a.Summary == "" || a.Undo == "" || a.Signal == "" || a.Window <= 0 || a.Risk == "" || len(a.Kinds) == 0 || a.plan == nil {
			t.Errorf("%s lacks summary, undo, signal, window, risk, kinds or plan", name)
		}
		for _, k := range a.Kinds {
			if _, ok := kinds[k]; !ok {
				t.Errorf("%s acts on unknown kind %s", name, k)
			}
		}
		if len(a.Rules) == 0 && name != incident.GitChange {
			t.Errorf("%s declares no RBAC", name)
		}
	}
	if len(all) != len(incident.Actions()) {
		t.Errorf("catalogue has %d actions, the vocabulary %d", len(all), len(incident.Actions()))
	}
}
