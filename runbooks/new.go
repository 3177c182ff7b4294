package runbooks

import (
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// New returns the Markdown of a page to start from, for one cause of the catalogue. Everything a
// person has to fill in stands in angle brackets. An unknown cause is an error that wraps
// ErrInvalid and names a near one.
func New(cause incident.CauseName, owner string) (string, error) {
	info, ok := incident.LookupCause(cause)
	if !ok {
		return "", incident.Invalidf("cause %q is not in the catalogue%s", incident.Clip(string(cause), 80), nearest(string(cause), causeNames()))
	}
	kind := info.Blames
	if kind == "Workload" || kind == "Factor" {
		kind = "Deployment"
	}
	if owner == "" {
		owner = "<team>"
	}
	line := strings.ToUpper(info.Line[:1]) + info.Line[1:]
	return fmt.Sprintf(`---
title: %q
causes: [%s]
kinds: [%s]
alerts: []            # names of alerts that mean this
# when: 'severity == "critical"'   # CEL; what must hold for this page to apply
# actions:
#   - action: RolloutUndo          # names of the action catalogue
verify: "<what shows that it is over>"
owner: %q
severity: warning
---
# %s

## Symptoms
- <what people and alerts see>

## Checks
`+"```sh"+`
kubectl -n <namespace> describe %s <name>
`+"```"+`

## Fix
1. <the smallest step first>

## Verify
<the command or metric, and what it shows when it is over>

## Way back
<how to undo the fix>
`, line, cause, kind, owner, line, strings.ToLower(kind)), nil
}
