package correlator

import (
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// workloadKind reports whether kind runs pods under a name of its own.
func workloadKind(kind string) bool {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Rollout", "ReplicationController", "CloneSet":
		return true
	}
	return false
}

// namesake reports whether an object of kind is told by the name of the workload it belongs to.
func namesake(kind string) bool {
	switch kind {
	case "Service", "Endpoints", "EndpointSlice", "HorizontalPodAutoscaler", "VerticalPodAutoscaler", "PodDisruptionBudget", "ScaledObject", "ServiceMonitor", "VirtualService", "DestinationRule", "ServiceEntry":
		return true
	}
	return false
}

// wideKind reports whether an alert on such an entity may mean something narrower in it.
func wideKind(kind string) bool {
	switch kind {
	case "Alert", "Cluster", "Namespace", "Target", "Unknown", "Container", "Instance":
		return true
	}
	return false
}

// placeLabels keeps the labels that name an entity; nil when there are none.
func placeLabels(labels map[string]string) map[string]string {
	var out map[string]string
	for k, v := range labels {
		switch k {
		case "namespace", "exported_namespace", "pod", "pod_name", "deployment", "statefulset", "daemonset", "replicaset", "job_name", "cronjob", "service", "node", "nodename", "persistentvolumeclaim", "workload", "app", "app_kubernetes_io_name", "horizontalpodautoscaler", "ingress", "exported_service", "destination_service", "container", "resourcequota":
			if v != "" {
				if out == nil {
					out = make(map[string]string)
				}
				out[k] = v
			}
		}
	}
	return out
}

// narrowed returns the entity that labels name inside a wider one. Where they give no namespace,
// labels come back too: which entity they mean depends on what is known of the cluster.
func narrowed(e incident.Entity, labels map[string]string) (incident.Entity, map[string]string) {
	ns := labels["namespace"]
	if ns == "" {
		ns = labels["exported_namespace"]
	}
	if ns == "" && e.Kind == "Namespace" {
		ns = e.Name
	}
	for _, lk := range labelKinds() {
		name := labels[lk[0]]
		switch {
		case name == "":
		case lk[1] == "Node":
			return incident.Entity{Kind: "Node", Name: name}, nil
		case ns != "":
			return incident.Entity{Kind: lk[1], Namespace: ns, Name: name}, nil
		default:
			e.Name += "/" + lk[0] + "=" + name
			return e, labels
		}
	}
	return e, nil
}

// labelKinds says which label names which kind, narrowest first.
func labelKinds() [][2]string {
	return [][2]string{{"pod", "Pod"}, {"pod_name", "Pod"}, {"persistentvolumeclaim", "PersistentVolumeClaim"}, {"job_name", "Job"}, {"cronjob", "CronJob"}, {"statefulset", "StatefulSet"}, {"daemonset", "DaemonSet"},
		{"deployment", "Deployment"}, {"replicaset", "ReplicaSet"}, {"horizontalpodautoscaler", "HorizontalPodAutoscaler"}, {"workload", "Deployment"}, {"exported_service", "Service"}, {"destination_service", "Service"},
		{"service", "Service"}, {"app_kubernetes_io_name", "Service"}, {"app", "Service"}, {"ingress", "Ingress"}, {"node", "Node"}, {"nodename", "Node"}, {"container", "Service"}}
}

// byLabels returns the entity that the labels name, narrowest first; ok is false when they name
// none. A name without a namespace that fits several namespaces stays ambiguous: the entity is
// then zero and fits says which.
func (r *resolver) byLabels(labels map[string]string) (e incident.Entity, fits []subjectKey, ok bool) {
	ns := labels["namespace"]
	if ns == "" {
		ns = labels["exported_namespace"]
	}
	for _, lk := range labelKinds() {
		name := labels[lk[0]]
		if name == "" {
			continue
		}
		if lk[1] == "Node" {
			return incident.Entity{Kind: "Node", Name: name}, nil, true
		}
		if ns != "" {
			return incident.Entity{Kind: lk[1], Namespace: ns, Name: name}, nil, true
		}
		for k := range r.known {
			if k.name == name && k.kind == "" {
				fits = append(fits, k)
			}
		}
		slices.SortFunc(fits, compareKeys)
		switch len(fits) {
		case 0:
		case 1:
			return incident.Entity{Kind: lk[1], Namespace: fits[0].namespace, Name: name}, nil, true
		default:
			return incident.Entity{}, fits, true
		}
	}
	return incident.Entity{}, nil, false
}

// resolver ties objects of one cluster to what fails as one thing. It is rebuilt when the
// cluster's knowledge changed.
type resolver struct {
	cl    *clusterState
	known map[subjectKey]incident.Entity
	cache map[incident.Entity]subjectKey
	// owners holds what topology and signals say of an object's owner, one step.
	owners map[incident.Entity]incident.Entity
}

func newResolver(cl *clusterState) *resolver {
	cl.topo.rebuild()
	r := &resolver{cl: cl, known: make(map[subjectKey]incident.Entity, len(cl.topo.kinds)), cache: make(map[incident.Entity]subjectKey), owners: cl.topo.owner}
	for k, e := range cl.topo.kinds {
		r.learn(k, e)
	}
	for _, o := range cl.objects {
		if workloadKind(o.owner.Kind) {
			r.learn(subjectKey{namespace: o.owner.Namespace, name: o.owner.Name}, o.owner)
		}
		if workloadKind(o.entity.Kind) {
			r.learn(subjectKey{namespace: o.entity.Namespace, name: o.entity.Name}, o.entity)
		}
	}
	return r
}

func (r *resolver) learn(k subjectKey, e incident.Entity) {
	if old, ok := r.known[k]; !ok || compareEntities(e, old) < 0 {
		r.known[k] = e
	}
}

// subject returns what object o fails as.
func (r *resolver) subject(o *object) subjectKey {
	if o.labels != nil {
		e, fits, ok := r.byLabels(o.labels)
		if ok && len(fits) == 0 {
			return r.key(e)
		}
		return subjectKey{kind: o.entity.Kind, namespace: o.entity.Namespace, name: o.entity.Name}
	}
	if !o.owner.IsZero() && o.entity.Kind != "Service" && o.entity.Kind != "Job" {
		return r.key(o.owner)
	}
	if o.entity.Kind == "Service" && workloadKind(o.owner.Kind) {
		return r.key(o.owner)
	}
	return r.key(o.entity)
}

// key returns the subject of an entity.
func (r *resolver) key(e incident.Entity) subjectKey {
	e.UID = ""
	if k, ok := r.cache[e]; ok {
		return k
	}
	k := r.resolve(e, 0)
	r.cache[e] = k
	return k
}

func (r *resolver) resolve(e incident.Entity, depth int) subjectKey {
	switch {
	case workloadKind(e.Kind):
		return subjectKey{namespace: e.Namespace, name: e.Name}
	case e.Kind == "Node":
		return subjectKey{kind: "Node", name: e.Name}
	case e.Kind == "Cluster" || e.Kind == "APIServer" || e.Kind == "ControlPlane":
		return subjectKey{kind: "Cluster", name: string(r.cl.name)}
	case e.Kind == "Namespace":
		return subjectKey{kind: "Namespace", name: e.Name}
	case e.Kind == "ResourceQuota" || e.Kind == "LimitRange":
		return subjectKey{kind: "Namespace", name: e.Namespace}
	}
	if own, ok := r.owners[e]; ok && depth < 4 && own != e && e.Kind != "Job" {
		return r.resolve(own, depth+1)
	}
	switch {
	case e.Kind == "Service" && len(r.cl.topo.routes[e]) > 0 && depth < 4:
		return r.resolve(r.cl.topo.routes[e][0], depth+1)
	case namesake(e.Kind):
		return r.namesake(e)
	case e.Kind == "Pod" || e.Kind == "ReplicaSet" || e.Kind == "Container":
		return subjectKey{namespace: e.Namespace, name: r.base(e)}
	case e.Kind == "Job":
		return subjectKey{kind: "Job", namespace: e.Namespace, name: trimJob(e.Name)}
	}
	return subjectKey{kind: e.Kind, namespace: e.Namespace, name: e.Name}
}

func (r *resolver) namesake(e incident.Entity) subjectKey {
	k := subjectKey{namespace: e.Namespace, name: e.Name}
	if _, ok := r.known[k]; ok {
		return k
	}
	for _, suffix := range []string{"-service", "-svc", "-headless", "-hpa", "-pdb", "-http", "-internal"} {
		if base, ok := strings.CutSuffix(e.Name, suffix); ok {
			short := subjectKey{namespace: e.Namespace, name: base}
			if _, ok := r.known[short]; ok {
				return short
			}
		}
	}
	return k
}

// base returns the name of the workload a pod or replica set is named after: the longest known
// one that fits, else what is left when the generated parts are cut off.
func (r *resolver) base(e incident.Entity) string {
	name := e.Name
	for i := len(name) - 1; i > 0; i-- {
		if name[i] != '-' {
			continue
		}
		if _, ok := r.known[subjectKey{namespace: e.Namespace, name: name[:i]}]; ok {
			return name[:i]
		}
	}
	if _, ok := r.known[subjectKey{namespace: e.Namespace, name: name}]; ok {
		return name
	}
	cut := strings.LastIndexByte(name, '-')
	if cut <= 0 {
		return name
	}
	last, rest := name[cut+1:], name[:cut]
	if e.Kind == "ReplicaSet" {
		if generated(last, 4, 10) {
			return rest
		}
		return name
	}
	if digits(last) {
		return rest
	}
	if !generated(last, 4, 10) {
		return name
	}
	if cut = strings.LastIndexByte(rest, '-'); cut > 0 && generated(rest[cut+1:], 6, 10) && hasDigit(rest[cut+1:]) {
		return rest[:cut]
	}
	return rest
}

// trimJob cuts the time a CronJob appends to the names of its Jobs.
func trimJob(name string) string {
	if i := strings.LastIndexByte(name, '-'); i > 0 && len(name)-i > 6 && digits(name[i+1:]) {
		return name[:i]
	}
	return name
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}

func hasDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

// generated reports whether s looks like a part Kubernetes generates (letters and digits, no
// vowel in those it makes itself, but other clients differ).
func generated(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'z') {
			return false
		}
	}
	return hasDigit(s) || !strings.ContainsAny(s, "aeiou")
}

// rebuild makes the indexes of the merged topology when it changed.
func (t *topology) rebuild() {
	if !t.stale && t.owner != nil {
		return
	}
	t.stale = false
	t.owner = make(map[incident.Entity]incident.Entity)
	t.runsOn = make(map[incident.Entity]string)
	t.mounts = make(map[incident.Entity][]incident.Entity)
	t.routes = make(map[incident.Entity][]incident.Entity)
	t.kinds = make(map[subjectKey]incident.Entity)
	t.callEdges = t.callEdges[:0]
	sources := make([]string, 0, len(t.bySource))
	for s := range t.bySource {
		sources = append(sources, s)
	}
	slices.Sort(sources)
	for _, s := range sources {
		for _, e := range t.bySource[s].Edges {
			t.add(e.From.Key(), e.To.Key(), e.Kind)
		}
	}
}

func (t *topology) add(from, to incident.Entity, kind incident.EdgeKind) {
	for _, e := range []incident.Entity{from, to} {
		if workloadKind(e.Kind) {
			t.kinds[subjectKey{namespace: e.Namespace, name: e.Name}] = e
		}
	}
	switch kind {
	case incident.Owns:
		t.owner[to] = from
	case incident.RunsOn:
		t.runsOn[from] = to.Name
	case incident.Mounts:
		t.mounts[from] = append(t.mounts[from], to)
	case incident.RoutesTo:
		t.routes[from] = append(t.routes[from], to)
	case incident.Calls:
		t.callEdges = append(t.callEdges, [2]incident.Entity{from, to})
	}
}
