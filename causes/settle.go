package causes

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// settle ranks the suspects, folds those that others explain and gives the result.
//
// The causal graph has edges from a fault to what it breaks: a node to the workloads on it, a
// namespace's quota to the workloads refused, a workload to its pods and Services, a Service to
// its callers, and so on along the calls. A suspect is folded into another when the other
// explains it, or when it is generic and something narrower stands upstream of it. What remains
// is ranked by severity, then by score and by how much of what is wrong it explains.
func (c *scan) settle() Result {
	r := Result{Cluster: c.Name, CollectedAt: c.At, Hypotheses: []incident.Hypothesis{}, Coverage: c.Coverage()}
	c.weigh()
	kept := c.fold()
	slices.SortStableFunc(kept, func(a, b *suspect) int {
		return cmp.Or(cmp.Compare(b.severity.Rank(), a.severity.Rank()), cmp.Compare(b.effective(), a.effective()),
			cmp.Compare(string(a.cause), string(b.cause)), cmp.Compare(a.object.String(), b.object.String()))
	})
	if c.left > 0 {
		r.Coverage.Gaps = append(r.Coverage.Gaps, fmt.Sprintf("%d more suspected causes of lower rank were left out", c.left))
	}
	for i, s := range kept {
		r.Hypotheses = append(r.Hypotheses, c.hypothesis(s, i, kept))
	}
	r.unexplained = c.unexplained(kept)
	r.Verdict, r.Missing = c.verdict(kept, r.unexplained)
	return r
}

func generic(name incident.CauseName) bool {
	info, _ := incident.LookupCause(name)
	return info.Generic
}

// effective is the score by which suspects of one severity are ranked.
func (s *suspect) effective() float64 {
	e := s.score + 0.06*min(s.weight, 3)
	if generic(s.cause) {
		e -= 0.3
	}
	return e
}

// reach returns the entities that a fault of object breaks: itself, the workloads on a node, the
// Services of a workload, and the callers of those, nearest first.
func (c *scan) reach(object incident.Entity) map[incident.Entity]bool {
	if r, ok := c.reached[object.Key()]; ok {
		return r
	}
	out := map[incident.Entity]bool{}
	queue := []incident.Entity{object.Key()}
	for len(queue) > 0 && len(out) < 5000 {
		e := queue[0]
		queue = queue[1:]
		if out[e] {
			continue
		}
		out[e] = true
		switch e.Kind {
		case "Node":
			for _, p := range c.PodsOnNode(e.Name) {
				queue = append(queue, podEntity(p).Key(), c.owner(p).Key())
			}
		case "Service":
			if svc, ok := c.Services.Get(e.Namespace, e.Name); ok {
				for _, w := range c.callersOf(svc) {
					queue = append(queue, w.Entity.Key())
				}
			}
		default:
			if w := c.Workload(e); w != nil {
				for _, svc := range w.Services {
					queue = append(queue, cluster.EntityOf("Service", svc).Key())
				}
				for _, p := range w.Pods {
					out[podEntity(p).Key()] = true
				}
			}
		}
	}
	c.reached[object.Key()] = out
	return out
}

// accounts reports whether the suspect explains the symptom: it says so, the symptom is its
// object's, or a caller of it suffers.
func (c *scan) accounts(s *suspect, y *symptom) bool {
	if s.object.Key() == y.Entity.Key() || s.object.Key() == y.Owner.Key() {
		return true
	}
	for _, x := range s.explained {
		if (x.Entity.Key() == y.Entity.Key() || x.Entity.Key() == y.Owner.Key()) && (x.Reason == "" || x.Reason == y.Reason) {
			return true
		}
	}
	if namedOnly(s.cause) {
		return false
	}
	switch y.Reason {
	case "RequestsFail", "LATENCY_DEGRADATION", "ConnectionFailed", "NotReady", "NoReadyEndpoints", "Alert", "Crashing", "CrashLoopBackOff", "ReplicasUnavailable":
		r := c.reach(s.object)
		return r[y.Owner.Key()] || r[y.Entity.Key()]
	}
	return false
}

// weigh sets what part of the symptoms each suspect accounts for.
func (c *scan) weigh() {
	at := map[incident.Entity][]int{}
	for i, y := range c.symptoms {
		at[y.Entity.Key()] = append(at[y.Entity.Key()], i)
		if y.Owner.Key() != y.Entity.Key() {
			at[y.Owner.Key()] = append(at[y.Owner.Key()], i)
		}
	}
	for _, s := range c.suspects {
		var near []int
		add := func(e incident.Entity) { near = append(near, at[e.Key()]...) }
		add(s.object)
		for _, x := range s.explained {
			add(x.Entity)
		}
		for e := range c.reach(s.object) {
			add(e)
		}
		slices.Sort(near)
		for _, i := range slices.Compact(near) {
			if c.accounts(s, c.symptoms[i]) {
				c.charge(s, c.symptoms[i])
			}
		}
	}
}

// charge adds a symptom to what a suspect accounts for.
func (c *scan) charge(s *suspect, y *symptom) {
	y.by = append(y.by, s)
	near := s.object.Key() == y.Owner.Key() || s.object.Key() == y.Entity.Key()
	if near {
		s.weight += y.Weight
	} else {
		s.weight += y.Weight / 4
	}
	if len(s.explained) < 60 && (near || y.Weight >= 0.5) && !slices.ContainsFunc(s.explained, func(x incident.Explained) bool {
		return x.Entity.Key() == y.Entity.Key() && (x.Reason == y.Reason || x.Reason == "")
	}) {
		s.explained = append(s.explained, incident.Explained{Entity: y.Entity, Reason: y.Reason})
	}
}

// maxSuspects bounds what is weighed against each other: the cost grows with the square. A result
// that leaves some out says so in its coverage.
const maxSuspects = 1000

// fold leaves out the suspects that others explain.
func (c *scan) fold() []*suspect {
	order := slices.Clone(c.suspects)
	slices.SortStableFunc(order, func(a, b *suspect) int { return cmp.Compare(b.effective(), a.effective()) })
	var kept []*suspect
	if len(order) > maxSuspects {
		c.left, order = len(order)-maxSuspects, order[:maxSuspects]
	}
	for _, s := range order {
		if i := slices.IndexFunc(kept, func(k *suspect) bool { return c.explains(k, s) }); i >= 0 {
			k := kept[i]
			k.explained = append(k.explained, incident.Explained{Entity: s.object, Reason: string(s.cause)})
			k.relate(s.object)
			continue
		}
		kept = append(kept, s)
	}
	// A cause upstream may have come later in the order: look once more.
	return slices.DeleteFunc(kept, func(s *suspect) bool {
		return slices.ContainsFunc(kept, func(k *suspect) bool { return k != s && !c.explains(s, k) && c.explains(k, s) })
	})
}

// explains reports whether suspect k makes suspect s superfluous.
func (c *scan) explains(k, s *suspect) bool {
	if k == s || k.severity.Rank() < s.severity.Rank() && k.severity == incident.Info {
		return false
	}
	for _, x := range k.explained {
		if x.Entity.Key() == s.object.Key() && x.Reason == string(s.cause) {
			return true
		}
	}
	same := k.object.Key() == s.object.Key()
	if same {
		return generic(s.cause) && !generic(k.cause) && k.score >= 0.5 || generic(s.cause) && generic(k.cause) && k.effective() > s.effective()
	}
	if generic(k.cause) && k.cause != "NodeNotReady" {
		return s.cause == "NoReadyEndpoints" && c.reach(k.object)[s.object.Key()]
	}
	if k.score < 0.6 {
		return false
	}
	if k.object.Kind == "Node" && s.object.Kind != "Node" || k.object.Kind == "Namespace" {
		for _, x := range k.explained {
			if x.Entity.Key() == s.object.Key() && (generic(s.cause) || !namedOnly(k.cause) && nodeBreaks(k.cause, s.cause) && k.score >= s.score-0.02) {
				return true
			}
		}
	}
	if s.cause == "NoReadyEndpoints" {
		return c.reach(k.object)[s.object.Key()] || slices.ContainsFunc(k.explained, func(x incident.Explained) bool {
			return len(s.rel) > 0 && x.Entity.Key() == s.rel[0].Key() || x.Entity.Key() == s.object.Key()
		})
	}
	if !dependent(s.cause) || namedOnly(k.cause) {
		return false
	}
	return c.dependsOn(s.object, k.object) || slices.ContainsFunc(k.explained, func(x incident.Explained) bool {
		return x.Entity.Kind == "Service" && x.Reason == "" && c.dependsOn(s.object, x.Entity) // a Service cut off from its workload
	})
}

// nodeBreaks reports whether a fault of a node (or namespace) can make a workload look as if it
// had the narrower fault: one without service network fails connections, it misspells no setting.
func nodeBreaks(node, workload incident.CauseName) bool {
	switch node {
	case "KubeProxyDown", "NetworkPluginDown", "NodeNetworkDelay", "NodeNetworkLoss", "NodeCPUSaturated":
		return dependent(workload)
	}
	return true
}

// namedOnly reports whether a node's fault breaks no more than the pods it is seen to break: one
// under pressure evicts, one that makes no sandboxes leaves running pods alone.
func namedOnly(cause incident.CauseName) bool {
	switch cause {
	case "NodeDiskPressure", "NodeMemoryPressure", "NodePIDPressure", "EvictedByNodePressure", "SandboxCreationFailed":
		return true
	}
	return false
}

// dependent reports whether a cause may be the mere echo of a fault in something the object calls.
func dependent(name incident.CauseName) bool {
	switch name {
	case "ApplicationCrash", "BadRollout", "RolloutStuck", "NoReadyEndpoints", "InitContainerHanging", "InitContainerFailing", "DatabaseInvalidPort", "ServiceDNSFailure",
		"LivenessProbeTooAggressive", "StartupProbeTooShort", "PodNetworkDelay", "PodNetworkLoss", "PodCPUSaturated", "PodCPUThrottled":
		return true
	}
	return false
}

// dependsOn reports whether a is downstream of b: it calls it, or runs on it.
func (c *scan) dependsOn(a, b incident.Entity) bool {
	return c.reach(b)[a.Key()]
}

// hypothesis gives the suspect its outside form.
func (c *scan) hypothesis(s *suspect, i int, kept []*suspect) incident.Hypothesis {
	h := incident.Hypothesis{Rank: i + 1, Cause: s.cause, Cluster: c.Name, Object: s.object, Confidence: confidence(s, i, kept), Severity: s.severity,
		Summary: s.summary, Explains: told(s), Related: emptyNotNil(s.rel), Evidence: emptyNotNil(s.ev), Proposals: c.proposals(s), Missing: s.miss, Factors: c.Factors(s.object)}
	if !s.since.IsZero() {
		at := s.since.UTC()
		h.Since = &at
	}
	return h
}

// told gives what a suspect explains its outside form: without the object itself and without
// repetition; an entity of which every symptom is explained reads "Affected".
func told(s *suspect) []incident.Explained {
	out := []incident.Explained{}
	named := map[incident.Entity]bool{}
	for _, x := range s.explained {
		named[x.Entity.Key()] = named[x.Entity.Key()] || x.Reason != ""
	}
	for _, x := range s.explained {
		if x.Reason == "" {
			if named[x.Entity.Key()] || x.Entity.Key() == s.object.Key() || x.Entity.Name == "" {
				continue
			}
			x.Reason = "Affected"
		}
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func emptyNotNil[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// proposals completes the suspect's proposals.
func (c *scan) proposals(s *suspect) []incident.Proposal {
	out := make([]incident.Proposal, 0, len(s.props))
	for _, p := range s.props {
		p.Target.Cluster = c.Name
		p.Why, p.Confidence = string(s.cause), s.score
		for _, e := range s.ev {
			p.Evidence = append(p.Evidence, e.ID)
		}
		p.ID = incident.NewProposalID(p)
		out = append(out, p)
	}
	return out
}

// confidence maps score and rank to the share of such answers that are right; see
// docs/evaluation.md for how it was calibrated.
func confidence(s *suspect, i int, kept []*suspect) float64 {
	x := s.score
	for j, o := range kept { // a rival for the same symptoms makes the answer less sure
		if j == i || o.severity.Rank() < s.severity.Rank() {
			continue
		}
		if o.object.Key() == s.object.Key() && o.score > s.score-0.1 {
			x *= 0.8
			break
		}
	}
	x = calibrated(x)
	if s.severity == incident.Info {
		x = min(x, 0.3)
	}
	return float64(int(min(max(x, 0.05), 0.99)*100+0.5)) / 100
}

// calibrated maps a score to the share of right answers measured at such scores on the
// development cases of 2026-11-21 (188 cases; see docs/evaluation.md), a little below it where
// few cases stand behind a bin. Between the points it is linear.
func calibrated(score float64) float64 {
	points := [][2]float64{{0, 0}, {0.5, 0.5}, {0.8, 0.84}, {0.9, 0.95}, {0.97, 0.985}, {1, 0.99}}
	for i := 1; i < len(points); i++ {
		if a, b := points[i-1], points[i]; score <= b[0] {
			return a[1] + (score-a[0])/(b[0]-a[0])*(b[1]-a[1])
		}
	}
	return 0.99
}

// unexplained returns the symptoms that no kept suspect of at least even odds accounts for.
func (c *scan) unexplained(kept []*suspect) []*symptom {
	in := map[*suspect]bool{}
	for _, s := range kept {
		in[s] = s.score >= 0.5 && s.severity != incident.Info
	}
	var out []*symptom
	for _, y := range c.symptoms {
		if !slices.ContainsFunc(y.by, func(s *suspect) bool { return in[s] }) {
			out = append(out, y)
		}
	}
	return out
}

// verdict gives the short answer and what is missing for a better one.
func (c *scan) verdict(kept []*suspect, open []*symptom) (Verdict, []string) {
	var missing []string
	for _, source := range []string{"objects/pods", "objects/nodes", "events"} {
		if !c.Sees(source) {
			missing = append(missing, source+": "+string(c.Source(source).State))
		}
	}
	if slices.ContainsFunc(kept, func(s *suspect) bool { return s.severity != incident.Info && s.score >= 0.5 }) {
		return Faulty, missing
	}
	weight := 0.0
	for _, y := range open {
		weight += y.Weight
	}
	if weight >= 0.3 {
		for _, y := range open[:min(len(open), 5)] {
			missing = append(missing, "what explains "+y.Reason+" of "+y.Entity.String())
		}
		for _, source := range []string{"logs", "metrics", "probes"} {
			if !c.Sees(source) {
				missing = append(missing, source+": "+string(c.Source(source).State))
			}
		}
		return Insufficient, missing
	}
	if c.Pods.Len() == 0 && len(c.Workloads()) == 0 {
		return Insufficient, append(missing, "objects/pods: there are none to judge")
	}
	if !c.Sees("objects/pods") || !c.Sees("objects/nodes") && c.Nodes.Len() == 0 {
		return Insufficient, missing
	}
	return Healthy, nil
}
