package causes

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

var benchTime = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

// benchState makes a cluster of that many pods, ten a node, five a Deployment, of which every
// sick-th Deployment (0: none) cannot pull its image, cannot be placed or crashes, in turn.
func benchState(pods, sick int) *cluster.State {
	b := cluster.New("bench", benchTime)
	for _, s := range []string{"pods", "services", "deployments", "replicasets", "nodes", "events", "configmaps", "secrets", "endpoints"} {
		b.Saw("objects/"+s, incident.Seen, "")
	}
	b.Saw("events", incident.Seen, "")
	nodes := pods/10 + 1
	for i := range nodes {
		b.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n-%05d", i), Labels: map[string]string{"kubernetes.io/hostname": fmt.Sprintf("n-%05d", i), "zone": fmt.Sprint(i % 3)}},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110")}}})
	}
	for d := range pods / 5 {
		benchDeployment(b, d, nodes, sick)
	}
	return b.Seal()
}

func benchDeployment(b *cluster.Builder, d, nodes, sick int) {
	ns, name := fmt.Sprintf("team-%02d", d%20), fmt.Sprintf("svc-%05d", d)
	meta := func(n string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: ns, Name: n, Labels: map[string]string{"app": name}, CreationTimestamp: metav1.NewTime(benchTime.Add(-time.Hour))}
	}
	kind := ""
	if sick > 0 && d%sick == 0 {
		kind = []string{"image", "place", "crash"}[d/sick%3]
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "ghcr.io/acme/" + name + ":v1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
		Env:       []corev1.EnvVar{{Name: "NEXT_ADDR", Value: fmt.Sprintf("svc-%05d.team-%02d:80", d/2, d/2%20)}, {Name: "LOG_LEVEL", Value: "info"}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}
	if kind == "place" {
		spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("64")
	}
	replicas, ready := int32(5), int32(5)
	if kind != "" {
		ready = 0
	}
	tmpl := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec}
	dep := &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{Replicas: &replicas, Template: tmpl}, Status: appsv1.DeploymentStatus{ReadyReplicas: ready}}
	rs := &appsv1.ReplicaSet{ObjectMeta: meta(name + "-abc"), Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Template: tmpl}, Status: appsv1.ReplicaSetStatus{Replicas: 5}}
	rs.OwnerReferences = []metav1.OwnerReference{{Kind: "Deployment", Name: name}}
	b.Add(dep)
	b.Add(rs)
	b.Add(&corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}})
	ep := &corev1.Endpoints{ObjectMeta: meta(name)}
	for i := range 5 {
		p := &corev1.Pod{ObjectMeta: meta(fmt.Sprintf("%s-abc-%d", name, i)), Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.%d.%d.%d", d/250, d%250, i)}}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: name + "-abc"}}
		p.Spec.NodeName = fmt.Sprintf("n-%05d", (d*5+i)%nodes)
		benchStatus(b, p, kind)
		b.Add(p)
		if kind == "" {
			ep.Subsets = append(ep.Subsets, corev1.EndpointSubset{Addresses: []corev1.EndpointAddress{{IP: p.Status.PodIP}}})
		}
	}
	b.Add(ep)
}

func benchStatus(b *cluster.Builder, p *corev1.Pod, kind string) {
	st := corev1.ContainerStatus{Name: "app", Ready: kind == "", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: p.CreationTimestamp}}}
	status := corev1.ConditionTrue
	if kind != "" {
		status = corev1.ConditionFalse
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	event := func(reason, msg string) {
		b.Add(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name + "." + reason}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
			Reason: reason, Message: msg, Type: "Warning", Count: 3, LastTimestamp: metav1.NewTime(benchTime.Add(-time.Minute))})
	}
	switch kind {
	case "image":
		st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}
		event("Failed", `Failed to pull image "x": not found`)
	case "place":
		p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending
		event("FailedScheduling", "0/500 nodes are available: 500 Insufficient cpu.")
		return
	case "crash":
		st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
		st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}
		st.RestartCount = 4
		b.AddLog(cluster.Log{Namespace: p.Namespace, Pod: p.Name, Container: "app", Previous: "starting\npanic: boom\n"})
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{st}
}

func BenchmarkAnalyze(b *testing.B) {
	for _, size := range []struct{ pods, sick int }{{50, 10}, {5000, 0}, {5000, 20}, {5000, 2}} {
		b.Run(fmt.Sprintf("pods=%d/sick=%d", size.pods, size.sick), func(b *testing.B) {
			b.ReportAllocs()
			var st *cluster.State
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				// The indexes are part of the work: each round has a state of its own.
				b.StopTimer()
				st = benchState(size.pods, size.sick)
				b.StartTimer()
				if r := Analyze(st); (r.Verdict == Faulty) != (size.sick > 0) {
					b.Fatalf("verdict %s", r.Verdict)
				}
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapInuse)/(1<<20), "MiB-heap")
		})
	}
}

// TestAHugeBrokenClusterEndsAndSaysWhatItLeftOut bounds the worst case: everything is broken.
func TestAHugeBrokenClusterEndsAndSaysWhatItLeftOut(t *testing.T) {
	if testing.Short() {
		t.Skip("20,000 broken pods")
	}
	start := time.Now()
	b := cluster.New("huge", benchTime)
	b.Saw("objects/pods", incident.Seen, "")
	for i := range 20_000 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: fmt.Sprintf("p-%05d", i), CreationTimestamp: metav1.NewTime(benchTime.Add(-time.Hour))},
			Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "app", Image: "x"}}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		benchStatus(b, p, "crash")
		b.Add(p)
	}
	r := Analyze(b.Seal())
	if r.Verdict != Faulty || len(r.Hypotheses) > maxSuspects || len(r.Coverage.Gaps) == 0 {
		t.Errorf("verdict %s, %d hypotheses, gaps %v", r.Verdict, len(r.Hypotheses), r.Coverage.Gaps)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %s", d)
	}
}
