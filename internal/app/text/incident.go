package text

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// What of an incident fits a screen; `-o json` has all of it.
const (
	neverRead    = "objects/secrets" // by design, in every cluster: not worth a line each
	showMembers  = 12
	showSteps    = 14
	showEvidence = 8
	showRunbooks = 3
)

// Incident writes everything an on-call engineer asks first: what broke, where, since when, what
// changed, how sure, what was not seen, the runbook, and the fixes with how to approve them.
func (w *Writer) Incident(i incident.Incident) {
	w.head(i)
	w.proposals(i)
	w.members(i)
	w.timeline(i)
	if f := i.Finding; f != nil {
		w.evidence(*f)
		w.runbooks(*f)
	}
	w.notSeen(i)
}

func (w *Writer) head(i incident.Incident) {
	state := string(i.State) + " for " + w.Age(i.OpenedAt)
	if i.ClosedAt != nil {
		state = "closed at " + i.ClosedAt.Format("15:04:05") + " after " + i.ClosedAt.Sub(i.OpenedAt).Round(time.Second).String()
	}
	if i.MergedInto != "" {
		state = "merged into " + string(i.MergedInto)
	}
	w.Printf("%s  %s  %s", w.paint(bold, string(i.ID)), w.severity(i.Severity), state)
	w.Printf("%s", w.paint(bold, incident.UntrustedText(i.Title).Plain(200)))
	w.Printf("")
	w.field("cause", w.cause(i))
	if s := i.Shared; s != nil {
		w.field("shared", fmt.Sprintf("%s=%s: affected %d of %d holders in %d clusters; %d of %d others", s.Name, plain(s.Value, 120), s.Affected, s.Total, s.Clusters, s.Others, s.OthersOf))
	}
	if i.Root != nil {
		w.field("root", plain(i.Root.String(), 200))
	}
	w.field("since", i.OpenedAt.Format("2006-01-02 15:04:05 MST")+", "+count(i.Count, "signal")+" in "+count(len(i.Clusters), "cluster"))
	for n, c := range i.Changes {
		if n == 3 {
			break
		}
		when := "with the first symptom"
		if c.Before >= 1 {
			when = time.Duration(float64(c.Before)*float64(time.Second)).Round(time.Second).String() + " before the first symptom"
		}
		w.field("changed", fmt.Sprintf("%s %s %s: %s (%s)", c.Time.Format("15:04:05"), plain(incident.Ref{Cluster: c.Cluster, Entity: c.Entity}.String(), 120),
			plain(c.Reason, 40), c.Message.Plain(120), when))
	}
	if i.Finding != nil && i.Finding.Similar != "" {
		w.field("before", plain(i.Finding.Similar, 200))
	}
	if i.Flapping {
		w.field("flapping", "yes: it comes and goes")
	}
}

func (w *Writer) cause(i incident.Incident) string {
	if i.Cause == "" {
		return "not known (" + strings.Join(missing(i), "; ") + ")"
	}
	s := string(i.Cause)
	if i.Confidence > 0 {
		s += fmt.Sprintf(", %.0f %% sure", 100*i.Confidence)
	}
	if c, ok := incident.LookupCause(i.Cause); ok {
		s += ": " + c.Line
	}
	return s
}

func missing(i incident.Incident) []string {
	if i.Finding != nil && len(i.Finding.Missing) > 0 {
		return i.Finding.Missing
	}
	return []string{"no detector named one"}
}

func (w *Writer) members(i incident.Incident) {
	if len(i.Members) == 0 {
		return
	}
	w.section("where, in the order of spread")
	var rows [][]string
	for n, m := range i.Members {
		if n == showMembers {
			break
		}
		role := "root"
		if m.Symptom {
			role = "symptom"
		}
		rows = append(rows, []string{"  " + string(m.Cluster), m.Entity.String(), m.First.Format("15:04:05"), string(m.Status), role, strings.Join(m.Reasons, ", ")})
	}
	w.Table([]string{"  CLUSTER", "ENTITY", "FIRST", "STATUS", "ROLE", "REASONS"}, rows)
	if more := max(i.MembersTotal, len(i.Members)) - len(rows); more > 0 {
		w.Printf("  … and %d more (-o json lists them)", more)
	}
}

func (w *Writer) timeline(i incident.Incident) {
	if len(i.Timeline) == 0 {
		return
	}
	w.section("timeline")
	steps := i.Timeline
	if len(steps) > showSteps {
		w.Printf("  … %d earlier steps", len(steps)-showSteps)
		steps = steps[len(steps)-showSteps:]
	}
	for _, s := range steps {
		what := plain(s.Text, 160)
		if s.Entity != nil && s.Kind != incident.StepAction {
			what = plain(incident.Ref{Cluster: s.Cluster, Entity: *s.Entity}.String(), 120) + ": " + what
		}
		w.Printf("  %s  %-8s %s", s.Time.Format("15:04:05"), s.Kind, what)
	}
}

func (w *Writer) evidence(f incident.Finding) {
	if len(f.Hypotheses) == 0 {
		return
	}
	h := f.Hypotheses[0]
	w.section("evidence")
	w.Printf("  %s", plain(h.Summary, 240))
	for n, e := range h.Evidence {
		if n == showEvidence {
			break
		}
		w.Printf("  - %s", Evidence(e))
	}
	for _, h := range f.Hypotheses[1:min(len(f.Hypotheses), 4)] {
		w.Printf("  also %s: %s (%s, %.0f %%)", h.Cluster, plain(h.Summary, 160), h.Cause, 100*h.Confidence)
	}
}

// Evidence returns one piece of evidence in one line.
func Evidence(e incident.Evidence) string {
	s := e.Source
	if e.Object != nil {
		s += " " + plain(e.Object.String(), 120)
	}
	if e.Path != "" {
		s += " " + plain(e.Path, 120)
	}
	if e.Observed != "" {
		s += ": " + e.Observed.Plain(120)
	}
	if e.Expected != "" {
		s += " (expected " + e.Expected.Plain(120) + ")"
	}
	if e.Text != "" {
		s += ": “" + e.Text.Plain(200) + "”"
	}
	return s
}

func (w *Writer) runbooks(f incident.Finding) {
	w.section("runbook")
	if len(f.Runbooks) == 0 {
		w.Printf("  none applies")
		return
	}
	for n, r := range f.Runbooks {
		if n == showRunbooks {
			break
		}
		w.Printf("  %s  %s", w.paint(bold, plain(r.Path, 120)), plain(r.Title, 120))
		if len(r.Why) > 0 {
			w.Printf("      %s", plain(strings.Join(r.Why, "; "), 200))
		}
		if n > 0 {
			continue
		}
		for _, c := range r.Commands[:min(len(r.Commands), 4)] {
			w.Printf("      $ %s", plain(c, 2000)) // whole: it is there to be copied
		}
	}
}

// proposals writes the fixes of an incident's finding.
func (w *Writer) proposals(i incident.Incident) {
	if i.Finding == nil {
		return
	}
	w.section("fix")
	if !slices.ContainsFunc(i.Members, func(m incident.Member) bool { return m.Status == incident.Firing }) {
		w.Printf("  all members have recovered; what was proposed:")
	}
	if len(i.Finding.Proposals) == 0 {
		w.Printf("  no safe action is known; the runbook is for a person")
	}
	for n, p := range i.Finding.Proposals {
		if n == 6 {
			w.Printf("  … and %d more", len(i.Finding.Proposals)-n)
			break
		}
		if p.Action == "" {
			w.Printf("  by hand   %s", plain(p.Step, 240))
			continue
		}
		w.Printf("  %s  %s on %s: %s", w.paint(bold, string(p.ID)), p.Action, p.Target.Cluster, plain(p.Summary, 160))
		if w.Dry {
			w.Printf("      on a live cluster: tocsin actions %s shows the exact change and its digest, tocsin approve runs it", p.ID)
			continue
		}
		w.Printf("      approve with: tocsin actions %s (shows the exact change and its digest), then tocsin approve %s --digest …", p.ID, p.ID)
	}
}

func (w *Writer) notSeen(i incident.Incident) {
	var lines []string
	for _, c := range i.Silent {
		lines = append(lines, fmt.Sprintf("%s not seen since %s", c.Cluster, c.LastSeen.Format("15:04:05")))
	}
	if i.Finding != nil {
		lines = append(lines, i.Finding.Coverage.Gaps...)
		for _, c := range i.Finding.Coverage.Clusters {
			for _, s := range c.Sources {
				if s.Source != neverRead && (s.State == incident.NotAllowed || s.State == incident.NotSeen) {
					lines = append(lines, fmt.Sprintf("%s: %s %s %s", c.Cluster, s.Source, s.State, s.Detail))
				}
			}
		}
	}
	lines = append(lines, i.Ambiguous...)
	if len(lines) == 0 {
		return
	}
	w.section("not seen")
	for n, l := range lines {
		if n == 8 {
			w.Printf("  … and %d more", len(lines)-n)
			break
		}
		w.Printf("  %s", plain(l, 200))
	}
}

// Hypotheses writes the answer of `tocsin analyze`.
func (w *Writer) Hypotheses(hyps []incident.Hypothesis) {
	for _, h := range hyps {
		w.Printf("%d. %s  %s  %.0f %%", h.Rank, w.paint(bold, string(h.Cause)), plain(h.Object.String(), 200), 100*h.Confidence)
		w.Printf("   %s", plain(h.Summary, 240))
		for n, e := range h.Evidence {
			if n == showEvidence {
				break
			}
			w.Printf("   - %s", Evidence(e))
		}
		if len(h.Explains) > 0 {
			var s []string
			for _, x := range h.Explains[:min(len(h.Explains), 5)] {
				s = append(s, x.Entity.String()+" "+x.Reason)
			}
			w.Printf("   explains %d symptoms: %s", len(h.Explains), plain(strings.Join(s, ", "), 240))
		}
		for _, p := range h.Proposals {
			if p.Action == "" {
				w.Printf("   by hand: %s", plain(p.Step, 240))
			} else {
				w.Printf("   fix: %s (%s)", plain(p.Summary, 200), p.Action)
			}
		}
		for _, m := range h.Missing {
			w.Printf("   not seen: %s", plain(m, 200))
		}
	}
}

func (w *Writer) field(name, value string) { w.Printf("  %-9s %s", name, value) }

func (w *Writer) section(name string) {
	w.Printf("")
	w.Printf("%s", w.paint(bold, name))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func plain(s string, n int) string { return incident.UntrustedText(s).Plain(n) }
