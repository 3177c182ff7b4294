package correlator

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// sourceState is what is known of one source of a cluster by its coverage signals.
type sourceState struct {
	last   millis
	every  millis // the source's own promise; 0: Config.Heartbeat
	silent bool   // said so itself
	saidAt millis
	beats  bool
	detail string
}

// cover takes a coverage signal: status firing says that the source lags or is silent (reason
// and message say how), resolved that it is well. The label "every" (Go duration) promises the
// next heartbeat.
func (c *Correlator) cover(cl *clusterState, s *incident.Signal, t millis) {
	src := cl.sources[s.Source]
	if src == nil {
		if len(cl.sources) >= 256 {
			return
		}
		src = &sourceState{}
		cl.sources[s.Source] = src
	}
	src.beats = true
	src.last = max(src.last, t)
	if t < src.saidAt {
		return
	}
	src.saidAt = t
	was := src.silent
	src.silent = s.Status == incident.Firing && s.Severity != incident.Info
	src.detail = s.Message.Plain(200)
	if every, err := time.ParseDuration(s.Labels["every"]); err == nil && every > 0 && every <= 24*time.Hour {
		src.every = every.Milliseconds()
	}
	if was != src.silent {
		c.dirty = true
	}
}

// Coverage returns what was seen of every cluster, in order of name. A cluster is silent when a
// source that sends heartbeats missed them for three times its interval, or said so itself; one
// that never sent a heartbeat is silent when nothing came for Config.Memory.
func (c *Correlator) Coverage() []incident.ClusterCoverage {
	out := make([]incident.ClusterCoverage, 0, len(c.order))
	for _, cl := range c.order {
		out = append(out, c.coverageOf(cl))
	}
	slices.SortFunc(out, func(a, b incident.ClusterCoverage) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return out
}

func (c *Correlator) coverageOf(cl *clusterState) incident.ClusterCoverage {
	now := c.now()
	out := incident.ClusterCoverage{Cluster: cl.name, LastSeen: fromMillis(cl.last)}
	names := make([]string, 0, len(cl.sources))
	for n := range cl.sources {
		names = append(names, n)
	}
	slices.Sort(names)
	beating, quiet := 0, 0
	for _, n := range names {
		s := cl.sources[n]
		every := s.every
		if every == 0 {
			every = c.cfg.Heartbeat.Milliseconds() / 3
		}
		sc := incident.SourceCoverage{Source: shortSource(n), State: incident.Seen, Detail: s.detail}
		beating++
		if s.silent {
			sc.State, quiet = incident.NotSeen, quiet+1
		} else if now-s.last > 3*every+c.cfg.Skew.Milliseconds() {
			sc.State, sc.Detail, quiet = incident.NotSeen, "no heartbeat since "+fromMillis(s.last).Format(time.TimeOnly)+" UTC", quiet+1
		}
		out.Sources = append(out.Sources, sc)
	}
	switch {
	case beating > 0:
		out.Silent = quiet == beating
	default:
		out.Silent = now-cl.last > c.cfg.Memory.Milliseconds()
	}
	return out
}

// shortSource turns "/clusters/eu-1/collectors/kube" into "collectors/kube".
func shortSource(s string) string {
	if rest, ok := strings.CutPrefix(s, "/clusters/"); ok {
		if _, tail, ok := strings.Cut(rest, "/"); ok {
			return tail
		}
	}
	return s
}

// unseen returns the clusters of which a source or all is silent, bounded, most silent first.
func (c *Correlator) unseen() []incident.ClusterCoverage {
	var out []incident.ClusterCoverage
	for _, cl := range c.byName {
		if len(cl.sources) == 0 && c.now()-cl.last <= c.cfg.Memory.Milliseconds() {
			continue
		}
		cov := c.coverageOf(cl)
		for _, s := range cov.Sources {
			if s.State == incident.NotSeen {
				cov.Silent = cov.Silent || len(cov.Sources) == 1
				out = append(out, cov)
				break
			}
		}
		if len(cov.Sources) == 0 && cov.Silent {
			out = append(out, cov)
		}
	}
	slices.SortStableFunc(out, func(a, b incident.ClusterCoverage) int { return a.LastSeen.Compare(b.LastSeen) })
	return out[:min(len(out), c.cfg.Members)]
}

// silentText says it for a person: "eu-3 not seen since 12:04".
func silentText(cov incident.ClusterCoverage) string {
	if cov.Silent {
		return string(cov.Cluster) + " not seen since " + cov.LastSeen.Format("15:04") + " UTC"
	}
	n := 0
	for _, s := range cov.Sources {
		if s.State == incident.NotSeen {
			n++
		}
	}
	return string(cov.Cluster) + ": " + strconv.Itoa(n) + " of " + strconv.Itoa(len(cov.Sources)) + " sources not seen"
}
