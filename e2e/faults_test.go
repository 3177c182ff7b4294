//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tocsin-io/tocsin/e2e/lab"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations"
)

const image = "ghcr.io/acme/app:v1"

// table is the faults. Every fault has a namespace of its own; those on nodes have a node of
// their own: kwok-4 is cordoned, kwok-5 is tainted.
func (s *site) table() []fault {
	out := slicesConcat(s.rollouts(), s.routes(), s.placing(), s.limits(), s.others())
	if s.real != nil {
		out = append(out, s.realFaults()...)
	}
	for i := range out {
		if out[i].ns == "" {
			out[i].ns = out[i].name
		}
	}
	return out
}

func slicesConcat(lists ...[]fault) (out []fault) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// apply returns an injection that applies a manifest.
func (s *site) apply(text string) func(context.Context) error {
	return func(ctx context.Context) error { return s.c.Apply(ctx, text) }
}

func (s *site) patch(ns, name, body string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.c.Client.AppsV1().Deployments(ns).Patch(ctx, name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "lab"})
		return err
	}
}

var undo = []incident.ActionName{incident.RolloutUndo}

// rollouts are template changes that break what worked.
func (s *site) rollouts() []fault {
	bad := func(name, img string, notes ...string) fault {
		return fault{name: name, before: lab.Deployment(name, "web", 3, image), ready: "web", n: 3,
			inject: s.apply(lab.Deployment(name, "web", 3, img, notes...)), right: undo, object: "Deployment/web"}
	}
	return []fault{
		bad("bad-image", "ghcr.io/acme/app:v2-missing"),
		bad("crashing-release", "ghcr.io/acme/app:v2", lab.AnnotationFail+": "+lab.FailCrashLoop),
		bad("private-image", "registry.example.com/app:v2", lab.AnnotationFail+": "+lab.FailImagePullUnauthorized),
		{name: "memory-limit", before: lab.Deployment("memory-limit", "web", 2, image), ready: "web", n: 2,
			inject: s.apply(lab.Deployment("memory-limit", "web", 2, image, lab.AnnotationNeedsMi+`: "100"`)),
			right:  []incident.ActionName{incident.PatchResources, incident.RolloutUndo}, object: "Deployment/web"},
		{name: "memory-limit-at-birth", inject: s.apply(lab.Deployment("memory-limit-at-birth", "web", 2, image, lab.AnnotationNeedsMi+`: "120"`)),
			right: []incident.ActionName{incident.PatchResources}, object: "Deployment/web"},
	}
}

func service(ns, name, selector, port string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec:
  selector: {%s}
  ports: [{name: http, port: 80, targetPort: %s}]
`, name, ns, selector, port)
}

// ported is a deployment whose container declares port 8080 as "http".
func ported(ns, name string, n int) string {
	return lab.Deployment(ns, name, n, image) + "        ports: [{name: http, containerPort: 8080}]\n"
}

func (s *site) routes() []fault {
	svc := func(name, selector, port string, right incident.ActionName) fault {
		return fault{name: name, before: ported(name, "web", 2) + service(name, "web", "app: web", "8080"), ready: "web", n: 2,
			inject: s.apply(service(name, "web", selector, port)), right: []incident.ActionName{right}, object: "Service/web"}
	}
	return []fault{
		svc("selector-typo", "app: wbe", "8080", incident.PatchServiceSelector),
		svc("target-port-number", "app: web", "9090", incident.PatchServicePort),
		svc("target-port-name", "app: web", "htpp", incident.PatchServicePort),
		{name: "scaled-to-zero", before: ported("scaled-to-zero", "web", 2) + service("scaled-to-zero", "web", "app: web", "8080") + "---\n" +
			lab.Deployment("scaled-to-zero", "shop", 1, image) + "        env: [{name: WEB_URL, value: \"http://web:80\"}]\n", ready: "web", n: 2,
			inject: s.patch("scaled-to-zero", "web", `{"spec":{"replicas":0}}`), right: []incident.ActionName{incident.Scale}, object: "Deployment/web"},
	}
}

// placing are pods that fit no node: the scheduler is a real one.
func (s *site) placing() []fault {
	with := func(name string, n int, spec string, right ...incident.ActionName) fault {
		return fault{name: name, inject: s.apply(lab.Deployment(name, "web", n, image) + spec), right: right, object: "Deployment/web"}
	}
	hungry := func(name, res, size string) fault {
		return fault{name: name, inject: s.apply(strings.ReplaceAll(strings.ReplaceAll(lab.Deployment(name, "web", 1, image),
			"requests: {cpu: 10m, memory: 16Mi}", "requests: {"+res+": "+size+"}"), "          limits: {memory: 64Mi}\n", "")),
			right: []incident.ActionName{incident.PatchResources}, object: "Deployment/web"}
	}
	cordoned := with("cordoned-node", 1, "      nodeSelector: {kubernetes.io/hostname: kwok-4}\n", incident.UncordonNode)
	cordoned.object = "Node/kwok-4"
	cordon, deploy := s.nodePatch("kwok-4", `{"spec":{"unschedulable":true}}`), cordoned.inject
	cordoned.inject = func(ctx context.Context) error {
		if err := cordon(ctx); err != nil {
			return err
		}
		return deploy(ctx)
	}
	tainted := with("taint", 1, "      nodeSelector: {kubernetes.io/hostname: kwok-5}\n", incident.PatchScheduling)
	taint, place := s.nodePatch("kwok-5", `{"spec":{"taints":[{"key":"dedicated","value":"gpu","effect":"NoSchedule"}]}}`), tainted.inject
	tainted.inject = func(ctx context.Context) error {
		if err := taint(ctx); err != nil {
			return err
		}
		return place(ctx)
	}
	return []fault{cordoned, tainted,
		with("node-selector-typo", 1, "      nodeSelector: {topology.kubernetes.io/zone: z00}\n", incident.PatchScheduling),
		with("node-affinity", 1, `      affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}
`, incident.PatchScheduling),
		with("anti-affinity", 9, `      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}}
`, incident.PatchScheduling, incident.Scale),
		hungry("cpu-request", "cpu", `"100"`),
		hungry("memory-request", "memory", "512Gi"),
	}
}

func (s *site) nodePatch(node, body string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.c.Client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "lab"})
		return err
	}
}

// limits are quotas and limit ranges: admission is real.
func (s *site) limits() []fault {
	quota := func(name, hard string) fault {
		return fault{name: name, before: fmt.Sprintf("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: team, namespace: %s}\nspec: {hard: {%s}}\n", name, hard),
			inject: s.apply(lab.Deployment(name, "web", 3, image)), right: []incident.ActionName{incident.RaiseQuota}, object: "ResourceQuota/team"}
	}
	return []fault{
		quota("quota-cpu", "requests.cpu: 20m"), quota("quota-memory", "limits.memory: 128Mi"), quota("quota-pods", `pods: "2"`),
		{name: "limit-range", before: "apiVersion: v1\nkind: LimitRange\nmetadata: {name: team, namespace: limit-range}\nspec: {limits: [{type: Container, max: {memory: 48Mi}}]}\n",
			inject: s.apply(lab.Deployment("limit-range", "web", 2, image)), right: []incident.ActionName{incident.PatchResources}, object: "Deployment/web"},
	}
}

func (s *site) others() []fault {
	return []fault{
		{name: "paused-rollout", before: lab.Deployment("paused-rollout", "web", 2, image), ready: "web", n: 2,
			inject: func(ctx context.Context) error {
				if err := s.patch("paused-rollout", "web", `{"spec":{"paused":true,"progressDeadlineSeconds":10}}`)(ctx); err != nil {
					return err
				}
				return s.patch("paused-rollout", "web", `{"spec":{"template":{"metadata":{"annotations":{"release":"2"}}}}}`)(ctx)
			}, right: []incident.ActionName{incident.ResumeRollout}, object: "Deployment/web"},
		{name: "gitops-drift", inject: s.drift, right: []incident.ActionName{incident.GitOpsResync}, object: "Application/shop", fixer: s.argo},
		{name: "kube-proxy", ns: "kube-system", before: `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system, labels: {k8s-app: kube-proxy}}
spec:
  selector: {matchLabels: {k8s-app: kube-proxy, app: kube-proxy}}
  template:
    metadata: {labels: {k8s-app: kube-proxy, app: kube-proxy}}
    spec:
      nodeSelector: {type: kwok}
      tolerations: [{operator: Exists}]
      containers: [{name: kube-proxy, image: "registry.k8s.io/kube-proxy:v1.36.3"}]
`, inject: s.breakProxy, right: []incident.ActionName{incident.RestartDaemonPod}, object: "Pod/*", by: "KubeProxyDown"},
	}
}

// argoCRD and argoApp stand for Argo CD: its resource, and by the test its controller.
const (
	argoCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: applications.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Application, plural: applications, singular: application}
  versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
	argoApp = `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop, namespace: gitops-drift}
spec: {project: default, source: {repoURL: "https://git.example.com/shop", path: deploy, targetRevision: main}, destination: {namespace: shop}}
status: {sync: {status: Synced, revision: 0123456789012345678901234567890123456789}, health: {status: Healthy}}
`
)

func (s *site) appPatch(ctx context.Context, body string) error {
	_, err := s.dyn.Resource(schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}).Namespace("gitops-drift").
		Patch(ctx, "shop", types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "lab"})
	return err
}

func (s *site) drift(ctx context.Context) error {
	if err := s.c.Apply(ctx, argoCRD); err != nil {
		return err
	}
	// A resource is served a moment after it is defined.
	if err := s.c.Wait(ctx, "Argo CD's resource", func(ctx context.Context) error { return s.c.Apply(ctx, argoApp) }); err != nil {
		return err
	}
	return s.appPatch(ctx, `{"status":{"sync":{"status":"OutOfSync"},"resources":[{"kind":"Deployment","name":"web","namespace":"shop","status":"OutOfSync"}]}}`)
}

// argo plays Argo CD's controller: it runs the operation that it finds.
func (s *site) argo(ctx context.Context) error {
	o, err := remediations.NewLive(s.dyn).Get(ctx, incident.Entity{Kind: "Application", Namespace: "gitops-drift", Name: "shop"})
	if err != nil || o.Object["operation"] == nil {
		return err
	}
	return s.appPatch(ctx, `{"operation":null,"status":{"sync":{"status":"Synced"},"resources":null,"health":{"status":"Healthy"},"operationState":{"phase":"Succeeded","finishedAt":"`+time.Now().UTC().Format(time.RFC3339)+`"}}}`)
}

// breakProxy lets the pod of one node crash; the pod that replaces it is well.
func (s *site) breakProxy(ctx context.Context) error {
	return s.c.Wait(ctx, "kube-proxy's pods", func(ctx context.Context) error {
		pods, err := s.c.Client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-proxy"})
		if err != nil || len(pods.Items) < 6 {
			return fmt.Errorf("%d pods: %w", len(pods.Items), err)
		}
		body := []byte(`{"metadata":{"annotations":{"` + lab.AnnotationFail + `":"` + lab.FailCrashLoop + `"}}}`)
		_, err = s.c.Client.CoreV1().Pods("kube-system").Patch(ctx, pods.Items[0].Name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
		return err
	})
}

// realFaults run on a real kubelet: real probes, exits, logs and registries.
func (s *site) realFaults() []fault {
	probe := func(name, from, to string) fault {
		return fault{name: name, inject: s.apply(strings.Replace(realPorted(name), from, to, 1)), right: []incident.ActionName{incident.PatchProbe}, object: "Deployment/web"}
	}
	release := func(name, extra string, env ...string) fault {
		return fault{name: name, before: lab.RealDeployment(name, "web", 1, lab.Image("v1")), ready: "web", n: 1,
			inject: s.apply(lab.RealDeployment(name, "web", 1, lab.Image("v2"), env...) + extra), right: undo, object: "Deployment/web"}
	}
	return []fault{
		probe("real-liveness-port", "livenessProbe: {httpGet: {path: /healthz, port: 8080}", "livenessProbe: {httpGet: {path: /healthz, port: 8081}"),
		probe("real-readiness-port", "readinessProbe: {httpGet: {path: /healthz, port: 8080}", "readinessProbe: {httpGet: {path: /healthz, port: 8081}"),
		probe("real-readiness-scheme", "readinessProbe: {httpGet: {path: /healthz, port: 8080}", "readinessProbe: {httpGet: {path: /healthz, port: 8080, scheme: HTTPS}"),
		{name: "real-bad-image", before: lab.RealDeployment("real-bad-image", "web", 1, lab.Image("v1")), ready: "web", n: 1,
			inject: s.apply(lab.RealDeployment("real-bad-image", "web", 1, lab.Image("v9"))), right: undo, object: "Deployment/web"},
		release("real-variable-missing", "", "REQUIRE=DATABASE_URL"),
		release("real-crash", "", "CRASH_AFTER=50ms"),
		{name: "real-unhealthy", before: readyOnly("real-unhealthy", "v1"), ready: "web", n: 1,
			inject: s.apply(readyOnly("real-unhealthy", "v2", "UNHEALTHY=yes")), right: undo, object: "Deployment/web"},
		{name: "real-service-name", before: lab.RealDeployment("real-service-name", "database", 1, lab.Image("v1")) + service("real-service-name", "database", "app: database", "8080"),
			ready: "database", n: 1, inject: s.apply(lab.RealDeployment("real-service-name", "web", 1, lab.Image("v1"), "DEPENDENCY=databse:80")),
			right: []incident.ActionName{incident.PatchEnv}, object: "Deployment/web"},
		{name: "real-configmap-missing", before: lab.RealDeployment("real-configmap-missing", "web", 1, lab.Image("v1")), ready: "web", n: 1,
			inject: s.patch("real-configmap-missing", "web", `{"spec":{"template":{"spec":{"containers":[{"name":"web","envFrom":[{"configMapRef":{"name":"web-settings"}}]}]}}}}`),
			right:  undo, object: "Deployment/web"},
		{name: "real-secret-missing", before: lab.RealDeployment("real-secret-missing", "web", 1, lab.Image("v1")), ready: "web", n: 1,
			inject: s.patch("real-secret-missing", "web", `{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"DB","valueFrom":{"secretKeyRef":{"name":"web-db","key":"url"}}}]}]}}}}`),
			right:  undo, object: "Deployment/web"},
		{name: "real-command", before: lab.RealDeployment("real-command", "web", 1, lab.Image("v1")), ready: "web", n: 1,
			inject: s.patch("real-command", "web", `{"spec":{"template":{"spec":{"containers":[{"name":"web","command":["/bin/servr"]}]}}}}`),
			right:  undo, object: "Deployment/web"},
	}
}

// readyOnly has no liveness probe: a release that is not well is kept out, not restarted.
func readyOnly(ns, tag string, env ...string) string {
	return strings.NewReplacer("        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 5, initialDelaySeconds: 5}\n", "",
		"  replicas: 1\n", "  replicas: 1\n  progressDeadlineSeconds: 20\n").Replace(lab.RealDeployment(ns, "web", 1, lab.Image(tag), env...))
}

func realPorted(ns string) string {
	return strings.Replace(lab.RealDeployment(ns, "web", 1, lab.Image("v1")), "        readinessProbe:", "        ports: [{name: http, containerPort: 8080}]\n        readinessProbe:", 1)
}
