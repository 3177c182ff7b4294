package kube

import (
	"context"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tocsin-io/tocsin/cluster"
)

// Limits of log reading: tails only, of few pods per owner, so that a storm of crashing pods
// costs the API server (which proxies to kubelets) no more than one.
const (
	logTailLines   = 300
	logTailBytes   = 128 << 10
	maxLogPods     = 40 // per pass
	maxPodsByOwner = 2  // replicas fail alike
	logReaders     = 4
)

// logWant is one container whose log may tell why it is in trouble.
type logWant struct {
	namespace, pod, uid, container string
	restarts                       int32
	previous                       bool // the run before is what died
}

// troubled returns the containers whose logs are worth reading, in pod order: those that died or
// are restarted, and those that run without being ready.
func troubled(pods []*corev1.Pod) []logWant {
	var out []logWant
	perOwner, podCount := map[string]int{}, 0
	for _, p := range pods {
		ws := troubledIn(p)
		if len(ws) == 0 || podCount == maxLogPods {
			continue
		}
		owner := p.Namespace + "/" + p.Name
		if len(p.OwnerReferences) > 0 {
			owner = p.Namespace + "/" + p.OwnerReferences[0].Kind + "/" + p.OwnerReferences[0].Name
		}
		if perOwner[owner]++; perOwner[owner] > maxPodsByOwner {
			continue
		}
		podCount++
		out = append(out, ws...)
	}
	return out
}

func troubledIn(p *corev1.Pod) []logWant {
	if p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
		return nil
	}
	var out []logWant
	look := func(s corev1.ContainerStatus, mustReady bool) {
		w := logWant{p.Namespace, p.Name, string(p.UID), s.Name, s.RestartCount, false}
		switch {
		case s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
			w.previous = true
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		case s.State.Running != nil && mustReady && !s.Ready:
			w.previous = s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode != 0
		default:
			return
		}
		out = append(out, w)
	}
	for _, s := range p.Status.InitContainerStatuses {
		look(s, false)
	}
	for _, s := range p.Status.ContainerStatuses {
		look(s, true)
	}
	return out
}

// fetchLogs reads the tails; what the server answers instead of a log stands in Err.
func fetchLogs(ctx context.Context, client kubernetes.Interface, wants []logWant) []cluster.Log {
	var mu sync.Mutex
	var out []cluster.Log
	var g errgroup.Group
	g.SetLimit(logReaders)
	for _, w := range wants {
		g.Go(func() error {
			l := cluster.Log{Namespace: w.namespace, Pod: w.pod, Container: w.container}
			text, err := tail(ctx, client, w)
			switch {
			case err != nil:
				l.Err = err.Error()
			case w.previous:
				l.Previous = text
			default:
				l.Current = text
			}
			mu.Lock()
			out = append(out, l)
			mu.Unlock()
			return nil
		})
	}
	_ = g.Wait() // no errors: they stand in Err
	return out
}

func tail(ctx context.Context, client kubernetes.Interface, w logWant) (string, error) {
	lines, limit := int64(logTailLines), int64(logTailBytes)
	rd, err := client.CoreV1().Pods(w.namespace).GetLogs(w.pod, &corev1.PodLogOptions{
		Container: w.container, Previous: w.previous, TailLines: &lines, LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer rd.Close()
	b, err := io.ReadAll(io.LimitReader(rd, logTailBytes))
	return string(b), err
}
