package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tocsin-io/tocsin/incident"
)

// Write writes the state as a snapshot folder that Read reads: snapshot.json, objects/<plural>.json,
// partial/pods.json, logs, alerts.json, metrics.json, probes.json and topology.json. Secret values
// are never written: a state does not hold them. The folder is made; files of the same names in
// it are overwritten. A source that was not seen gives no file, an empty one an empty list.
func Write(dir string, s *State) error {
	w := writer{dir: dir}
	w.json("snapshot.json", map[string]string{"cluster": string(s.Name), "collectedAt": s.At.UTC().Format(time.RFC3339), "namespace": s.Namespace, "report": string(s.Report)})
	for _, l := range s.Objects.lists() {
		if len(l.items) > 0 || s.Source("objects/"+l.plural).State == incident.Seen {
			w.list("objects/"+l.plural+".json", l)
		}
	}
	if len(s.Partials) > 0 {
		l := objectList{apiVersion: "v1", kind: "Pod"}
		for _, p := range s.Partials {
			l.items = append(l.items, p)
		}
		w.list("partial/pods.json", l)
	}
	for i := range s.Logs {
		w.log(&s.Logs[i])
	}
	if s.Sees("alerts") || len(s.Alerts) > 0 {
		w.json("alerts.json", writtenAlerts(s.Alerts))
	}
	if s.Sees("probes") || len(s.Probes) > 0 {
		w.json("probes.json", writtenProbes(s.Probes))
	}
	if s.Sees("topology") || len(s.Calls) > 0 {
		w.json("topology.json", writtenCalls(s.Calls))
	}
	if s.Sees("metrics") || len(s.Series) > 0 {
		w.json("metrics.json", writtenSeries(s.Series))
	}
	if w.err != nil {
		return fmt.Errorf("write snapshot %s: %w", dir, w.err)
	}
	return nil
}

// objectList is the objects of one kind with what a list file says about them.
type objectList struct {
	plural, apiVersion, kind string
	items                    []metav1.Object
}

func listOf[T metav1.Object](plural, apiVersion, kind string, t *Table[T]) objectList {
	l := objectList{plural: plural, apiVersion: apiVersion, kind: kind}
	for _, o := range t.All() {
		l.items = append(l.items, o)
	}
	return l
}

// lists returns the objects by kind. Custom resources carry their own kind and version.
func (o *Objects) lists() []objectList {
	out := []objectList{
		listOf("pods", "v1", "Pod", &o.Pods), listOf("services", "v1", "Service", &o.Services), listOf("endpoints", "v1", "Endpoints", &o.Endpoints),
		listOf("endpointslices", "discovery.k8s.io/v1", "EndpointSlice", &o.EndpointSlices),
		listOf("deployments", "apps/v1", "Deployment", &o.Deployments), listOf("replicasets", "apps/v1", "ReplicaSet", &o.ReplicaSets),
		listOf("statefulsets", "apps/v1", "StatefulSet", &o.StatefulSets), listOf("daemonsets", "apps/v1", "DaemonSet", &o.DaemonSets),
		listOf("jobs", "batch/v1", "Job", &o.Jobs), listOf("cronjobs", "batch/v1", "CronJob", &o.CronJobs), listOf("nodes", "v1", "Node", &o.Nodes),
		listOf("persistentvolumeclaims", "v1", "PersistentVolumeClaim", &o.Claims), listOf("persistentvolumes", "v1", "PersistentVolume", &o.Volumes),
		listOf("storageclasses", "storage.k8s.io/v1", "StorageClass", &o.StorageClasses), listOf("volumeattachments", "storage.k8s.io/v1", "VolumeAttachment", &o.VolumeAttachments),
		listOf("configmaps", "v1", "ConfigMap", &o.ConfigMaps), listOf("secrets", "v1", "Secret", &o.Secrets), listOf("serviceaccounts", "v1", "ServiceAccount", &o.ServiceAccounts),
		listOf("resourcequotas", "v1", "ResourceQuota", &o.Quotas), listOf("limitranges", "v1", "LimitRange", &o.LimitRanges), listOf("namespaces", "v1", "Namespace", &o.Namespaces),
		listOf("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy", &o.NetworkPolicies), listOf("ingresses", "networking.k8s.io/v1", "Ingress", &o.Ingresses),
		listOf("ingressclasses", "networking.k8s.io/v1", "IngressClass", &o.IngressClasses),
		listOf("horizontalpodautoscalers", "autoscaling/v2", "HorizontalPodAutoscaler", &o.Autoscalers), listOf("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget", &o.Budgets),
		listOf("events", "v1", "Event", &o.Events), listOf("leases", "coordination.k8s.io/v1", "Lease", &o.Leases), listOf("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", &o.PriorityClasses),
		listOf("validatingwebhookconfigurations", "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", &o.ValidatingWebhooks),
		listOf("mutatingwebhookconfigurations", "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", &o.MutatingWebhooks),
	}
	byKind := map[string]*objectList{}
	for _, u := range o.Customs.All() {
		k := u.GetKind()
		if byKind[k] == nil {
			byKind[k] = &objectList{plural: strings.ToLower(k) + "s"}
		}
		byKind[k].items = append(byKind[k].items, u)
	}
	for _, k := range slices.Sorted(maps.Keys(byKind)) {
		out = append(out, *byKind[k])
	}
	return out
}

// writer writes files below a folder; the first error stops it.
type writer struct {
	dir string
	err error
}

// file makes name below the folder. Names come from objects and are checked: none may lead out.
func (w *writer) file(name string, write func(*bufio.Writer) error) {
	if w.err != nil {
		return
	}
	if !filepath.IsLocal(name) {
		w.err = incident.Invalidf("file name %q leads out of the folder", name)
		return
	}
	p := filepath.Join(w.dir, name)
	if w.err = os.MkdirAll(filepath.Dir(p), 0o755); w.err != nil {
		return
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		w.err = err
		return
	}
	b := bufio.NewWriter(f)
	w.err = write(b)
	if err := b.Flush(); w.err == nil {
		w.err = err
	}
	if err := f.Close(); w.err == nil {
		w.err = err
	}
}

func (w *writer) json(name string, v any) {
	w.file(name, func(b *bufio.Writer) error { return json.NewEncoder(b).Encode(v) })
}

// list writes a v1 List; typed objects get the kind and version that they lack in memory.
func (w *writer) list(name string, l objectList) {
	w.file(name, func(b *bufio.Writer) error {
		b.WriteString(`{"apiVersion":"v1","kind":"List","items":[`)
		for i, o := range l.items {
			if i > 0 {
				b.WriteByte(',')
			}
			raw, err := json.Marshal(o)
			if err != nil {
				return err
			}
			if m := members(raw, "kind"); m["kind"] == nil && len(raw) > 2 {
				fmt.Fprintf(b, `{"apiVersion":%q,"kind":%q,`, l.apiVersion, l.kind)
				raw = raw[1:]
			}
			b.Write(raw)
			b.WriteByte('\n')
		}
		_, err := b.WriteString("]}\n")
		return err
	})
}

func (w *writer) log(l *Log) {
	base := "logs/" + l.Namespace + "/" + l.Pod + "/" + l.Container
	for suffix, s := range map[string]string{".log": l.Current, ".previous.log": l.Previous, ".err": l.Err} {
		if s != "" {
			w.file(base+suffix, func(b *bufio.Writer) error { _, err := b.WriteString(s); return err })
		}
	}
}

func writtenAlerts(as []Alert) []map[string]any {
	out := make([]map[string]any, 0, len(as))
	for _, a := range as {
		m := map[string]any{"name": a.Name, "evidence": a.Text}
		if a.Entry != "" {
			m = map[string]any{"business_action": a.Name, "entry_service": a.Entry, "raw_error": strings.Join(a.Text, "; "), "url": a.Request, "occurrences": a.Count}
		}
		if !a.Object.IsZero() && a.Labels == nil {
			m["entity_type"], m["entity_name"] = a.Object.Kind, a.Object.Name
		}
		if a.Category != "" {
			m["metric_category"] = a.Category
		}
		if a.Labels != nil {
			m["labels"] = a.Labels
		}
		out = append(out, m)
	}
	return out
}

func writtenProbes(ps []Probe) []map[string]any {
	out := make([]map[string]any, 0, len(ps))
	for _, p := range ps {
		if p.Kind == "unit" {
			out = append(out, map[string]any{"probe": p.Kind, "node": p.Node, "unit": p.Unit, "active": p.OK, "detail": p.Detail})
			continue
		}
		out = append(out, map[string]any{"probe": p.Kind, "from": p.From, "namespace": p.Namespace, "service": p.Service, "port": p.Port, "ok": p.OK, "detail": p.Detail})
	}
	return out
}

func writtenCalls(cs []Call) []map[string]string {
	out := make([]map[string]string, 0, len(cs))
	for _, c := range cs {
		out = append(out, map[string]string{"namespace": c.Namespace, "from": c.From, "to": c.To, "kind": c.Kind})
	}
	return out
}

func writtenSeries(ss []Series) map[string]any {
	result := make([]map[string]any, 0, len(ss))
	for _, s := range ss {
		labels := map[string]string{"__name__": s.Name}
		maps.Copy(labels, s.Labels)
		values := make([][2]any, 0, len(s.Points))
		for _, p := range s.Points {
			values = append(values, [2]any{float64(p.At) / 1000, strconv.FormatFloat(p.Value, 'g', -1, 64)})
		}
		result = append(result, map[string]any{"metric": labels, "values": values})
	}
	return map[string]any{"status": "success", "data": map[string]any{"resultType": "matrix", "result": result}}
}
