package correlator

import (
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

func TestSubjectOfAnObject(t *testing.T) {
	cl := New(Config{}).cluster("c")
	cl.topo.bySource = map[string]*incident.Topology{"s": {Edges: []incident.Edge{
		{From: entity("Deployment/shop/cart"), To: entity("Pod/shop/cart-abc"), Kind: incident.Owns},
		{From: entity("Service/shop/front"), To: entity("Deployment/shop/cart"), Kind: incident.RoutesTo},
		{From: entity("StatefulSet/data/pay-db"), To: entity("Pod/data/pay-db-0"), Kind: incident.Owns},
	}}}
	cl.topo.stale = true
	r := newResolver(cl)
	cases := []struct{ name, entity, want string }{
		{"a pod the topology owns", "Pod/shop/cart-abc", "shop/cart"},
		{"a pod of a known workload, by its name", "Pod/shop/cart-5d8c7b9f6-x2x9z", "shop/cart"},
		{"a pod of an unknown deployment, by its name", "Pod/shop/web-5d8c7b9f6-x2x9z", "shop/web"},
		{"a pod of a stateful set", "Pod/shop/queue-12", "shop/queue"},
		{"a pod of a daemon set", "Pod/kube-system/csi-node-4kzqp", "kube-system/csi-node"},
		{"a name that only looks generated", "Pod/shop/web-frontend", "shop/web-frontend"},
		{"a replica set", "ReplicaSet/shop/cart-5d8c7b9f6", "shop/cart"},
		{"a service that routes to another name", "Service/shop/front", "shop/cart"},
		{"a service named after its workload", "Service/data/pay-db-headless", "data/pay-db"},
		{"an autoscaler", "HorizontalPodAutoscaler/shop/cart", "shop/cart"},
		{"a quota", "ResourceQuota/shop/default", "Namespace//shop"},
		{"a node", "Node/n1", "Node//n1"},
		{"a job of a cron job", "Job/shop/report-29092343", "Job/shop/report"},
		{"a claim", "PersistentVolumeClaim/data/data-pay-db-0", "PersistentVolumeClaim/data/data-pay-db-0"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			k := r.key(entity(tc.entity))
			got := k.namespace + "/" + k.name
			if k.kind != "" {
				got = k.kind + "/" + got
			}
			if got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.entity, got, tc.want)
			}
		})
	}
}

func TestClassOfAReason(t *testing.T) {
	k := newClassifier()
	cases := []struct {
		reason, kind, message string
		want                  class
	}{
		{"CrashLoopBackOff", "Pod", "", classCrash},
		{"ImagePullBackOff", "Pod", "", classPull},
		{"FailedCreate", "ReplicaSet", "exceeded quota: default", classQuota},
		{"FailedCreate", "ReplicaSet", "admission webhook denied", classAdmit},
		{"UpstreamRequestFailed", "Pod", "lookup db: no such host", classDNS},
		{"UpstreamRequestFailed", "Pod", "x509: certificate has expired", classTLS},
		{"UpstreamRequestFailed", "Pod", "connection refused", classUpstream},
		{"KubeDeploymentReplicasMismatch", "Deployment", "", classGeneric},
		{"KubePodNotReady", "Pod", "", classGeneric},
		{"NodeNotReady", "Node", "", classNode},
		{"NodeNotReady", "Pod", "", classLost},
		{"TaintManagerEviction", "Pod", "", classLost},
		{"FailedMount", "Pod", "", classVolume},
		{"CPUThrottlingHigh", "Pod", "", classUsage},
		{"KubeQuotaFullyUsed", "Namespace", "", classQuota},
		{"ServiceHighErrorRate", "Service", "", classServe},
		{"CreateContainerConfigError", "Pod", "", classConfig},
		{"SomethingNobodyKnows", "Pod", "", classGeneric},
	}
	for _, tc := range cases {
		if got := k.refine(k.of(tc.reason), tc.kind, incident.UntrustedText(tc.message)); got != tc.want {
			t.Errorf("%s on a %s (%q): class %d, want %d", tc.reason, tc.kind, tc.message, got, tc.want)
		}
	}
	for _, info := range incident.Causes() {
		k.of(string(info.Name)) // every cause of the catalogue has a class; none panics
	}
}
