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

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// TestIndependentFaultsAreBothNamed puts every faulty case beside another one of other namespaces:
// each fault must be named as if it were alone. The second is one that does not depend on nodes;
// its pods run on a node of the first.
func TestIndependentFaultsAreBothNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("a pair of every case")
	}
	type faulty struct {
		name       string
		ar         *txtar.Archive
		exp        expectation
		namespaces []string
	}
	var all, guests []faulty
	for _, file := range caseFiles(t) {
		ar, exp := readCase(t, file)
		if exp.want == nil || exp.want.object.Kind == "Cluster" {
			continue
		}
		f := faulty{strings.TrimSuffix(filepath.Base(file), ".txtar"), ar, exp, namespacesOf(t, ar)}
		all = append(all, f)
		if placeless(exp) && !has(string(ar.Comment), "coredns", "istio-system") && !slices.Contains(f.namespaces, "kube-system") {
			guests = append(guests, f)
		}
	}
	for i, a := range all {
		j := slices.IndexFunc(rotate(guests, i*7), func(b faulty) bool {
			return !slices.ContainsFunc(b.namespaces, func(n string) bool { return slices.Contains(a.namespaces, n) })
		})
		if j < 0 || a.exp.want.cause == "CoreDNSDown" {
			continue
		}
		b := rotate(guests, i*7)[j]
		t.Run(a.name+"+"+b.name, func(t *testing.T) {
			t.Parallel()
			st, err := cluster.ReadFS(context.Background(), together(t, a.ar, b.ar), "pair")
			if err != nil {
				t.Fatal(err)
			}
			r := Analyze(st)
			for _, w := range append(append([]blamed{*a.exp.want, *b.exp.want}, a.exp.also...), b.exp.also...) {
				if !slices.ContainsFunc(r.Hypotheses, func(h incident.Hypothesis) bool { return w.is(h) && h.Severity != incident.Info }) {
					var got []string
					for _, h := range r.Hypotheses {
						got = append(got, fmt.Sprintf("%s %s %.2f %s", h.Cause, h.Object, h.Confidence, h.Severity))
					}
					t.Errorf("%s is not named; got\n\t%s", w, strings.Join(got, "\n\t"))
				}
			}
		})
	}
}

func rotate[T any](l []T, by int) []T {
	by %= len(l)
	return append(slices.Clone(l[by:]), l[:by]...)
}

// placeless reports whether the case's causes have nothing to do with nodes, placement or metrics.
func placeless(exp expectation) bool {
	for _, b := range append([]blamed{*exp.want}, exp.also...) {
		info, _ := incident.LookupCause(b.cause)
		switch {
		case b.object.Kind == "Node", strings.HasPrefix(string(b.cause), "PV"), b.cause == "HostPortConflict", b.cause == "PDBBlocksEviction":
			return false
		case info.Family == incident.FamilyStartup, info.Family == incident.FamilyRuntime, info.Family == incident.FamilyRouting, info.Family == incident.FamilyAdmission, info.Family == incident.FamilyDelivery:
		default:
			return false
		}
	}
	return true
}

func namespacesOf(t *testing.T, ar *txtar.Archive) []string {
	t.Helper()
	var out []string
	for _, o := range objectsOf(t, ar) {
		if o["kind"] == "Namespace" {
			out = append(out, at(o, "metadata")["name"].(string))
		} else if ns, _ := at(o, "metadata")["namespace"].(string); ns != "" && ns != "default" && !slices.Contains(out, ns) {
			out = append(out, ns)
		}
	}
	return out
}

func objectsOf(t *testing.T, ar *txtar.Archive) []object {
	t.Helper()
	var out []object
	inForm(t, ar, func(l []object) []object { out = l; return nil })
	return out
}

// otherAddresses moves a case's Services and pods to networks of their own; the cluster's DNS
// server stays.
func otherAddresses(b []byte) []byte {
	s := strings.NewReplacer("10.96.0.10", "10.96.0.10", "10.96.", "10.97.", "10.244.", "10.245.", "fd00:10:", "fd00:11:").Replace(string(b))
	return []byte(s)
}

// together joins the files of two cases; the second one's nodes are left out.
func together(t *testing.T, a, b *txtar.Archive) fstest.MapFS {
	t.Helper()
	node := ""
	files := inForm(t, a, func(l []object) []object {
		for _, o := range l {
			ready := slices.ContainsFunc(listAt(o, "status", "conditions"), func(k object) bool { return k["type"] == "Ready" && k["status"] == "True" })
			if o["kind"] == "Node" && ready {
				node = at(o, "metadata")["name"].(string)
			}
		}
		return l
	})
	for i, o := range objectsOf(t, b) {
		if o["kind"] == "Node" || o["kind"] == "EventList" {
			continue
		}
		if spec := at(o, "spec"); o["kind"] == "Pod" && spec["nodeName"] != nil {
			spec["nodeName"] = node
		}
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("objects/guest-%04d.json", i)] = &fstest.MapFile{Data: otherAddresses(raw)}
	}
	for _, f := range b.Files {
		switch f.Name {
		case "objects/all.yaml", "snapshot.json", "metrics.json", "topology.json":
		case "alerts.json", "probes.json":
			files["guest/"+f.Name] = &fstest.MapFile{Data: otherAddresses(f.Data)}
		default:
			files[f.Name] = &fstest.MapFile{Data: otherAddresses(f.Data)}
		}
	}
	return files
}
