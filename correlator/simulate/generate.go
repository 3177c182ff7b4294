package simulate

import (
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Config says what to generate. The zero value is 10 clusters with every kind once in a while.
type Config struct {
	Seed     uint64
	Clusters int      // default 10
	Kinds    []string // see Kinds; each happens once. Default: one kind, chosen by Seed
	// Noise is the number of passing things per cluster over the whole time. Default 12 for up to
	// 100 clusters, 4 beyond. Negative: none.
	Noise float64
	// Start is the event time of the first kind. Default 2026-05-04 06:00 UTC.
	Start time.Time
	// Apart is the time between the starts of two kinds; 0 lets all overlap.
	Apart time.Duration
	// Plain turns off lost agents, so that everything arrives within the usual lateness.
	Plain bool
}

// Generate returns the events in the order of receipt and what is true of them. An unknown kind
// gives an error wrapping incident.ErrInvalid.
func Generate(cfg Config) ([]incident.Event, Truth, error) {
	if cfg.Clusters <= 0 {
		cfg.Clusters = 10
	}
	if cfg.Noise == 0 {
		cfg.Noise = 12
		if cfg.Clusters > 100 {
			cfg.Noise = 4
		}
	}
	if cfg.Start.IsZero() {
		cfg.Start = time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC)
	}
	all := kinds()
	if len(cfg.Kinds) == 0 {
		cfg.Kinds = []string{all[cfg.Seed%uint64(len(all))].name}
	}
	g := &generator{world: newWorld(newRand(cfg.Seed, cfg.Clusters), cfg.Clusters), start: cfg.Start.UnixMilli(), taken: make(map[*load]*story)}
	g.truth = Truth{Incidents: []TrueIncident{}, Noise: []incident.SignalID{}, Episodes: [][]incident.SignalID{}, Resolved: []incident.SignalID{}, Ignored: []incident.SignalID{}}
	g.begin()
	ms := g.start + 30*minute
	if !cfg.Plain {
		for _, c := range g.clusters {
			if g.chance(0.05) {
				c.lag[0] = ms + int64(g.pick(int(hour)))
				c.lag[1] = c.lag[0] + 3*minute + int64(g.pick(int(4*minute)))
				c.lag[2] = c.lag[1] + minute
			}
		}
	}
	for _, name := range cfg.Kinds {
		found := false
		for _, k := range all {
			if k.name == name {
				k.write(g, ms)
				found = true
			}
		}
		if !found {
			return nil, Truth{}, incident.Invalidf("simulate: kind %q: want one of %v", name, Kinds())
		}
		ms += cfg.Apart.Milliseconds()
	}
	until := ms + 2*hour
	if cfg.Noise > 0 {
		g.noise(cfg.Noise, until, g.busy())
	}
	return g.events(), g.truth, nil
}

// busy returns the loads that take part in an incident.
func (g *generator) busy() map[*load]bool {
	type key struct {
		c        incident.ClusterName
		ns, name string
	}
	in := make(map[incident.SignalID]bool)
	for _, t := range g.truth.Incidents {
		for _, id := range t.Signals {
			in[id] = true
		}
	}
	keys := make(map[key]bool)
	for i := range g.out {
		if s := g.out[i].ev.Signal; s != nil && in[s.ID] {
			keys[key{s.Cluster, s.Entity.Namespace, s.Entity.Name}] = true
			if s.Owner != nil {
				keys[key{s.Cluster, s.Owner.Namespace, s.Owner.Name}] = true
			}
			for _, r := range s.Related {
				keys[key{s.Cluster, r.Namespace, r.Name}] = true
			}
		}
	}
	out := make(map[*load]bool)
	for _, c := range g.clusters {
		for _, l := range c.loads {
			busy := keys[key{c.name, l.s.ns, l.s.name}]
			for _, p := range l.pods {
				busy = busy || keys[key{c.name, l.s.ns, p.name}]
			}
			out[l] = busy
		}
	}
	return out
}
