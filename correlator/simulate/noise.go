package simulate

import (
	"slices"

	"github.com/tocsin-io/tocsin/incident"
)

// noise is what nobody should be called for: blips that go away by themselves and changes that go
// well. Things that are part of an incident (busy) have none, so that the truth stays clear.
func (g *generator) noise(perCluster float64, until int64, busy map[*load]bool) {
	for _, c := range g.clusters {
		n := int(perCluster)
		if g.chance(perCluster - float64(n)) {
			n++
		}
		for range n {
			l := oneOf(g.world, c.loads)
			if busy[l] {
				continue
			}
			g.blip(l, g.start+int64(g.pick(int(until-g.start))))
		}
	}
}

func (g *generator) blip(l *load, ms int64) {
	st := &story{}
	p := oneOf(g.world, l.pods)
	short := 10*second + int64(g.pick(int(90*second)))
	once := func(s incident.Signal, last int64, fires int) {
		for i := range fires {
			g.emit(st, l.c, s, ms+int64(i)*last/int64(fires))
		}
		if g.chance(0.93) {
			s.Status = incident.Resolved
			g.emit(st, l.c, s, ms+last)
		}
	}
	switch g.pick(9) {
	case 0:
		once(g.base(l, p, incident.Symptom, "Unhealthy"), short+30*second, 1+g.pick(3))
	case 1:
		s := g.base(l, p, incident.Symptom, oneOf(g.world, []string{"OOMKilled", "ContainerExited", "Error"}))
		once(s, short, 1)
		if g.chance(0.3) {
			f := g.base(l, nil, incident.Found, "ApplicationCrash")
			f.Severity, f.Cause, f.Confidence = incident.Info, "ApplicationCrash", 0.3
			once(f, short, 1)
		}
	case 2:
		s := g.base(l, p, incident.Symptom, "ErrImagePull")
		s.Message = "Failed to pull image: unexpected EOF"
		once(s, short, 1)
	case 3:
		once(g.base(l, p, incident.Symptom, "FailedScheduling"), short, 1)
	case 4:
		a := g.alert(l, p, oneOf(g.world, []string{"CPUThrottlingHigh", "MemoryUsageHigh"}))
		if g.chance(0.6) {
			a.Severity = incident.Info
		}
		once(a, 5*minute+int64(g.pick(int(9*minute))), 1)
	case 5:
		once(g.alert(l, nil, oneOf(g.world, []string{"LatencyP99High", "ServiceHighErrorRate", "TargetDown"})), 2*minute+int64(g.pick(int(5*minute))), 1)
	case 6: // a rollout that goes well
		g.change(st, l, oneOf(g.world, []string{"Synced", "RolledOut", "HelmUpgraded", "Scaled"}), "went well", ms)
	case 7:
		e := incident.Entity{Kind: "Job", Namespace: l.s.ns, Name: l.s.name + "-nightly-" + g.letters(8, "0123456789")}
		s := incident.Signal{Source: "/clusters/" + string(l.c.name) + "/collectors/kube", Entity: e, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: "BackoffLimitExceeded"}
		once(s, 3*minute+int64(g.pick(int(9*minute))), 1)
	default: // flapping a few times
		a := g.alert(l, nil, "EndpointFlap")
		for i := range int64(2) {
			ms2 := ms + i*8*minute
			a.Status = incident.Firing
			g.emit(st, l.c, a, ms2)
			a.Status = incident.Resolved
			g.emit(st, l.c, a, ms2+minute)
		}
	}
	g.finish(st)
}

// holders returns the loads for which ok holds, in the order of the fleet.
func (w *world) holders(ok func(*load) bool) []*load {
	var out []*load
	for _, c := range w.clusters {
		for _, l := range c.loads {
			if ok(l) {
				out = append(out, l)
			}
		}
	}
	return out
}

// shuffled returns at most n of from, in random order.
func shuffled[T any](w *world, from []T, n int) []T {
	out := slices.Clone(from)
	w.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}
