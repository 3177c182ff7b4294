package causes

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/tocsin-io/tocsin/cluster"
)

type object = map[string]any

// TestAnswersDoNotDependOnForm gives every case in other forms that carry the same facts, or
// beside workloads that have nothing to do with it: the answer must stay.
func TestAnswersDoNotDependOnForm(t *testing.T) {
	if testing.Short() {
		t.Skip("three forms of every case")
	}
	forms := map[string]func([]object) []object{
		"beside a healthy namespace": besideHealthy,
		"in reverse order, without UIDs and what only templates of replica sets say": func(l []object) []object {
			slices.Reverse(l)
			return withoutTemplates(withoutUIDs(l))
		},
		"with endpoints instead of slices, without what conditions of pods say": func(l []object) []object {
			return withEndpoints(withoutPodMessages(l))
		},
	}
	for _, file := range caseFiles(t) {
		ar, exp := readCase(t, file)
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for form, change := range forms {
			if exp.verdict == Insufficient && form == "beside a healthy namespace" {
				continue // there is more to judge then
			}
			t.Run(name+"/"+form, func(t *testing.T) {
				t.Parallel()
				st, err := cluster.ReadFS(context.Background(), inForm(t, ar, change), "case")
				if err != nil {
					t.Fatal(err)
				}
				exp.check(t, Analyze(st))
			})
		}
	}
}

// inForm returns the case's files with its objects changed.
func inForm(t *testing.T, ar *txtar.Archive, change func([]object) []object) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for _, f := range ar.Files {
		if f.Name != "objects/all.yaml" {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
			continue
		}
		var objs, empty []object
		for _, doc := range strings.Split(string(f.Data), "\n---\n") {
			var o object
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				t.Fatal(err)
			}
			switch items, _ := o["items"].([]any); {
			case o["kind"] == "List":
				for _, i := range items {
					objs = append(objs, i.(object))
				}
			case strings.HasSuffix(o["kind"].(string), "List"):
				empty = append(empty, o)
			default:
				objs = append(objs, o)
			}
		}
		for i, o := range append(change(objs), empty...) {
			b, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			files[fmt.Sprintf("objects/%04d.json", i)] = &fstest.MapFile{Data: b}
		}
	}
	return files
}

func at(o object, path ...string) object {
	for _, p := range path {
		o, _ = o[p].(object)
	}
	return o
}

func listAt(o object, path ...string) []object {
	l, _ := at(o, path[:len(path)-1]...)[path[len(path)-1]].([]any)
	var out []object
	for _, e := range l {
		if m, ok := e.(object); ok {
			out = append(out, m)
		}
	}
	return out
}

func withoutUIDs(objs []object) []object {
	for _, o := range objs {
		delete(at(o, "metadata"), "uid")
		delete(at(o, "involvedObject"), "uid")
		for _, r := range listAt(o, "metadata", "ownerReferences") {
			r["uid"] = ""
		}
	}
	return objs
}

func withoutPodMessages(objs []object) []object {
	for _, o := range objs {
		if o["kind"] != "Pod" {
			continue
		}
		for _, k := range listAt(o, "status", "conditions") {
			if k["type"] != "PodScheduled" && k["type"] != "DisruptionTarget" {
				delete(k, "message")
				delete(k, "reason")
			}
			delete(k, "lastTransitionTime")
		}
	}
	return objs
}

// withoutTemplates drops the templates of ReplicaSets that are the only one of their Deployment:
// the Deployment's own says the same.
func withoutTemplates(objs []object) []object {
	owners := map[string]int{}
	owner := func(o object) string {
		for _, r := range listAt(o, "metadata", "ownerReferences") {
			return fmt.Sprint(at(o, "metadata")["namespace"], "/", r["name"])
		}
		return ""
	}
	for _, o := range objs {
		if o["kind"] == "ReplicaSet" {
			owners[owner(o)]++
		}
	}
	for _, o := range objs {
		if o["kind"] == "ReplicaSet" && owners[owner(o)] == 1 {
			delete(at(o, "spec"), "template")
		}
	}
	return objs
}

func withEndpoints(objs []object) []object {
	var out []object
	for _, o := range objs {
		if o["kind"] != "EndpointSlice" {
			out = append(out, o)
			continue
		}
		var ready, not []any
		for _, e := range listAt(o, "endpoints") {
			for _, ip := range e["addresses"].([]any) {
				a := object{"ip": ip, "nodeName": e["nodeName"], "targetRef": e["targetRef"]}
				if at(e, "conditions")["ready"] == true {
					ready = append(ready, a)
				} else {
					not = append(not, a)
				}
			}
		}
		ep := object{"apiVersion": "v1", "kind": "Endpoints", "metadata": object{"namespace": at(o, "metadata")["namespace"], "name": at(o, "metadata", "labels")["kubernetes.io/service-name"]}}
		if len(ready)+len(not) > 0 {
			ep["subsets"] = []any{object{"addresses": ready, "notReadyAddresses": not, "ports": o["ports"]}}
		}
		out = append(out, ep)
	}
	return out
}

// besideHealthy adds a namespace of workloads that are well.
func besideHealthy(objs []object) []object {
	node := ""
	for _, o := range objs {
		for _, k := range listAt(o, "status", "conditions") {
			if o["kind"] == "Node" && k["type"] == "Ready" && k["status"] == "True" {
				node = at(o, "metadata")["name"].(string)
			}
		}
	}
	const old = "2025-11-02T08:00:00Z"
	meta := func(name string, more object) object {
		m := object{"namespace": "bystanders", "name": name, "creationTimestamp": old, "labels": object{"app": name}}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	objs = append(objs, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "bystanders", "creationTimestamp": old}, "status": object{"phase": "Active"}})
	for i := range 4 {
		n, ip := fmt.Sprintf("by-%d", i), fmt.Sprintf("10.250.0.%d", i+1)
		spec := object{"containers": []any{object{"name": n, "image": "registry.example/by:1", "ports": []any{object{"containerPort": 9090}}}}, "nodeName": node}
		ready := []any{object{"type": "Ready", "status": "True"}, object{"type": "PodScheduled", "status": "True"}}
		objs = append(objs,
			object{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(n, nil), "spec": object{"replicas": 1, "serviceName": n, "selector": object{"matchLabels": object{"app": n}}, "template": object{"metadata": object{"labels": object{"app": n}}, "spec": spec}},
				"status": object{"replicas": 1, "readyReplicas": 1}},
			object{"apiVersion": "v1", "kind": "Pod", "metadata": meta(n+"-0", object{"labels": object{"app": n}, "ownerReferences": []any{object{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": n, "uid": "", "controller": true}}}), "spec": spec,
				"status": object{"phase": "Running", "podIP": ip, "conditions": ready, "containerStatuses": []any{object{"name": n, "ready": true, "restartCount": 0, "image": "registry.example/by:1", "imageID": "", "state": object{"running": object{"startedAt": old}}}}}},
			object{"apiVersion": "v1", "kind": "Service", "metadata": meta(n, nil), "spec": object{"selector": object{"app": n}, "ports": []any{object{"port": 80, "targetPort": 9090}}}},
			object{"apiVersion": "v1", "kind": "Endpoints", "metadata": meta(n, nil), "subsets": []any{object{"addresses": []any{object{"ip": ip}}, "ports": []any{object{"port": 9090}}}}})
	}
	return objs
}
