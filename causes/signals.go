package causes

import (
	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// Signals turns a result into level-triggered signals, all firing: one finding per hypothesis and
// one symptom per unexplained symptom, in a stable order. The caller sets Source and ID, compares
// with the signals of its last call by (Entity, Kind, Reason, Cause) and publishes only what is
// new (firing) or gone (resolved). Time is the first sign where known, else the state's time.
func Signals(st *cluster.State, r Result) []incident.Signal {
	return nil
}
