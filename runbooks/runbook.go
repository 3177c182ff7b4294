package runbooks

import (
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Limits on what is read. Pages of public collections are at most 63 KB; the others bound what a
// hostile page can cost.
const (
	MaxPageBytes    = 1 << 20  // one page
	MaxFrontBytes   = 64 << 10 // its front matter
	MaxSectionBytes = 4 << 10  // a section is split above this, except inside a code block
	MaxSections     = 512      // of one page
	MaxHeading      = 200      // bytes of one heading
	MaxCommands     = 40       // kept of one section
	MaxCommandBytes = 2 << 10  // one command, continuation lines included
)

// Runbook is one page. It is immutable once parsed and safe for concurrent reading.
type Runbook struct {
	Path     string // unique inside an index; slash-separated, "source/path" when several sources are loaded
	Source   string // name of the source it came from; empty: only one
	Title    string // front matter, else the first heading, else the file name; never empty
	Front    Front
	Sections []Section // in page order, at least one
	Hash     incident.Digest
	Modified time.Time // zero: not known
}

// Section is a part of a page under one heading.
type Section struct {
	Headings []string // from the page's outermost heading to this one's; empty: before any heading
	Line     int      // 1-based line of the first line of Text
	Text     string   // Markdown as written, untrusted
	Commands []string // shell commands as written, never executed
}

// Name returns the heading path, " › " between; empty for text before any heading.
func (s Section) Name() string { return strings.Join(s.Headings, " › ") }

// Front is the front matter that Tocsin knows. All of it is optional.
type Front struct {
	Title    string
	Causes   []incident.CauseName // the causes the page is for; empty: any
	Alerts   []string             // alert names
	Kinds    []string             // Kubernetes kinds of the entity concerned
	Labels   map[string]string    // labels the incident must have; a value "*" asks for presence only
	When     []string             // CEL, all must hold
	NotWhen  []string             // CEL, none may hold
	Actions  []Action
	Verify   []string // what shows that the fix worked, for a person
	Owner    string
	Severity string
	Expires  time.Time // zero: never
}

// Action is a catalogued action a page suggests. Params may be partial and may be templates for a
// person; they are not executed from here.
type Action struct {
	Name   incident.ActionName
	Params map[string]string
}

// Problem is something wrong with one page. Fatal ones keep the page out of the index.
type Problem struct {
	Path    string `json:"path"`
	Line    int    `json:"line,omitempty"` // 1-based; 0: the whole page
	Message string `json:"message"`
	Fatal   bool   `json:"fatal"`
}

// String returns "path:line: message".
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	return p.Path + ":" + itoa(p.Line) + ": " + p.Message
}
