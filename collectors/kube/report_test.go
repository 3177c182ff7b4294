package kube

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/causes"
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

var t0 = time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)

// state is a deployment with one pod whose image does not exist, or does.
func state(at time.Time, broken bool) *cluster.State {
	b := cluster.New("eu-1", at)
	for _, k := range kinds() {
		b.Saw(k.source(), incident.Seen, "")
	}
	labels := map[string]string{"app": "cart"}
	one := int32(1)
	tmpl := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "r.example/cart:v9"}}}}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: tmpl}}
	yes := true
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", UID: "r", Labels: labels, OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "cart", UID: "d", Controller: &yes}}},
		Spec: appsv1.ReplicaSetSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: tmpl}}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1-a", UID: "p", Labels: labels, CreationTimestamp: metav1.NewTime(at.Add(-time.Minute)), OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "cart-1", UID: "r", Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: tmpl.Spec.Containers}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	cs := corev1.ContainerStatus{Name: "cart", Image: "r.example/cart:v9", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ready := corev1.ConditionTrue
	if broken {
		p.Status.Phase, ready, cs.Ready = corev1.PodPending, corev1.ConditionFalse, false
		cs.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "r.example/cart:v9": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image: r.example/cart:v9: not found`}}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{cs}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1}
	if !broken {
		d.Status.ReadyReplicas, d.Status.AvailableReplicas, rs.Status.ReadyReplicas = 1, 1, 1
	}
	for _, o := range []metav1.Object{d, rs, p} {
		if err := b.Add(o); err != nil {
			panic(err)
		}
	}
	return b.Seal()
}

func look(r *reporter, at time.Time, broken, partial bool) []incident.Event {
	st := state(at, broken)
	return r.diff(st, causes.Analyze(st), partial)
}

func signals(events []incident.Event, status incident.Status) (out []incident.Signal) {
	for _, e := range events {
		if e.Signal != nil && e.Signal.Status == status && e.Signal.Kind != incident.Change {
			out = append(out, *e.Signal)
		}
	}
	return out
}

func TestOnlyDifferencesAreReported(t *testing.T) {
	r := newReporter("eu-1")
	first := look(r, t0, true, false)
	fired := signals(first, incident.Firing)
	if len(fired) != 1 || fired[0].Cause != "ImageNotFound" || fired[0].Cluster != "eu-1" || fired[0].Validate() != nil {
		t.Fatalf("got %+v", fired)
	}
	r.sent(first)
	if again := look(r, t0.Add(time.Second), true, false); len(again) != 0 {
		t.Fatalf("nothing changed, but %d events", len(again))
	}
	if blink := signals(look(r, t0.Add(2*time.Second), false, false), incident.Resolved); len(blink) != 0 {
		t.Fatal("resolved at the first look that does not see it")
	}
	gone := look(r, t0.Add(6*time.Second), false, false)
	if got := signals(gone, incident.Resolved); len(got) != 1 || got[0].Cause != "ImageNotFound" {
		t.Fatalf("got %+v", got)
	}
	r.sent(gone)
	if r.open() != 0 {
		t.Fatal("still open")
	}
}

func TestNothingIsResolvedFromHalfAView(t *testing.T) {
	r := newReporter("eu-1")
	r.sent(look(r, t0, true, false))
	for i := range 5 {
		if got := signals(look(r, t0.Add(time.Duration(i*10)*time.Second), false, true), incident.Resolved); len(got) != 0 {
			t.Fatal("resolved although kinds were missing")
		}
	}
}

func TestUnsentSignalsAreReportedAgain(t *testing.T) {
	r := newReporter("eu-1")
	a, b := look(r, t0, true, false), look(r, t0.Add(time.Second), true, false)
	if len(signals(a, incident.Firing)) != 1 || len(signals(b, incident.Firing)) != 1 {
		t.Fatal("a signal that never became durable was forgotten")
	}
}

type memory struct{ b []byte }

func (m *memory) Load(context.Context) ([]byte, error)   { return m.b, nil }
func (m *memory) Save(_ context.Context, b []byte) error { m.b = b; return nil }
func TestWhatEndedWhileWeWereDownIsResolved(t *testing.T) {
	m := &memory{}
	r := newReporter("eu-1")
	r.sent(look(r, t0, true, false))
	if err := r.save(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	next := newReporter("eu-1")
	if err := next.load(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	look(next, t0.Add(time.Hour), false, false)
	if got := signals(look(next, t0.Add(time.Hour+goneFor), false, false), incident.Resolved); len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	if err := next.load(t.Context(), &memory{b: []byte("damaged")}); err == nil {
		t.Fatal("damaged memory was taken")
	}
}

func TestChangesThatPeopleMake(t *testing.T) {
	dep := func(image string, replicas int32) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}}}
	}
	node := func(cordoned bool) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Unschedulable: cordoned}}
	}
	cm := func(v, leader string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c", Annotations: map[string]string{"control-plane.alpha.kubernetes.io/leader": leader}}, Data: map[string]string{"k": v}}
	}
	for name, c := range map[string]struct {
		old, now any
		want     string
	}{
		"a new image":                       {dep("a:1", 1), dep("a:2", 1), "ImageChanged"},
		"another replica count":             {dep("a:1", 1), dep("a:1", 3), "Scaled"},
		"nothing but status":                {dep("a:1", 1), dep("a:1", 1), ""},
		"a cordon":                          {node(false), node(true), "NodeCordoned"},
		"a node's heartbeat":                {node(true), node(true), ""},
		"configuration":                     {cm("1", ""), cm("2", ""), "ConfigChanged"},
		"a leader election in a config map": {cm("1", "x"), cm("2", "x"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := changeOf(c.old, c.now)
			if ok != (c.want != "") || s.Reason != c.want {
				t.Fatalf("got %q %v, want %q", s.Reason, ok, c.want)
			}
			if ok && (s.Kind != incident.Change || s.Severity != incident.Info) {
				t.Fatalf("a change is an info fact: %+v", s)
			}
		})
	}
}

func TestTroubledReadsFewLogs(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 100 {
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: string(rune('a'+i%26)) + "x", OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "r"}}}, Spec: corev1.PodSpec{NodeName: "n"},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}, LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}}}})
	}
	if got := troubled(pods); len(got) != maxPodsByOwner || !got[0].previous {
		t.Fatalf("%d logs of 100 replicas that fail alike", len(got))
	}
}
