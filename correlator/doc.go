// Package correlator turns signals of many clusters into incidents: one per cause.
//
// A Correlator is a pure, single-threaded function of the events applied to it. It does no I/O
// and reads no clock: time comes from the events and from Advance. It stores the fingerprints
// (tracks) of what fired within Config.Memory and everything still firing, the latest inventory
// and topology of each cluster, and the incidents it has named.
//
// It promises:
//   - Grouping is a function of the set of events, not of their order: events may come late by up
//     to Config.Lateness, in any order and any number of times. Applying an event again changes
//     nothing, so at-least-once delivery is harmless.
//   - An incident's ID stays valid. A merged ID redirects; every merge, split, close and reopening
//     is a recorded step.
//   - Memory is bounded by Config's limits: the oldest detail is dropped, its count is kept.
//   - A cluster that fell silent is named as not seen, never counted as unaffected.
//
// It refuses signals that are older than its memory (counted in Stats) and snapshots written by a
// newer version. Message text may tie a symptom to an entity of its own cluster; it never chooses
// an action or a target.
//
// # How it decides
//
// Signals of one object and reason form a track; tracks of one workload, node, claim or namespace
// that are close in time form an episode. Inside a cluster an episode whose failure can come from
// another one along a known edge (calls, placement, volumes, quota, routing) goes under it: the
// deepest is the root (local.go). Across clusters roots are joined when a factor is much more
// frequent among the affected than in the inventory, and can break what is broken (contrast.go).
// What resolves by itself and ties to nothing is noise and stays out.
package correlator
