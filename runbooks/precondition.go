package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/tocsin-io/tocsin/incident"
)

// condition is a compiled `when` (want true) or `not_when` (want false).
type condition struct {
	src  string
	want bool
	prg  cel.Program
	err  error
}

func compileConditions(f Front) []condition {
	var out []condition
	for _, src := range f.When {
		prg, err := compileCondition(src)
		out = append(out, condition{src, true, prg, err})
	}
	for _, src := range f.NotWhen {
		prg, err := compileCondition(src)
		out = append(out, condition{src, false, prg, err})
	}
	return out
}

// judgement is what the preconditions say of one page: against is not empty when it does not
// apply; support lists what speaks for it; open what could not be told.
type judgement struct {
	against, support, open []string
	expired                bool
	forCause               bool // the page is for the incident's cause
}

// judge checks a page's front matter against the facts. A condition that fails to evaluate does
// not hold. What the facts do not know is not held against a page, except by its own `when`.
func (d *doc) judge(ctx context.Context, f *Facts, facts map[string]any, now time.Time) judgement {
	var j judgement
	front := &d.rb.Front
	if len(front.Causes) > 0 {
		switch {
		case f.Cause != "" && slices.Contains(front.Causes, incident.CauseName(f.Cause)):
			j.forCause = true
			j.support = append(j.support, "is for cause "+f.Cause)
		case f.Cause != "":
			j.against = append(j.against, fmt.Sprintf("needs cause %s; this is %s", causeList(front.Causes), f.Cause))
		case slices.ContainsFunc(front.Causes, func(c incident.CauseName) bool { return slices.Contains(f.Causes, string(c)) }):
			j.support = append(j.support, "is for a suspected cause: "+causeList(front.Causes))
		default:
			j.open = append(j.open, "is for cause "+causeList(front.Causes)+"; the cause is not known here")
		}
	}
	for _, k := range sortedKeys(front.Labels) {
		want, got := front.Labels[k], f.Labels[k]
		if got == "" || (want != "*" && got != want) {
			j.against = append(j.against, fmt.Sprintf("needs label %s=%s; here it is %q", k, want, incident.Clip(got, 80)))
		}
	}
	for _, c := range d.conds {
		j.condition(ctx, c, facts)
	}
	if !front.Expires.IsZero() && now.After(front.Expires) {
		j.expired = true
		j.open = append(j.open, "expired on "+front.Expires.Format(time.DateOnly))
	}
	return j
}

func (j *judgement) condition(ctx context.Context, c condition, facts map[string]any) {
	word, src := "when", incident.Clip(c.src, 120)
	if !c.want {
		word = "not_when"
	}
	if c.err != nil {
		j.against = append(j.against, fmt.Sprintf("its %s (%s) does not compile", word, src))
		return
	}
	ok, err := holds(ctx, c.prg, facts)
	switch {
	case err != nil:
		j.against = append(j.against, fmt.Sprintf("its %s (%s) cannot be told: %s", word, src, incident.Clip(err.Error(), 160)))
	case ok != c.want && c.want:
		j.against = append(j.against, fmt.Sprintf("needs %s, which does not hold", src))
	case ok != c.want:
		j.against = append(j.against, fmt.Sprintf("is not for %s, which holds", src))
	case c.want:
		j.support = append(j.support, src+" holds")
	}
}

func causeList(cs []incident.CauseName) string {
	s := make([]string, len(cs))
	for i, c := range cs {
		s[i] = string(c)
	}
	if len(s) > 4 {
		s = append(s[:4], "…")
	}
	return strings.Join(s, " or ")
}
