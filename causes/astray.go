package causes

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// accessLine finds request path and status in the usual access log forms ("GET /x HTTP/1.1" 404).
var accessLine = regexp.MustCompile(`"(?:GET|POST|PUT|DELETE|PATCH|HEAD) (/[^\s"?]*)[^"]*" (\d{3})\b`)

// requestsAstray names workloads whose requests a gateway sends elsewhere, by what users and
// gateways see: answers "not found" for one group of paths while the workload that serves them is
// well and its neighbours' paths work.
func requestsAstray(c *scan) {
	for _, a := range c.Alerts {
		text := strings.Join(a.Text, " ")
		if a.Entry == "" || !has(text, "404", "405 ", "method not allowed", "not found") {
			continue
		}
		for _, w := range c.named(c.Namespace, a.Entry) {
			if short(w) {
				continue
			}
			score := 0.82
			if a.Count >= 3 {
				score = 0.87
			}
			s := c.blame("GatewayMisrouted", w.Entity, score, "requests for %s (%s) are answered %q, though it is well: they are sent elsewhere", w.Entity, a.Request, incident.Clip(text, 60))
			s.quote("alerts", w.Entity, a.Name+" "+a.Request+": "+text, time.Time{}).explain(w.Entity, "")
			c.whoAnswers(s, w, a.Request)
		}
	}
	for _, w := range c.Workloads() {
		if len(c.callees(w)) >= 3 {
			c.astrayByLog(w)
		}
	}
}

// callees returns the workloads a workload calls.
func (c *scan) callees(w *cluster.Workload) []*cluster.Workload {
	var out []*cluster.Workload
	for _, n := range c.needsOf(w.Entity) {
		if n.host.Service == nil {
			continue
		}
		ws, _ := c.ServiceWorkloads(n.host.Service)
		for _, o := range ws {
			if o != w && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out
}

// whoAnswers cites the workload that got the requests meant for another.
func (c *scan) whoAnswers(s *suspect, meant *cluster.Workload, path string) {
	if len(path) < 4 {
		return
	}
	path, _, _ = strings.Cut(path, "{")
	for i := range c.Logs {
		l := &c.Logs[i]
		p, ok := c.Pods.Get(l.Namespace, l.Pod)
		if !ok || proxyContainer(l.Container) {
			continue
		}
		w := c.WorkloadOf(p)
		if w == nil || w == meant || len(c.callees(w)) >= 3 {
			continue
		}
		for line := range strings.Lines(l.Current) {
			if strings.Contains(line, path) && strings.Contains(line, "404") {
				s.score = max(s.score, 0.94)
				s.quote("logs", podEntity(p), line, time.Time{}).relate(w.Entity)
				return
			}
		}
	}
}

// astrayByLog reads a gateway's access log: groups of paths that are never found.
func (c *scan) astrayByLog(gw *cluster.Workload) {
	type tally struct{ all, lost int }
	groups := map[string]*tally{}
	example := map[string]string{}
	for _, p := range live(gw) {
		for _, l := range c.PodLogs(p.Namespace, p.Name) {
			if !strings.Contains(l.Current, "HTTP/") {
				continue
			}
			for line := range strings.Lines(l.Current) {
				m := accessLine.FindStringSubmatch(incident.Clip(line, maxLine))
				if m == nil {
					continue
				}
				g := pathGroup(m[1])
				if groups[g] == nil {
					groups[g] = &tally{}
				}
				groups[g].all++
				if m[2] == "404" || m[2] == "405" {
					groups[g].lost++
					example[g] = line
				}
			}
		}
	}
	well := 0
	for _, t := range groups {
		if t.lost == 0 {
			well++
		}
	}
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		t := groups[g]
		if t.lost < 3 || t.lost*10 < t.all*9 || well == 0 {
			continue
		}
		w := c.serves(c.callees(gw), g)
		if w == nil || short(w) {
			continue
		}
		s := c.blame("GatewayMisrouted", w.Entity, 0.85, "%s answers %d of %d requests for %s with \"not found\", though %s is well: they are sent elsewhere", gw.Entity, t.lost, t.all, g, w.Entity)
		s.quote("logs", gw.Entity, example[g], time.Time{}).explain(w.Entity, "").relate(gw.Entity)
		c.whoAnswers(s, w, g)
		s.step(gw.Entity, "Correct the route of %s for %s", gw.Entity, g)
	}
}

// pathGroup cuts a path to the part that routes: the first segment that is no version or "api".
func pathGroup(p string) string {
	var out []string
	for _, seg := range strings.Split(strings.Trim(p, "/"), "/") {
		out = append(out, seg)
		if seg != "api" && (len(seg) > 3 || len(seg) > 0 && seg[0] != 'v') {
			break
		}
	}
	return "/" + strings.Join(out, "/")
}

// serves returns the workload whose own part of its name stands in the path; nil when none or
// several do.
func (c *scan) serves(ws []*cluster.Workload, path string) *cluster.Workload {
	words := map[string]int{}
	for _, w := range ws {
		for _, t := range strings.Split(w.Entity.Name, "-") {
			words[t]++
		}
	}
	flat := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(path))
	var best *cluster.Workload
	longest := 2
	for _, w := range ws {
		own := ""
		for _, t := range strings.Split(w.Entity.Name, "-") {
			if words[t]*2 <= len(ws) || len(ws) < 3 {
				own += t
			}
		}
		switch {
		case len(own) > longest && strings.Contains(flat, own):
			best, longest = w, len(own)
		case len(own) == longest && best != nil && strings.Contains(flat, own):
			best = nil
		}
	}
	return best
}
