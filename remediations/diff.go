package remediations

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// Fields that change by themselves or that carry our own stamp: never part of a diff.
var volatile = []string{"status", "metadata.managedFields", "metadata.resourceVersion", "metadata.generation",
	"metadata.creationTimestamp", "metadata.uid", "metadata.annotations[" + AnnotationExecution + "]",
	"metadata.annotations[" + AnnotationIncident + "]"}

// changes returns the fields that differ, sorted by path, unmasked. A nil object is one that is
// not there. Lists whose items have a name are compared by name.
func changes(before, after *Object) []incident.FieldChange {
	var e incident.Entity
	a, b := map[string]string{}, map[string]string{}
	if before != nil {
		e = entityOf(before)
		flatten(a, "", before.Object)
	}
	if after != nil {
		e = entityOf(after)
		flatten(b, "", after.Object)
	}
	var out []incident.FieldChange
	for path, v := range a {
		if w := b[path]; w != v {
			out = append(out, incident.FieldChange{Object: e, Path: path, Before: v, After: w})
		}
	}
	for path, w := range b {
		if _, ok := a[path]; !ok {
			out = append(out, incident.FieldChange{Object: e, Path: path, After: w})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

func flatten(out map[string]string, path string, v any) {
	if slices.Contains(volatile, path) {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			out[path] = "{}"
		}
		for k, x := range v {
			flatten(out, join(path, k), x)
		}
	case []any:
		if len(v) == 0 {
			out[path] = "[]"
		}
		for i, x := range v {
			key := strconv.Itoa(i)
			if m, ok := x.(map[string]any); ok {
				if name, ok := m["name"].(string); ok {
					key = name
				}
			}
			flatten(out, path+"["+key+"]", x)
		}
	case string:
		out[path] = v
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			raw = fmt.Appendf(nil, "%v", v)
		}
		out[path] = string(raw)
	}
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case strings.ContainsAny(key, "./"):
		return path + "[" + key + "]"
	}
	return path + "." + key
}

var (
	secretName = regexp.MustCompile(`(?i)(pass|secret|token|credential|apikey|api[_-]key|private|auth|cookie|session|dsn|connection|signature|salt|bearer|cert|\bkey\b|_key|-key)`)
	// Shapes of secrets: PEM, JWT, well-known token prefixes, user:password in a URL, long
	// random-looking words.
	secretShape = regexp.MustCompile(`-----BEGIN|eyJ[A-Za-z0-9_-]{10,}\.|\b(AKIA|ASIA|ghp_|gho_|ghs_|glpat-|xox[abprs]-|sk-|sk_live_|npm_|AIza|ya29\.)[A-Za-z0-9_-]{8,}|://[^/\s:@]*:[^/\s@]+@|\b[A-Za-z0-9+/_-]{40,}={0,2}(?:$|\s)`)
	envPath     = regexp.MustCompile(`\.env\[([^\]]+)\]\.value$`)
)

const masked = "(hidden)"

// digestShape is what an image digest or revision hash looks like; it is not a secret.
var digestShape = regexp.MustCompile(`^([a-zA-Z0-9._/:-]+@)?sha(1|256|512)[:-][0-9a-f]{40,128}$|^[0-9a-f]{40}$|^[0-9a-f]{64}$`)

// mask hides values that are or may be secrets: all data of Secrets, environment variables and
// other fields with telling names, and values with telling shapes. It keeps whether a field was
// there.
func mask(cs []incident.FieldChange) []incident.FieldChange {
	out := make([]incident.FieldChange, len(cs))
	for i, c := range cs {
		if hides(c) {
			if c.Before != "" {
				c.Before = masked
			}
			if c.After != "" {
				c.After = masked + " (new)"
			}
		}
		c.Before, c.After = plain(c.Before), plain(c.After)
		out[i] = c
	}
	return out
}

func plain(v string) string { return incident.UntrustedText(v).Plain(512) }

func hides(c incident.FieldChange) bool {
	top, _, _ := strings.Cut(c.Path, ".")
	if c.Object.Kind == "Secret" && (top == "data" || top == "stringData") {
		return true
	}
	if strings.Contains(c.Path, "last-applied-configuration") {
		return true
	}
	if m := envPath.FindStringSubmatch(c.Path); m != nil && secretName.MatchString(m[1]) {
		return true
	}
	last := c.Path[strings.LastIndexAny(c.Path, ".[")+1:]
	if strings.Contains(c.Path, "annotations[") && secretName.MatchString(last) {
		return true
	}
	if strings.Contains(c.Path, ".args[") || strings.Contains(c.Path, ".command[") {
		if secretName.MatchString(c.Before) || secretName.MatchString(c.After) {
			return true
		}
	}
	return shaped(c.Before) || shaped(c.After)
}

func shaped(v string) bool { return secretShape.MatchString(v) && !digestShape.MatchString(v) }

// changedLines returns the lines in which two texts differ, without what is equal before and
// after them.
func changedLines(a, b string) (before, after string) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return strings.Join(x, "\n"), strings.Join(y, "\n")
}
