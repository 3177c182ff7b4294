package lab

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AnnotationFail on a simulated pod, or on the pod template, says how it fails.
const AnnotationFail = "lab.tocsin.io/fail"

// AnnotationNeedsMi makes a simulated pod be OOMKilled over and over unless the memory limit of
// its first container (in Mi or Gi) is at least this number of MiB.
const AnnotationNeedsMi = "lab.tocsin.io/needs-mi"

// Ways a simulated pod can fail.
const (
	FailImageNotFound         = "ImageNotFound"         // ImagePullBackOff, "not found"
	FailImagePullUnauthorized = "ImagePullUnauthorized" // ImagePullBackOff, "authorization failed"
	FailOOMKilled             = "OOMKilled"             // CrashLoopBackOff, last state OOMKilled 137, restarts growing
	FailCrashLoop             = "CrashLoop"             // CrashLoopBackOff, last state Error 1, restarts growing
	FailUnready               = "Unready"               // running, never ready
)

//go:embed stages/lab.yaml
var labStages string

// failExpression is $FAIL of stages/lab.yaml, in the language of jq.
const failExpression = `.metadata.annotations["` + AnnotationFail + `"] // ` +
	`(if (.spec.containers[0].image | test("missing$")) then "` + FailImageNotFound + `" ` +
	`elif .metadata.annotations["` + AnnotationNeedsMi + `"] then ` +
	`((.spec.containers[0].resources.limits.memory // "1000000Mi") as $m | ` +
	`(if ($m | endswith("Gi")) then ($m | rtrimstr("Gi") | tonumber * 1024) elif ($m | endswith("Mi")) then ($m | rtrimstr("Mi") | tonumber) else 0 end) as $have | ` +
	`if $have < (.metadata.annotations["` + AnnotationNeedsMi + `"] | tonumber) then "` + FailOOMKilled + `" else "none" end) ` +
	`else "none" end)`

// Kwok adds simulated nodes called kwok-0 … kwok-(n-1), in zones z0, z1, z2 in turn, 64 CPUs,
// 256 Gi of memory and 250 pods each, and returns when they are ready. Pods of other nodes are
// left alone. Calling it again with a larger n adds nodes.
func (c *Cluster) Kwok(ctx context.Context, n int) error {
	if c.proc("kwok") < 0 {
		if err := c.startKwok(); err != nil {
			return err
		}
	}
	for i := range n {
		_, err := c.Client.CoreV1().Nodes().Create(ctx, kwokNode(i), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("lab: node %d of %s: %w", i, c.Name, err)
		}
	}
	return c.Wait(ctx, fmt.Sprintf("%d simulated nodes", n), func(ctx context.Context) error {
		list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "type=kwok"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			if nodeReady(&list.Items[i]) {
				ready++
			}
		}
		if ready < n {
			return fmt.Errorf("%d of %d are ready", ready, n)
		}
		return nil
	})
}

func nodeReady(n *corev1.Node) bool {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
			// Freshly registered nodes carry the not-ready taint a moment longer.
			for _, t := range n.Spec.Taints {
				if t.Key == corev1.TaintNodeNotReady {
					return false
				}
			}
			return true
		}
	}
	return false
}

func kwokNode(i int) *corev1.Node {
	name := "kwok-" + strconv.Itoa(i)
	has := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("250")}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
			Labels: map[string]string{"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
				"topology.kubernetes.io/zone": "z" + strconv.Itoa(i%3), "topology.kubernetes.io/region": "lab"}},
		Status: corev1.NodeStatus{Allocatable: has, Capacity: has},
	}
}

func (c *Cluster) startKwok() error {
	args := []string{"--kubeconfig", c.Kubeconfig(), "--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-ip", "127.0.0.1",
		"--node-lease-duration-seconds", "40"}
	stages, err := filepath.Glob(filepath.Join(c.binaries, "stages", "*.yaml"))
	if err != nil || len(stages) == 0 {
		return fmt.Errorf("lab: no kwok stages in %s (%v)", c.binaries, err)
	}
	if err := os.MkdirAll(c.file("stages"), 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	texts := map[string]string{"lab.yaml": strings.ReplaceAll(labStages, "$FAIL", failExpression)}
	for _, s := range stages {
		raw, err := os.ReadFile(s)
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		// kwok's own stages leave what we make fail alone; deleting goes on.
		text := string(raw)
		if !strings.Contains(text, "pod-delete") {
			text = strings.Replace(text, "matchExpressions:\n", "matchExpressions:\n    - {key: '.metadata.annotations[\""+AnnotationFail+"\"]', operator: DoesNotExist}\n", 1)
		}
		texts[filepath.Base(s)] = text
	}
	for _, name := range sortedKeys(texts) {
		path := filepath.Join(c.file("stages"), name)
		if err := os.WriteFile(path, []byte(texts[name]), 0o644); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		args = append(args, "--config", path)
	}
	return c.run("kwok", args...)
}

// FailNode makes a simulated node NotReady, or Ready again.
func (c *Cluster) FailNode(ctx context.Context, name string, fail bool) error {
	how := ""
	if fail {
		how = "NodeNotReady"
	}
	patch, err := failPatch(how)
	if err != nil {
		return err
	}
	if _, err := c.Client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("lab: node %s: %w", name, err)
	}
	return c.Wait(ctx, "node "+name, func(ctx context.Context) error {
		n, err := c.Client.CoreV1().Nodes().Get(ctx, name, getOptions)
		if err == nil && nodeReady(n) == fail {
			err = fmt.Errorf("it is ready: %v", !fail)
		}
		return err
	})
}

// failPatch sets AnnotationFail; "" takes it away.
func failPatch(how string) ([]byte, error) {
	value := any(how)
	if how == "" {
		value = nil
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{AnnotationFail: value}}})
}

// Fail makes the running simulated pods labelled app=<app> fail in one of the Fail ways; ""
// heals them. New pods of the same workload are not affected.
func (c *Cluster) Fail(ctx context.Context, namespace, app, how string) error {
	patch, err := failPatch(how)
	if err != nil {
		return err
	}
	list, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return fmt.Errorf("lab: pods of %s/%s: %w", namespace, app, err)
	}
	for i := range list.Items {
		if _, err := c.Client.CoreV1().Pods(namespace).Patch(ctx, list.Items[i].Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}
