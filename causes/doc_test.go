package causes

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

var update = flag.Bool("update", false, "write docs/causes.md anew")

const docFile = "../docs/causes.md"

const docHead = `# The catalogue of causes

Each cause is a stable identifier. It is blamed on one object (Workload: the top of the owner chain), cites the fields, events, log lines
or metrics that speak for it, says which symptoms it explains, and where the fix can be computed proposes exact actions. "Looks at" names
the sources; where one of them was not seen the cause cannot be told or is less sure, and the result says so. "Proposes" lists the
catalogued actions that the cases under causes/testdata/cases get; "a step" is a line for a person where no safe action exists.
A generic cause yields to any narrower one. Which revisions, ports, selectors and amounts are proposed stands in each result.

This table is generated from the code: go test ./causes -run TestCatalogueDoc -update
`

// TestCatalogueDoc keeps docs/causes.md in step with the catalogue, the table of detectors and
// the proposals that the cases get.
func TestCatalogueDoc(t *testing.T) {
	reads, actions := map[incident.CauseName]map[string]bool{}, map[incident.CauseName]map[string]bool{}
	add := func(m map[incident.CauseName]map[string]bool, c incident.CauseName, s string) {
		if m[c] == nil {
			m[c] = map[string]bool{}
		}
		m[c][s] = true
	}
	for _, d := range detectors() {
		for _, c := range d.causes {
			for _, r := range d.reads {
				add(reads, c, strings.TrimPrefix(r, "objects/"))
			}
		}
	}
	for _, file := range caseFiles(t) {
		ar, _ := readCase(t, file)
		files := fstest.MapFS{}
		for _, f := range ar.Files {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
		st, err := cluster.ReadFS(context.Background(), files, "case")
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range Analyze(st).Hypotheses {
			for _, p := range h.Proposals {
				name := string(p.Action)
				if name == "" {
					name = "a step"
				}
				add(actions, h.Cause, name)
			}
		}
	}
	var b bytes.Buffer
	b.WriteString(docHead)
	family := incident.Family("")
	for _, c := range incident.Causes() {
		if c.Family != family {
			family = c.Family
			fmt.Fprintf(&b, "\n## %s\n\n| cause | blames | what is wrong | looks at | proposes |\n|---|---|---|---|---|\n", strings.ToUpper(string(family[:1]))+string(family[1:]))
		}
		line := c.Line
		if c.Generic {
			line += " (generic)"
		}
		looks := strings.Join(slices.Sorted(maps.Keys(reads[c.Name])), ", ")
		if c.Family == incident.FamilyFleet {
			looks = "signals of several clusters (package correlator)"
		} else if looks == "" {
			t.Errorf("%s has no detector", c.Name)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.Name, c.Blames, line, looks, strings.Join(slices.Sorted(maps.Keys(actions[c.Name])), ", "))
	}
	if *update {
		if err := os.WriteFile(docFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not current: go test ./causes -run TestCatalogueDoc -update", docFile)
	}
}
