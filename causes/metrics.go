package causes

import (
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// metricKind is what a metric measures, whatever its source calls it.
type metricKind uint8

const (
	metricOther      metricKind = iota
	metricCPU                   // cores; percent on nodes
	metricThrottle              // seconds throttled per second, or a share
	metricMemory                // bytes; percent on nodes
	metricMedian                // typical latency, milliseconds
	metricTail                  // p90 and above, milliseconds
	metricSuccess               // share of requests, 0..1
	metricRequests              // requests per second
	metricRetransmit            // TCP segments sent again per second
)

// kindOfMetric tells by the usual names of metrics.
func kindOfMetric(name string, labels map[string]string) metricKind {
	n := strings.ToLower(name)
	q := labels["quantile"]
	switch {
	case has(n, "throttl", "cpu_cfs"):
		return metricThrottle
	case has(n, "retrans", "retans"):
		return metricRetransmit
	case has(n, "latency", "duration", "response_time"):
		if has(n, "p50", "median", "avg", "mean") || q == "0.5" {
			return metricMedian
		}
		return metricTail
	case has(n, "success"):
		return metricSuccess
	case n == "rps", has(n, "requests_per", "request_rate", "requests_total"):
		return metricRequests
	case strings.HasPrefix(n, "cpu"), has(n, "cpu_usage"):
		return metricCPU
	case strings.HasPrefix(n, "mem"), has(n, "memory_working_set", "memory_usage"):
		return metricMemory
	}
	return metricOther
}

// shift is how a series changed: from a usual level to another that lasted.
type shift struct {
	base, high, low float64 // the level before the change; the highest and lowest lasting level after it
	at              int64   // when the higher level began, Unix milliseconds
	known           bool
}

func (s shift) growth() float64 { return max(0, s.high-s.base) }

// measure finds the change of level in a series, without training: the window of an eighth of
// its points whose median lies furthest above the median of all points before it. Points of the
// first eighth only serve as the level before. Medians make single spikes count for nothing.
func measure(points []cluster.Point) shift {
	n := len(points)
	if n < 8 {
		return shift{}
	}
	w := max(4, n/8)
	v := make([]float64, n)
	for i, p := range points {
		v[i] = p.Value
	}
	s := shift{known: true, base: median(v[:w]), low: median(v)}
	s.high = s.base
	best := 0.0
	var before []float64
	for t := w; t+w <= n; t++ {
		if len(before) == 0 {
			before = append(before, v[:t]...)
			slices.Sort(before)
		} else {
			i, _ := slices.BinarySearch(before, v[t-1])
			before = slices.Insert(before, i, v[t-1])
		}
		base, level := middle(before), median(v[t:t+w])
		s.low = min(s.low, level)
		if d := level - base; d > best {
			best, s.base, s.high, s.at = d, base, level, points[t].At
		}
	}
	return s
}

func median(v []float64) float64 {
	c := slices.Clone(v)
	slices.Sort(c)
	return middle(c)
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// vitals are the changes of one workload or node.
type vitals struct {
	entity   incident.Entity
	workload *cluster.Workload // nil for nodes and for Services without a workload
	kinds    [metricRetransmit + 1]shift
	pods     int // pods that run
	node     string
}

// level returns the shift of a kind.
func (v *vitals) level(k metricKind) shift { return v.kinds[k] }

// slowed returns by how many milliseconds the median and the tail of the latency grew; ok when
// either did so by more than twice its level.
func (v *vitals) slowed() (med, tail float64, ok bool) {
	m, t := v.level(metricMedian), v.level(metricTail)
	med, tail = m.growth(), t.growth()
	ok = m.known && med > max(15, 2*m.base) || t.known && tail > max(60, 2*t.base)
	return med, tail, ok
}

// measured returns the vitals of workloads and nodes, in the order of the series.
func (c *scan) measured() (workloads, nodes []*vitals) {
	by := map[incident.Entity]*vitals{}
	for i := range c.Series {
		s := &c.Series[i]
		k := kindOfMetric(s.Name, s.Labels)
		if k == metricOther || s.Object.IsZero() {
			continue
		}
		e, w := c.measuredEntity(s.Object)
		v := by[e.Key()]
		if v == nil {
			v = &vitals{entity: e, workload: w}
			by[e.Key()] = v
			if e.Kind == "Node" {
				nodes = append(nodes, v)
			} else {
				workloads = append(workloads, v)
			}
			if w != nil {
				for _, p := range live(w) {
					if p.Spec.NodeName != "" {
						v.pods++
						v.node = p.Spec.NodeName
					}
				}
				if !c.onOneNode(w) {
					v.node = ""
				}
			}
		}
		m := measure(s.Points)
		if m.known && (!v.kinds[k].known || m.growth() > v.kinds[k].growth()) {
			v.kinds[k] = m
		}
	}
	return workloads, nodes
}

func (c *scan) onOneNode(w *cluster.Workload) bool {
	node := ""
	for _, p := range live(w) {
		if p.Spec.NodeName != "" && node != "" && p.Spec.NodeName != node {
			return false
		}
		node = or(p.Spec.NodeName, node)
	}
	return true
}

// measuredEntity returns what a series of an object tells about: the workload behind it.
func (c *scan) measuredEntity(o incident.Entity) (incident.Entity, *cluster.Workload) {
	switch o.Kind {
	case "Node":
		return o, nil
	case "Pod":
		if p, ok := c.Pods.Get(o.Namespace, o.Name); ok {
			if w := c.WorkloadOf(p); w != nil {
				return w.Entity, w
			}
		}
	default:
		if o.Namespace == "" {
			o.Namespace = c.Namespace
		}
		if w := c.Workload(o); w != nil {
			return w.Entity, w
		}
		if ws := c.named(o.Namespace, o.Name); len(ws) > 0 {
			return ws[0].Entity, ws[0]
		}
	}
	return o, nil
}

func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
