//go:build e2e

package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

func TestSimulatedNodesRunAndFailAsTold(t *testing.T) {
	if _, err := Binaries(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c := New(t, "eu-1", Options{})
	t.Logf("control plane ready after %s", time.Since(start).Round(time.Millisecond))
	ctx := t.Context()
	start = time.Now()
	if err := c.Kwok(ctx, 3); err != nil {
		t.Fatal(err)
	}
	t.Logf("nodes ready after %s", time.Since(start).Round(time.Millisecond))

	if err := c.Apply(ctx, Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v1")); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(ctx, "shop", "cart", 3); err != nil {
		t.Fatal(err)
	}
	t.Run("a bad image backs off and the good pods stay", func(t *testing.T) {
		if err := c.Apply(ctx, Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v2-missing")); err != nil {
			t.Fatal(err)
		}
		pod, err := c.WaitWaiting(ctx, "shop", "cart", "ImagePullBackOff")
		if err != nil {
			t.Fatal(err)
		}
		if pod.Status.Phase != "Pending" {
			t.Errorf("phase %s", pod.Status.Phase)
		}
		d, err := c.Client.AppsV1().Deployments("shop").Get(ctx, "cart", metav1.GetOptions{})
		if err != nil || d.Status.ReadyReplicas != 3 {
			t.Errorf("ready %d, want the three old ones (%v)", d.Status.ReadyReplicas, err)
		}
		if err := c.Apply(ctx, Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v1")); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReady(ctx, "shop", "cart", 3); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("too small a limit is killed until it is raised", func(t *testing.T) {
		small := Deployment("shop", "search", 2, "ghcr.io/acme/search:v1", AnnotationNeedsMi+`: "100"`)
		if err := c.Apply(ctx, small); err != nil {
			t.Fatal(err)
		}
		pod, err := c.WaitWaiting(ctx, "shop", "search", "CrashLoopBackOff")
		if err != nil {
			t.Fatal(err)
		}
		s := pod.Status.ContainerStatuses[0]
		if s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.Reason != "OOMKilled" || s.RestartCount < 3 {
			t.Errorf("status %+v", s)
		}
		patch := []byte(`[{"op":"replace","path":"/spec/template/spec/containers/0/resources/limits/memory","value":"128Mi"}]`)
		if _, err := c.Client.AppsV1().Deployments("shop").Patch(ctx, "search", "application/json-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReady(ctx, "shop", "search", 2); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("running pods fail and heal", func(t *testing.T) {
		for _, how := range []string{FailCrashLoop, FailUnready, FailOOMKilled} {
			if err := c.Fail(ctx, "shop", "cart", how); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(ctx, "no ready pods", func(ctx context.Context) error {
				d, err := c.Client.AppsV1().Deployments("shop").Get(ctx, "cart", metav1.GetOptions{})
				if err == nil && d.Status.ReadyReplicas != 0 {
					err = fmt.Errorf("%d are ready", d.Status.ReadyReplicas)
				}
				return err
			}); err != nil {
				t.Fatal(how, err)
			}
			if err := c.Fail(ctx, "shop", "cart", ""); err != nil {
				t.Fatal(err)
			}
			if err := c.WaitReady(ctx, "shop", "cart", 3); err != nil {
				t.Fatal(how, err)
			}
		}
	})
	t.Run("a node fails and heals", func(t *testing.T) {
		for _, fail := range []bool{true, false} {
			if err := c.FailNode(ctx, "kwok-1", fail); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("the API server comes back with its data", func(t *testing.T) {
		c.KillAPIServer()
		if err := c.RestartAPIServer(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReady(ctx, "shop", "cart", 3); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("one kubeconfig serves several clusters", func(t *testing.T) {
		path, err := Kubeconfig(t.TempDir(), c)
		if err != nil {
			t.Fatal(err)
		}
		k, err := clientcmd.LoadFromFile(path)
		if err != nil || k.CurrentContext != "eu-1" || len(k.Contexts) != 1 {
			t.Errorf("%+v %v", k, err)
		}
	})
}

func TestRealNodeFailsForReal(t *testing.T) {
	if err := CanRunNodes(); err != nil {
		t.Skip(err)
	}
	c := New(t, "eu-2", Options{})
	ctx := t.Context()
	start := time.Now()
	n, err := c.RealNode(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s ready after %s", n.Name, time.Since(start).Round(time.Millisecond))
	for name, text := range map[string]string{
		"good":    RealDeployment("shop", "good", 2, Image("v1")),
		"missing": RealDeployment("shop", "missing", 1, Image("v9")),
		"private": RealDeployment("shop", "private", 1, PrivateImage),
		"leaky":   RealDeployment("shop", "leaky", 1, Image("v1"), "LEAK_MB_PER_SEC=40"),
		"needy":   RealDeployment("shop", "needy", 1, Image("v1"), "REQUIRE=DATABASE_URL"),
	} {
		if err := c.Apply(ctx, text); err != nil {
			t.Fatal(name, err)
		}
	}
	if err := c.WaitReady(ctx, "shop", "good", 2); err != nil {
		t.Fatal(err)
	}
	t.Logf("pods ready after %s", time.Since(start).Round(time.Millisecond))
	for _, tt := range []struct{ name, app, reason, want string }{
		{"a missing image backs off with the registry's answer", "missing", "ImagePullBackOff", "not found"},
		{"a private image backs off with the registry's answer", "private", "ImagePullBackOff", "401 Unauthorized"},
		{"a leak is killed by the kernel", "leaky", "CrashLoopBackOff", "OOMKilled"},
		{"a missing variable ends the program", "needy", "CrashLoopBackOff", "Error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod, err := c.WaitWaiting(ctx, "shop", tt.app, tt.reason)
			if err != nil {
				t.Fatal(err)
			}
			s := pod.Status.ContainerStatuses[0]
			got := s.State.Waiting.Message
			if s.LastTerminationState.Terminated != nil {
				got = s.LastTerminationState.Terminated.Reason
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want it to hold %q", got, tt.want)
			}
			if tt.app != "needy" {
				return
			}
			raw, err := c.Client.CoreV1().Pods("shop").GetLogs(pod.Name, &corev1.PodLogOptions{Previous: true}).DoRaw(ctx)
			if err != nil || !strings.Contains(string(raw), "environment variable DATABASE_URL is not set") {
				t.Errorf("log %q (%v)", raw, err)
			}
		})
	}
}
