package alerts

import (
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// entityLabels maps labels of kube-state-metrics, cAdvisor and common exporters to kinds, the
// narrowest first. Cluster-scoped kinds take no namespace.
var entityLabels = []struct {
	label, kind string
	scoped      bool
}{
	{"pod", "Pod", true}, {"pod_name", "Pod", true}, {"job_name", "Job", true}, {"cronjob", "CronJob", true},
	{"statefulset", "StatefulSet", true}, {"daemonset", "DaemonSet", true}, {"deployment", "Deployment", true}, {"replicaset", "ReplicaSet", true},
	{"persistentvolumeclaim", "PersistentVolumeClaim", true}, {"horizontalpodautoscaler", "HorizontalPodAutoscaler", true}, {"hpa", "HorizontalPodAutoscaler", true},
	{"poddisruptionbudget", "PodDisruptionBudget", true}, {"ingress", "Ingress", true}, {"persistentvolume", "PersistentVolume", false},
	{"node", "Node", false}, {"nodename", "Node", false}, {"service", "Service", true}, {"resourcequota", "ResourceQuota", true}, {"namespace", "Namespace", false},
}

// severities maps the usual values of the label severity; anything else is a warning.
var severities = map[string]incident.Severity{
	"critical": incident.Critical, "page": incident.Critical, "error": incident.Critical, "emergency": incident.Critical, "high": incident.Critical,
	"info": incident.Info, "none": incident.Info, "informational": incident.Info,
}

// heartbeats are alerts that fire always, by design: their absence means something, not they.
var heartbeats = map[string]bool{"Watchdog": true, "DeadMansSwitch": true}

func entityOf(labels map[string]string, alertname string) incident.Entity {
	for _, l := range entityLabels {
		v := labels[l.label]
		if v == "" {
			continue
		}
		e := incident.Entity{Kind: l.kind, Name: v}
		if l.scoped {
			if e.Namespace = namespaceOf(labels); e.Namespace == "" {
				continue // the name alone fits many
			}
		}
		return e
	}
	return incident.Entity{Kind: "Alert", Name: alertname}
}

func namespaceOf(labels map[string]string) string {
	if v := labels["exported_namespace"]; v != "" { // set when the scraper's own label would hide it
		return v
	}
	return labels["namespace"]
}

// signalOf turns one alert into a signal. Its time is when the source says that it started (or
// ended), so that a repeat has the same ID.
func signalOf(a alert, c incident.ClusterName, now time.Time) (incident.Signal, error) {
	name := a.Labels["alertname"]
	if name == "" {
		return incident.Signal{}, incident.Invalidf("label alertname is missing")
	}
	if len(a.Labels) > maxLabels {
		return incident.Signal{}, incident.Invalidf("alert %s has %d labels, limit %d", incident.UntrustedText(name).Plain(60), len(a.Labels), maxLabels)
	}
	s := incident.Signal{Source: source(c), Cluster: c, Entity: entityOf(a.Labels, name), Kind: incident.Alert, Severity: incident.Warning, Reason: name,
		Labels: map[string]string{}, Time: a.StartsAt.UTC()}
	for k, v := range a.Labels {
		s.Labels[incident.Clip(k, 253)] = incident.Clip(v, 1024)
	}
	if v, ok := severities[a.Labels["severity"]]; ok {
		s.Severity = v
	}
	if heartbeats[name] {
		s.Severity = incident.Info
	}
	switch a.Status {
	case "firing":
		s.Status = incident.Firing
	case "resolved":
		s.Status, s.Time = incident.Resolved, a.EndsAt.UTC()
	default:
		return incident.Signal{}, incident.Invalidf("alert %s: status %q: want firing or resolved", incident.UntrustedText(name).Plain(60), incident.Clip(a.Status, 20))
	}
	if y := s.Time.Year(); y < 1970 || y > 2261 {
		s.Time = now
	}
	for _, k := range []string{"summary", "description", "message"} {
		if v := a.Annotations[k]; v != "" {
			s.Message = incident.UntrustedText(incident.Clip(v, 2000))
			break
		}
	}
	if n := a.Labels["node"]; n != "" && s.Entity.Kind != "Node" {
		s.Factors = incident.Factors{incident.FactorNode: incident.Clip(n, 253)}
	}
	s.ID = incident.NewSignalID(&s)
	return s, s.Validate()
}
