// Package causes names what is wrong in a cluster and how sure that is: the catalogue of causes,
// one detector each, and the engine that keeps the smallest set of causes that explains what was
// seen. It is a pure function of a cluster.State: no I/O, no clock, no model, the same answer for
// the same state.
//
// A detector (one function in the file of its family: admission.go, scheduling.go, startup.go,
// runtime.go, routing.go, performance.go, nodes.go, delivery.go and those beside them) looks at the scan and
// calls blame; the table in detectors.go names it. To add a cause: one function, one row, one
// case in testdata/cases that has it and one that does not.
//
// It promises that every hypothesis cites evidence out of the state, that a callee's fault
// explains its callers' errors and never the reverse, that "not seen" is never "healthy" (the
// verdict is then insufficient and Missing says what would decide), and that a healthy cluster
// gives nothing above info. It refuses to act: proposals are data.
package causes
