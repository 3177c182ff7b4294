// Package importtest holds the rule of which package may import which: imports point down only,
// stages do not import stages, NATS and client-go stay behind their adapters.
package importtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tocsin-io/tocsin/"

// ours says what each of our packages may import of ours. A row covers its subpackages, which
// may also import each other and their parent.
var ours = map[string][]string{
	"cmd/tocsin":        {"incident", "internal/app"},
	"incident":          {},
	"cluster":           {"incident"},
	"causes":            {"incident", "cluster"},
	"collectors/kube":   {"incident", "cluster", "causes"},
	"collectors/alerts": {"incident", "cluster", "causes"},
	"correlator":        {"incident"},
	"analyzer":          {"incident", "prompts"},
	"runbooks":          {"incident"},
	"remediations":      {"incident"},
	"console":           {"incident"},
	"internal/bus":      {"incident"},
	"internal/kube":     {"incident"},
	"internal/llm":      {"incident", "runbooks"},
	"internal/vector":   {"incident", "runbooks"},
	"internal/app":      {"*"},
	"e2e":               {"*"},
}

// outside says which packages alone may import a module, by prefix.
var outside = map[string][]string{
	"github.com/nats-io/":             {"internal/bus"},
	"k8s.io/client-go/":               {"collectors/kube", "remediations", "internal/kube", "e2e"},
	"github.com/jackc/pgx/":           {"internal/vector"},
	"github.com/sashabaranov/":        {"internal/llm"},
	"github.com/slack-go/":            {"chatops"},
	"github.com/spf13/cobra":          {"cmd/tocsin"},
	"k8s.io/api/":                     {"cluster", "causes", "collectors/kube", "remediations", "internal/kube", "internal/app", "e2e"},
	"github.com/cloudevents/sdk-go":   {},
	"sigs.k8s.io/controller-runtime/": {},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// row returns the row that covers a package: the longest prefix.
func row(p string) (string, bool) {
	best, ok := "", false
	for r := range ours {
		if (p == r || strings.HasPrefix(p, r+"/")) && len(r) > len(best) {
			best, ok = r, true
		}
	}
	return best, ok
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "internal/importtest") {
			continue
		}
		from, ok := row(name)
		if !ok {
			t.Errorf("%s is in no row: say what it may import", name)
			continue
		}
		for _, i := range p.Imports {
			if ref, isOurs := strings.CutPrefix(i, module); isOurs {
				to, _ := row(ref)
				if from != to && !slices.Contains(ours[from], "*") && !slices.Contains(ours[from], to) {
					t.Errorf("%s imports %s; its row allows %v", name, ref, ours[from])
				}
			}
			for prefix, allowed := range outside {
				if strings.HasPrefix(i, prefix) && !slices.ContainsFunc(allowed, func(a string) bool { return name == a || strings.HasPrefix(name, a+"/") }) {
					t.Errorf("%s imports %s, which only %v may", name, i, allowed)
				}
			}
		}
	}
}
