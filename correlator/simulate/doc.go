// Package simulate makes fleets and incidents whose truth is known, and scores what a correlator
// made of them.
//
// Generate is deterministic: one Config gives one sequence of events, in the order in which a hub
// would receive them, with its truth. Names, reasons, alert names, styles of labelling and what a
// source knows vary from cluster to cluster on purpose; clocks disagree, events come late, twice
// and out of order, some causes are wrong and some resolutions never come.
//
// The package imports the vocabulary only, so that what it says of the correlator is independent
// of it. It does no I/O; the command in ./score does.
package simulate
