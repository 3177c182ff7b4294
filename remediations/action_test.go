package remediations

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/gitops"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const scene = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, uid: svc-1}
spec: {selector: {app: crat}, ports: [{name: http, port: 80, targetPort: 9090}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, uid: svc-2}
spec: {selector: {app: cart}, ports: [{name: sql, port: 5432, targetPort: 8080}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: cart, namespace: shop, uid: hpa-1}
spec: {minReplicas: 2, maxReplicas: 6, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: backup, namespace: shop, uid: cj-1}
spec: {schedule: "0 1 * * *", suspend: false}
---
apiVersion: batch/v1
kind: Job
metadata: {name: import, namespace: shop, uid: job-1}
spec: {selector: {matchLabels: {controller-uid: x}}, template: {metadata: {labels: {controller-uid: x}}, spec: {containers: [{name: c, image: i}]}}}
status: {conditions: [{type: Failed, status: "True"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: running, namespace: shop, uid: job-2}
spec: {template: {spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: team, namespace: shop, uid: q-1}
spec: {hard: {pods: "4", requests.cpu: "2"}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast, uid: sc-1}
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: slow, uid: sc-2}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: shop, uid: pvc-1}
spec: {storageClassName: fast, resources: {requests: {storage: 10Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: old, namespace: shop, uid: pvc-2, finalizers: [kubernetes.io/pvc-protection, example.com/x], deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {storageClassName: slow, resources: {requests: {storage: 10Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: pull, namespace: infra, uid: sec-1}
type: kubernetes.io/dockerconfigjson
data: {.dockerconfigjson: c2VjcmV0}
---
apiVersion: v1
kind: Secret
metadata: {name: passwords, namespace: infra, uid: sec-2}
type: Opaque
data: {p: c2VjcmV0}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: ns-1}
---
apiVersion: v1
kind: Pod
metadata: {name: lone, namespace: shop, uid: lone-1, labels: {app: lone}}
spec: {nodeName: n2}
---
apiVersion: v1
kind: Pod
metadata: {name: proxy-x, namespace: shop, uid: proxy-1, labels: {app: proxy}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: proxy, uid: ds-1, controller: true}]}
spec: {nodeName: n1}
---
apiVersion: v1
kind: Node
metadata: {name: n2, uid: node-2, labels: {zone: b}}
spec: {unschedulable: true, taints: [{key: dedicated, value: gpu, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoExecute}]}
status: {allocatable: {cpu: "8", memory: 16Gi}}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: auto, namespace: argocd, uid: app-1}
spec: {syncPolicy: {automated: {selfHeal: true}}}
status: {history: [{revision: abc}]}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: manual, namespace: argocd, uid: app-2}
spec: {}
status: {history: [{revision: abc}]}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: shop, namespace: flux-system, uid: ks-1}
spec: {}
`

// TestActions prepares every action against a scene: what it would change, or why it is refused.
func TestActions(t *testing.T) {
	e := func(kind, name string) incident.Entity {
		return incident.Entity{Kind: kind, Namespace: "shop", Name: name}
	}
	node := func(n string) incident.Entity { return incident.Entity{Kind: "Node", Name: n} }
	type params = map[string]string
	dep := cart
	cases := []struct {
		name   string
		action incident.ActionName
		target incident.Entity
		params params
		change string // "path: before -> after" that must be shown; empty: refused
		why    string // of a refusal
	}{
		{"undo to a revision", incident.RolloutUndo, dep, params{"revision": "1"}, "spec.template.spec.containers[cart].image: " + bad + " -> " + good, ""},
		{"undo to a revision with another image", incident.RolloutUndo, dep, params{"revision": "1", "image": "x:1"}, "", "proposal was made for"},
		{"undo to no revision", incident.RolloutUndo, dep, params{"revision": "7"}, "", "not found"},
		{"restart", incident.RolloutRestart, dep, nil, "spec.template.metadata.annotations[tocsin.io/restarted-by]: ", ""},
		{"pause", incident.PauseRollout, dep, nil, "spec.paused:  -> true", ""},
		{"resume what is not paused", incident.ResumeRollout, dep, nil, "", "nothing to change"},
		{"scale up", incident.Scale, dep, params{"replicas": "6", "from": "4"}, "spec.replicas: 4 -> 6", ""},
		{"scale from another count", incident.Scale, dep, params{"replicas": "6", "from": "3"}, "", "has 4 replicas"},
		{"scale beyond the bound", incident.Scale, dep, params{"replicas": "60", "from": "4"}, "", "the bound is 50"},
		{"raise an autoscaler", incident.SetHPABounds, e("HorizontalPodAutoscaler", "cart"), params{"max": "10"}, "spec.maxReplicas: 6 -> 10", ""},
		{"an autoscaler's min above its max", incident.SetHPABounds, e("HorizontalPodAutoscaler", "cart"), params{"min": "7"}, "", "above max"},
		{"raise a limit", incident.PatchResources, dep, params{"container": "cart", "limits.memory": "128Mi"}, "spec.template.spec.containers[cart].resources.limits.memory: 64Mi -> 128Mi", ""},
		{"raise a limit beyond the bound", incident.PatchResources, dep, params{"container": "cart", "limits.memory": "4Gi"}, "", "more than the bound"},
		{"a request no node has", incident.PatchResources, dep, params{"container": "cart", "requests.memory": "200Mi", "limits.memory": "100Mi"}, "", "above limits"},
		{"a container that is not there", incident.PatchResources, dep, params{"container": "web", "limits.memory": "128Mi"}, "", "no container"},
		{"a probe's port", incident.PatchProbe, dep, params{"container": "cart", "probe": "liveness", "port": "8080"}, "spec.template.spec.containers[cart].livenessProbe.httpGet.port: 9999 -> 8080", ""},
		{"a probe's port that is not declared", incident.PatchProbe, dep, params{"container": "cart", "probe": "liveness", "port": "7070"}, "", "declares no port"},
		{"a probe that is not there", incident.PatchProbe, dep, params{"container": "cart", "probe": "startup", "port": "8080"}, "", "has no startupProbe"},
		{"a probe's type", incident.PatchProbe, dep, params{"container": "cart", "probe": "liveness", "type": "tcpSocket", "port": "http"}, "spec.template.spec.containers[cart].livenessProbe.tcpSocket.port:  -> http", ""},
		{"a selector that pods have", incident.PatchServiceSelector, e("Service", "cart"), params{"selector": "app=cart"}, "spec.selector.app: crat -> cart", ""},
		{"a selector no pod has", incident.PatchServiceSelector, e("Service", "cart"), params{"selector": "app=none"}, "", "no pod"},
		{"a target port that pods have", incident.PatchServicePort, e("Service", "db"), params{"port": "5432", "targetPort": "8080", "appProtocol": "sql"}, "spec.ports[sql].appProtocol:  -> sql", ""},
		{"a target port no pod has", incident.PatchServicePort, e("Service", "db"), params{"port": "5432", "targetPort": "1"}, "", "no pod behind"},
		{"a service port that is not there", incident.PatchServicePort, e("Service", "db"), params{"port": "1", "targetPort": "8080"}, "", "has no port"},
		{"a variable to a Service's address", incident.PatchEnv, dep, params{"container": "cart", "name": "DB_HOST", "value": "db.shop", "from": "db"}, "spec.template.spec.containers[cart].env[DB_HOST].value: db -> db.shop", ""},
		{"a variable to what nobody uses", incident.PatchEnv, dep, params{"container": "cart", "name": "DB_HOST", "value": "evil.example.com", "from": "db"}, "", "no Service has that address"},
		{"a variable that changed meanwhile", incident.PatchEnv, dep, params{"container": "cart", "name": "DB_HOST", "value": "db.shop", "from": "dbx"}, "", "made at"},
		{"a variable that is a secret", incident.PatchEnv, dep, params{"container": "cart", "name": "DB_PASSWORD", "value": "db", "from": "hunter2"}, "", "looks like a secret"},
		{"a node selector some node has", incident.PatchScheduling, dep, params{"nodeSelector": "zone=b"}, "spec.template.spec.nodeSelector.zone:  -> b", ""},
		{"a node selector no node has", incident.PatchScheduling, dep, params{"nodeSelector": "zone=z"}, "", "no node has"},
		{"a toleration of a taint there is", incident.PatchScheduling, dep, params{"toleration": "dedicated=gpu:NoSchedule"}, "spec.template.spec.tolerations[0].key:  -> dedicated", ""},
		{"a toleration of a sick node", incident.PatchScheduling, dep, params{"toleration": "node.kubernetes.io/not-ready:NoExecute"}, "", "not fit"},
		{"a toleration of no taint", incident.PatchScheduling, dep, params{"toleration": "dedicated=cpu:NoSchedule"}, "", "no node has the taint"},
		{"dropping anti-affinity under a rolling update", incident.PatchScheduling, dep, params{"dropPodAntiAffinity": "true"}, "", "keep the new ones out"},
		{"delete a pod", incident.DeletePod, e("Pod", "cart-a"), nil, "(object): exists -> deleted", ""},
		{"delete a pod nothing replaces", incident.DeletePod, e("Pod", "lone"), nil, "", "no controller"},
		{"evict a pod", incident.EvictPod, e("Pod", "cart-d"), nil, "(object): exists -> deleted", ""},
		{"restart a daemon's pod", incident.RestartDaemonPod, e("Pod", "proxy-x"), nil, "(object): exists -> deleted", ""},
		{"restart another pod as a daemon's", incident.RestartDaemonPod, e("Pod", "cart-a"), nil, "", "not a DaemonSet"},
		{"run a failed Job again", incident.RerunJob, e("Job", "import"), nil, "(object):  -> made from Job/shop/import", ""},
		{"run a Job again that runs", incident.RerunJob, e("Job", "running"), nil, "", "has not failed"},
		{"delete a failed Job", incident.DeleteJob, e("Job", "import"), nil, "(object): exists -> deleted", ""},
		{"delete a Job that runs", incident.DeleteJob, e("Job", "running"), nil, "", "has not failed"},
		{"suspend a CronJob", incident.SuspendCronJob, e("CronJob", "backup"), nil, "spec.suspend: false -> true", ""},
		{"resume a CronJob that runs", incident.ResumeCronJob, e("CronJob", "backup"), nil, "", "so already"},
		{"cordon", incident.CordonNode, node("n1"), nil, "spec.unschedulable:  -> true", ""},
		{"uncordon", incident.UncordonNode, node("n2"), nil, "spec.unschedulable: true -> ", ""},
		{"drain a node with a pod nothing replaces", incident.DrainNode, node("n2"), nil, "", "no controller"},
		{"drain", incident.DrainNode, node("n1"), nil, "(object): exists -> deleted", ""},
		{"expand a claim", incident.ExpandPVC, e("PersistentVolumeClaim", "data"), params{"size": "20Gi"}, "spec.resources.requests.storage: 10Gi -> 20Gi", ""},
		{"expand a claim of a class that cannot", incident.ExpandPVC, e("PersistentVolumeClaim", "old"), params{"size": "20Gi"}, "", "does not allow"},
		{"shrink a claim", incident.ExpandPVC, e("PersistentVolumeClaim", "data"), params{"size": "5Gi"}, "", "already"},
		{"raise a quota", incident.RaiseQuota, e("ResourceQuota", "team"), params{"resource": "pods", "hard": "6"}, "spec.hard.pods: 4 -> 6", ""},
		{"raise a quota beyond the bound", incident.RaiseQuota, e("ResourceQuota", "team"), params{"resource": "pods", "hard": "60"}, "", "more than the bound"},
		{"raise what a quota does not limit", incident.RaiseQuota, e("ResourceQuota", "team"), params{"resource": "services", "hard": "6"}, "", "does not limit"},
		{"copy a pull secret", incident.CreateImagePullSecretCopy, incident.Entity{Kind: "Namespace", Name: "shop"}, params{"fromNamespace": "infra", "secret": "pull"}, "(object):  -> made from Secret/infra/pull", ""},
		{"copy another secret", incident.CreateImagePullSecretCopy, incident.Entity{Kind: "Namespace", Name: "shop"}, params{"fromNamespace": "infra", "secret": "passwords"}, "", "not an image pull secret"},
		{"remove a finalizer where that is not allowed", incident.RemoveFinalizer, e("PersistentVolumeClaim", "old"), params{"finalizer": "example.com/x"}, "", "not allowed"},
		{"roll back an Application that heals", incident.GitOpsRollback, incident.Entity{Kind: "Application", Namespace: "argocd", Name: "auto"}, params{"revision": "abc"}, "", "would come back"},
		{"roll back an Application", incident.GitOpsRollback, incident.Entity{Kind: "Application", Namespace: "argocd", Name: "manual"}, params{"revision": "abc"}, "operation.sync.revision:  -> abc", ""},
		{"roll back to a revision that never was", incident.GitOpsRollback, incident.Entity{Kind: "Application", Namespace: "argocd", Name: "manual"}, params{"revision": "xyz"}, "", "never been"},
		{"resync Flux", incident.GitOpsResync, incident.Entity{Kind: "Kustomization", Namespace: "flux-system", Name: "shop"}, nil, "metadata.annotations[reconcile.fluxcd.io/requestedAt]: ", ""},
		{"suspend an Application", incident.GitOpsSuspend, incident.Entity{Kind: "Application", Namespace: "argocd", Name: "auto"}, nil, "spec.syncPolicy.automated.selfHeal: true -> ", ""},
		{"a Git change without a repository", incident.GitChange, dep, params{"path": "a.yaml", "edit": "spec.replicas=1"}, "", "no repository"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			for _, m := range strings.Split(scene, "\n---\n") {
				s.cluster.put(object(t, m))
			}
			p := incident.Proposal{Action: tc.action, Target: incident.Ref{Cluster: "eu-1", Entity: tc.target}, Params: tc.params, Incident: "inc-1"}
			got, err := s.agent.Prepare(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			why := denials(got.Verdicts)
			var shownChanges []string
			for _, c := range got.Changes {
				shownChanges = append(shownChanges, c.Path+": "+c.Before+" -> "+c.After)
			}
			all := strings.Join(shownChanges, "\n")
			if tc.change == "" {
				if !strings.Contains(why, tc.why) {
					t.Errorf("refused with %q, want %q", why, tc.why)
				}
				return
			}
			planned := !strings.Contains(why, "plan:") && !strings.Contains(why, "dry-run:")
			if !planned || !strings.Contains(all, tc.change) {
				t.Errorf("denials %q, changes:\n%s\nwant %s", why, all, tc.change)
			}
			if len(s.cluster.landed) != 0 {
				t.Error("preparing wrote")
			}
		})
	}
}

func TestParametersAreRefused(t *testing.T) {
	ok := undoProposal("eu-1")
	cases := []struct {
		name string
		edit func(p *incident.Proposal)
	}{
		{"an action that does not exist", func(p *incident.Proposal) { p.Action = "Exec" }},
		{"no action", func(p *incident.Proposal) { p.Action = "" }},
		{"an unknown parameter", func(p *incident.Proposal) { p.Params["command"] = "rm" }},
		{"a missing parameter", func(p *incident.Proposal) { delete(p.Params, "revision") }},
		{"a number with a sign", func(p *incident.Proposal) { p.Params["revision"] = "+1" }},
		{"a number with letters", func(p *incident.Proposal) { p.Params["revision"] = "1;x" }},
		{"a kind it does not take", func(p *incident.Proposal) { p.Target.Entity.Kind = "Service" }},
		{"a name with a slash", func(p *incident.Proposal) { p.Target.Entity.Name = "a/b" }},
		{"a namespace with a dot", func(p *incident.Proposal) { p.Target.Entity.Namespace = "a.b" }},
		{"no namespace", func(p *incident.Proposal) { p.Target.Entity.Namespace = "" }},
		{"control characters", func(p *incident.Proposal) { p.Params["image"] = "a\x1b[31m" }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p := ok
			p.Params = map[string]string{"revision": "1"}
			tc.edit(&p)
			if _, err := Lookup(p); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestOwners tells who owns an object and what the gate makes of it.
func TestOwners(t *testing.T) {
	set := func(ann, lab map[string]string) func(o *Object) {
		return func(o *Object) { o.SetAnnotations(ann); o.SetLabels(lab) }
	}
	type m = map[string]string
	cases := []struct {
		name   string
		edit   func(o *Object)
		system OwnerSystem
		denied bool // a live patch of fields
	}{
		{"nobody", set(nil, m{"app": "cart"}), OwnedByNobody, false},
		{"an Argo CD application that heals, by tracking id", set(m{argoTracking: "auto:apps/Deployment:shop/cart"}, nil), OwnedByArgo, true},
		{"an Argo CD application that does not", set(m{argoTracking: "manual:apps/Deployment:shop/cart"}, nil), OwnedByArgo, false},
		{"an Argo CD application that cannot be found", set(m{argoTracking: "gone:apps/Deployment:shop/cart"}, nil), OwnedByArgo, true},
		{"an Argo CD application, by instance label", set(nil, m{argoInstance: "auto"}), OwnedByArgo, true},
		{"a Flux Kustomization", set(nil, m{fluxKustomize + "name": "shop", fluxKustomize + "namespace": "flux-system"}), OwnedByFlux, true},
		{"a Flux HelmRelease that cannot be found", set(nil, m{fluxHelm + "name": "shop", fluxHelm + "namespace": "flux-system"}), OwnedByFlux, true},
		{"a plain instance label", set(nil, m{instanceLabel: "auto"}), OwnedByNobody, false},
		{"Helm", set(m{helmRelease: "cart", "meta.helm.sh/release-namespace": "shop"}, m{"app.kubernetes.io/managed-by": "Helm"}), OwnedByHelm, false},
		{"an operator", func(o *Object) {
			_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"apiVersion": "db.example.com/v1", "kind": "Postgres", "name": "main", "uid": "u", "controller": true}}, "metadata", "ownerReferences")
		}, OwnedByOperator, true},
		{"a field manager of Argo CD", func(o *Object) {
			_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"manager": "argocd-controller", "operation": "Update"}}, "metadata", "managedFields")
		}, OwnedByArgo, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			for _, m := range strings.Split(scene, "\n---\n") {
				s.cluster.put(object(t, m))
			}
			s.cluster.change(cart, false, tc.edit)
			got, err := s.agent.Prepare(t.Context(), undoProposal("eu-1"))
			if err != nil {
				t.Fatal(err)
			}
			why := denials(got.Verdicts)
			if got.Seen.Owner.System != tc.system || strings.Contains(why, "owner:") != tc.denied {
				t.Errorf("owner %+v, denials %q", got.Seen.Owner, why)
			}
			restart := incident.Proposal{Action: incident.RolloutRestart, Target: incident.Ref{Cluster: "eu-1", Entity: cart}, Incident: "inc-1"}
			if got, err := s.agent.Prepare(t.Context(), restart); err != nil || strings.Contains(denials(got.Verdicts), "owner:") {
				t.Errorf("a restart, which changes nothing that is owned: %v %q", err, denials(got.Verdicts))
			}
		})
	}
}

// TestLimits are the caps, rates, breaker and stop switch.
func TestLimits(t *testing.T) {
	restart := func() incident.Proposal {
		p := undoProposal("eu-1")
		p.Action, p.Params = incident.RolloutRestart, nil
		return p
	}
	t.Run("one action per target and cooldown", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			r.sides["eu-1"].cluster.onWrite = healthy
			r.setSignal(SignalState{Known: true, Resolved: true})
			_, _ = r.approved(t, ctx, undoProposal("eu-1"))
			r.settle(ctx, 5*time.Minute)
			rs, err := r.desk.Propose(ctx, r.incs["inc-1"], []incident.Proposal{restart()})
			if err != nil || rs[0].State != Refused || !strings.Contains(rs[0].Why, "one action per") {
				t.Fatalf("%v %s: %s", err, rs[0].State, rs[0].Why)
			}
		})
	})
	t.Run("the disruption budget", func(t *testing.T) {
		r := newRig(t, "eu-1")
		s := r.sides["eu-1"]
		s.cluster.put(object(t, "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {matchLabels: {app: cart}}}\nstatus: {disruptionsAllowed: 0}\n"))
		p := incident.Proposal{Action: incident.DeletePod, Target: incident.Ref{Cluster: "eu-1", Entity: incident.Entity{Kind: "Pod", Namespace: "shop", Name: "cart-a"}}}
		got, err := s.agent.Prepare(t.Context(), p)
		if err != nil || !strings.Contains(denials(got.Verdicts), "disruption: ") || len(got.Blast.Budgets) != 1 {
			t.Errorf("%v %q", err, denials(got.Verdicts))
		}
		p.Target.Entity.Name = "cart-d" // not ready: it disrupts nothing
		if got, err := s.agent.Prepare(t.Context(), p); err != nil || strings.Contains(denials(got.Verdicts), "disruption: ") {
			t.Errorf("%v %q", err, denials(got.Verdicts))
		}
	})
	t.Run("the share of ready pods", func(t *testing.T) {
		r := newRig(t, "eu-1")
		s := r.sides["eu-1"]
		s.cfg.Local.Caps.MaxShare = 0.2
		s.restart(t)
		got, err := s.agent.Prepare(t.Context(), undoProposal("eu-1"))
		if err != nil || !strings.Contains(denials(got.Verdicts), "blast-radius: ") {
			t.Errorf("%v %q", err, denials(got.Verdicts))
		}
	})
	t.Run("two failed verifications open the breaker, an admin closes it", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1", "eu-2", "eu-3")
			for _, c := range []incident.ClusterName{"eu-1", "eu-2"} {
				r.sides[c].cluster.onWrite = healthy
				rec := r.ask(t, ctx, undoProposal(c))
				if _, err := r.desk.Approve(ctx, by("ann", rec)); err != nil {
					t.Fatal(err)
				}
				r.settle(ctx, 20*time.Minute)
			}
			rs, err := r.desk.Propose(ctx, r.incs["inc-1"], []incident.Proposal{undoProposal("eu-3")})
			if err != nil || rs[0].State != Refused || !strings.Contains(rs[0].Why, "breaker") {
				t.Fatalf("%v %s: %s", err, rs[0].State, rs[0].Why)
			}
			if err := r.desk.CloseBreaker(ctx, "ImageNotFound", "ann", "x"); !errors.Is(err, incident.ErrDenied) {
				t.Errorf("an approver closed it: %v", err)
			}
			if err := r.desk.CloseBreaker(ctx, "ImageNotFound", "root", "looked"); err != nil {
				t.Fatal(err)
			}
			if _, err := r.desk.Request(ctx, r.incs["inc-1"], undoProposal("eu-3"), "ben"); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("a stop switch between the writes of a drain stops the rest", func(t *testing.T) {
		inBubble(t, func(t *testing.T, ctx context.Context) {
			r := newRig(t, "eu-1")
			s := r.sides["eu-1"]
			s.cfg.Local.Caps.MaxShare = 1
			s.restart(t)
			p := incident.Proposal{Action: incident.DrainNode, Target: incident.Ref{Cluster: "eu-1", Entity: incident.Entity{Kind: "Node", Name: "n1"}}, Cause: "NodeNotReady"}
			rec := r.ask(t, ctx, p)
			for _, who := range []string{"ann", "ben"} {
				if _, err := r.desk.Approve(ctx, by(who, rec)); err != nil {
					t.Fatal(err)
				}
			}
			n := 0
			s.cluster.after = func(w Write, how Apply) error {
				if n += count(!how.DryRun); n == 2 && !how.DryRun {
					return r.desk.SetStop(ctx, Stop{Scope: Scope{Cluster: "eu-1"}, On: true, By: "ann", Reason: "enough"})
				}
				return nil
			}
			r.deliver(ctx)
			if got := len(s.cluster.landed); got != 2 {
				t.Errorf("%d writes after the switch at the second", got)
			}
		})
	})
	t.Run("a stop switch that cannot be read stops", func(t *testing.T) {
		r := newRig(t, "eu-1")
		r.stop.fail = errors.New("no quorum")
		got, err := r.sides["eu-1"].agent.Prepare(t.Context(), undoProposal("eu-1"))
		if err != nil || !strings.Contains(denials(got.Verdicts), "cannot be read") {
			t.Errorf("%v %q", err, denials(got.Verdicts))
		}
	})
	t.Run("an approver may stop, only an admin starts again", func(t *testing.T) {
		r := newRig(t, "eu-1")
		ctx := t.Context()
		if err := r.desk.SetStop(ctx, Stop{On: true, By: "eve"}); !errors.Is(err, incident.ErrDenied) {
			t.Errorf("eve: %v", err)
		}
		if err := r.desk.SetStop(ctx, Stop{On: true, By: "ann"}); err != nil {
			t.Fatal(err)
		}
		if err := r.desk.SetStop(ctx, Stop{On: false, By: "ann"}); !errors.Is(err, incident.ErrDenied) {
			t.Errorf("ann: %v", err)
		}
		if err := r.desk.SetStop(ctx, Stop{On: false, By: "root"}); err != nil {
			t.Fatal(err)
		}
	})
}

// fakeGit is a repository of one file.
type fakeGit struct {
	content string
	pushed  []gitops.Commit
}

func (g *fakeGit) Read(context.Context, string) (string, string, error) { return g.content, "c1", nil }
func (g *fakeGit) Find(context.Context, gitops.Document) (string, error) {
	return "apps/cart.yaml", nil
}
func (g *fakeGit) Push(_ context.Context, c gitops.Commit) (string, error) {
	g.pushed = append(g.pushed, c)
	return "c2", nil
}
func (g *fakeGit) Branch(_ context.Context, name string) (string, error) {
	for _, c := range g.pushed {
		if c.Branch == name {
			return "c2", nil
		}
	}
	return "", incident.ErrNotFound
}

func TestOwnedObjectsAreChangedInGit(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context) {
		r := newRig(t, "eu-1")
		s := r.sides["eu-1"]
		git := &fakeGit{content: strings.Replace(cartManifest, "uid: dep-1, ", "", 1)}
		s.cfg.Git = git
		s.restart(t)
		s.cluster.change(cart, false, func(o *Object) {
			o.SetLabels(map[string]string{fluxKustomize + "name": "shop", fluxKustomize + "namespace": "flux-system"})
		})
		rs, err := r.desk.Propose(ctx, r.incs["inc-1"], []incident.Proposal{undoProposal("eu-1")})
		if err != nil || len(rs) != 2 || rs[0].State != Refused || rs[1].State != Asking || rs[1].Proposal.Action != incident.GitChange {
			t.Fatalf("%v %+v", err, rs)
		}
		if got := changeOf(rs[1], "apps/cart.yaml"); !strings.Contains(got, "image: "+bad+" -> ") || !strings.Contains(got, "image: "+good) {
			t.Errorf("shown change is %q", got)
		}
		if _, err := r.desk.Approve(ctx, by("ann", rs[1])); err != nil {
			t.Fatal(err)
		}
		r.settle(ctx, 5*time.Minute)
		if o := r.get(t, ctx, rs[1].ID).Outcome; o == nil || o.State != incident.OutcomeVerified {
			t.Fatalf("outcome %+v", o)
		}
		if len(git.pushed) != 1 || !strings.Contains(git.pushed[0].Body, "inc-1") || git.pushed[0].Base != "c1" || len(s.cluster.landed) != 0 {
			t.Errorf("pushed %+v, %d live writes", git.pushed, len(s.cluster.landed))
		}
	})
}
