package causes

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// condition is one entry of a custom resource's status.conditions.
type condition struct {
	Type, Status, Reason, Message, Severity string
	At                                      time.Time
}

// conditions returns status.conditions (and those of Cluster API's newer form) of a custom
// resource, in its order; entries of another shape are left out.
func conditions(u *unstructured.Unstructured) []condition {
	var out []condition
	for _, path := range [][]string{{"status", "conditions"}, {"status", "v1beta2", "conditions"}} {
		list, _, _ := unstructured.NestedSlice(u.Object, path...)
		for _, e := range list {
			m, ok := e.(map[string]any)
			if !ok {
				continue
			}
			text := func(k string) string { s, _ := m[k].(string); return s }
			at, _ := time.Parse(time.RFC3339, text("lastTransitionTime"))
			out = append(out, condition{text("type"), text("status"), text("reason"), text("message"), text("severity"), at})
		}
	}
	return out
}

// conditionOf returns the condition of a type, or a zero one.
func conditionOf(u *unstructured.Unstructured, kind string) condition {
	for _, k := range conditions(u) {
		if k.Type == kind {
			return k
		}
	}
	return condition{}
}

// field returns a string of a custom resource, "" where there is none.
func field(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

func customEntity(u *unstructured.Unstructured) incident.Entity {
	return cluster.EntityOf(u.GetKind(), u)
}

// suspended reports whether somebody told the controller to leave the object alone.
func suspended(u *unstructured.Unstructured) bool {
	on, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend")
	return on
}

func customSource(u *unstructured.Unstructured) string { return "objects/" + plural(u.GetKind()) }

// argoApplications names Argo CD applications that cannot be synced, and those whose live objects
// differ from Git although the last sync went well.
func argoApplications(c *scan) {
	for _, a := range c.Custom("Application") {
		e := customEntity(a)
		phase, message := field(a, "status", "operationState", "phase"), field(a, "status", "operationState", "message")
		failed := phase == "Failed" || phase == "Error"
		for _, k := range conditions(a) {
			switch k.Type {
			case "SyncError", "ComparisonError", "InvalidSpecError", "UnknownError":
				failed, message = true, or(message, k.Message)
			}
		}
		sync := field(a, "status", "sync", "status")
		switch {
		case failed && sync != "Synced":
			s := c.blame("GitOpsSyncFailed", e, 0.94, "%s cannot be synced: %s", e, message).explain(e, "")
			s.see(customSource(a), e, "status.operationState.phase", or(phase, "no operation"), "Succeeded")
			s.quote(customSource(a), e, message, finished(a)).first(finished(a))
			s.step(e, "Correct the manifests of %s in Git; Argo CD says: %s", e, message)
		case sync == "OutOfSync" && phase != "Running":
			c.argoDrift(a, e)
		}
	}
}

func finished(a *unstructured.Unstructured) time.Time {
	t, _ := time.Parse(time.RFC3339, field(a, "status", "operationState", "finishedAt"))
	return t
}

func (c *scan) argoDrift(a *unstructured.Unstructured, e incident.Entity) {
	s := c.blame("GitOpsDrift", e, 0.88, "%s: its live objects differ from Git", e).explain(e, "").level(incident.Warning)
	s.see(customSource(a), e, "status.sync.status", "OutOfSync", "Synced")
	list, _, _ := unstructured.NestedSlice(a.Object, "status", "resources")
	for _, r := range list {
		m, ok := r.(map[string]any)
		if !ok || m["status"] != "OutOfSync" {
			continue
		}
		kind, _ := m["kind"].(string)
		name, _ := m["name"].(string)
		ns, _ := m["namespace"].(string)
		if o := (incident.Entity{Kind: kind, Namespace: ns, Name: name}); o.Validate() == nil {
			s.relate(o).see(customSource(a), e, "status.resources["+o.String()+"].status", "OutOfSync", "Synced")
		}
	}
	s.propose(incident.GitOpsResync, e, "let Argo CD sync "+e.String()+" from Git")
}

// fluxObjects names Flux objects whose reconciliation fails: sources, Kustomizations, Helm
// releases. One that only waits for another is left to that one.
func fluxObjects(c *scan) {
	for _, kind := range []string{"GitRepository", "HelmRepository", "Kustomization", "HelmRelease"} {
		for _, u := range c.Custom(kind) {
			ready := conditionOf(u, "Ready")
			if suspended(u) || ready.Status != "False" || ready.Reason == "Progressing" || ready.Reason == "ProgressingWithRetry" || c.waitsForOther(u, ready) {
				continue
			}
			e := customEntity(u)
			cause := incident.CauseName("GitOpsSyncFailed")
			if kind == "HelmRelease" {
				cause = "HelmReleaseFailed"
			}
			s := c.blame(cause, e, 0.95, "%s fails: %s", e, or(ready.Message, ready.Reason)).explain(e, "").first(ready.At)
			s.see(customSource(u), e, "status.conditions[Ready]", "False "+ready.Reason, "True").quote(customSource(u), e, ready.Message, ready.At)
			for _, o := range c.fluxUsers(u) {
				s.relate(o).explain(o, "")
			}
			s.step(e, "Correct %s in Git; its controller says %s: %s", e, ready.Reason, ready.Message)
		}
	}
}

// waitsForOther reports whether an object is not ready only because another Flux object is not,
// and that one is in the state and fails itself.
func (c *scan) waitsForOther(u *unstructured.Unstructured, ready condition) bool {
	if ready.Reason == "DependencyNotReady" {
		return true
	}
	if ready.Reason != "ArtifactFailed" && ready.Reason != "SourceNotReady" {
		return false
	}
	for _, kind := range []string{"GitRepository", "HelmRepository"} {
		for _, o := range c.Custom(kind) {
			if conditionOf(o, "Ready").Status == "False" && refersTo(u, o) {
				return true
			}
		}
	}
	return false
}

// refersTo reports whether a Flux object takes its source from o.
func refersTo(u, o *unstructured.Unstructured) bool {
	for _, path := range [][]string{{"spec", "sourceRef"}, {"spec", "chart", "spec", "sourceRef"}, {"spec", "chartRef"}} {
		ref, ok, _ := unstructured.NestedStringMap(u.Object, path...)
		if ok && ref["kind"] == o.GetKind() && ref["name"] == o.GetName() && or(ref["namespace"], u.GetNamespace()) == o.GetNamespace() {
			return true
		}
	}
	return false
}

// fluxUsers returns what takes its source from o.
func (c *scan) fluxUsers(o *unstructured.Unstructured) []incident.Entity {
	var out []incident.Entity
	for _, kind := range []string{"Kustomization", "HelmRelease"} {
		for _, u := range c.Custom(kind) {
			if refersTo(u, o) {
				out = append(out, customEntity(u))
			}
		}
	}
	return out
}

// fluxDrift names Flux objects whose controller finds the live objects changed again and again.
func fluxDrift(c *scan) {
	for _, ev := range c.Events.All() {
		o := ev.InvolvedObject
		if o.Kind != "Kustomization" && o.Kind != "HelmRelease" || !has(ev.Reason+" "+ev.Message, "driftdetected", "drift detected", "drift corrected", "drift of") {
			continue
		}
		at := cluster.EventTime(ev)
		if c.age(at) > time.Hour || ev.Type == "Normal" && eventCount(ev) < 3 {
			continue
		}
		e := incident.Entity{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)}
		s := c.blame("GitOpsDrift", e, 0.85, "%s: its live objects differ from Git", e).explain(e, "").level(incident.Warning).first(at)
		s.quote("events", e, ev.Message, at).propose(incident.GitOpsResync, e, "let Flux reconcile "+e.String()+" from Git")
	}
}

// eventCount returns how often an event happened.
func eventCount(ev *corev1.Event) int32 {
	if ev.Series != nil {
		return max(ev.Series.Count, ev.Count, 1)
	}
	return max(ev.Count, 1)
}

// provisioning names Cluster API clusters and machines and Karpenter node claims that cannot be
// made. Conditions of severity Info and states that move on are no failure.
func provisioning(c *scan) {
	for _, u := range c.Custom("Cluster") {
		if p := field(u, "status", "phase"); p != "Provisioned" && p != "Deleting" {
			c.notProvisioned(u, "ClusterProvisioningFailed", "Ready", "InfrastructureReady", "ControlPlaneReady", "ControlPlaneInitialized", "Available")
		}
	}
	for _, u := range c.Custom("Machine") {
		if p := field(u, "status", "phase"); p != "Running" && p != "Deleting" {
			c.notProvisioned(u, "NodeProvisioningFailed", "InfrastructureReady", "BootstrapReady", "Ready", "BootstrapConfigReady")
		}
	}
	for _, u := range c.Custom("NodeClaim") {
		if conditionOf(u, "Initialized").Status != "True" && u.GetDeletionTimestamp() == nil {
			c.notProvisioned(u, "NodeProvisioningFailed", "Launched", "Registered", "Initialized", "Ready")
		}
	}
}

// notProvisioned blames u when one of its conditions says that it failed.
func (c *scan) notProvisioned(u *unstructured.Unstructured, cause incident.CauseName, types ...string) {
	e := customEntity(u)
	why := condition{Reason: field(u, "status", "failureReason"), Message: field(u, "status", "failureMessage")}
	path := "status.failureMessage"
	for _, t := range types {
		k := conditionOf(u, t)
		if why.Message == "" && k.Status == "False" && (k.Severity == "Error" || has(k.Reason+" "+k.Message, "fail", "error", "insufficient", "exceeded", "notfound", "not found", "unauthorized", "denied")) {
			why, path = k, "status.conditions["+t+"]"
		}
	}
	if why.Message == "" && why.Reason == "" {
		return
	}
	s := c.blame(cause, e, 0.94, "%s cannot be provisioned: %s", e, or(why.Message, why.Reason)).explain(e, "").first(why.At)
	s.see(customSource(u), e, path, or(why.Reason, "failed"), "none").quote(customSource(u), e, why.Message, why.At)
	if ev := c.lastWarning(e, "InsufficientCapacityError", "FailedCreate", "FailedLaunch", "LaunchFailed"); ev != nil {
		s.quote("events", e, ev.Message, cluster.EventTime(ev))
	}
	for _, p := range c.unschedulable() {
		if u.GetKind() == "NodeClaim" && has(p.message, "insufficient") {
			p.cite(s).relate(p.workload.Entity)
		}
	}
	s.step(e, "Correct what the provider refuses for %s: %s", e, or(why.Message, why.Reason))
}
