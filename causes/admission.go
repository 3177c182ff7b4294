package causes

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// refusal is one way the API server said no to creating a pod of a workload.
type refusal struct {
	workload *cluster.Workload
	object   incident.Entity // what was refused to: the ReplicaSet, Job, StatefulSet …
	message  string
	at       time.Time
	source   string
}

// refusals returns what refuses pods to workloads that lack them now: the last FailedCreate of
// each controller and the ReplicaFailure conditions. Refusals that were overcome are left out: a
// roll-out creates service accounts and pods at the same time.
func (c *scan) refusals() []refusal {
	var out []refusal
	for _, w := range c.Workloads() {
		if w.Desired == 0 || w.Entity.Kind == "Pod" {
			continue
		}
		for _, e := range c.creators(w) {
			if !e.lacks {
				continue
			}
			if ev := c.lastWarning(e.entity, "FailedCreate"); ev != nil && !e.made.After(cluster.EventTime(ev)) {
				out = append(out, refusal{w, e.entity, ev.Message, cluster.EventTime(ev), "events"})
			} else if e.message != "" {
				out = append(out, refusal{w, e.entity, e.message, e.at, "objects"})
			}
		}
	}
	return out
}

// creator is an object that makes pods.
type creator struct {
	entity  incident.Entity
	lacks   bool // it wants more pods than there are
	made    time.Time
	message string // of its ReplicaFailure condition
	at      time.Time
}

// creators returns the objects that make a workload's pods now: of a Deployment the newest
// ReplicaSet (and any other that lacks pods), else the workload itself.
func (c *scan) creators(w *cluster.Workload) []creator {
	var out []creator
	switch w.Entity.Kind {
	case "Deployment", "ReplicaSet", "Rollout":
		for _, rs := range w.ReplicaSets {
			want := int32(1)
			if rs.Spec.Replicas != nil {
				want = *rs.Spec.Replicas
			}
			cr := creator{entity: cluster.EntityOf("ReplicaSet", rs), lacks: rs.Status.Replicas < want}
			for _, cond := range rs.Status.Conditions {
				if cond.Type == "ReplicaFailure" && cond.Status == corev1.ConditionTrue {
					cr.message, cr.at = cond.Message, cond.LastTransitionTime.Time
				}
			}
			out = append(out, cr)
		}
		if len(w.ReplicaSets) == 0 {
			out = append(out, c.replicaSetsOfEvents(w)...)
		}
	case "Job", "CronJob":
		for _, j := range w.Jobs {
			out = append(out, creator{entity: cluster.EntityOf("Job", j), lacks: j.Status.Active+j.Status.Succeeded+j.Status.Failed == 0})
		}
	default:
		out = append(out, creator{entity: w.Entity, lacks: int32(len(live(w))) < w.Desired})
	}
	for i := range out {
		for _, p := range w.Pods {
			if p.CreationTimestamp.After(out[i].made) && (len(out) == 1 || owned(p, out[i].entity)) {
				out[i].made = p.CreationTimestamp.Time
			}
		}
		if len(live(w)) == 0 && w.Desired > 0 && (len(out) == 1 || i == 0) && !strings.HasSuffix(w.Entity.Kind, "Job") {
			out[i].lacks = true
		}
	}
	return out
}

func owned(p *corev1.Pod, by incident.Entity) bool {
	return slices.ContainsFunc(p.OwnerReferences, func(o metaOwner) bool { return o.Kind == by.Kind && o.Name == by.Name })
}

// replicaSetsOfEvents names the ReplicaSets of a Deployment that only events mention.
func (c *scan) replicaSetsOfEvents(w *cluster.Workload) []creator {
	seen := map[string]bool{}
	var out []creator
	for _, ev := range c.Events.In(w.Entity.Namespace) {
		o := ev.InvolvedObject
		if o.Kind == "ReplicaSet" && ev.Reason == "FailedCreate" && strings.HasPrefix(o.Name, w.Entity.Name+"-") &&
			!strings.Contains(o.Name[len(w.Entity.Name)+1:], "-") && !seen[o.Name] {
			seen[o.Name] = true
			out = append(out, creator{entity: incident.Entity{Kind: "ReplicaSet", Namespace: o.Namespace, Name: o.Name}, lacks: int32(len(live(w))) < w.Desired})
		}
	}
	return out
}

// refusedPods names the causes that show as refused pods.
func refusedPods(c *scan) {
	for _, r := range c.refusals() {
		m := r.message
		switch {
		case has(m, "exceeded quota", "failed quota"):
			c.quotaRefusal(r)
		case has(m, "error looking up service account"), has(m, "serviceaccount") && has(m, "not found"):
			c.serviceAccount(r)
		case has(m, "violates podsecurity"):
			s := c.blame("PodSecurityViolation", r.workload.Entity, 0.95, "%s: the namespace's Pod Security level refuses its pods: %s", r.workload.Entity,
				between(m+"\n", "violates PodSecurity ", "\n"))
			c.refused(s, r)
			s.step(r.workload.Entity, "Change the pod template of %s so that it meets the level, or move it to a namespace with a lower one", r.workload.Entity)
		case has(m, "failed calling webhook", "failed to call webhook"):
			// see webhookUnavailable: it blames the webhook, not the workload
		case has(m, "admission webhook", "denied the request", "validatingadmissionpolicy", "denied by", "gatekeeper", "kyverno"):
			s := c.blame("AdmissionPolicyDenied", r.workload.Entity, 0.93, "%s: an admission policy refuses its pods: %s", r.workload.Entity, m)
			c.refused(s, r)
			s.step(r.workload.Entity, "Change the pod template of %s so that the policy admits it", r.workload.Entity)
		case limitRangeMessage(m):
			c.limitRange(r)
		}
	}
}

// refused adds what every refusal shows and explains.
func (c *scan) refused(s *suspect, r refusal) {
	s.quote(r.source, r.object, r.message, r.at).first(r.at).explain(r.workload.Entity, "").explain(r.object, "FailedCreate").relate(r.workload.Entity, r.object)
}

func limitRangeMessage(m string) bool {
	return has(m, "maximum cpu usage per", "maximum memory usage per", "minimum cpu usage per", "minimum memory usage per", "usage per container is", "usage per pod is",
		"limit to request ratio per", "maximum ephemeral-storage usage", "minimum ephemeral-storage usage")
}

func (c *scan) limitRange(r refusal) {
	w := r.workload
	s := c.blame("LimitRangeViolation", w.Entity, 0.95, "%s: a LimitRange refuses its pods: %s", w.Entity, r.message)
	c.refused(s, r)
	for _, lr := range c.LimitRanges.In(w.Entity.Namespace) {
		s.relate(cluster.EntityOf("LimitRange", lr))
		for i, item := range lr.Spec.Limits {
			for _, name := range slices.Sorted(maps.Keys(item.Max)) {
				q := item.Max[name]
				s.see("objects/limitranges", cluster.EntityOf("LimitRange", lr), "spec.limits["+itoa(i)+"].max."+string(name), q.String(), "")
				c.fitLimit(s, w, item, name, q)
			}
			for _, name := range slices.Sorted(maps.Keys(item.Min)) {
				q := item.Min[name]
				s.see("objects/limitranges", cluster.EntityOf("LimitRange", lr), "spec.limits["+itoa(i)+"].min."+string(name), q.String(), "")
			}
		}
	}
}

// fitLimit proposes resources inside a container maximum.
func (c *scan) fitLimit(s *suspect, w *cluster.Workload, item corev1.LimitRangeItem, name corev1.ResourceName, maximum resource.Quantity) {
	if item.Type != corev1.LimitTypeContainer || (name != corev1.ResourceCPU && name != corev1.ResourceMemory) {
		return
	}
	for i := range w.Template.Spec.Containers {
		ct := &w.Template.Spec.Containers[i]
		if q, ok := ct.Resources.Limits[name]; ok && q.Cmp(maximum) > 0 {
			params := []string{incident.ParamContainer, ct.Name, "limits." + string(name), maximum.String()}
			if rq := ct.Resources.Requests[name]; rq.Cmp(maximum) > 0 {
				params = append(params, "requests."+string(name), maximum.String())
			}
			s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.containers["+itoa(i)+"].resources.limits."+string(name), q.String(), "at most "+maximum.String())
			s.propose(incident.PatchResources, w.Entity, "set "+string(name)+" of container "+ct.Name+" to the limit range's maximum "+maximum.String(), params...)
		}
	}
}

func (c *scan) serviceAccount(r refusal) {
	w := r.workload
	name := w.Template.Spec.ServiceAccountName
	if q := between(r.message, `serviceaccount "`, `"`); q != "" {
		name = q
	}
	if _, ok := c.ServiceAccounts.Get(w.Entity.Namespace, name); ok {
		return // it was made meanwhile; the next try succeeds
	}
	s := c.blame("ServiceAccountMissing", w.Entity, 0.96, "%s uses service account %q, which does not exist in namespace %s", w.Entity, name, w.Entity.Namespace)
	c.refused(s, r)
	s.see("objects/"+plural(w.Entity.Kind), w.Entity, "spec.template.spec.serviceAccountName", name, "an existing service account"+c.nearAccount(w.Entity.Namespace, name))
	c.rollback(s, w)
	s.step(w.Entity, "Create ServiceAccount %s/%s or correct spec.template.spec.serviceAccountName of %s%s", w.Entity.Namespace, name, w.Entity, c.nearAccount(w.Entity.Namespace, name))
}

// nearAccount names the service account whose name is closest, as ", e.g. NAME".
func (c *scan) nearAccount(ns, name string) string {
	var names []string
	for _, sa := range c.ServiceAccounts.In(ns) {
		names = append(names, sa.Name)
	}
	if n := nearest(name, names); n != "" {
		return ", e.g. " + n
	}
	return ""
}

var quotaPart = regexp.MustCompile(`([a-z0-9./-]+)=([0-9A-Za-z.]+)`)

// quotaCause tells which cause a quota resource belongs to.
func quotaCause(res string) incident.CauseName {
	switch {
	case strings.Contains(res, "storage") || res == "persistentvolumeclaims":
		return "QuotaExceededStorage"
	case strings.HasSuffix(res, "cpu"):
		return "QuotaExceededCPU"
	case strings.HasSuffix(res, "memory"):
		return "QuotaExceededMemory"
	case res == "pods" || res == "count/pods":
		return "QuotaExceededPods"
	case strings.HasPrefix(res, "services") || strings.HasPrefix(res, "count/services"):
		return "QuotaExceededServices"
	}
	return ""
}

func (c *scan) quotaRefusal(r refusal) {
	w := r.workload
	ns := incident.Entity{Kind: "Namespace", Name: w.Entity.Namespace}
	requested := quotaPart.FindAllStringSubmatch(between(r.message+", used", "requested: ", ", used"), -1)
	if len(requested) == 0 { // "failed quota: X: must specify limits.memory …": the pod names no amount
		must := between(r.message+"\n", "must specify ", "\n")
		for _, f := range strings.FieldsFunc(must, func(r rune) bool { return r == ',' || r == ' ' || r == ';' }) {
			if cause := quotaCause(f); cause != "" {
				s := c.blame("LimitRangeViolation", w.Entity, 0.8, "%s names no %s, which the namespace's quota demands of every pod", w.Entity, f)
				c.refused(s, r)
				s.step(w.Entity, "Set %s on the containers of %s or give the namespace a LimitRange with defaults", f, w.Entity)
				return
			}
		}
		return
	}
	for _, q := range requested {
		cause := quotaCause(q[1])
		if cause == "" {
			continue
		}
		name := between(r.message, "exceeded quota: ", ",")
		s := c.blame(cause, ns, 0.97, "namespace %s: quota %s has no %s left; %s gets no pods", ns.Name, name, q[1], w.Entity)
		c.refused(s, r)
		c.seeQuota(s, ns, name, q[1], q[2])
	}
}

// seeQuota cites the quota and proposes the amount that would let the refused request in.
func (c *scan) seeQuota(s *suspect, ns incident.Entity, name, res, requested string) {
	q, ok := c.Quotas.Get(ns.Name, name)
	if !ok {
		return
	}
	hard, used := q.Status.Hard[corev1.ResourceName(res)], q.Status.Used[corev1.ResourceName(res)]
	if spec, ok := q.Spec.Hard[corev1.ResourceName(res)]; ok {
		hard = spec
	}
	e := cluster.EntityOf("ResourceQuota", q)
	s.relate(e).see("objects/resourcequotas", e, "status.used["+res+"]", used.String(), "below "+hard.String())
	need, err := resource.ParseQuantity(requested)
	if err != nil {
		return
	}
	total := used.DeepCopy()
	total.Add(need)
	if total.Cmp(hard) <= 0 {
		return // this resource has room; another one of the request was refused
	}
	s.propose(incident.RaiseQuota, e, "raise "+res+" of quota "+name+" from "+hard.String()+" to "+total.String(),
		incident.ParamResource, res, incident.ParamHard, total.String())
}

// fullQuota names quotas that are used up where no event says who was refused: services, storage
// and pods whose refusals went to a person or a controller that leaves no event.
func fullQuota(c *scan) {
	for _, q := range c.Quotas.All() {
		ns := incident.Entity{Kind: "Namespace", Name: q.Namespace}
		for _, res := range slices.Sorted(maps.Keys(q.Status.Hard)) {
			hard, used := q.Status.Hard[res], q.Status.Used[res]
			cause := quotaCause(string(res))
			if cause == "" || used.Cmp(hard) < 0 || hard.IsZero() && used.IsZero() && len(c.quotaEvents(q.Namespace, q.Name)) == 0 {
				continue
			}
			score, wants := 0.25, ""
			switch cause {
			case "QuotaExceededServices":
				if svc := c.serviceWanted(q.Namespace); svc != "" {
					score, wants = 0.92, svc
				}
				for _, ev := range c.quotaEvents(q.Namespace, q.Name) {
					if has(ev.Message, "requested: "+string(res)+"=") && c.age(cluster.EventTime(ev)) < time.Hour {
						score, wants = 0.93, "; "+ev.InvolvedObject.Kind+" "+ev.InvolvedObject.Name+" gets none"
					}
				}
			case "QuotaExceededStorage":
				if w := c.claimWanted(q.Namespace); w != "" {
					score, wants = 0.9, w
				}
			}
			if used.Cmp(hard) > 0 && used.Sign() > 0 && score < 0.5 {
				score = 0.3
			}
			s := c.blame(cause, ns, score, "namespace %s: quota %s has no %s left (%s of %s used)%s", ns.Name, q.Name, res, used.String(), hard.String(), wants)
			if s.score < 0.5 {
				s.level(incident.Info)
			} else if score >= 0.5 {
				s.explain(ns, "").explain(incident.Entity{Kind: "Service", Namespace: ns.Name}, "ServiceMissing")
			}
			c.seeQuota(s, ns, q.Name, string(res), oneMore(string(res)))
			if evs := c.quotaEvents(q.Namespace, q.Name); len(evs) > 0 {
				s.quote("events", cluster.EntityOf("ResourceQuota", q), evs[0].Message, cluster.EventTime(evs[0]))
			}
		}
	}
}

// oneMore is the least by which a resource of a quota is worth raising; "" where only a request
// tells how much is wanted.
func oneMore(res string) string {
	switch {
	case strings.Contains(res, "storage"):
		return "1Gi"
	case strings.HasSuffix(res, "cpu"), strings.HasSuffix(res, "memory"):
		return ""
	}
	return "1"
}

func (c *scan) quotaEvents(ns, quota string) []*corev1.Event {
	var out []*corev1.Event
	for _, ev := range c.Events.In(ns) {
		if has(ev.Message, "exceeded quota: "+strings.ToLower(quota)) {
			out = append(out, ev)
		}
	}
	return out
}

// claimWanted names a workload whose claim does not exist and could not be made.
func (c *scan) claimWanted(ns string) string {
	for _, ev := range c.Events.In(ns) {
		if ev.InvolvedObject.Kind == "StatefulSet" && ev.Reason == "FailedCreate" && has(ev.Message, "exceeded quota") && has(ev.Message, "claim") {
			return "; " + ev.InvolvedObject.Name + " gets no claim"
		}
	}
	for _, p := range c.Pods.In(ns) {
		if p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, name := range claimsOf(&p.Spec) {
			if _, ok := c.Claims.Get(ns, name); !ok && c.Sees("objects/persistentvolumeclaims") {
				return "; claim " + name + " of pod " + p.Name + " does not exist"
			}
		}
	}
	return ""
}

// serviceWanted names a service that workloads of the namespace ask for and that is missing.
func (c *scan) serviceWanted(ns string) string {
	for _, n := range c.needs() {
		if n.host.Namespace == ns && n.host.Cluster && n.host.Service == nil && n.host.Pod == nil {
			return "; service " + n.host.Name + " is missing, which " + n.caller.Entity.String() + " calls"
		}
	}
	return ""
}

var webhookName = regexp.MustCompile(`failed (?:calling|to call) webhook "([^"]+)"`)

// webhookUnavailable blames the configuration of a webhook whose backend does not answer.
func webhookUnavailable(c *scan) {
	owners := map[string]incident.Entity{}
	for _, v := range c.ValidatingWebhooks.All() {
		for _, h := range v.Webhooks {
			owners[h.Name] = cluster.EntityOf("ValidatingWebhookConfiguration", v)
		}
	}
	for _, v := range c.MutatingWebhooks.All() {
		for _, h := range v.Webhooks {
			owners[h.Name] = cluster.EntityOf("MutatingWebhookConfiguration", v)
		}
	}
	for _, r := range c.refusals() {
		m := webhookName.FindStringSubmatch(r.message)
		if m == nil {
			continue
		}
		e, ok := owners[m[1]]
		if !ok {
			e = incident.Entity{Kind: "ValidatingWebhookConfiguration", Name: m[1]}
		}
		s := c.blame("AdmissionWebhookUnavailable", e, 0.95, "webhook %s does not answer, so %s gets no pods", m[1], r.workload.Entity)
		c.refused(s, r)
		if h := c.Resolve("", between(r.message, "https://", "/")); h.Cluster {
			s.relate(incident.Entity{Kind: "Service", Namespace: h.Namespace, Name: h.Name})
		}
		s.step(e, "Bring the webhook's service back, or set failurePolicy: Ignore on %s for the time being", e)
	}
}
