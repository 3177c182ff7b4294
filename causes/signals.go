package causes

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// Signals turns a result into level-triggered signals, all firing: one finding per hypothesis
// above info and one symptom per symptom that no hypothesis explains, in a stable order, one per
// entity and reason. The caller sets Source and ID, compares with the signals of its last call by
// (Entity, Kind, Reason, Cause) and publishes only what is new (firing) or gone (resolved). Time
// is the first sign where known and not later than the state's time, else the state's time.
func Signals(st *cluster.State, r Result) []incident.Signal {
	out := make([]incident.Signal, 0, len(r.Hypotheses)+len(r.unexplained))
	for i := range r.Hypotheses {
		if h := &r.Hypotheses[i]; h.Severity != incident.Info && h.Object.Validate() == nil {
			out = append(out, found(st, h))
		}
	}
	type key struct {
		e      incident.Entity
		reason string
	}
	seen := map[key]bool{}
	for _, y := range r.unexplained {
		k := key{y.Entity.Key(), y.Reason}
		if seen[k] || y.Entity.Validate() != nil {
			continue
		}
		seen[k] = true
		out = append(out, shown(st, y))
	}
	slices.SortStableFunc(out, func(a, b incident.Signal) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Entity.String(), b.Entity.String()), strings.Compare(a.Reason, b.Reason))
	})
	return out
}

func sinceOr(at *time.Time, now time.Time) time.Time {
	if at != nil && !at.IsZero() && at.Before(now) && at.Year() >= 1970 {
		return at.UTC()
	}
	return now.UTC()
}

// found is the signal of a hypothesis.
func found(st *cluster.State, h *incident.Hypothesis) incident.Signal {
	s := incident.Signal{Cluster: st.Name, Entity: h.Object, Kind: incident.Found, Status: incident.Firing, Severity: h.Severity, Reason: string(h.Cause),
		Cause: h.Cause, Confidence: h.Confidence, Message: incident.UntrustedText(h.Summary), Factors: h.Factors, Time: sinceOr(h.Since, st.At)}
	s.Owner = ownerOf(st, h.Object)
	s.Related = append(s.Related, h.Related...)
	for _, x := range h.Explains {
		if len(s.Related) < 40 && !contains(s.Related, x.Entity) && x.Entity.Key() != h.Object.Key() {
			s.Related = append(s.Related, x.Entity)
		}
	}
	s.Related = slices.DeleteFunc(s.Related, func(e incident.Entity) bool { return e.Validate() != nil })
	s.Evidence = append(s.Evidence, h.Evidence...)
	return s
}

// shown is the signal of an unexplained symptom.
func shown(st *cluster.State, y *symptom) incident.Signal {
	s := incident.Signal{Cluster: st.Name, Entity: y.Entity, Kind: incident.Symptom, Status: incident.Firing, Severity: incident.Warning, Reason: y.Reason,
		Message: incident.UntrustedText(incident.UntrustedText(y.Text).Plain(1000)), Factors: st.Factors(y.Entity), Time: sinceOr(&y.At, st.At)}
	if y.Weight >= 1 {
		s.Severity = incident.Critical
	}
	s.Owner = ownerOf(st, y.Entity)
	if s.Owner == nil && y.Owner.Key() != y.Entity.Key() && y.Owner.Validate() == nil {
		o := y.Owner
		s.Owner = &o
	}
	return s
}

func ownerOf(st *cluster.State, e incident.Entity) *incident.Entity {
	if o := st.OwnerOf(e); o.Key() != e.Key() && o.Validate() == nil {
		return &o
	}
	return nil
}
