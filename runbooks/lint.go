package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Lint returns what should be better about pages that could be read, in the order of the pages.
// None of it is fatal; what keeps a page out is among the problems of Load.
func Lint(pages []Runbook, now time.Time) []Problem {
	var out []Problem
	titles := map[string]string{}
	for i := range pages {
		rb := &pages[i]
		say := func(line int, format string, args ...any) {
			out = append(out, Problem{Path: rb.Path, Line: line, Message: fmt.Sprintf(format, args...)})
		}
		lintFront(rb, now, say)
		if other, ok := titles[rb.Source+"\x00"+rb.Title]; ok {
			say(0, "has the same title as %s", other)
		} else {
			titles[rb.Source+"\x00"+rb.Title] = rb.Path
		}
		if len(rb.Sections) == 1 && len(strings.TrimSpace(rb.Sections[0].Text)) < 40 {
			say(rb.Sections[0].Line, "says almost nothing")
		}
		if len(rb.Sections) == MaxSections {
			say(0, "has more than %d sections; the rest is not searched", MaxSections)
		}
		lintSteps(rb, say)
	}
	return out
}

func lintFront(rb *Runbook, now time.Time, say func(int, string, ...any)) {
	f := &rb.Front
	switch {
	case f.Expires.IsZero():
	case now.After(f.Expires):
		say(1, "expired on %s", f.Expires.Format(time.DateOnly))
	case f.Expires.Sub(now) < 30*24*time.Hour:
		say(1, "expires on %s", f.Expires.Format(time.DateOnly))
	}
	if f.Severity != "" && !slices.Contains([]string{"info", "warning", "critical"}, f.Severity) {
		say(1, "severity %q is not info, warning or critical", f.Severity)
	}
	if len(f.Actions) > 0 && len(f.Verify) == 0 {
		say(1, "has actions and no verify: say what shows that the fix worked")
	}
	if (len(f.Causes) > 0 || len(f.Actions) > 0) && f.Owner == "" {
		say(1, "has no owner")
	}
}

// lintSteps looks at what a reader needs at night. Pages without front matter are other people's
// and are left alone.
func lintSteps(rb *Runbook, say func(int, string, ...any)) {
	if len(rb.Front.Causes) == 0 {
		return
	}
	for _, want := range []string{"symptom", "check", "fix", "verify", "back"} {
		if !slices.ContainsFunc(rb.Sections, func(s Section) bool {
			return len(s.Headings) > 0 && strings.Contains(strings.ToLower(s.Headings[len(s.Headings)-1]), want)
		}) {
			say(0, "has no section %q", want)
		}
	}
}

// Unreachable returns the pages that searching for their own cause, alerts and title does not
// bring among the first three: nobody will ever be shown them. It takes about as long as one
// search for each page.
func (x *Index) Unreachable(ctx context.Context) ([]Problem, error) {
	var out []Problem
	for _, d := range x.state().c.docs {
		rb := d.rb
		q := Query{Names: rb.Front.Alerts, Text: rb.Title, Labels: map[string]string{}}
		for k, v := range rb.Front.Labels {
			q.Labels[k] = v
		}
		q.Facts = Facts{Alerts: q.Names, Labels: q.Labels, Kinds: rb.Front.Kinds, Text: rb.Title}
		if len(rb.Front.Causes) > 0 {
			q.Facts.Cause = string(rb.Front.Causes[0])
			q.Facts.Causes = []string{q.Facts.Cause}
		}
		res, err := x.Search(ctx, q)
		if err != nil {
			return out, err
		}
		top := res.Hits[:min(3, len(res.Hits))]
		found := false
		for _, h := range top {
			found = found || h.Path == rb.Path || h.Title == rb.Title
		}
		if !found {
			out = append(out, Problem{Path: rb.Path, Message: "is not found by its own title, alerts and cause: other pages come first"})
		}
	}
	return out, nil
}

// Use is how often a page was shown first and when last; see Report.
type Use struct {
	Shown int       `json:"shown"`
	Last  time.Time `json:"last"`
}

// Report returns the pages that look abandoned: expired, not changed for maxAge (where the time
// of the last change is known), or never shown for an incident in the time that uses covers.
func Report(pages []Runbook, uses map[string]Use, since, now time.Time, maxAge time.Duration) []Problem {
	var out []Problem
	for i := range pages {
		rb := &pages[i]
		if e := rb.Front.Expires; !e.IsZero() && now.After(e) {
			out = append(out, Problem{Path: rb.Path, Message: "expired on " + e.Format(time.DateOnly)})
		}
		if !rb.Modified.IsZero() && now.Sub(rb.Modified) > maxAge {
			out = append(out, Problem{Path: rb.Path, Message: "was last changed on " + rb.Modified.Format(time.DateOnly)})
		}
		if uses != nil && uses[rb.Path].Shown == 0 {
			out = append(out, Problem{Path: rb.Path, Message: "has matched no incident since " + since.Format(time.DateOnly)})
		}
	}
	return out
}
