package correlator

import "runtime/metrics"

// gauge notes the most heap in use; often enough for a storm, rarely enough to cost nothing.
func (rp *replay) gauge(now bool) {
	if !now {
		return
	}
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	rp.out.Stats.PeakBytes = max(rp.out.Stats.PeakBytes, s[0].Value.Uint64()+s[1].Value.Uint64())
}
