package causes

import "github.com/tocsin-io/tocsin/incident"

// detector is one row of the table: the causes a function can name, what it must see to name
// them, and the function. Rows run in order.
type detector struct {
	causes []incident.CauseName
	reads  []string // sources: objects/<plural>, events, logs, metrics, alerts, probes
	run    func(*scan)
}

// detectors is the literal table of all detectors, by family.
func detectors() []detector {
	return []detector{}
}
