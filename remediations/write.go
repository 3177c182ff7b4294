package remediations

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// FieldManager is the name every write of this package carries.
const FieldManager = "tocsin"

// Annotations that stamp what was written. After a crash they say whether a write landed.
const (
	AnnotationExecution = "tocsin.io/execution"
	AnnotationIncident  = "tocsin.io/incident"
)

// Verb is the kind of one API call.
type Verb string

// Verbs. There is no other way to change anything.
const (
	VerbPatch  Verb = "patch"  // JSON patch of Ops
	VerbDelete Verb = "delete" // with UID and resourceVersion as preconditions
	VerbEvict  Verb = "evict"  // the eviction API: disruption budgets are respected
	VerbCopy   Verb = "copy"   // create Target as a copy of Source; used for pull secrets only
	VerbCreate Verb = "create" // create Target from Source, a Job: used to run it again
	VerbPush   Verb = "push"   // a commit on a new branch of the configured repository
)

// Op is one JSON patch operation. Value is nil for remove.
type Op struct {
	Op    string          `json:"op"` // test, add, replace, remove
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Write is one exact API call as data: what is shown, sealed, dry-run and sent is this value.
// Target carries the UID it is meant for (empty for what is to be created). It may hold values
// of the object and never leaves the agent.
type Write struct {
	Verb    Verb             `json:"verb"`
	Target  incident.Entity  `json:"target"`
	Version string           `json:"-"` // resourceVersion precondition, read just before
	Ops     []Op             `json:"ops,omitempty"`
	Source  *incident.Entity `json:"source,omitempty"`
	Push    *Push            `json:"push,omitempty"`
}

// Push is a Git change: the exact new content of one file on top of one commit.
type Push struct {
	Base    string `json:"base"`   // commit the branch starts from
	Branch  string `json:"branch"` // new
	Path    string `json:"path"`
	Before  string `json:"before"`
	Content string `json:"content"`
	Title   string `json:"title"`
	Body    string `json:"body"`
}

// Apply says how a write is sent.
type Apply struct {
	DryRun    bool
	Execution string // stamped on what is patched or created; empty: no stamp
	Incident  incident.ID
}

// pointer joins path tokens into a JSON pointer.
func pointer(tokens ...string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(t))
	}
	return b.String()
}

func tokens(path string) []string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return parts
}

// at returns the value at a JSON pointer of obj and whether it is there.
func at(obj any, path string) (any, bool) {
	for _, t := range tokens(path) {
		switch v := obj.(type) {
		case map[string]any:
			next, ok := v[t]
			if !ok {
				return nil, false
			}
			obj = next
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			obj = v[i]
		default:
			return nil, false
		}
	}
	return obj, true
}

// patch builds the operations that set fields of one object. Each set is preceded by a test of
// the value that was seen, so that a patch can only change what was shown.
type patch struct {
	obj *Object
	ops []Op
	err error
}

func edit(obj *Object) *patch { return &patch{obj: obj} }

func (p *patch) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *patch) raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		p.fail(fmt.Errorf("patch: %w", err))
	}
	return b
}

// set writes v at path, making the parents that are missing. A nil v removes the field.
func (p *patch) set(v any, path ...string) *patch {
	ptr := pointer(path...)
	old, there := at(p.obj.Object, ptr)
	if v == nil {
		if there {
			p.ops = append(p.ops, Op{Op: "test", Path: ptr, Value: p.raw(old)}, Op{Op: "remove", Path: ptr})
		}
		return p
	}
	if there && bytes.Equal(p.raw(old), p.raw(v)) {
		return p
	}
	if there {
		p.ops = append(p.ops, Op{Op: "test", Path: ptr, Value: p.raw(old)}, Op{Op: "replace", Path: ptr, Value: p.raw(v)})
		return p
	}
	// The first missing parent takes the whole rest as one added value.
	cut := len(path) - 1
	for cut > 0 {
		if _, ok := at(p.obj.Object, pointer(path[:cut]...)); ok {
			break
		}
		cut--
	}
	value := v
	for i := len(path) - 1; i > cut; i-- {
		value = map[string]any{path[i]: value}
	}
	p.ops = append(p.ops, Op{Op: "add", Path: pointer(path[:cut+1]...), Value: p.raw(value)})
	return p
}

// write returns the finished patch. A patch that changes nothing is refused: it would be
// approved and measured for nothing.
func (p *patch) write() ([]Write, error) {
	if p.err != nil {
		return nil, p.err
	}
	if !slices.ContainsFunc(p.ops, func(o Op) bool { return o.Op != "test" }) {
		return nil, incident.Invalidf("%s: nothing to change, it is so already", entityOf(p.obj))
	}
	return []Write{{Verb: VerbPatch, Target: entityOf(p.obj), Ops: p.ops}}, nil
}

// inverse returns the operations that put back what ops change in before. Each is preceded by a
// test of what is there after the write, so that an undo never overwrites somebody else's later
// change.
func inverse(before, after *Object, ops []Op) ([]Op, error) {
	var out []Op
	for i := len(ops) - 1; i >= 0; i-- {
		op := ops[i]
		if op.Op == "test" {
			continue
		}
		old, there := at(before.Object, op.Path)
		var back []Op
		if written, ok := at(after.Object, op.Path); ok {
			raw, err := json.Marshal(written)
			if err != nil {
				return nil, fmt.Errorf("undo of %s: %w", op.Path, err)
			}
			back = append(back, Op{Op: "test", Path: op.Path, Value: raw})
		}
		switch {
		case !there:
			back = append(back, Op{Op: "remove", Path: op.Path})
		default:
			raw, err := json.Marshal(old)
			if err != nil {
				return nil, fmt.Errorf("undo of %s: %w", op.Path, err)
			}
			verb := "replace"
			if op.Op == "remove" {
				verb = "add"
			}
			back = append(back, Op{Op: verb, Path: op.Path, Value: raw})
		}
		out = append(out, back...)
	}
	return out, nil
}

// entityOf returns the entity of a live object, with its UID.
func entityOf(o *Object) incident.Entity {
	return incident.Entity{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID())}
}

// encodePatch returns the body that is sent: preconditions, operations, stamp. UID and
// resourceVersion are set, not tested: the server then answers 409 when they differ.
func encodePatch(live *Object, w Write, how Apply) ([]byte, error) {
	p := edit(live)
	ops := []Op{{Op: "replace", Path: "/metadata/uid", Value: p.raw(w.Target.UID)},
		{Op: "replace", Path: "/metadata/resourceVersion", Value: p.raw(w.Version)}}
	ops = append(ops, w.Ops...)
	if how.Execution != "" {
		made := slices.ContainsFunc(w.Ops, func(o Op) bool { return o.Path == "/metadata/annotations" && o.Op != "test" })
		if live.GetAnnotations() == nil && !made {
			ops = append(ops, Op{Op: "add", Path: "/metadata/annotations", Value: p.raw(map[string]string{})})
		}
		ops = append(ops,
			Op{Op: "add", Path: pointer("metadata", "annotations", AnnotationExecution), Value: p.raw(how.Execution)},
			Op{Op: "add", Path: pointer("metadata", "annotations", AnnotationIncident), Value: p.raw(string(how.Incident))})
	}
	if p.err != nil {
		return nil, p.err
	}
	return json.Marshal(ops)
}
