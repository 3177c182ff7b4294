// Package cluster holds the state of one Kubernetes cluster as the detectors read it: typed API
// objects, logs, alerts, metrics, probes and topology, joined by owner, selector, placement and
// reference. A state comes from informer caches (New, Add, Seal) or from a snapshot on disk
// (Read); who reads it cannot tell which.
//
//	b := cluster.New("eu-1", time.Now())
//	b.Saw("objects/pods", incident.Seen, "")
//	for _, p := range podLister { b.Add(p) } // pointers are shared and never changed
//	st := b.Seal()                           // immutable, safe for concurrent use
//	for _, w := range st.Workloads() { … }   // indexes are built at the first use
//
// It promises: objects are in namespace and name order whatever the order of Add; a source that
// was not seen is told apart from one that was empty (Sees, Coverage); Secret values are neither
// kept nor written; input that is hostile (path escapes, endless lines, deep nesting, objects
// without names, owner cycles) gives a state that names what was left out, or an error wrapping
// incident.ErrInvalid, in bounded memory.
//
// Sources are named objects/<plural> (objects/pods …, custom resources by their lower-case kind and
// an s), events, logs, metrics, alerts, probes, topology, partial/pods. Who builds a live state
// calls Saw for each it asked, events twice (objects/events and events): detectors conclude from
// absence only where a source was Seen.
//
// It refuses to reach any cluster: client-go informers are the business of collectors/kube.
package cluster
