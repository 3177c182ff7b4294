package causes

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

var testTime = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

// world is a scan over objects.
func world(t testing.TB, objs ...metav1.Object) *scan {
	t.Helper()
	b := cluster.New("test", testTime)
	for _, o := range objs {
		if err := b.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	return newScan(b.Seal())
}

func deployment(ns, name string, labels map[string]string) *appsv1.Deployment {
	one := int32(1)
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}}}
}

func service(ns, name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
}

func TestNetworkPoliciesRefuseAFlow(t *testing.T) {
	app := func(v string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{"app": v}}
	}
	from := func(p ...networkingv1.NetworkPolicyPeer) []networkingv1.NetworkPolicyIngressRule {
		return []networkingv1.NetworkPolicyIngressRule{{From: p}}
	}
	front, other := app("front"), app("other")
	udp, tcp, p8080, http, end := corev1.ProtocolUDP, corev1.ProtocolTCP, intstr.FromInt32(8080), intstr.FromString("http"), int32(9000)
	low := intstr.FromInt32(8000)
	tests := map[string]struct {
		spec    networkingv1.NetworkPolicySpec
		refused bool
	}{
		"a policy for other pods":               {networkingv1.NetworkPolicySpec{PodSelector: other}, false},
		"no rule at all":                        {networkingv1.NetworkPolicySpec{PodSelector: app("cart")}, true},
		"an empty rule admits all":              {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: from()}, false},
		"the caller by label":                   {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: from(networkingv1.NetworkPolicyPeer{PodSelector: &front})}, false},
		"another caller by label":               {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: from(networkingv1.NetworkPolicyPeer{PodSelector: &other})}, true},
		"the caller's label, another namespace": {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: from(networkingv1.NetworkPolicyPeer{PodSelector: &front, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "web"}}})}, true},
		"the caller's namespace by name":        {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: from(networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "shop"}}})}, false},
		"the port by name":                      {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: &http, Protocol: &tcp}}}}}, false},
		"the port of another protocol":          {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: &p8080, Protocol: &udp}}}}}, true},
		"a range that holds the port":           {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), Ingress: []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: &low, EndPort: &end, Protocol: &tcp}}}}}, false},
		"egress rules say nothing of ingress":   {networkingv1.NetworkPolicySpec{PodSelector: app("cart"), PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := world(t, deployment("shop", "cart", map[string]string{"app": "cart"}), deployment("shop", "front", map[string]string{"app": "front"}),
				&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Spec: tt.spec})
			w := func(n string) *cluster.Workload {
				return c.Workload(incident.Entity{Kind: "Deployment", Namespace: "shop", Name: n})
			}
			f := flow{from: w("front"), to: w("cart"), port: 8080, named: []string{"http"}, protocol: corev1.ProtocolTCP}
			if got := c.refusing(f, networkingv1.PolicyTypeIngress) != nil; got != tt.refused {
				t.Errorf("refused %v, want %v", got, tt.refused)
			}
		})
	}
}

func TestRoutesOfProxyFiles(t *testing.T) {
	tests := map[string]struct {
		file string
		want []string // prefix service
	}{
		"nginx locations":      {"server {\n  location /cart/ { proxy_pass http://cart:80; }\n  location ~ /users/(.*) {\n    proxy_set_header Host $host;\n    proxy_pass http://users.shop.svc.cluster.local/$1;\n  }\n}", []string{"/cart/ cart", "/users/(.*) users"}},
		"an outside upstream":  {"location /x { proxy_pass https://www.example.org; }", nil},
		"envoy routes":         {"routes:\n- match: { prefix: \"/cart\" }\n  route: { cluster: cart }\n- match:\n    path: /users\n  route:\n    cluster: users\n", []string{"/cart cart", "/users users"}},
		"spring cloud gateway": {"spring:\n  cloud:\n    gateway:\n      routes:\n        - id: cart\n          uri: lb://cart\n          predicates:\n            - Path=/api/v1/cart/**\n        - id: users\n          uri: http://users:80\n          predicates:\n            - Path=/api/v1/users/**\n", []string{"/api/v1/cart/** cart", "/api/v1/users/** users"}},
		"no routes":            {"cluster: prod\nproxy_pass without a location", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := world(t, service("shop", "cart"), service("shop", "users"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
			var got []string
			for _, r := range c.proxyRoutes(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "conf"}, Data: map[string]string{"f": tt.file}}) {
				got = append(got, r.prefix+" "+r.service)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestServiceThatARouteSpeaksOf(t *testing.T) {
	names := []string{"acme-order-service", "acme-order-archive-service", "acme-user-service", "acme-cart-service", "acme-gateway"}
	tests := map[string]struct {
		prefix, name, service, want string
	}{
		"its own service":                 {"/api/v1/orderservice/order", "", "acme-order-service", ""},
		"another service":                 {"/api/v1/orderservice/order", "", "acme-user-service", "acme-order-service"},
		"another service by the name":     {"/x", "cart", "acme-user-service", "acme-cart-service"},
		"no service":                      {"/static", "", "acme-user-service", ""},
		"plural and ending do not matter": {"/users", "", "acme-user-service", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var objs []metav1.Object
			for _, n := range names {
				objs = append(objs, service("mall", n))
			}
			c := world(t, objs...)
			got := ""
			if s := c.meantBy(route{prefix: tt.prefix, name: tt.name, namespace: "mall", service: tt.service}); s != nil {
				got = s.Name
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFreshLogLines(t *testing.T) {
	tests := map[string]struct {
		line string
		want bool
	}{
		"klog of now":             {"E0314 09:20:01.000001       1 x.go:1] late", true},
		"klog of yesterday":       {"E0313 09:20:01.000001       1 x.go:1] late", false},
		"klog of the year before": {"E1231 23:59:59.000001       1 x.go:1] late", false},
		"JSON of now":             {`{"level":"warn","ts":"2026-03-14T09:25:01.119Z","msg":"late"}`, true},
		"JSON of last week":       {`{"level":"warn","ts":"2026-03-07T09:25:01.119Z","msg":"late"}`, false},
		"no time at all":          {"late", true},
		"a month that is none":    {"E9914 09:20:01.000001 late", true},
	}
	c := world(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := c.fresh(tt.line); got != tt.want {
				t.Errorf("fresh %v, want %v", got, tt.want)
			}
		})
	}
}

// TestCustomResourcesOfOddShapes: nothing that a controller or a hostile file writes into a custom
// resource may stop an analysis.
func TestCustomResourcesOfOddShapes(t *testing.T) {
	odd := []any{nil, "text", int64(7), true, []any{}, []any{"a", nil, map[string]any{"type": int64(1)}}, map[string]any{}, map[string]any{"conditions": "none"},
		map[string]any{"conditions": []any{nil, map[string]any{"type": "Ready", "status": "False", "lastTransitionTime": "yesterday"}}}}
	for kind, group := range cluster.CustomKinds() {
		group, _, _ = strings.Cut(group, ",")
		for _, spec := range odd {
			for _, status := range odd {
				u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"namespace": "shop", "name": "x"}, "spec": spec, "status": status}}
				for _, h := range Analyze(world(t, u, service("shop", "cart"), deployment("shop", "cart", map[string]string{"app": "cart"})).State).Hypotheses {
					if h.Object.Validate() != nil {
						t.Fatalf("%s with spec %v, status %v: blames %v", kind, spec, status, h.Object)
					}
				}
			}
		}
	}
}

func FuzzProxyRoutes(f *testing.F) {
	f.Add("location /cart/ { proxy_pass http://cart:80; }")
	f.Add("- match: { prefix: \"/cart\" }\n  route: { cluster: cart }")
	f.Add("- id: cart\n  uri: lb://cart\n  predicates:\n  - Path=/cart/**")
	c := world(f, service("shop", "cart"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	f.Fuzz(func(t *testing.T, file string) {
		for _, r := range c.proxyRoutes(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "conf"}, Data: map[string]string{"f": file}}) {
			if r.service == "" || r.prefix == "" {
				t.Errorf("half a route: %+v", r)
			}
			c.meantBy(r)
		}
	})
}
