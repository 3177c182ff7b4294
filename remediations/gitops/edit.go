// Package gitops edits YAML files of a Git repository and proposes the edits as branches.
//
// It never pushes to the branch that is deployed, never force-pushes and never deletes: a person
// reviews and merges. It keeps comments and order of a file as far as the YAML library does and
// touches only the document and the field it is told. It holds no state between calls.
package gitops

import (
	"bytes"
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

// Edit sets one existing scalar field of one document and returns the whole file. field is a
// path like spec.template.spec.containers[app].image; list items are found by their name. The
// error wraps ErrInvalid; a document that has no namespace matches any.
func Edit(content string, doc Document, field, value string) (string, error) {
	if len(content) > maxFile {
		return "", incident.Invalidf("file is %d bytes, limit %d", len(content), maxFile)
	}
	dec := yaml.NewDecoder(strings.NewReader(content))
	var docs []*yaml.Node
	found := 0
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", incident.Invalidf("yaml: %v", err)
		}
		docs = append(docs, &n)
		if matches(&n, doc) {
			found++
			if err := set(&n, field, value); err != nil {
				return "", err
			}
		}
	}
	if found != 1 {
		return "", incident.Invalidf("the file holds %d documents %s %s, want one", found, doc.Kind, doc.Name)
	}
	return encode(docs, content)
}

func encode(docs []*yaml.Node, original string) (string, error) {
	var out bytes.Buffer
	if strings.HasPrefix(original, "---") {
		out.WriteString("---\n")
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for _, d := range docs {
		if err := enc.Encode(d); err != nil {
			return "", incident.Invalidf("yaml: %v", err)
		}
	}
	if err := enc.Close(); err != nil {
		return "", incident.Invalidf("yaml: %v", err)
	}
	return out.String(), nil
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

func set(doc *yaml.Node, field, value string) error {
	n := doc
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for part := range strings.SplitSeq(field, ".") {
		m := segment.FindStringSubmatch(part)
		if m == nil {
			return incident.Invalidf("field %q: want name.name[item].name", incident.Clip(field, 120))
		}
		if n = child(n, m[1]); n != nil && m[2] != "" {
			n = item(n, m[2])
		}
		if n == nil {
			return incident.Invalidf("field %q is not in the file", incident.Clip(field, 120))
		}
	}
	if n.Kind != yaml.ScalarNode {
		return incident.Invalidf("field %q is not a single value", incident.Clip(field, 120))
	}
	tag := n.Tag
	n.Value = value
	// A number stays a number, a string that looks like one stays quoted.
	if tag == "!!str" && looksTyped(value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return nil
}

func looksTyped(v string) bool {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(v), &n); err != nil || len(n.Content) != 1 {
		return true
	}
	return n.Content[0].Tag != "!!str"
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
