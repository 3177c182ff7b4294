package remediations

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Param is one typed parameter of an action. Values are strings in the form Form describes.
type Param struct {
	Name     string
	Form     string // for the documentation
	Required bool
	Aside    bool // optional, and not counted by Action.AnyOf
	Check    func(value string) error
}

func need(name, form string, check func(string) error) Param {
	return Param{Name: name, Form: form, Required: true, Check: check}
}

func may(name, form string, check func(string) error) Param {
	return Param{Name: name, Form: form, Check: check}
}

func aside(name, form string, check func(string) error) Param {
	return Param{Name: name, Form: form, Aside: true, Check: check}
}

// checkCount takes a decimal in min..max without sign or leading zeros.
func checkCount(lo, hi int) func(string) error {
	return func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || strconv.Itoa(n) != v || n < lo || n > hi {
			return incident.Invalidf("%q: want a number from %d to %d", incident.Clip(v, 40), lo, hi)
		}
		return nil
	}
}

func checkQuantity(v string) error {
	q, err := resource.ParseQuantity(v)
	if err != nil || q.Sign() <= 0 || len(v) > 32 {
		return incident.Invalidf("%q: want a positive Kubernetes quantity", incident.Clip(v, 40))
	}
	return nil
}

func checkText(limit int) func(string) error {
	return func(v string) error {
		if len(v) > limit || v != incident.UntrustedText(v).Plain(limit) {
			return incident.Invalidf("want at most %d bytes of plain text", limit)
		}
		return nil
	}
}

func checkLabelName(v string) error {
	if len(validation.IsDNS1123Label(v)) > 0 {
		return incident.Invalidf("%q: want a lower-case DNS label", incident.Clip(v, 80))
	}
	return nil
}

func checkSubdomain(v string) error {
	if len(validation.IsDNS1123Subdomain(v)) > 0 {
		return incident.Invalidf("%q: want a lower-case DNS name", incident.Clip(v, 80))
	}
	return nil
}

func checkQualified(v string) error {
	if len(validation.IsQualifiedName(v)) > 0 {
		return incident.Invalidf("%q: want a qualified name", incident.Clip(v, 80))
	}
	return nil
}

func checkEnvName(v string) error {
	if len(validation.IsEnvVarName(v)) > 0 {
		return incident.Invalidf("%q: want the name of an environment variable", incident.Clip(v, 80))
	}
	return nil
}

func checkPort(v string) error {
	if checkCount(1, 65535)(v) == nil || len(validation.IsValidPortName(v)) == 0 {
		return nil
	}
	return incident.Invalidf("%q: want a port number or name", incident.Clip(v, 40))
}

func checkHTTPPath(v string) error {
	if !strings.HasPrefix(v, "/") || len(v) > 256 || v != incident.UntrustedText(v).Plain(256) {
		return incident.Invalidf("%q: want a path that begins with /", incident.Clip(v, 80))
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return incident.Invalidf("%q: want one of %s", incident.Clip(v, 40), strings.Join(values, ", "))
		}
		return nil
	}
}

// parseLabels reads "k=v,k=v", sorted by key, each key once.
func parseLabels(v string) (map[string]string, error) {
	out := map[string]string{}
	last := ""
	for part := range strings.SplitSeq(v, ",") {
		k, val, ok := strings.Cut(part, "=")
		if !ok || checkQualified(k) != nil || len(validation.IsValidLabelValue(val)) > 0 {
			return nil, incident.Invalidf("%q: want k=v,k=v", incident.Clip(v, 120))
		}
		if k <= last {
			return nil, incident.Invalidf("%q: keys must be sorted and distinct", incident.Clip(v, 120))
		}
		out[k], last = val, k
	}
	return out, nil
}

func checkLabels(v string) error { _, err := parseLabels(v); return err }

var tolerationForm = regexp.MustCompile(`^([^=:\s]{1,317})(?:=([^:\s]{0,63}))?:(NoSchedule|PreferNoSchedule|NoExecute)$`)

// parseToleration reads key[=value]:Effect; hasValue tells "key:" from "key=:".
func parseToleration(v string) (key, value, effect string, hasValue bool, err error) {
	m := tolerationForm.FindStringSubmatch(v)
	if m == nil || checkQualified(m[1]) != nil || len(validation.IsValidLabelValue(m[2])) > 0 {
		return "", "", "", false, incident.Invalidf("%q: want key[=value]:Effect", incident.Clip(v, 120))
	}
	return m[1], m[2], m[3], strings.Contains(v, "="), nil
}

// checkObjectName refuses names that no API server would take and that could leave the
// object's own URL.
func checkObjectName(e incident.Entity) error {
	if e.Namespace != "" && len(validation.IsDNS1123Label(e.Namespace)) > 0 {
		return incident.Invalidf("target %s: namespace is not a DNS label", e)
	}
	if len(validation.IsDNS1123Subdomain(e.Name)) > 0 {
		return incident.Invalidf("target %s: name is not a DNS name", e)
	}
	return nil
}
