// Package kube watches one cluster through its API server and turns its state into signals.
//
// Informers (protobuf, WatchList where the server offers it, cluster.Strip as transform) feed a
// cluster.State; after every burst of changes the detectors of package causes run over it, and
// what is new or gone since the last run is published: findings, symptoms, changes, the factor
// counts (inventory) and the edges (topology). Signals are level-triggered: after a restart or a
// gap they are derived again from the cluster itself, and what was open before and is gone now is
// resolved.
//
// It promises: a kind that may not be listed, or that the server does not have, is named in the
// coverage and the rest goes on; a publish that fails is tried again until it is durable; while
// the API server does not answer nothing is resolved. Secrets are never listed. It only reads.
//
// It refuses to change anything in a cluster and to follow text from it.
package kube
