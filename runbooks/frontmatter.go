package runbooks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/tocsin-io/tocsin/incident"
)

func itoa(n int) string { return strconv.Itoa(n) }

// cutFront separates front matter from the page. It returns the YAML, the rest, and the number
// of lines before the rest. A page that merely starts with a rule ("---") has no front matter.
func cutFront(text string) (yamlText, body string, lines int) {
	rest, ok := strings.CutPrefix(text, "---\n")
	if !ok {
		return "", text, 0
	}
	n := 1
	for pos := 0; pos < len(rest); {
		line, _, more := strings.Cut(rest[pos:], "\n")
		n++
		if t := strings.TrimRight(line, " \t"); t == "---" || t == "..." {
			end := min(pos+len(line)+1, len(rest))
			return rest[:pos], rest[end:], n
		}
		if !more {
			break
		}
		pos += len(line) + 1
	}
	return "", text, 0
}

// frontReader decodes the mapping node by node, so that every error has its line. The YAML
// starts at line 2 of the page.
type frontReader struct {
	path string
	f    Front
	errs []string
}

func (r *frontReader) fail(n *yaml.Node, format string, args ...any) {
	if len(r.errs) < 20 {
		r.errs = append(r.errs, fmt.Sprintf("%s:%d: %s", r.path, n.Line+1, fmt.Sprintf(format, args...)))
	}
}

// parseFront reads the front matter. Unknown keys are left alone; known keys are strict. ok is
// false when the text is no YAML mapping and so no front matter at all.
func parseFront(path, text string) (f Front, ok bool, err error) {
	if len(text) > MaxFrontBytes {
		return Front{}, false, incident.Invalidf("%s:1: front matter is %d bytes long, limit %d", path, len(text), MaxFrontBytes)
	}
	if d := maxIndent(text); d > 200 {
		return Front{}, false, incident.Invalidf("%s:1: front matter is nested too deeply", path)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return Front{}, false, incident.Invalidf("%s: front matter: %s", path, shiftLine(err.Error()))
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return Front{}, false, nil
	}
	r := &frontReader{path: path}
	m := doc.Content[0]
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		if read, known := frontKeys[k.Value]; known {
			if seen[k.Value] {
				r.fail(k, "%s is given twice", k.Value)
				continue
			}
			seen[k.Value] = true
			read(r, v)
		}
	}
	if len(r.errs) > 0 {
		return Front{}, true, incident.Invalidf("%s", strings.Join(r.errs, "\n"))
	}
	return r.f, true, nil
}

// maxIndent bounds nesting before the YAML parser sees it: flow nesting by brackets, block
// nesting by indentation.
func maxIndent(s string) int {
	depth, deepest := 0, 0
	for _, c := range s {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth--
		case '\n':
			depth = max(depth, 0)
		}
	}
	for line := range strings.Lines(s) {
		deepest = max(deepest, (len(line)-len(strings.TrimLeft(line, " -")))/2)
	}
	return deepest
}

// shiftLine turns the "line N" of a YAML error into the page's line.
func shiftLine(s string) string {
	i := strings.Index(s, "line ")
	if i < 0 {
		return s
	}
	j := i + 5
	for j < len(s) && s[j] >= '0' && s[j] <= '9' {
		j++
	}
	n, err := strconv.Atoi(s[i+5 : j])
	if err != nil {
		return s
	}
	return s[:i+5] + itoa(n+1) + s[j:]
}

var frontKeys = map[string]func(*frontReader, *yaml.Node){
	"title":    func(r *frontReader, n *yaml.Node) { r.f.Title = r.text(n, "title") },
	"owner":    func(r *frontReader, n *yaml.Node) { r.f.Owner = r.text(n, "owner") },
	"severity": func(r *frontReader, n *yaml.Node) { r.f.Severity = r.text(n, "severity") },
	"alerts":   func(r *frontReader, n *yaml.Node) { r.f.Alerts = r.list(n, "alerts") },
	"kinds":    func(r *frontReader, n *yaml.Node) { r.f.Kinds = r.list(n, "kinds") },
	"verify":   func(r *frontReader, n *yaml.Node) { r.f.Verify = r.list(n, "verify") },
	"causes":   (*frontReader).causes,
	"labels":   (*frontReader).labels,
	"when":     func(r *frontReader, n *yaml.Node) { r.f.When = r.conditions(n, "when") },
	"not_when": func(r *frontReader, n *yaml.Node) { r.f.NotWhen = r.conditions(n, "not_when") },
	"actions":  (*frontReader).actions,
	"expires":  (*frontReader).expires,
}

func (r *frontReader) text(n *yaml.Node, key string) string {
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "%s: want text", key)
		return ""
	}
	return incident.Clip(strings.TrimSpace(n.Value), 1024)
}

// list takes one text or a list of texts.
func (r *frontReader) list(n *yaml.Node, key string) []string {
	if n.Kind == yaml.ScalarNode {
		if n.Tag == "!!null" {
			return nil
		}
		return []string{r.text(n, key)}
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) > 200 {
		r.fail(n, "%s: want a list of at most 200 texts", key)
		return nil
	}
	out := make([]string, 0, len(n.Content))
	for _, c := range n.Content {
		out = append(out, r.text(c, key))
	}
	return out
}

func (r *frontReader) causes(n *yaml.Node) {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, c := range nodes {
		name := incident.CauseName(r.text(c, "causes"))
		if _, ok := incident.LookupCause(name); !ok {
			r.fail(c, "cause %q is not in the catalogue%s", incident.Clip(string(name), 80), nearest(string(name), causeNames()))
			continue
		}
		r.f.Causes = append(r.f.Causes, name)
	}
}

func (r *frontReader) labels(n *yaml.Node) {
	// Elsewhere "labels" is often a list of tags: that is not ours, and tolerated.
	if n.Kind != yaml.MappingNode {
		return
	}
	r.f.Labels = r.stringMap(n, "labels")
}

func (r *frontReader) stringMap(n *yaml.Node, key string) map[string]string {
	if n.Kind != yaml.MappingNode || len(n.Content) > 200 {
		r.fail(n, "%s: want a mapping of at most 100 texts", key)
		return nil
	}
	m := make(map[string]string, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		m[n.Content[i].Value] = r.text(n.Content[i+1], key+"."+incident.Clip(n.Content[i].Value, 80))
	}
	return m
}

func (r *frontReader) conditions(n *yaml.Node, key string) []string {
	list := r.list(n, key)
	for i, src := range list {
		at := n
		if n.Kind == yaml.SequenceNode {
			at = n.Content[i]
		}
		if _, err := compileCondition(src); err != nil {
			r.fail(at, "%s: %v", key, err)
		}
	}
	return list
}

// actions takes a list of names or of mappings {action: NAME, params: {…}} ("name" is
// taken for "action"); in a mapping the parameters may also stand directly beside the name.
func (r *frontReader) actions(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) > 50 {
		r.fail(n, "actions: want a list of at most 50")
		return
	}
	for _, c := range n.Content {
		a := Action{}
		switch c.Kind {
		case yaml.ScalarNode:
			a.Name = incident.ActionName(c.Value)
		case yaml.MappingNode:
			params := map[string]string{}
			for i := 0; i+1 < len(c.Content); i += 2 {
				k, v := c.Content[i].Value, c.Content[i+1]
				switch {
				case k == "action" || k == "name" && a.Name == "":
					a.Name = incident.ActionName(r.text(v, "actions."+k))
				case k == "params":
					for pk, pv := range r.stringMap(v, "actions.params") {
						params[pk] = pv
					}
				default:
					params[k] = r.text(v, "actions."+incident.Clip(k, 80))
				}
			}
			if len(params) > 0 {
				a.Params = params
			}
		}
		if !slices.Contains(incident.Actions(), a.Name) {
			r.fail(c, "action %q is not in the catalogue%s", incident.Clip(string(a.Name), 80), nearest(string(a.Name), actionNames()))
			continue
		}
		r.f.Actions = append(r.f.Actions, a)
	}
}

func (r *frontReader) expires(n *yaml.Node) {
	s := r.text(n, "expires")
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			r.f.Expires = t.UTC()
			return
		}
	}
	r.fail(n, "expires %q: want a date like 2027-06-30", incident.Clip(s, 40))
}

func causeNames() []string {
	var out []string
	for _, c := range incident.Causes() {
		out = append(out, string(c.Name))
	}
	return out
}

func actionNames() []string {
	var out []string
	for _, a := range incident.Actions() {
		out = append(out, string(a))
	}
	return out
}

// nearest returns `; did you mean "X"?` for a name at most three edits away, else nothing.
func nearest(name string, known []string) string {
	best, at := 4, ""
	if len(name) > 64 {
		return ""
	}
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d < best {
			best, at = d, k
		}
	}
	if at == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", at)
}

func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, prev+cost)
			prev, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
