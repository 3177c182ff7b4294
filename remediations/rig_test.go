package remediations

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/remediations/audit"
	"github.com/tocsin-io/tocsin/remediations/policy"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

func typesUID(s string) types.UID { return types.UID(s) }

// object reads a manifest.
func object(t testing.TB, manifest string) *Object {
	t.Helper()
	o := &Object{}
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	if err == nil {
		err = o.UnmarshalJSON(raw)
	}
	if err != nil {
		t.Fatalf("manifest: %v", err)
	}
	return o
}

// rig is a hub with agents in memory, wired as the app does.
type rig struct {
	kv, stop *memKV
	log      *memLog
	queue    *memCommands
	desk     *Desk
	deskCfg  DeskConfig
	key      ed25519.PrivateKey
	pol      *policy.Policy

	mu      sync.Mutex
	roles   map[string][]string
	incs    map[incident.ID]incident.Incident
	fresh   bool
	signal  SignalState
	lose    int // reports to lose
	sides   map[incident.ClusterName]*side
	changed []Record
}

type side struct {
	cluster *fakeCluster
	kv      *memKV
	cfg     AgentConfig
	agent   *Agent
}

func (r *rig) Roles(_ context.Context, who string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	roles, ok := r.roles[who]
	if !ok {
		return nil, errors.New("no such person")
	}
	return roles, nil
}

func (r *rig) Incident(_ context.Context, id incident.ID) (incident.Incident, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inc, ok := r.incs[id]
	if !ok {
		return inc, incident.ErrNotFound
	}
	return inc, nil
}

func (r *rig) Fresh(context.Context, incident.ClusterName) (bool, string, error) {
	return r.fresh, "", nil
}
func (r *rig) Current(context.Context) (*policy.Policy, error) { return r.pol, nil }
func (r *rig) Changed(_ context.Context, rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = append(r.changed, rec)
}
func (r *rig) Prepare(ctx context.Context, c incident.ClusterName, p incident.Proposal) (Prepared, error) {
	s, ok := r.sides[c]
	if !ok {
		return Prepared{}, incident.ErrNotFound
	}
	return s.agent.Prepare(ctx, p)
}
func (r *rig) State(context.Context, incident.ID, incident.Ref) (SignalState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.signal, nil
}
func (r *rig) Report(ctx context.Context, o incident.Outcome) error {
	r.mu.Lock()
	if r.lose > 0 {
		r.lose--
		r.mu.Unlock()
		return errors.New("lost")
	}
	r.mu.Unlock()
	return r.desk.Outcome(ctx, o.Target.Cluster, o)
}

const bad, good = "ghcr.io/acme/cart:v9", "ghcr.io/acme/cart:v8"

// newRig makes a hub and the named clusters, each with Deployment shop/cart rolled out with a
// bad image and everything enabled.
func newRig(t testing.TB, clusters ...incident.ClusterName) *rig {
	t.Helper()
	pol, err := policy.Default()
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{kv: newKV(), stop: newKV(), log: &memLog{}, queue: &memCommands{}, key: key, pol: pol, fresh: true,
		roles: map[string][]string{"ann": {RoleApprover}, "ben": {RoleApprover}, "eve": {"viewer"}, "root": {RoleAdmin}},
		incs:  map[incident.ID]incident.Incident{}, sides: map[incident.ClusterName]*side{}, signal: SignalState{Known: true}}
	r.deskCfg = DeskConfig{KV: r.kv, Stop: r.stop, Audit: r.log, Commands: r.queue, Prepare: r, Directory: r, Incidents: r, Coverage: r,
		Policy: r, Key: key, Notify: r}
	if r.desk, err = NewDesk(r.deskCfg); err != nil {
		t.Fatal(err)
	}
	for _, c := range clusters {
		r.add(t, c)
	}
	r.incs["inc-1"] = incident.Incident{ID: "inc-1", Title: "cart fails", State: incident.Open, Cause: "ImageNotFound", Severity: incident.Critical}
	return r
}

func (r *rig) add(t testing.TB, name incident.ClusterName) *side {
	t.Helper()
	pub, _ := r.key.Public().(ed25519.PublicKey)
	s := &side{cluster: newCluster(), kv: newKV()}
	s.cfg = AgentConfig{Cluster: name, Reader: s.cluster, Actor: s.cluster, KV: s.kv, Stop: r.stop, Trusted: []ed25519.PublicKey{pub},
		Key: []byte(strings.Repeat("k", 32)), Signals: r, Outcomes: r,
		Local: LocalPolicy{Act: true, Actions: incident.Actions(), Namespaces: []string{"*"}, ClusterScoped: true}}
	s.restart(t)
	seed(t, s.cluster)
	r.sides[name] = s
	return s
}

func (s *side) restart(t testing.TB) {
	t.Helper()
	a, err := NewAgent(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.agent = a
}

// deliver hands every command that was sent to its agent, again for those given already.
func (r *rig) deliver(ctx context.Context) []error {
	var errs []error
	for _, m := range r.queue.all() {
		if s := r.sides[m.cluster]; s != nil {
			errs = append(errs, s.agent.Handle(ctx, m.payload))
		}
	}
	return errs
}

// settle lets time pass and both halves work, until nothing is open or limit is over.
func (r *rig) settle(ctx context.Context, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		r.desk.Step(ctx)
		r.deliver(ctx)
		for _, s := range r.sides {
			s.agent.Step(ctx)
		}
		if records, _ := r.desk.List(ctx, ""); !slices.ContainsFunc(records, func(x Record) bool { return x.State.Open() }) {
			return
		}
	}
}

const cartManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop, uid: dep-1, labels: {app: cart}, generation: 3}
spec:
  replicas: 4
  selector: {matchLabels: {app: cart}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 25%, maxSurge: 25%}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - name: cart
        image: ghcr.io/acme/cart:v9
        env: [{name: DB_HOST, value: db}, {name: DB_PASSWORD, value: hunter2}]
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 64Mi}}
        livenessProbe: {httpGet: {path: /healthz, port: 9999}, periodSeconds: 10}
status: {observedGeneration: 3, replicas: 5, updatedReplicas: 2, readyReplicas: 3, availableReplicas: 3}
`

const oldReplicaSet = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: cart-1, namespace: shop, uid: rs-1, labels: {app: cart}, annotations: {deployment.kubernetes.io/revision: "1"},
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: cart, uid: dep-1, controller: true}]}
spec:
  replicas: 3
  selector: {matchLabels: {app: cart, pod-template-hash: "1"}}
  template:
    metadata: {labels: {app: cart, pod-template-hash: "1"}}
    spec:
      containers:
      - name: cart
        image: ghcr.io/acme/cart:v8
        env: [{name: DB_HOST, value: db}, {name: DB_PASSWORD, value: correct-horse}]
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 64Mi}}
        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 10}
`

func podManifest(name, ready string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, namespace: shop, uid: ` + name + `-uid, labels: {app: cart},
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: cart-1, uid: rs-1, controller: true}]}
spec: {nodeName: n1, containers: [{name: cart, image: "ghcr.io/acme/cart:v8", ports: [{containerPort: 8080}]}]}
status: {phase: Running, conditions: [{type: Ready, status: "` + ready + `"}]}
`
}

const nodeManifest = `
apiVersion: v1
kind: Node
metadata: {name: n1, uid: node-1, labels: {zone: a}}
spec: {}
status: {allocatable: {cpu: "4", memory: 8Gi}, conditions: [{type: Ready, status: "True"}]}
`

// seed fills a cluster with the scene of most tests.
func seed(t testing.TB, f *fakeCluster) {
	t.Helper()
	for _, m := range []string{cartManifest, oldReplicaSet, nodeManifest, podManifest("cart-a", "True"), podManifest("cart-b", "True"),
		podManifest("cart-c", "True"), podManifest("cart-d", "False")} {
		f.put(object(t, m))
	}
}

// healthy plays the Deployment controller: every rollout succeeds at once.
func healthy(o *Object) {
	if o.GetKind() != "Deployment" {
		return
	}
	n, _, _ := nested(o, "spec", "replicas")
	o.Object["status"] = map[string]any{"observedGeneration": o.GetGeneration() + 1, "replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n}
}

func nested(o *Object, path ...string) (any, bool, error) {
	v, ok := at(o.Object, pointer(path...))
	return v, ok, nil
}

var cart = incident.Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"}

func undoProposal(c incident.ClusterName) incident.Proposal {
	return incident.Proposal{Action: incident.RolloutUndo, Target: incident.Ref{Cluster: c, Entity: cart}, Cause: "ImageNotFound", Confidence: 0.97,
		Params: map[string]string{incident.ParamRevision: "1", incident.ParamImage: good}, Summary: "roll back Deployment/shop/cart to revision 1"}
}

// ask proposes and fails the test unless the question is asked.
func (r *rig) ask(t testing.TB, ctx context.Context, p incident.Proposal) Record {
	t.Helper()
	rs, err := r.desk.Propose(ctx, r.incs["inc-1"], []incident.Proposal{p})
	if err != nil || len(rs) != 1 || rs[0].State != Asking {
		t.Fatalf("propose: %v %+v", err, rs)
	}
	return rs[0]
}

func (r *rig) get(t testing.TB, ctx context.Context, id incident.ProposalID) Record {
	t.Helper()
	rec, err := r.desk.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func by(who string, r Record) Decision {
	return Decision{Proposal: r.ID, Digest: r.Digest, By: who, Via: "cli"}
}

func (r *rig) setSignal(s SignalState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signal = s
}

func (r *rig) intact(t testing.TB, ctx context.Context) {
	t.Helper()
	if _, err := audit.Verify(ctx, r.log); err != nil {
		t.Fatalf("audit trail: %v", err)
	}
}

func inBubble(t *testing.T, f func(t *testing.T, ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, t.Context()) })
}
