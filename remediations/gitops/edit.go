// Package gitops edits YAML files of a Git repository and proposes the edits as branches.
//
// It never pushes to the branch that is deployed, never force-pushes and never deletes: a person
// reviews and merges. Of a file it changes the characters of one value and nothing else. It
// holds no state between calls.
package gitops

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	"gopkg.in/yaml.v3"
)

// Document names one Kubernetes object in a file of several.
type Document struct{ Kind, Namespace, Name string }

// maxFile bounds a file that is edited, in bytes.
const maxFile = 1 << 20

// Edit sets one existing scalar field of one document and returns the whole file: only the
// characters of that value change. field is a path like spec.template.spec.containers[app].image;
// list items are found by their name. The error wraps ErrInvalid; a document that has no namespace
// matches any.
func Edit(content string, doc Document, field, value string) (string, error) {
	if len(content) > maxFile {
		return "", incident.Invalidf("file is %d bytes, limit %d", len(content), maxFile)
	}
	n, err := scalarAt(content, doc, field)
	if err != nil {
		return "", err
	}
	next, err := written(n.Tag, value)
	if err != nil {
		return "", err
	}
	out, err := replace(content, n, next)
	if err != nil {
		return "", err
	}
	// What was written is read again: it must be the value, in the same document.
	if again, err := scalarAt(out, doc, field); err != nil || again.Value != value {
		return "", incident.Invalidf("field %q cannot be changed in place (%v)", incident.Clip(field, 120), err)
	}
	return out, nil
}

// scalarAt finds the one value that a field of a document has.
func scalarAt(content string, doc Document, field string) (*yaml.Node, error) {
	dec := yaml.NewDecoder(strings.NewReader(content))
	var found []*yaml.Node
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, incident.Invalidf("yaml: %v", err)
		}
		if matches(&n, doc) {
			found = append(found, &n)
		}
	}
	if len(found) != 1 {
		return nil, incident.Invalidf("the file holds %d documents %s %s, want one", len(found), doc.Kind, doc.Name)
	}
	return resolve(found[0], field)
}

// written returns a value as YAML of the type the old one had: a number stays a number, a string
// that looks like one is quoted.
func written(tag, value string) (string, error) {
	var n yaml.Node
	plain := yaml.Unmarshal([]byte(value), &n) == nil && len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode && n.Content[0].Value == value &&
		!strings.ContainsAny(value, ",[]{}#&*!|>'\"%@`\n")
	if plain && n.Content[0].Tag == tag {
		return value, nil
	}
	if tag != "!!str" {
		return "", incident.Invalidf("value %q is not of the type the field has (%s)", incident.Clip(value, 80), tag)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return "", incident.Invalidf("value: %v", err)
	}
	return string(raw), nil
}

// replace puts next where the scalar n is written in content.
func replace(content string, n *yaml.Node, next string) (string, error) {
	lines := strings.SplitAfter(content, "\n")
	if n.Line < 1 || n.Line > len(lines) {
		return "", incident.Invalidf("line %d is not in the file", n.Line)
	}
	line := []rune(lines[n.Line-1])
	if n.Column < 1 || n.Column > len(line) {
		return "", incident.Invalidf("column %d is not in line %d", n.Column, n.Line)
	}
	old := string(line[n.Column-1:])
	end := tokenEnd(old, n)
	if end < 0 {
		return "", incident.Invalidf("the value in line %d is written over several lines", n.Line)
	}
	lines[n.Line-1] = string(line[:n.Column-1]) + next + old[end:]
	return strings.Join(lines, ""), nil
}

// tokenEnd returns where the scalar that begins text ends; -1 when not in this line.
func tokenEnd(text string, n *yaml.Node) int {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0 && strings.HasPrefix(text, `"`):
		for i := 1; i < len(text); i++ {
			if text[i] == '\\' {
				i++
			} else if text[i] == '"' {
				return i + 1
			}
		}
	case n.Style&yaml.SingleQuotedStyle != 0 && strings.HasPrefix(text, "'"):
		for i := 1; i < len(text); i++ {
			if text[i] == '\'' {
				if i+1 < len(text) && text[i+1] == '\'' {
					i++
					continue
				}
				return i + 1
			}
		}
	case n.Style&^yaml.FlowStyle == 0 && n.Value != "" && strings.HasPrefix(text, n.Value):
		return len(n.Value)
	}
	return -1
}

// Holds says whether a file holds exactly one such document. A file that is no YAML holds none.
func Holds(content string, doc Document) bool {
	dec, n := yaml.NewDecoder(strings.NewReader(content)), 0
	for {
		var node yaml.Node
		if err := dec.Decode(&node); err != nil {
			return errors.Is(err, io.EOF) && n == 1
		}
		if matches(&node, doc) {
			n++
		}
	}
}

func matches(n *yaml.Node, d Document) bool {
	kind, name, ns := get(n, "kind"), get(n, "metadata", "name"), get(n, "metadata", "namespace")
	return kind != nil && kind.Value == d.Kind && name != nil && name.Value == d.Name &&
		(ns == nil || ns.Value == "" || ns.Value == d.Namespace)
}

func get(n *yaml.Node, keys ...string) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, k := range keys {
		if n = child(n, k); n == nil {
			return nil
		}
	}
	return n
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

var segment = regexp.MustCompile(`^([A-Za-z0-9_/-]+)(?:\[([A-Za-z0-9_.-]+)\])?$`)

func resolve(doc *yaml.Node, field string) (*yaml.Node, error) {
	n := doc
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for part := range strings.SplitSeq(field, ".") {
		m := segment.FindStringSubmatch(part)
		if m == nil {
			return nil, incident.Invalidf("field %q: want name.name[item].name", incident.Clip(field, 120))
		}
		if n = child(n, m[1]); n != nil && m[2] != "" {
			n = item(n, m[2])
		}
		if n == nil {
			return nil, incident.Invalidf("field %q is not in the file", incident.Clip(field, 120))
		}
	}
	if n.Kind != yaml.ScalarNode {
		return nil, incident.Invalidf("field %q is not a single value", incident.Clip(field, 120))
	}
	return n, nil
}

func item(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, c := range n.Content {
		if x := child(c, "name"); x != nil && x.Value == name {
			return c
		}
	}
	return nil
}
