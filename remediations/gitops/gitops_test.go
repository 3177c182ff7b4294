package gitops

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/tocsin-io/tocsin/incident"

	"os"
)

const manifest = `---
# The cart service.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  namespace: shop
spec:
  replicas: 3 # one per zone
  template:
    spec:
      containers:
        - name: cart
          image: ghcr.io/acme/cart:v9
        - name: proxy
          image: "envoy:1"
---
apiVersion: v1
kind: Service
metadata:
  name: cart
`

func TestEdit(t *testing.T) {
	cart := Document{"Deployment", "shop", "cart"}
	cases := []struct {
		name, field, value string
		doc                Document
		want               string // line in the result; empty: refused
	}{
		{"an image of one container", "spec.template.spec.containers[cart].image", "ghcr.io/acme/cart:v8", cart, "image: ghcr.io/acme/cart:v8"},
		{"a number stays a number and its comment stays", "spec.replicas", "5", cart, "replicas: 5 # one per zone"},
		{"a string that looks like a number is quoted", "spec.template.spec.containers[cart].image", "5", cart, `image: "5"`},
		{"a field that is not there", "spec.paused", "true", cart, ""},
		{"a container that is not there", "spec.template.spec.containers[web].image", "x", cart, ""},
		{"a whole section", "spec.template", "x", cart, ""},
		{"another object", "spec.replicas", "5", Document{"Deployment", "shop", "web"}, ""},
		{"another namespace", "spec.replicas", "5", Document{"Deployment", "prod", "cart"}, ""},
		{"a path that is none", "spec..replicas", "5", cart, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Edit(manifest, tc.doc, tc.field, tc.value)
			if tc.want == "" {
				if !errors.Is(err, incident.ErrInvalid) {
					t.Errorf("got %v\n%s", err, got)
				}
				return
			}
			if err != nil || !strings.Contains(got, tc.want) || !strings.Contains(got, "# The cart service.") || !strings.Contains(got, `image: "envoy:1"`) {
				t.Errorf("%v\n%s", err, got)
			}
			if strings.Count(got, "\n") != strings.Count(manifest, "\n") {
				t.Errorf("more than one line changed:\n%s", got)
			}
		})
	}
}

// bare makes a bare repository with manifest on branch main.
func bare(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo.git")
	if _, err := git.PlainInit(dir, true); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	repo, err := git.PlainInitWithOptions(work, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(work, "apps"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "apps", "cart.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	wt, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wt.Add("apps/cart.yaml"); err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "dev", Email: "dev@example.com", When: time.Now()}
	if _, err := wt.Commit("cart v9", &git.CommitOptions{Author: who}); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{dir}}); err != nil {
		t.Fatal(err)
	}
	if err := repo.Push(&git.PushOptions{RefSpecs: []config.RefSpec{"refs/heads/main:refs/heads/main"}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRepository(t *testing.T) {
	r := &Repository{URL: bare(t), Deploy: "main"}
	ctx := t.Context()
	content, base, err := r.Read(ctx, "apps/cart.yaml")
	if err != nil || content != manifest {
		t.Fatalf("%v\n%s", err, content)
	}
	if _, _, err := r.Read(ctx, "apps/none.yaml"); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	if path, err := r.Find(ctx, Document{"Deployment", "shop", "cart"}); err != nil || path != "apps/cart.yaml" {
		t.Errorf("found %q: %v", path, err)
	}
	if _, err := r.Find(ctx, Document{"Deployment", "shop", "web"}); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("an object that is in no file: %v", err)
	}
	next, err := Edit(content, Document{"Deployment", "shop", "cart"}, "spec.replicas", "5")
	if err != nil {
		t.Fatal(err)
	}
	c := Commit{Base: base, Branch: "tocsin/a-1", Path: "apps/cart.yaml", Content: next, Title: "Deployment/shop/cart: set spec.replicas", Body: "incident inc-1"}
	hash, err := r.Push(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := r.Branch(ctx, "tocsin/a-1"); err != nil || at != hash {
		t.Errorf("branch at %s (%v), want %s", at, err, hash)
	}
	if got, at, _ := r.Read(ctx, "apps/cart.yaml"); got != manifest || at != base {
		t.Error("the deployed branch was changed")
	}
	if _, err := r.Push(ctx, c); !errors.Is(err, incident.ErrStale) {
		t.Errorf("the same branch again: %v", err)
	}
	c.Branch, c.Base = "tocsin/a-2", strings.Repeat("0", 40)
	if _, err := r.Push(ctx, c); !errors.Is(err, incident.ErrStale) {
		t.Errorf("another base: %v", err)
	}
	repo, err := git.PlainOpen(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := repo.CommitObject(plumbing.NewHash(hash))
	if err != nil || !strings.Contains(commit.Message, "inc-1") || len(commit.ParentHashes) != 1 || commit.ParentHashes[0].String() != base {
		t.Errorf("%v %+v", err, commit)
	}
}

func FuzzEdit(f *testing.F) {
	f.Add(manifest, "spec.replicas", "5")
	f.Add("a: [1, 2]\n---\n{}", "a[b].c", "\x00")
	f.Fuzz(func(t *testing.T, content, field, value string) {
		start := time.Now()
		got, err := Edit(content, Document{"Deployment", "shop", "cart"}, field, value)
		if d := time.Since(start); d > time.Second {
			t.Fatalf("took %s", d)
		}
		if err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatalf("error does not wrap ErrInvalid: %v", err)
		}
		if err == nil && len(got) > 40*(len(content)+len(value))+1000 {
			t.Fatalf("%d bytes grew to %d", len(content), len(got))
		}
	})
}
