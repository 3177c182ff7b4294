package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/incident"
)

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","namespace":"shop","labels":{"app":"cart"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"cart-1","controller":true}]},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"ghcr.io/acme/cart:v1"}]},"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}]}}`

const cart = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: cart-1, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: cart, controller: true}], annotations: {deployment.kubernetes.io/revision: "2"}}
spec: {replicas: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop, labels: {helm.sh/chart: cart-1.2.3}}
spec: {replicas: 1, template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: c, image: "ghcr.io/acme/cart:v1"}]}}}
status: {readyReplicas: 1}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.7, selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
data: {password: aHVudGVyMg==}
stringData: {user: admin}
`

func read(t *testing.T, files map[string]string) *State {
	t.Helper()
	fsys := fstest.MapFS{}
	for n, s := range files {
		fsys[n] = &fstest.MapFile{Data: []byte(s)}
	}
	st, err := ReadFS(context.Background(), fsys, "test")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestReadRecognisesByContent(t *testing.T) {
	list := `{"kind":"%s","apiVersion":"%s","items":[` + fmt.Sprintf(pod, "cart-1-a") + `]}`
	typed := strings.Replace(strings.Replace(fmt.Sprintf(list, "PodList", "v1"), `"apiVersion":"v1","kind":"Pod",`, "", 1), "items", "items", 1)
	for name, files := range map[string]map[string]string{
		"the snapshot form":               {"snapshot.json": `{"cluster":"eu-1","collectedAt":"2026-01-02T03:04:05Z","namespace":"shop"}`, "objects/pods.json": fmt.Sprintf(list, "List", "v1"), "logs/shop/cart-1-a/c.log": "boom\n"},
		"a cluster-info dump":             {"dump/shop/pods.json": typed, "dump/shop/cart-1-a/logs.txt": "==== START logs for container c of pod shop/cart-1-a ====\nboom\n==== END logs for container c of pod shop/cart-1-a ====\n"},
		"a Troubleshoot bundle":           {"b/cluster-resources/pods/shop.json": typed, "b/cluster-resources/pods/logs/shop/cart-1-a/c.log": "boom\n"},
		"an old Troubleshoot bundle":      {"b/cluster-resources/pods/shop.json": "[" + fmt.Sprintf(pod, "cart-1-a") + "]", "b/cluster-resources/pods/logs/shop/cart-1-a/c.log": "boom\n"},
		"a must-gather":                   {"mg/namespaces/shop/core/pods.yaml": typed, "mg/namespaces/shop/pods/cart-1-a/c/c/logs/current.log": "boom\n"},
		"a tree of single YAML objects":   {"x/y/whatever.yaml": fmt.Sprintf(pod, "cart-1-a"), "x/shop/cart-1-a/c.log": "boom\n"},
		"several JSON values in one file": {"all.json": fmt.Sprintf(pod, "cart-1-a") + "\n" + fmt.Sprintf(pod, "cart-1-b"), "logs/shop/cart-1-a/c.log": "boom\n"},
	} {
		t.Run(name, func(t *testing.T) {
			st := read(t, files)
			p, ok := st.Pods.Get("shop", "cart-1-a")
			if !ok || p.Spec.NodeName != "n1" {
				t.Fatalf("the pod was not read: %v, gaps %v", st.Pods.Len(), st.Gaps())
			}
			if l := st.PodLogs("shop", "cart-1-a"); len(l) != 1 || l[0].Current != "boom\n" || l[0].Container != "c" {
				t.Errorf("logs %+v", l)
			}
			if !st.Sees("objects/pods") || st.Sees("objects/nodes") {
				t.Errorf("coverage %+v", st.Coverage())
			}
			if len(st.Gaps()) > 0 {
				t.Errorf("gaps %v", st.Gaps())
			}
		})
	}
}

func TestJoins(t *testing.T) {
	st := read(t, map[string]string{"a.yaml": cart, "p.json": fmt.Sprintf(pod, "cart-1-a")})
	w := st.Workload(incident.Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"})
	if w == nil || len(w.Pods) != 1 || len(w.ReplicaSets) != 1 || len(w.Services) != 1 || w.Ready != 1 {
		t.Fatalf("workload %+v", w)
	}
	if got := st.OwnerOf(incident.Entity{Kind: "Pod", Namespace: "shop", Name: "cart-1-a"}); got.Kind != "Deployment" {
		t.Errorf("owner %v", got)
	}
	for host, want := range map[string]bool{"cart": true, "cart.shop": true, "cart.shop.svc": true, "cart.shop.svc.cluster.local.": true, "10.96.0.7": true, "carts": false, "example.com": false} {
		if h := st.Resolve("shop", host); (h.Service != nil) != want {
			t.Errorf("Resolve(%q) = %+v", host, h)
		}
	}
	f := st.Factors(w.Entity)
	if f[incident.FactorRegistry] != "ghcr.io" || f[incident.FactorChart] != "cart-1.2.3" || f[incident.FactorNode] != "n1" {
		t.Errorf("factors %v", f)
	}
	if inv := Inventory(st); inv.Workloads != 1 || inv.Factors[incident.FactorImage]["ghcr.io/acme/cart:v1"] != 1 {
		t.Errorf("inventory %+v", inv)
	}
	if top := Topology(st); len(top.Edges) != 2 {
		t.Errorf("topology %+v", top.Edges)
	}
}

func TestSecretValuesAreNeverKept(t *testing.T) {
	st := read(t, map[string]string{"a.yaml": cart})
	s, ok := st.Secrets.Get("shop", "db")
	if !ok || len(s.Data) != 2 {
		t.Fatalf("secret %+v", s)
	}
	for k, v := range s.Data {
		if len(v) > 0 {
			t.Errorf("key %s keeps a value", k)
		}
	}
	b := New("c", time.Now())
	in := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: map[string][]byte{"a": []byte("hunter2")}}
	if err := b.Add(in); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(dir, b.Seal()); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if raw, _ := os.ReadFile(p); bytes.Contains(raw, []byte("hunter2")) || bytes.Contains(raw, []byte("aHVudGVyMg")) {
				t.Errorf("%s holds a Secret value", p)
			}
		}
		return err
	})
	if string(in.Data["a"]) != "hunter2" {
		t.Error("the caller's object was changed")
	}
}

func TestWriteThenReadGivesTheSameState(t *testing.T) {
	files := map[string]string{"snapshot.json": `{"cluster":"eu-1","collectedAt":"2026-01-02T03:04:05Z","namespace":"shop","report":"slow"}`, "a.yaml": cart, "p.json": fmt.Sprintf(pod, "cart-1-a"),
		"logs/shop/cart-1-a/c.log": "one\n", "logs/shop/cart-1-a/c.previous.log": "two\n", "logs/shop/cart-1-a/d.err": "no\n",
		"probes.json":   `[{"probe":"tcp","from":"n1","namespace":"shop","service":"cart","port":80,"ok":false,"detail":"x"},{"probe":"unit","node":"n1","unit":"kubelet","active":true,"detail":""}]`,
		"topology.json": `[{"from":"a","to":"cart","kind":"calls"}]`,
		"alerts.json":   `[{"type":"Service","name":"cart","evidence":["slow"]},{"business_action":"pay","entry_service":"cart","raw_error":"503","occurrences":3,"url":"/p"}]`,
		"metrics.json":  `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"cpu","service":"cart","namespace":"shop"},"values":[[1,"0.5"],[2,"0.75"]]}]}}`,
		"cr.yaml":       "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: shop, namespace: argocd}\nspec: {project: x}\n", "objects/nodes.json": `{"kind":"List","apiVersion":"v1","items":[]}`}
	a := read(t, files)
	dir := t.TempDir()
	if err := Write(dir, a); err != nil {
		t.Fatal(err)
	}
	b, err := Read(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != b.Name || !a.At.Equal(b.At) || a.Report != b.Report || !b.Sees("objects/nodes") {
		t.Errorf("head: %v %v %v", b.Name, b.At, b.Report)
	}
	for _, p := range [][2]any{{a.Pods.All(), b.Pods.All()}, {a.Deployments.All(), b.Deployments.All()}, {a.Services.All(), b.Services.All()}, {a.Customs.All(), b.Customs.All()},
		{a.Logs, b.Logs}, {a.Probes, b.Probes}, {a.Calls, b.Calls}, {a.Series, b.Series}} {
		if !reflect.DeepEqual(p[0], p[1]) {
			t.Errorf("not the same:\n%+v\n%+v", p[0], p[1])
		}
	}
	if len(b.Alerts) != 2 || b.Alerts[1].Entry != "cart" || b.Alerts[1].Count != 3 {
		t.Errorf("alerts %+v", b.Alerts)
	}
}

func TestStripIsIdempotent(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}, Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "keep": "y"}}}
	for range 2 {
		o, err := Strip(p)
		if err != nil || o != any(p) || p.ManagedFields != nil || len(p.Annotations) != 1 {
			t.Fatalf("%+v %v", p.ObjectMeta, err)
		}
	}
	if o, err := Strip("no object"); err != nil || o != "no object" {
		t.Errorf("%v %v", o, err)
	}
}

func archive(t *testing.T, gz bool, entries ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	var z *gzip.Writer
	tw := tar.NewWriter(&buf)
	if gz {
		z = gzip.NewWriter(&buf)
		tw = tar.NewWriter(z)
	}
	for _, h := range entries {
		body := []byte(fmt.Sprintf(pod, "cart-1-a"))
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			tw.Write(body)
		}
	}
	tw.Close()
	if z != nil {
		z.Close()
	}
	return &buf
}

func TestArchives(t *testing.T) {
	for name, gz := range map[string]bool{"plain tar": false, "gzip'ed tar": true} {
		t.Run(name, func(t *testing.T) {
			in := archive(t, gz, &tar.Header{Name: "x/objects/pods.json", Typeflag: tar.TypeReg}, &tar.Header{Name: "../../etc/passwd.json", Typeflag: tar.TypeReg},
				&tar.Header{Name: "/abs.json", Typeflag: tar.TypeReg}, &tar.Header{Name: "x/link.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
			st, err := ReadTar(context.Background(), in, "c")
			if err != nil || st.Pods.Len() != 1 || len(st.Gaps()) != 3 {
				t.Fatalf("%v, gaps %v", err, st.Gaps())
			}
		})
	}
	if _, err := ReadTar(context.Background(), strings.NewReader("no tar at all, but long enough to be looked at"), "c"); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("error %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	if _, err := Read(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("a path that is not there: %v", err)
	}
	if _, err := ReadFS(context.Background(), fstest.MapFS{"readme.md": {Data: []byte("hi")}}, "x"); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("a folder without objects: %v", err)
	}
}

func TestHostileContentIsNamedAndBounded(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	for name, f := range map[string]struct{ file, data string }{
		"deep JSON":                  {"deep.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":` + deep + `}`},
		"deep YAML":                  {"deep.yaml", strings.Repeat("[", 100_000)},
		"YAML aliases that multiply": {"bomb.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nkind: Pod\n"},
		"an object without a name":   {"nameless.json", `{"apiVersion":"v1","kind":"Pod","metadata":{}}`},
		"a field of the wrong type":  {"wrong.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":"none"}}`},
		"a list that is cut off":     {"cut.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod"`},
	} {
		t.Run(name, func(t *testing.T) {
			st := read(t, map[string]string{"ok.json": fmt.Sprintf(pod, "cart-1-a"), f.file: f.data})
			if len(st.Gaps()) == 0 || st.Pods.Len() != 1 {
				t.Errorf("gaps %v, %d pods", st.Gaps(), st.Pods.Len())
			}
		})
	}
}

func TestOwnerCyclesEnd(t *testing.T) {
	st := read(t, map[string]string{"a.yaml": `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: a, namespace: x, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: b}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: b, namespace: x, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a}]}
`})
	if len(st.Workloads()) == 0 {
		t.Error("no workloads")
	}
}

func TestLongLinesAndManyObjectsStayBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 objects")
	}
	var sb strings.Builder
	sb.WriteString(`{"apiVersion":"v1","kind":"List","items":[`)
	for i := range 200_000 {
		if i > 0 {
			sb.WriteByte(',')
		}
		fmt.Fprintf(&sb, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%d","namespace":"x"}}`, i)
	}
	sb.WriteString("]}")
	st := read(t, map[string]string{"all.json": sb.String(), "logs/x/p/c.log": strings.Repeat("x", 10<<20)})
	if st.ConfigMaps.Len() != 200_000 || len(st.Logs) != 1 || len(st.Logs[0].Current) != MaxLogBytes {
		t.Errorf("%d objects, log of %d bytes", st.ConfigMaps.Len(), len(st.Logs[0].Current))
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 400<<20 {
		t.Errorf("%d MiB kept", m.HeapAlloc>>20)
	}
	runtime.KeepAlive(st)
}

func FuzzRead(f *testing.F) {
	f.Add("a.yaml", []byte(cart))
	f.Add("objects/pods.json", []byte(`{"kind":"List","items":[`+fmt.Sprintf(pod, "x")+`]}`))
	f.Add("metrics.json", []byte(`{"data":{"resultType":"matrix","result":[{"metric":{"pod":"x"},"values":[[1,"2"]]}]}}`))
	f.Add("alerts.json", []byte(`[{"labels":{"alertname":"x"},"annotations":{"summary":"y"}}]`))
	f.Add("probes.json", []byte(`[{"probe":"tcp","ok":true}]`))
	f.Add("ns/pod/logs.txt", []byte("==== START logs for container c of pod ns/pod ====\nx"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r := newReader("fuzz")
		if err := r.file(name, bytes.NewReader(data)); err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("error %v", err)
		}
		if st, err := r.finish(); err == nil {
			st.Workloads()
			Inventory(st)
			Topology(st)
		}
	})
}

func FuzzReadTar(f *testing.F) {
	f.Add(archive(&testing.T{}, true, &tar.Header{Name: "objects/pods.json", Typeflag: tar.TypeReg}).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ReadTar(context.Background(), bytes.NewReader(data), "fuzz"); err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	})
}
