package causes

import (
	"fmt"
	"math"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// wave is the metrics of one service: levels before and after the middle of the time seen.
type wave struct {
	name, node        string
	calls             []string
	median, tail, cpu [2]float64
}

// quiet is a service whose levels do not change.
func quiet(name, node string, calls ...string) wave {
	return wave{name, node, calls, [2]float64{5, 5}, [2]float64{15, 15}, [2]float64{0.1, 0.1}}
}

func (w wave) slow(median, tail float64) wave {
	w.median[1], w.tail[1] = median, tail
	return w
}

// waves builds a state with one Deployment, Service and pod for each.
func waves(ws ...wave) *cluster.State {
	b := cluster.New("test", benchTime)
	b.Asked("shop", "")
	for _, s := range []string{"objects/pods", "objects/nodes", "objects/services", "events", "metrics", "topology"} {
		b.Saw(s, incident.Seen, "")
	}
	nodes := map[string]bool{}
	for i, w := range ws {
		if !nodes[w.node] {
			nodes[w.node] = true
			b.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.node}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		}
		meta := metav1.ObjectMeta{Namespace: "shop", Name: w.name, Labels: map[string]string{"app": w.name}}
		spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}
		b.Add(&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: spec}}, Status: appsv1.DeploymentStatus{ReadyReplicas: 1}})
		b.Add(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: meta.Labels}})
		pod := &corev1.Pod{ObjectMeta: meta, Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.0.%d", i), Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		pod.Name += "-0"
		pod.Spec.NodeName = w.node
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Deployment", Name: w.name}}
		b.Add(pod)
		for name, level := range map[string][2]float64{"p50latency": w.median, "p90latency": w.tail, "cpu": w.cpu} {
			s := cluster.Series{Name: name, Object: incident.Entity{Kind: "Service", Namespace: "shop", Name: w.name}}
			for t := range 40 {
				v := level[t/20] * (1 + 0.02*math.Sin(float64(t*7+i)))
				s.Points = append(s.Points, cluster.Point{At: int64(t) * 5000, Value: v})
			}
			b.AddSeries(s)
		}
		for _, to := range w.calls {
			b.AddCalls(cluster.Call{Namespace: "shop", From: w.name, To: to, Kind: "calls"})
		}
	}
	return b.Seal()
}

func TestWhoIsSlow(t *testing.T) {
	for name, c := range map[string]struct {
		state *cluster.State
		want  string // cause and object of the first answer; "": healthy
	}{
		"nothing changed": {waves(quiet("front", "n1", "cart"), quiet("cart", "n2")), ""},
		"the deepest slow callee, not its callers": {
			waves(quiet("front", "n1", "cart").slow(900, 1500), quiet("cart", "n2", "db").slow(450, 700), quiet("db", "n3").slow(400, 600)), "PodNetworkDelay Deployment/shop/db"},
		"a caller that is slow on its own": {
			waves(quiet("front", "n1", "cart").slow(9000, 15000), quiet("cart", "n2")), "PodNetworkDelay Deployment/shop/front"},
		"callees slow only on the side of a far slower caller": {
			waves(quiet("front", "n1", "cart", "ads").slow(9000, 15000), quiet("cart", "n2").slow(120, 400), quiet("ads", "n3").slow(100, 300)), "PodNetworkDelay Deployment/shop/front"},
		"only the tail grew": {
			waves(quiet("front", "n1", "cart"), quiet("cart", "n2").slow(8, 900)), "PodNetworkLoss Deployment/shop/cart"},
		"all services of a node": {
			waves(quiet("a", "n1").slow(200, 260), quiet("b", "n1").slow(210, 250), quiet("c", "n1").slow(190, 240), quiet("d", "n2"), quiet("e", "n2")), "NodeNetworkDelay Node/n1"},
		"callers on other nodes across one boundary": {
			waves(quiet("a", "n2", "x").slow(400, 600), quiet("b", "n3", "y").slow(380, 600), quiet("c", "n2", "z").slow(410, 640), quiet("x", "n1"), quiet("y", "n1"), quiet("z", "n1"), quiet("d", "n3", "a2"), quiet("a2", "n2")), "NodeNetworkDelay Node/n1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Analyze(c.state)
			if c.want == "" {
				if r.Verdict != Healthy {
					t.Errorf("verdict %s: %+v", r.Verdict, r.Hypotheses)
				}
				return
			}
			if len(r.Hypotheses) == 0 {
				t.Fatalf("no answer, missing %v", r.Missing)
			}
			if got := string(r.Hypotheses[0].Cause) + " " + r.Hypotheses[0].Object.Key().String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	series := func(vs ...float64) (ps []cluster.Point) {
		for i, v := range vs {
			ps = append(ps, cluster.Point{At: int64(i) * 1000, Value: v})
		}
		return ps
	}
	flat := []float64{5, 6, 5, 4, 5, 6, 5, 5, 4, 5, 6, 5, 5, 5, 4, 5}
	for name, c := range map[string]struct {
		points     []cluster.Point
		known      bool
		base, high float64
	}{
		"too few points":           {series(1, 2, 3), false, 0, 0},
		"a level that stays":       {series(flat...), true, 5, 5.5},
		"one spike counts nothing": {series(5, 5, 5, 5, 5, 500, 5, 5, 5, 5, 5, 5), true, 5, 5},
		"a rise that lasts":        {series(5, 5, 5, 5, 5, 5, 50, 50, 50, 50, 50, 50), true, 5, 50},
		"a burst in the middle":    {series(5, 5, 5, 5, 80, 80, 80, 80, 80, 5, 5, 5), true, 5, 80},
		"a fall is no rise":        {series(50, 50, 50, 50, 50, 5, 5, 5, 5, 5, 5, 5), true, 50, 50},
	} {
		t.Run(name, func(t *testing.T) {
			s := measure(c.points)
			if s.known != c.known || s.base != c.base || math.Abs(s.high-c.high) > 0.5 {
				t.Errorf("%+v", s)
			}
		})
	}
}
