package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tocsin-io/tocsin/incident"
)

// json takes one JSON file: an object, a list, several of them one after the other, or one of
// the snapshot's own documents.
func (r *reader) json(p string, raw []byte) error {
	for i := skipSpace(raw, 0); i < len(raw); i = skipSpace(raw, i) {
		end, ok := skipValue(raw, i)
		if !ok {
			r.b.Gap("%s is cut off or nested deeper than %d", p, maxDepth)
			return nil
		}
		doc := raw[i:end]
		i = end
		var err error
		switch doc[0] {
		case '{':
			err = r.document(p, doc)
		case '[':
			err = r.array(p, doc)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// yaml takes one YAML file of one or several documents.
func (r *reader) yaml(p string, raw []byte) error {
	for _, doc := range splitYAML(raw) {
		if depth := yamlDepth(doc); depth > maxDepth {
			r.b.Gap("%s is nested deeper than %d", p, maxDepth)
			continue
		}
		j, err := yaml.YAMLToJSON(doc)
		if err != nil {
			r.b.Gap("%s: %v", p, err)
			continue
		}
		if err := r.json(p, j); err != nil {
			return err
		}
	}
	return nil
}

// splitYAML cuts a stream at lines that begin with "---".
func splitYAML(raw []byte) [][]byte {
	var out [][]byte
	for len(raw) > 0 {
		i := bytes.Index(raw, []byte("\n---"))
		if i < 0 {
			return append(out, raw)
		}
		out = append(out, raw[:i+1])
		raw = raw[i+4:]
	}
	return out
}

// yamlDepth estimates the nesting of a YAML document: flow brackets plus indentation.
func yamlDepth(doc []byte) int {
	flow, deepest := 0, 0
	for line := range bytes.Lines(doc) {
		indent := len(line) - len(bytes.TrimLeft(line, " -"))
		for _, c := range line {
			switch c {
			case '{', '[':
				flow++
			case '}', ']':
				flow = max(flow-1, 0)
			}
			deepest = max(deepest, flow+min(indent, 4*maxDepth)/2)
		}
	}
	return deepest
}

// document takes one JSON object: a Kubernetes object or list, the snapshot's description, a
// Prometheus answer.
func (r *reader) document(p string, raw []byte) error {
	m := members(raw, "apiVersion", "kind", "items", "collectedAt", "data", "cluster")
	kind, version := text(m["kind"]), text(m["apiVersion"])
	switch {
	case kind == "" && m["collectedAt"] != nil && m["cluster"] != nil:
		if err := json.Unmarshal(raw, &r.meta); err != nil {
			r.b.Gap("%s: %v", p, err)
		}
		return nil
	case kind == "" && m["data"] != nil:
		r.prometheus(p, m["data"])
		return nil
	case m["items"] != nil && (kind == "" || strings.HasSuffix(kind, "List")):
		return r.list(p, version, kind, m["items"])
	case kind != "":
		return r.object(p, version, kind, raw)
	}
	return nil
}

// list takes the items of a list. Its kind ("PodList") or its file's name tells what was asked
// for when it is empty.
func (r *reader) list(p, version, kind string, items []byte) error {
	if isPartial(p) {
		return r.partial(p, items)
	}
	of := strings.TrimSuffix(kind, "List")
	if pl := r.d.plural(groupOf(version), of); of != "" && pl != "" {
		r.seen[pl] = true
	}
	if stem := strings.TrimSuffix(path.Base(p), path.Ext(p)); r.d.plurals[stem] {
		r.seen[stem] = true
	}
	ok, err := elements(items, func(raw []byte) error {
		m := members(raw, "apiVersion", "kind")
		k, v := text(m["kind"]), text(m["apiVersion"])
		if k == "" { // items of a typed list carry neither
			k, v = of, version
		}
		return r.object(p, v, k, raw)
	})
	if err == nil && !ok {
		r.b.Gap("%s: the list is cut off", p)
	}
	return err
}

func isPartial(p string) bool { return path.Base(path.Dir(p)) == "partial" }

func (r *reader) partial(p string, items []byte) error {
	_, err := elements(items, func(raw []byte) error {
		pod := &corev1.Pod{}
		if json.Unmarshal(raw, pod) == nil {
			r.b.AddPartial(pod)
		}
		return nil
	})
	r.b.Saw("partial/pods", incident.Seen, "")
	return err
}

func (r *reader) object(p, version, kind string, raw []byte) error {
	plural := r.d.plural(groupOf(version), kind)
	if plural == "" {
		return nil
	}
	o, err := r.d.object(version, kind, raw)
	if err == nil && o.GetName() == "" {
		err = incident.Invalidf("%s without a name", kind)
	}
	if err != nil {
		r.bad[plural]++
		r.b.Gap("%s: %v", p, err)
		return nil
	}
	r.seen[plural] = true
	r.count++
	return r.b.Add(o)
}

// array takes a JSON array: objects (older Troubleshoot bundles), probes, topology or alerts.
func (r *reader) array(p string, raw []byte) error {
	var docs [][]byte
	if ok, _ := elements(raw, func(e []byte) error { docs = append(docs, e); return nil }); !ok {
		r.b.Gap("%s: the array is cut off", p)
		return nil
	}
	stem := strings.TrimSuffix(path.Base(p), path.Ext(p))
	if len(docs) == 0 {
		switch {
		case stem == "alerts" || stem == "probes" || stem == "topology":
			r.b.Saw(stem, incident.Seen, "")
		case r.d.plurals[stem]:
			r.seen[stem] = true
		}
		return nil
	}
	m := members(docs[0], "kind", "metadata", "probe", "from", "to", "apiVersion", "labels", "evidence", "raw_error")
	switch {
	case m["metadata"] != nil && m["apiVersion"] != nil:
		for _, d := range docs {
			o := members(d, "apiVersion", "kind")
			if err := r.object(p, text(o["apiVersion"]), text(o["kind"]), d); err != nil {
				return err
			}
		}
	case m["probe"] != nil:
		r.probes(p, raw)
	case m["from"] != nil && m["to"] != nil:
		r.topology(p, raw)
	case m["labels"] != nil || m["evidence"] != nil || m["raw_error"] != nil:
		r.alerts(p, raw)
	}
	return nil
}

func (r *reader) probes(p string, raw []byte) {
	var in []struct {
		Probe, From, Namespace, Service, Node, Unit, Detail string
		Port                                                int
		OK                                                  *bool
		Active                                              json.RawMessage
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		r.b.Gap("%s: %v", p, err)
		return
	}
	for _, i := range in {
		ok := i.OK != nil && *i.OK
		if i.OK == nil {
			a := strings.Trim(string(i.Active), `"`)
			ok = a == "true" || a == "active"
		}
		r.b.AddProbes(Probe{Kind: i.Probe, From: i.From, Namespace: i.Namespace, Service: i.Service, Port: i.Port, Node: i.Node, Unit: i.Unit, OK: ok,
			Detail: incident.Clip(i.Detail, 2000)})
	}
	r.b.Saw("probes", incident.Seen, "")
}

func (r *reader) topology(p string, raw []byte) {
	var in []struct{ Namespace, From, To, Kind string }
	if err := json.Unmarshal(raw, &in); err != nil {
		r.b.Gap("%s: %v", p, err)
		return
	}
	for _, i := range in {
		r.calls = append(r.calls, Call{Namespace: i.Namespace, From: i.From, To: i.To, Kind: i.Kind})
	}
	r.b.Saw("topology", incident.Seen, "")
}

// alertForm is the union of what alert sources write.
type alertForm struct {
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	EntityName string            `json:"entity_name"`
	EntityType string            `json:"entity_type"`
	Category   string            `json:"metric_category"`
	Evidence   json.RawMessage   `json:"evidence"`
	Action     string            `json:"business_action"`
	Entry      string            `json:"entry_service"`
	RawError   json.RawMessage   `json:"raw_error"`
	URL        string            `json:"url"`
	Count      json.RawMessage   `json:"occurrences"`
	Labels     map[string]string `json:"labels"`
	Notes      map[string]string `json:"annotations"`
}

func (r *reader) alerts(p string, raw []byte) {
	var in []alertForm
	if err := json.Unmarshal(raw, &in); err != nil {
		r.b.Gap("%s: %v", p, err)
		return
	}
	for i := range in {
		r.b.AddAlerts(in[i].alert())
	}
	r.b.Saw("alerts", incident.Seen, "")
}

func (f *alertForm) alert() Alert {
	a := Alert{Name: or(f.Name, or(f.Action, f.Labels["alertname"])), Category: f.Category, Labels: f.Labels, Entry: f.Entry, Request: f.URL}
	if name := or(f.EntityName, f.Name); f.Type != "" || f.EntityType != "" {
		a.Object = incident.Entity{Kind: or(f.EntityType, f.Type), Name: name}
	} else {
		a.Object = labelledEntity(f.Labels)
	}
	a.Count, _ = strconv.Atoi(strings.Trim(string(f.Count), `"`))
	for _, v := range []json.RawMessage{f.Evidence, f.RawError} {
		a.Text = append(a.Text, texts(v)...)
	}
	for _, k := range []string{"summary", "description", "message"} {
		if s := f.Notes[k]; s != "" {
			a.Text = append(a.Text, incident.Clip(s, 4000))
		}
	}
	return a
}

// texts returns a string, the strings of an array, or the raw JSON of anything else.
func texts(raw json.RawMessage) []string {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if s := text(raw); s != "" {
		return []string{incident.Clip(s, 8000)}
	}
	var l []string
	if json.Unmarshal(raw, &l) == nil {
		for i := range l {
			l[i] = incident.Clip(l[i], 8000)
		}
		return l[:min(len(l), 100)]
	}
	return []string{incident.Clip(string(raw), 8000)}
}

// prometheus takes the data of a Prometheus answer: a range query's matrix or the alert list.
func (r *reader) prometheus(p string, data []byte) {
	m := members(data, "resultType", "result", "alerts")
	if m["alerts"] != nil {
		r.alerts(p, m["alerts"])
		return
	}
	if text(m["resultType"]) != "matrix" {
		return
	}
	ok, err := elements(m["result"], func(raw []byte) error {
		s, err := decodeSeries(raw)
		if err == nil && len(r.b.st.Series) < 100_000 {
			r.b.AddSeries(s)
		}
		return err
	})
	if err != nil || !ok {
		r.b.Gap("%s: %v", p, fmt.Errorf("bad matrix: %v", err))
		r.b.Saw("metrics", incident.Partial, "")
		return
	}
	r.b.Saw("metrics", incident.Seen, "")
}

func decodeSeries(raw []byte) (Series, error) {
	m := members(raw, "metric", "values")
	s := Series{}
	if err := json.Unmarshal(m["metric"], &s.Labels); err != nil {
		return s, err
	}
	s.Name = s.Labels["__name__"]
	delete(s.Labels, "__name__")
	s.Object = labelledEntity(s.Labels)
	_, err := elements(m["values"], func(v []byte) error {
		at, val, ok := bytes.Cut(bytes.Trim(v, "[] \t\r\n"), []byte{','})
		if !ok {
			return incident.Invalidf("sample %q", incident.Clip(string(v), 40))
		}
		t, err1 := strconv.ParseFloat(string(bytes.TrimSpace(at)), 64)
		x, err2 := strconv.ParseFloat(string(bytes.Trim(val, "\" \t\r\n")), 64)
		if err1 != nil || err2 != nil {
			return incident.Invalidf("sample %q", incident.Clip(string(v), 40))
		}
		if x == x && len(s.Points) < 20_000 { // NaN: no sample
			s.Points = append(s.Points, Point{At: int64(t * 1000), Value: x})
		}
		return nil
	})
	return s, err
}

// labelledEntity tells what a metric or alert is about from its usual labels.
func labelledEntity(l map[string]string) incident.Entity {
	ns := l["namespace"]
	switch {
	case l["pod"] != "":
		return incident.Entity{Kind: "Pod", Namespace: ns, Name: l["pod"]}
	case l["service"] != "":
		return incident.Entity{Kind: "Service", Namespace: ns, Name: l["service"]}
	case l["deployment"] != "":
		return incident.Entity{Kind: "Deployment", Namespace: ns, Name: l["deployment"]}
	case l["statefulset"] != "":
		return incident.Entity{Kind: "StatefulSet", Namespace: ns, Name: l["statefulset"]}
	case l["node"] != "":
		return incident.Entity{Kind: "Node", Name: l["node"]}
	}
	return incident.Entity{}
}
