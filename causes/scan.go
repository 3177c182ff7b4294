package causes

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// scan is one analysis under way: the state, the symptoms seen in it and the suspects that
// detectors blamed so far. Detectors run in table order and may look at earlier suspects.
type scan struct {
	*cluster.State
	symptoms []*symptom
	suspects []*suspect
	known    map[charge]*suspect
	left     int // suspects beyond maxSuspects

	logFacts  []*logFact                     // nil: not read
	factsOf   map[incident.Entity][]*logFact // by owner
	broken    []trouble                      // nil: not looked for
	crashed   []crash                        // nil: not looked for
	wants     []need                         // nil: not looked for
	wantsOf   map[incident.Entity][]need
	reached   map[incident.Entity]map[incident.Entity]bool
	room      map[roomKey]resource.Quantity
	repellers []*corev1.Pod // placed pods with a required anti-affinity; nil: not looked for
}

// symptom is something observed to be wrong, before anybody asks why.
type symptom struct {
	Entity incident.Entity // what shows it: a Pod, Service, Node, workload, claim …
	Owner  incident.Entity // the workload it belongs to; Entity itself where there is none
	Reason string          // CamelCase, e.g. CrashLoopBackOff
	Text   string          // untrusted
	Weight float64         // 1: something does not work; below: a sign
	At     time.Time       // first seen; zero when not known

	by []*suspect // who accounts for it; set by weigh
}

// suspect is a cause blamed on an object, with what speaks for it. Scores: 0.95 the API server or
// kubelet says so in as many words, or two fields contradict and the symptom fits; 0.8 inferred
// from fields and a fitting symptom; 0.6 inferred from logs or metrics alone; 0.3 possible.
type suspect struct {
	cause     incident.CauseName
	object    incident.Entity
	score     float64
	severity  incident.Severity
	summary   string
	since     time.Time
	explained []incident.Explained
	rel       []incident.Entity
	ev        []incident.Evidence
	props     []incident.Proposal
	miss      []string
	weight    float64 // of the symptoms it accounts for
}

// blame records that cause is suspected of object and returns the suspect, to which the detector
// adds evidence, what it explains and proposals. A second blame of the same cause and object
// gives the first suspect again with the higher score. The summary is one line for a person.
func (c *scan) blame(cause incident.CauseName, object incident.Entity, score float64, format string, args ...any) *suspect {
	key := charge{cause, object.Key()}
	if s := c.known[key]; s != nil {
		s.score = max(s.score, score)
		return s
	}
	s := &suspect{cause: cause, object: object, score: score, severity: incident.Critical,
		summary: incident.UntrustedText(fmt.Sprintf(format, args...)).Plain(300)}
	c.suspects = append(c.suspects, s)
	c.known[key] = s
	return s
}

// charge is what makes a suspect one: a cause and an object without its UID.
type charge struct {
	cause  incident.CauseName
	object incident.Entity
}

// explain says that the suspect accounts for what e shows: reason is a symptom's reason or a
// generic cause, "" every symptom of e.
func (s *suspect) explain(e incident.Entity, reason string) *suspect {
	s.explained = append(s.explained, incident.Explained{Entity: e, Reason: reason})
	return s
}

// see adds evidence: a field of an object with what is there and what would be right.
func (s *suspect) see(source string, object incident.Entity, path, observed, expected string) *suspect {
	o := object
	return s.cite(incident.Evidence{Source: source, Object: &o, Path: path,
		Observed: incident.UntrustedText(observed), Expected: incident.UntrustedText(expected)})
}

// quote adds evidence: a piece of untrusted text with its time (zero: not known).
func (s *suspect) quote(source string, object incident.Entity, text string, at time.Time) *suspect {
	o := object
	e := incident.Evidence{Source: source, Object: &o, Text: incident.UntrustedText(text)}
	if !at.IsZero() {
		e.Time = &at
	}
	return s.cite(e)
}

// cite adds a piece of evidence, bounded; the first 12 are kept.
func (s *suspect) cite(e incident.Evidence) *suspect {
	if len(s.ev) >= 12 {
		return s
	}
	e.ID = fmt.Sprintf("e%d", len(s.ev)+1)
	for _, t := range []*incident.UntrustedText{&e.Observed, &e.Expected, &e.Text} {
		*t = incident.UntrustedText(t.Plain(1000))
	}
	s.ev = append(s.ev, e)
	return s
}

// relate adds related entities, nearest first.
func (s *suspect) relate(es ...incident.Entity) *suspect {
	for _, e := range es {
		if !e.IsZero() && e.Key() != s.object.Key() && len(s.rel) < 32 && !contains(s.rel, e) {
			s.rel = append(s.rel, e)
		}
	}
	return s
}

// first sets the first sign of the suspect to the earliest of the times given.
func (s *suspect) first(at time.Time) *suspect {
	if !at.IsZero() && (s.since.IsZero() || at.Before(s.since)) {
		s.since = at
	}
	return s
}

// level sets the severity; blame starts at critical.
func (s *suspect) level(l incident.Severity) *suspect { s.severity = l; return s }

// propose adds a catalogued action with exact parameters (pairs of name and value).
func (s *suspect) propose(action incident.ActionName, target incident.Entity, summary string, params ...string) *suspect {
	p := incident.Proposal{Action: action, Target: incident.Ref{Entity: target}, Summary: incident.UntrustedText(summary).Plain(300), Cause: s.cause}
	for i := 0; i+1 < len(params); i += 2 {
		if p.Params == nil {
			p.Params = map[string]string{}
		}
		p.Params[params[i]] = params[i+1]
	}
	for _, o := range s.props {
		if o.Action == action && o.Target == p.Target && maps.Equal(o.Params, p.Params) {
			return s
		}
	}
	s.props = append(s.props, p)
	return s
}

// step adds what a person should do where no safe action exists.
func (s *suspect) step(target incident.Entity, format string, args ...any) *suspect {
	text := incident.UntrustedText(fmt.Sprintf(format, args...)).Plain(300)
	s.props = append(s.props, incident.Proposal{Target: incident.Ref{Entity: target}, Summary: text, Step: text, Cause: s.cause})
	return s
}

// lack names something that was not seen and would decide.
func (s *suspect) lack(what string) *suspect { s.miss = append(s.miss, what); return s }

func contains(es []incident.Entity, e incident.Entity) bool {
	for _, o := range es {
		if o.Key() == e.Key() {
			return true
		}
	}
	return false
}

func newScan(st *cluster.State) *scan {
	return &scan{State: st, known: map[charge]*suspect{}, reached: map[incident.Entity]map[incident.Entity]bool{}, room: map[roomKey]resource.Quantity{}}
}
