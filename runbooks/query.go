package runbooks

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// Query is what is known of an incident, sorted by what it is worth for finding its runbook.
// Everything in it but Facts.Cause, Causes and Kinds may be untrusted text. The zero Query
// matches nothing.
type Query struct {
	ID      string
	Names   []string          // alert names
	Text    string            // summaries, descriptions, messages, log lines
	Metrics []string          // metric names of the alerts' expressions
	Labels  map[string]string // of the alert, or common to the incident
	Facts   Facts             // for preconditions; Facts.Text may be left empty
}

// maxQueryText bounds what is read of a query's text. Alerts are rarely above 2 KB.
const maxQueryText = 16 << 10

// QueryOfText builds a query from free text and labels, either of which may be empty. It knows
// the usual layouts of alerts (key: value lines; "[FIRING:1] Name (severity)"; "Alert Name has
// been firing for …") and takes name, metrics and labels out of them; any other text is taken
// as it is.
func QueryOfText(id, text string, labels map[string]string) Query {
	q := Query{ID: id, Labels: map[string]string{}}
	for k, v := range labels {
		if len(q.Labels) == 128 {
			break
		}
		q.Labels[incident.Clip(k, 253)] = incident.Clip(v, 1024)
	}
	text = incident.Clip(text, maxQueryText)
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		if l := q.takeLine(strings.TrimSpace(line), labels == nil); l != "" {
			kept = append(kept, l)
		}
	}
	q.Text = strings.Join(kept, "\n")
	if n := q.Labels["alertname"]; n != "" && !slices.Contains(q.Names, n) {
		q.Names = append(q.Names, n)
	}
	q.Facts = Facts{Alerts: q.Names, Labels: q.Labels, Severity: q.Labels["severity"], Text: q.Text}
	if k := q.Labels["kind"]; k != "" {
		q.Facts.Kinds = []string{k}
	}
	if r := q.Labels["reason"]; r != "" {
		q.Facts.Reasons = []string{r}
	}
	if n := q.Labels["namespace"]; n != "" {
		q.Facts.Namespaces = []string{n}
	}
	return q
}

var (
	firingHead  = regexp.MustCompile(`^\[(?:FIRING|RESOLVED)(?::\d+)?\]\s+([A-Za-z_][\w:-]*)\s*(?:\((\w+)\))?\s*(.*)$`)
	firingSaid  = regexp.MustCompile(`^Alert ([A-Za-z_][\w:-]*) (?:has been firing|is firing)[^.(]*(?:\([^)]*\))?\.?\s*(.*)$`)
	keyValue    = regexp.MustCompile(`^([A-Za-z_][\w.]*): (.*)$`)
	labelPairs  = regexp.MustCompile(`([A-Za-z_]\w*)=("[^"]*"|[^,\s)]+)`)
	trailPairs  = regexp.MustCompile(`\((?:[A-Za-z_]\w*=[^()=]*)+\)\s*$`)
	metricNames = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_:]*[_:][a-zA-Z0-9_:]*[a-zA-Z0-9]`)
)

// takeLine takes what it knows out of one line and returns the rest. addLabels: labels found in
// the text are kept, because none were given apart from it.
func (q *Query) takeLine(line string, addLabels bool) string {
	if m := firingHead.FindStringSubmatch(line); m != nil {
		q.name(m[1])
		return m[3]
	}
	if m := firingSaid.FindStringSubmatch(line); m != nil {
		q.name(m[1])
		line = m[2]
	}
	if rest, ok := strings.CutPrefix(line, "Metrics: "); ok {
		q.metrics(rest)
		return ""
	}
	if rest, ok := strings.CutPrefix(line, "Labels: "); ok {
		q.pairs(rest, addLabels)
		return ""
	}
	if loc := trailPairs.FindStringIndex(line); loc != nil {
		q.pairs(line[loc[0]:], addLabels)
		line = strings.TrimSpace(line[:loc[0]])
	}
	if m := keyValue.FindStringSubmatch(line); m != nil {
		switch key, val := strings.ToLower(m[1]), m[2]; {
		case key == "alertname":
			q.name(val)
			return ""
		case key == "summary" || key == "description" || key == "message":
			return val
		case key == "expr" || key == "expression":
			q.metrics(val)
			return ""
		case q.Labels[m[1]] == val && val != "":
			return ""
		case addLabels && alertLabels[key]:
			q.Labels[m[1]] = val
			return ""
		}
	}
	return line
}

// alertLabels are the labels that alerts of Kubernetes clusters usually carry.
var alertLabels = map[string]bool{"severity": true, "cluster": true, "namespace": true, "instance": true, "job": true, "pod": true, "node": true, "service": true, "container": true}

func (q *Query) name(s string) {
	if s = incident.Clip(strings.TrimSpace(s), 253); s != "" && !slices.Contains(q.Names, s) && len(q.Names) < 20 {
		q.Names = append(q.Names, s)
	}
}

func (q *Query) metrics(expr string) {
	for _, m := range metricNames.FindAllString(expr, 50) {
		if !slices.Contains(q.Metrics, m) && len(q.Metrics) < 50 && len(m) <= 200 {
			q.Metrics = append(q.Metrics, m)
		}
	}
}

func (q *Query) pairs(s string, add bool) {
	if !add {
		return
	}
	for _, m := range labelPairs.FindAllStringSubmatch(s, 128) {
		q.Labels[m[1]] = strings.Trim(m[2], `"`)
	}
}

// QueryOf builds the query of an incident from all that is known of it: cause and hypotheses,
// the members' reasons and kinds, titles, messages, evidence and alerts, not from one alert.
func QueryOf(inc incident.Incident, hyps []incident.Hypothesis) Query {
	q := Query{ID: string(inc.ID), Labels: map[string]string{}}
	f := &q.Facts
	f.Cause, f.Confidence, f.Severity = string(inc.Cause), inc.Confidence, string(inc.Severity)
	add := func(list *[]string, s string) {
		if s != "" && len(*list) < 64 && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	add(&f.Causes, f.Cause)
	for _, h := range hyps {
		add(&f.Causes, string(h.Cause))
		add(&f.Kinds, h.Object.Kind)
		add(&f.Namespaces, h.Object.Namespace)
	}
	if inc.Root != nil {
		add(&f.Kinds, inc.Root.Entity.Kind)
	}
	f.members(inc, add)
	var text []string
	add(&text, inc.Title)
	for _, c := range f.Causes {
		if info, ok := incident.LookupCause(incident.CauseName(c)); ok {
			add(&text, c+": "+info.Line)
		}
	}
	text = append(text, f.Reasons...)
	for _, h := range hyps[:min(len(hyps), 3)] {
		add(&text, h.Summary)
		q.evidence(&text, h.Evidence)
	}
	q.evidence(&text, inc.Evidence)
	for _, r := range f.Reasons {
		if alertLike.MatchString(r) {
			add(&q.Names, r)
		}
	}
	f.Alerts, f.Labels = q.Names, q.Labels
	q.Text = incident.Clip(strings.Join(text, "\n"), maxQueryText)
	f.Text = q.Text
	return q
}

// members takes what is affected, where, and by which shared factor.
func (f *Facts) members(inc incident.Incident, add func(*[]string, string)) {
	for _, m := range inc.Members {
		add(&f.Kinds, m.Entity.Kind)
		add(&f.Namespaces, m.Entity.Namespace)
		add(&f.Causes, string(m.Cause))
		for _, r := range m.Reasons {
			add(&f.Reasons, r)
		}
	}
	for _, c := range inc.Clusters[:min(len(inc.Clusters), 10_000)] {
		f.Clusters = append(f.Clusters, string(c))
	}
	f.Members = max(inc.MembersTotal, len(inc.Members))
	if s := inc.Shared; s != nil {
		f.Factor, f.Value = string(s.Name), s.Value
		if s.Name == incident.FactorStorage {
			add(&f.Kinds, "StorageClass")
		}
	}
}

// alertLike: at least three words in one, as alert names are (KubePodCrashLooping); event
// reasons are mostly shorter, and a reason taken for a name costs little.
var alertLike = regexp.MustCompile(`^(?:[A-Z][a-z0-9]*|[a-z]+[A-Z]\w*)(?:[A-Z]+[a-z0-9]*){2,}$`)

// evidence takes names and metrics of alerts, and the text of messages and log excerpts.
func (q *Query) evidence(text *[]string, list []incident.Evidence) {
	for _, e := range list[:min(len(list), 20)] {
		for _, s := range []incident.UntrustedText{e.Observed, e.Text} {
			t := incident.Clip(string(s), 1024)
			if t == "" {
				continue
			}
			if e.Source == "metrics" || e.Source == "alerts" {
				q.metrics(t)
			}
			*text = append(*text, t)
		}
	}
}
