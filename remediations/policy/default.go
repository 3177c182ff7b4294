package policy

import (
	_ "embed" // the default policy is a file that operators can copy

	"github.com/tocsin-io/tocsin/incident"
)

//go:embed default.yaml
var defaultSource []byte

// Default returns the policy that holds when none is configured: everything asks one approver,
// system namespaces and cluster-scoped targets two, irreversible actions are denied.
func Default() (*Policy, error) { return Parse(defaultSource) }

// DefaultSource returns its text, to copy and change.
func DefaultSource() []byte { return append([]byte(nil), defaultSource...) }

// Requester of proposals that Tocsin makes by itself.
const Requester = "tocsin"

// clusterInput fills what every case of a policy test has.
func clusterInput(in Input) Input {
	if in.Requester == "" {
		in.Requester = Requester
	}
	if in.Clusters == 0 {
		in.Clusters = 1
	}
	if in.Severity == "" {
		in.Severity = incident.Warning
	}
	return in
}
