package incident

import (
	"strings"
	"unicode/utf8"
)

// ClusterName names one API server. It is assigned by the operator (configuration, kubeconfig
// context or authenticated stream), never taken from a payload.
type ClusterName string

// ID is the stable name of an incident, "inc-" and 12 lower-case base-32 letters. A merged
// incident's ID stays valid and redirects.
type ID string

// SignalID identifies one signal; equal content from the same source gives the same ID.
type SignalID string

// ProposalID identifies one proposal: "p-" and the first 12 hex digits of its Digest.
type ProposalID string

// Digest is the lower-case hex SHA-256 of a canonical form.
type Digest string

// CauseName is an identifier of the catalogue (see Causes). The empty name means "not known".
type CauseName string

// ActionName is an identifier of the action catalogue (see Actions).
type ActionName string

// FactorName names a property that entities share (see the Factor constants).
type FactorName string

// UntrustedText comes from workloads, alerts, events, runbooks, people or models. It is shown
// escaped and quoted, and never chooses an action, a target or an approver.
type UntrustedText string

// Factors an agent can tell of an entity. Unknown names are accepted and treated alike.
const (
	FactorImage       FactorName = "image"
	FactorRegistry    FactorName = "registry"
	FactorNode        FactorName = "node"
	FactorZone        FactorName = "zone"
	FactorRegion      FactorName = "region"
	FactorProvider    FactorName = "provider"
	FactorGitRevision FactorName = "gitRevision"
	FactorApplication FactorName = "application"
	FactorChart       FactorName = "chart"
	FactorConfigHash  FactorName = "configHash"
	FactorStorage     FactorName = "storageClass"
	FactorDNSName     FactorName = "dnsName"
	FactorHost        FactorName = "externalHost"
	FactorIssuer      FactorName = "certificateIssuer"
	FactorPolicy      FactorName = "policy"
	FactorKubelet     FactorName = "kubeletVersion"
	FactorKernel      FactorName = "kernelVersion"
	FactorDependency  FactorName = "dependency"
)

// Factors maps a factor to its value for one entity. Nil means none are known.
type Factors map[FactorName]string

// Entity is a thing in one cluster. Namespace is empty for cluster-scoped kinds; UID is empty
// where the source does not know it. Two entities are the same thing when Kind, Namespace and
// Name are equal and their UIDs do not contradict.
type Entity struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// IsZero reports whether the entity names nothing.
func (e Entity) IsZero() bool { return e.Kind == "" && e.Name == "" }

// Key returns e without its UID, for use as a map key.
func (e Entity) Key() Entity { e.UID = ""; return e }

// String returns "Kind/namespace/name", or "Kind/name" for cluster-scoped kinds.
func (e Entity) String() string {
	if e.Namespace == "" {
		return e.Kind + "/" + e.Name
	}
	return e.Kind + "/" + e.Namespace + "/" + e.Name
}

// ParseEntity reads what Entity.String wrote (without a UID).
func ParseEntity(s string) (Entity, error) {
	p := strings.Split(s, "/")
	var e Entity
	switch len(p) {
	case 2:
		e = Entity{Kind: p[0], Name: p[1]}
	case 3:
		e = Entity{Kind: p[0], Namespace: p[1], Name: p[2]}
	default:
		return Entity{}, Invalidf("entity %q: want Kind/name or Kind/namespace/name", Clip(s, 80))
	}
	return e, e.Validate()
}

// Limits of names on the wire. Kubernetes names are at most 253 bytes (RFC 1123 subdomain),
// kinds at most 63; the others are ours, to bound memory.
const (
	maxName    = 253
	maxKind    = 63
	maxText    = 4096
	maxFactors = 64
	maxRelated = 64
	maxEvid    = 32
)

// Validate refuses an entity without kind or name, one with over-long names, and one with
// control characters or invalid UTF-8 in them. The error wraps ErrInvalid.
func (e Entity) Validate() error {
	if err := checkName("entity.kind", e.Kind, maxKind, true); err != nil {
		return err
	}
	if err := checkName("entity.name", e.Name, maxName, true); err != nil {
		return err
	}
	if err := checkName("entity.namespace", e.Namespace, maxName, false); err != nil {
		return err
	}
	return checkName("entity.uid", e.UID, 64, false)
}

// Ref is an entity of the fleet.
type Ref struct {
	Cluster ClusterName `json:"cluster"`
	Entity  Entity      `json:"entity"`
}

// String returns "cluster: Kind/namespace/name".
func (r Ref) String() string { return string(r.Cluster) + ": " + r.Entity.String() }

// Validate refuses a cluster name that is empty, longer than 253 bytes or that holds control
// characters.
func (c ClusterName) Validate() error { return checkName("cluster", string(c), maxName, true) }

func checkName(field, s string, limit int, required bool) error {
	if s == "" {
		if required {
			return Invalidf("%s is empty", field)
		}
		return nil
	}
	if len(s) > limit {
		return Invalidf("%s is %d bytes long, limit %d", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return Invalidf("%s is not UTF-8", field)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return Invalidf("%s %q holds a control character", field, s)
		}
	}
	return nil
}

// Clip shortens s to at most n bytes on a rune boundary, marking the cut with "…".
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := max(n-len("…"), 0)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Plain returns s for a terminal or a log line: control characters (terminal escapes, line
// ends) and invalid UTF-8 are replaced by spaces, and it is clipped to n bytes.
func (s UntrustedText) Plain(n int) string {
	return Clip(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == utf8.RuneError ||
			(r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return ' '
		}
		return r
	}, string(s)), n)
}
