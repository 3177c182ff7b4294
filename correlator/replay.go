package correlator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// ReplayResult is what `tocsin replay -o json` prints. Its JSON form is read by outside tools:
// fields are only added.
type ReplayResult struct {
	Incidents []ReplayIncident `json:"incidents"` // in order of opening
	Stats     ReplayStats      `json:"stats"`
}

// ReplayIncident is the part of an incident that a replay prints. Its lists are complete.
type ReplayIncident struct {
	ID       incident.ID            `json:"id"`
	Title    string                 `json:"title"`
	Severity incident.Severity      `json:"severity"`
	OpenedAt time.Time              `json:"openedAt"`
	ClosedAt *time.Time             `json:"closedAt"`
	Signals  []incident.SignalID    `json:"signals"`
	Clusters []incident.ClusterName `json:"clusters"`
	Shared   *incident.SharedFactor `json:"sharedFactor"`
	Root     *incident.Ref          `json:"root"`
	Cause    incident.CauseName     `json:"cause"`

	Changes []incident.SuspectedChange `json:"changes,omitempty"`
}

// ReplayStats says how much was read and how fast.
type ReplayStats struct {
	Signals   int     `json:"signals"`   // lines of type signal, duplicates too
	Seconds   float64 `json:"seconds"`   // wall clock, from the first byte to the last incident
	PeakBytes uint64  `json:"peakBytes"` // most heap in use that was seen

	Events       int     `json:"events"`       // lines accepted, inventories and topologies too
	Duplicates   int     `json:"duplicates"`   // signals seen before
	TooLate      int     `json:"tooLate"`      // signals older than the memory, not used
	Skipped      int     `json:"skipped"`      // lines that are no usable event
	FirstSkipped string  `json:"firstSkipped"` // which and why; empty when none
	ApplySeconds float64 `json:"applySeconds"` // of Seconds, without reading and decoding
}

// maxSkippedShare is the share of unusable lines above which a file is refused.
const maxSkippedShare = 0.5

// Replay reads one CloudEvents event a line, in the order of receipt, and groups them on event
// time. The lists of its incidents are complete, whatever cfg.Listed and cfg.Points say.
//
// A line that is no usable event is skipped and counted (the first is named in Stats), so that one
// bad line does not hide an incident. Replay returns an error wrapping incident.ErrInvalid when
// a line is longer than incident.MaxEventBytes, when the first line is not an event at all (it is
// some other file) and when more than half of the lines are unusable. Blank lines do not count.
func Replay(ctx context.Context, r io.Reader, cfg Config) (ReplayResult, error) {
	cfg.Listed, cfg.Points = -1, 1<<30
	rp := &replay{c: New(cfg), start: time.Now()}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 1<<20), incident.MaxEventBytes)
	for sc.Scan() {
		rp.line++
		if rp.line&0x3ff == 0 {
			if err := ctx.Err(); err != nil {
				return ReplayResult{}, fmt.Errorf("replay: line %d: %w", rp.line, err)
			}
			rp.gauge(rp.line&0xffff == 0)
		}
		if b := bytes.TrimSpace(sc.Bytes()); len(b) > 0 {
			if err := rp.apply(b); err != nil {
				return ReplayResult{}, err
			}
		}
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		return ReplayResult{}, incident.Invalidf("replay: line %d is longer than %d bytes", rp.line+1, incident.MaxEventBytes)
	} else if err != nil {
		return ReplayResult{}, fmt.Errorf("replay: reading line %d: %w", rp.line+1, err)
	}
	if n := rp.out.Stats.Skipped; n > 0 && float64(n) > maxSkippedShare*float64(rp.lines) {
		return ReplayResult{}, incident.Invalidf("replay: %d of %d lines are no events; the first: %s", n, rp.lines, rp.out.Stats.FirstSkipped)
	}
	return rp.finish(), nil
}

// replay is the state of one Replay.
type replay struct {
	c       *Correlator
	dec     incident.Decoder
	out     ReplayResult
	line    int // of the file, from 1
	lines   int // not blank
	start   time.Time
	applied time.Duration
	settled millis
}

// settleEvery is how much event time passes between settlings of a replay: nobody looks in
// between, so this only bounds what is kept.
const settleEvery = 2 * 3600 * 1000

func (rp *replay) apply(b []byte) error {
	rp.lines++
	ev, err := rp.dec.Decode(b)
	if err != nil {
		if rp.lines == 1 {
			return fmt.Errorf("replay: line %d: %w", rp.line, err)
		}
		rp.skip(err)
		return nil
	}
	t0 := time.Now()
	defer func() { rp.applied += time.Since(t0) }()
	if err := rp.c.Apply(ev); err != nil && !errors.Is(err, incident.ErrStale) {
		rp.skip(err)
		return nil
	}
	if now := rp.c.now(); now > rp.settled+settleEvery {
		if rp.settled > 0 {
			rp.c.settle()
			clear(rp.c.changed)
		}
		rp.settled = now
	}
	return nil
}

func (rp *replay) skip(err error) {
	rp.out.Stats.Skipped++
	if rp.out.Stats.FirstSkipped == "" {
		rp.out.Stats.FirstSkipped = incident.UntrustedText(fmt.Sprintf("line %d: %v", rp.line, err)).Plain(300)
	}
}

func (rp *replay) finish() ReplayResult {
	t0 := time.Now()
	out := rp.out
	out.Incidents = []ReplayIncident{}
	for _, inc := range rp.c.Incidents() {
		if inc.State == incident.Merged || len(inc.Signals) == 0 {
			continue
		}
		out.Incidents = append(out.Incidents, ReplayIncident{ID: inc.ID, Title: inc.Title, Severity: inc.Severity, OpenedAt: inc.OpenedAt, ClosedAt: inc.ClosedAt, Signals: inc.Signals, Clusters: inc.Clusters,
			Shared: inc.Shared, Root: inc.Root, Cause: inc.Cause, Changes: inc.Changes})
	}
	rp.applied += time.Since(t0)
	rp.gauge(true)
	st := rp.c.Stats()
	out.Stats.Signals, out.Stats.Events, out.Stats.Duplicates, out.Stats.TooLate = st.Signals+st.TooLate, st.Events, st.Duplicates, st.TooLate
	out.Stats.PeakBytes = rp.out.Stats.PeakBytes
	out.Stats.Seconds, out.Stats.ApplySeconds = time.Since(rp.start).Seconds(), rp.applied.Seconds()
	return out
}
