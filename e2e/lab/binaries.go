package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Versions of what is built; the module files under modules pin everything below them.
const (
	KubernetesVersion = "v1.36.3"
	kwokVersion       = "v0.8.0"
)

//go:embed modules/*.txt images/pause/main.go images/app/main.go
var sources embed.FS

// build is one generated module and what is built from it.
type build struct {
	name  string
	files map[string]string // file → embedded name, or literal text after "="
	args  []string          // of go build, after -o bin/
	bins  []string
}

func builds() []build {
	ldflags := "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=" + strings.Split(KubernetesVersion, ".")[1]
	kube := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	tools := "=//go:build tools\n\npackage lab\n\nimport (\n"
	args := []string{"-ldflags", ldflags}
	for _, c := range kube {
		args = append(args, "k8s.io/kubernetes/cmd/"+c)
		tools += "\t_ \"k8s.io/kubernetes/cmd/" + c + "\"\n"
	}
	return []build{
		{"etcd", map[string]string{"go.mod": "modules/etcd.mod.txt", "go.sum": "modules/etcd.sum.txt",
			"etcd/main.go": "=package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n"},
			[]string{"./etcd"}, []string{"etcd"}},
		{"kwok", map[string]string{"go.mod": "modules/kwok.mod.txt", "go.sum": "modules/kwok.sum.txt"},
			[]string{"sigs.k8s.io/kwok/cmd/kwok"}, []string{"kwok"}},
		{"images", map[string]string{"go.mod": "=module lab\n\ngo 1.26.0\n", "pause/main.go": "images/pause/main.go", "app/main.go": "images/app/main.go"},
			[]string{"-ldflags", "-s -w", "./pause", "./app"}, []string{"pause", "app"}},
		{"kube", map[string]string{"go.mod": "modules/kube.mod.txt", "go.sum": "modules/kube.sum.txt", "tools.go": tools + ")\n"}, args, kube},
	}
}

// Binaries builds the binaries of a lab where that has not been done on this machine and
// returns the folder they are in. Lines on log (nil: none) tell what takes long. Processes that
// come at the same time wait for the first.
func Binaries(ctx context.Context, log io.Writer) (dir string, err error) {
	if log == nil {
		log = io.Discard
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("lab: cache folder: %w", err)
	}
	root := filepath.Join(cache, "tocsin", "lab")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("lab: cache folder: %w", err)
	}
	sum, err := contentHash()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(root, sum)
	if complete(dir) {
		return dir, nil
	}
	unlock, err := lockFile(ctx, filepath.Join(root, "lock"), log)
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) { // somebody else built it while we waited
		return dir, nil
	}
	return dir, buildAll(ctx, dir, log)
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "complete"))
	return err == nil
}

// contentHash names the outcome of a build: generated sources, Go version and platform.
func contentHash() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, b := range builds() {
		fmt.Fprintln(h, b.name, b.args)
		for _, name := range sortedKeys(b.files) {
			text, err := b.text(name)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(h, name, len(text), text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func (b build) text(name string) (string, error) {
	from := b.files[name]
	if text, ok := strings.CutPrefix(from, "="); ok {
		return text, nil
	}
	raw, err := sources.ReadFile(from)
	return string(raw), err
}

func buildAll(ctx context.Context, dir string, log io.Writer) error {
	start := time.Now()
	fmt.Fprintf(log, "lab: building Kubernetes %s from Go modules into %s (about 10 minutes the first time)\n", KubernetesVersion, dir)
	for _, b := range builds() {
		if err := b.run(ctx, dir, log); err != nil {
			return fmt.Errorf("lab: build %s: %w", b.name, err)
		}
	}
	if err := kwokStages(ctx, dir); err != nil {
		return fmt.Errorf("lab: kwok's stages: %w", err)
	}
	fmt.Fprintf(log, "lab: built in %s\n", time.Since(start).Round(time.Second))
	return os.WriteFile(filepath.Join(dir, "complete"), nil, 0o644)
}

func (b build) run(ctx context.Context, dir string, log io.Writer) error {
	src := filepath.Join(dir, "src", b.name)
	for name := range b.files {
		text, err := b.text(name)
		if err != nil {
			return err
		}
		path := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintf(log, "lab: building %s…\n", strings.Join(b.bins, ", "))
	if out, err := goCommand(ctx, src, append([]string{"build", "-o", bin + "/"}, b.args...)...); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out, 20))
	}
	fmt.Fprintf(log, "lab: %s done in %s\n", b.name, time.Since(start).Round(time.Second))
	return nil
}

// kwokStages copies the stage files that kwok's own module ships.
func kwokStages(ctx context.Context, dir string) error {
	out, err := goCommand(ctx, filepath.Join(dir, "src", "kwok"), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out, 5))
	}
	from := os.DirFS(filepath.Join(strings.TrimSpace(out), "kustomize", "stage"))
	to := filepath.Join(dir, "stages")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
		"pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml"} {
		raw, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "CGO_ENABLED=0", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	var missing *exec.Error
	if errors.As(err, &missing) {
		return "", fmt.Errorf("the go command is needed: %w", err)
	}
	return string(out), err
}

func tail(s string, lines int) string {
	l := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}
