package correlator

import (
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Config sets the bounds in time and memory. A zero field takes the default named beside it.
type Config struct {
	// Lateness is how late a signal may arrive against the newest event time and still be treated
	// as if it had come in order. Default 10 min.
	Lateness time.Duration
	// Skew is how far clocks of two clusters, or of two sources of one cluster, may disagree.
	// Default 2 min.
	Skew time.Duration
	// Quiet is how long all of an incident must have been quiet before it closes. Default 10 min.
	Quiet time.Duration
	// Stale is how long an unresolved signal counts as going on without being repeated. Default 2 h.
	Stale time.Duration
	// Memory is how long ended trouble can still be joined by what comes later: slow burns and
	// waves. Default 4 h.
	Memory time.Duration
	// Heartbeat is the default time after which a cluster that sends coverage signals and sends
	// nothing is called silent. Default 3 min.
	Heartbeat time.Duration
	// PerCluster bounds the fingerprints kept of one cluster. Default 20,000.
	PerCluster int
	// Tracks bounds the fingerprints kept in all. Default 200,000.
	Tracks int
	// Points bounds the observations kept of one fingerprint; older ones are counted. Default 256.
	Points int
	// Listed bounds the signal IDs listed by one incident. Default 5,000. Negative: no bound.
	Listed int
	// Members bounds the members and timeline steps listed by one incident. Default 200.
	Members int
	// Closed bounds the closed and merged incidents remembered. Default 5,000.
	Closed int
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.Lateness, 10*time.Minute)
	def(&c.Skew, 2*time.Minute)
	def(&c.Quiet, 10*time.Minute)
	def(&c.Stale, 2*time.Hour)
	def(&c.Memory, 4*time.Hour)
	def(&c.Heartbeat, 3*time.Minute)
	num(&c.PerCluster, 20_000)
	num(&c.Tracks, 200_000)
	num(&c.Points, 256)
	num(&c.Listed, 5_000)
	num(&c.Members, 200)
	num(&c.Closed, 5_000)
	return c
}

// Validate refuses negative bounds (but for Listed). The error wraps incident.ErrInvalid.
func (c Config) Validate() error {
	for _, d := range []time.Duration{c.Lateness, c.Skew, c.Quiet, c.Stale, c.Memory, c.Heartbeat} {
		if d < 0 {
			return incident.Invalidf("correlator: negative duration %v", d)
		}
	}
	for _, n := range []int{c.PerCluster, c.Tracks, c.Points, c.Members, c.Closed} {
		if n < 0 {
			return incident.Invalidf("correlator: negative limit %d", n)
		}
	}
	return nil
}
