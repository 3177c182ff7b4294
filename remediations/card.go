package remediations

import (
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Card renders a record for a terminal or a message as plain text: what would change, on what,
// how far it reaches, how it is undone, what every gate says, and how to answer. It is made from
// the typed action and the live diff only; text from clusters is escaped and quoted.
func Card(r Record) string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", label, fmt.Sprintf(format, args...))
	}
	p := r.Proposal
	if p.Action == "" {
		line("for you", "%s", plainText(p.Step, 600))
		line("incident", "%s  %s", p.Incident, plainText(r.Title, 200))
		return b.String()
	}
	line("proposal", "%s  %s%s", r.ID, r.State, note(plainText(r.Why, 600)))
	line("action", "%s on %s", p.Action, p.Target)
	line("summary", "%s", plainText(p.Summary, 300))
	line("incident", "%s  %s", p.Incident, plainText(r.Title, 200))
	line("cause", "%s, confidence %.2f", cmpOr(string(p.Cause), "not known"), p.Confidence)
	if r.Bound != nil {
		boundLines(line, r.Bound)
	}
	for _, v := range r.Verdicts {
		line("gate", "%-5s %s: %s", v.Decision, v.Gate, plainText(v.Reason, 300))
	}
	for _, a := range r.Approvals {
		line("approved", "by %s via %s at %s %s", plainText(a.By, 80), a.Via, a.At.Format(time.TimeOnly), plainText(a.Reason, 200))
	}
	if d := r.Decision; d != nil {
		line(string(r.State), "by %s via %s at %s %s", plainText(d.By, 80), d.Via, d.At.Format(time.TimeOnly), plainText(d.Reason, 200))
	}
	for _, f := range r.Refusals {
		line("not counted", "%s: %s", plainText(f.By, 80), plainText(f.Why, 300))
	}
	if o := r.Outcome; o != nil {
		line("outcome", "%s: %s", o.State, plainText(o.Detail, 600))
	}
	if r.State == Asking {
		answerLines(line, r)
	}
	return b.String()
}

func boundLines(line func(string, string, ...any), bound *Bound) {
	prep := &bound.Prepared
	for _, w := range prep.Writes {
		line("write", "%s %s%s", w.Verb, w.Target, note(plainText(strings.TrimSpace(w.Source+" "+w.Branch+" "+w.Path), 200)))
	}
	for _, c := range prep.Changes {
		line("change", "%s: %s → %s", plainText(c.Path, 200), quoted(c.Before), quoted(c.After))
	}
	bl := prep.Blast
	line("reaches", "%d pods of %d workloads, %.0f %% of the ready ones at once, %d nodes%s", bl.Pods, bl.Workloads, 100*bl.Share, bl.Nodes, note(bl.Incomplete))
	if len(bl.Services) > 0 {
		line("serving", "%s", plainText(strings.Join(bl.Services, ", "), 300))
	}
	if len(bl.Budgets) > 0 {
		line("budgets", "%s", plainText(strings.Join(bl.Budgets, ", "), 300))
	}
	line("undo", "%s", prep.Undo)
	line("verified by", "%s, within %s", prep.Signal, prep.Window)
	line("risk", "%s", prep.Risk)
	for _, n := range prep.Notes {
		line("note", "%s", plainText(n, 300))
	}
	if prep.DryRun {
		line("note", "this cluster's agent only tries out: nothing will be written")
	}
}

func answerLines(line func(string, string, ...any), r Record) {
	n := r.Bound.Need
	line("needs", "%d of %s, %d so far (rule %q); asked by %s", n.Approvals, strings.Join(n.Roles, "/"), len(r.Approvals), n.Rule, r.Bound.Requester)
	line("expires", "%s", r.Bound.Expires.Format(time.RFC3339))
	line("digest", "%s", r.Digest)
	if r.Plan != "" {
		line("answer", "tocsin approve %s  (the plan it is part of)", r.Plan)
		return
	}
	line("answer", "tocsin approve %s --digest %s   |   tocsin deny %s --reason …", r.ID, incident.Clip(string(r.Digest), 64), r.ID)
}

func plainText(s string, n int) string { return incident.UntrustedText(s).Plain(n) }

func quoted(s string) string {
	if s == "" {
		return "(none)"
	}
	return fmt.Sprintf("%q", plainText(s, 120))
}
