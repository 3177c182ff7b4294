package simulate

import (
	"math"

	"github.com/tocsin-io/tocsin/incident"
)

// Reported is one incident a correlator reported.
type Reported struct {
	Signals  []incident.SignalID
	Severity incident.Severity
	Shared   *incident.SharedFactor
	Root     *incident.Ref
	Cause    incident.CauseName
}

// Score says how well reports match the truth. Pairs and the Rand index are over the scored
// signals: those of incidents and of noise. A signal in no report stands alone; noise left alone
// is right, so it stays with its episode.
type Score struct {
	Signals, Noise         int
	True, Found            int // found: a report has at least half of it and is at least half made of it
	Split, Merged          int // true incidents in pieces; reports with large pieces of several
	Spurious, Absorbed     int // reports above info that are mostly noise; noise signals in real reports
	Precision, Recall      float64
	F1, ARI                float64 // 1 where there is nothing to find and nothing was reported
	FactorTrue, FactorOK   int     // of the incidents that have one; not found counts as wrong
	FactorNone, FactorFake int     // of the found ones without, those given one
	RootTrue, RootOK       int
	CauseOK                int
	Wrong                  []string // what went wrong, one line each
}

// Thresholds of what counts as found, as a piece and as a large piece of an incident.
const (
	foundShare = 0.5
	pieceShare = 0.10
	largeShare = 0.25
)

// matching holds the table of true classes against reports.
type matching struct {
	class   map[incident.SignalID]int // ≥ 0 incident, < 0 noise episode
	pred    map[incident.SignalID]int
	cells   []map[int]int // per report: class → count
	size    []int
	truths  []int // size of each incident
	firing  []int
	noiseIn []int
}

// Compare scores reports against the truth.
func Compare(truth Truth, reports []Reported) Score {
	m := match(truth, reports)
	s := Score{Signals: len(m.class), Noise: len(truth.Noise), True: len(truth.Incidents)}
	s.pairs(m)
	s.rand(m)
	for j, cell := range m.cells {
		if m.size[j] == 0 {
			continue
		}
		large := 0
		for k, n := range cell {
			if k >= 0 && float64(n) >= max(2, largeShare*float64(m.truths[k])) {
				large++
			}
		}
		if large > 1 {
			s.Merged++
			s.Wrong = append(s.Wrong, "merged: "+string(first(reports[j].Signals)))
		}
		if m.noiseIn[j] < m.size[j] {
			s.Absorbed += m.noiseIn[j]
		}
		if m.noiseIn[j]*2 > m.size[j] && m.firing[j] >= 2 && reports[j].Severity != incident.Info {
			s.Spurious++
		}
	}
	for i := range truth.Incidents {
		s.judge(&truth.Incidents[i], i, m, reports)
	}
	return s
}

func first(ids []incident.SignalID) incident.SignalID {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

func match(truth Truth, reports []Reported) *matching {
	m := &matching{class: make(map[incident.SignalID]int), pred: make(map[incident.SignalID]int)}
	resolved := make(map[incident.SignalID]bool)
	for i, t := range truth.Incidents {
		for _, id := range t.Signals {
			m.class[id] = i
		}
	}
	for k, ids := range truth.Episodes {
		for _, id := range ids {
			m.class[id] = -1 - k
		}
	}
	for _, id := range truth.Ignored {
		delete(m.class, id)
	}
	for _, id := range truth.Resolved {
		resolved[id] = true
	}
	m.truths = make([]int, len(truth.Incidents))
	for _, k := range m.class {
		if k >= 0 {
			m.truths[k]++
		}
	}
	for j, r := range reports {
		cell, size, noise, firing := make(map[int]int), 0, 0, 0
		for _, id := range r.Signals {
			k, known := m.class[id]
			if _, dup := m.pred[id]; !known || dup {
				continue
			}
			m.pred[id] = j
			cell[k]++
			size++
			if k < 0 {
				noise++
			}
			if !resolved[id] {
				firing++
			}
		}
		m.cells, m.size, m.noiseIn, m.firing = append(m.cells, cell), append(m.size, size), append(m.noiseIn, noise), append(m.firing, firing)
	}
	return m
}

func pairs(n int) float64 { return float64(n) * float64(n-1) / 2 }

func (s *Score) pairs(m *matching) {
	tp, claimed, true_ := 0.0, 0.0, 0.0
	for j, cell := range m.cells {
		claimed += pairs(m.size[j])
		for k, n := range cell {
			if k >= 0 {
				tp += pairs(n)
			} else {
				claimed -= pairs(n)
			}
		}
	}
	for _, n := range m.truths {
		true_ += pairs(n)
	}
	s.Precision, s.Recall = 1, 1
	if claimed > 0 {
		s.Precision = tp / claimed
	}
	if true_ > 0 {
		s.Recall = tp / true_
	}
	if s.Precision+s.Recall > 0 {
		s.F1 = 2 * s.Precision * s.Recall / (s.Precision + s.Recall)
	}
}

// rand computes the adjusted Rand index.
func (s *Score) rand(m *matching) {
	type cell struct{ class, group int }
	table, a, b := make(map[cell]int), make(map[int]int), make(map[int]int)
	alone := 1 << 40
	for id, k := range m.class {
		g, ok := m.pred[id]
		if !ok {
			if k < 0 {
				g = k
			} else {
				alone++
				g = alone
			}
		}
		table[cell{k, g}]++
		a[k]++
		b[g]++
	}
	sum := func(m map[int]int) (t float64) {
		for _, n := range m {
			t += pairs(n)
		}
		return t
	}
	index := 0.0
	for _, n := range table {
		index += pairs(n)
	}
	sa, sb, all := sum(a), sum(b), pairs(len(m.class))
	expected, most := 0.0, (sa+sb)/2
	if all > 0 {
		expected = sa * sb / all
	}
	s.ARI = 1
	if math.Abs(most-expected) > 1e-9 {
		s.ARI = (index - expected) / (most - expected)
	}
}

// judge scores what is said of one true incident.
func (s *Score) judge(t *TrueIncident, i int, m *matching, reports []Reported) {
	best, most, pieces := -1, 0, 0
	for j, cell := range m.cells {
		n := cell[i]
		if float64(n) >= max(2, pieceShare*float64(m.truths[i])) {
			pieces++
		}
		if n > most && float64(n) >= foundShare*float64(m.truths[i]) && float64(n) >= foundShare*float64(m.size[j]) {
			best, most = j, n
		}
	}
	if pieces > 1 {
		s.Split++
		s.Wrong = append(s.Wrong, "split: "+t.ID)
	}
	var r Reported
	if best >= 0 {
		s.Found++
		r = reports[best]
	} else {
		s.Wrong = append(s.Wrong, "not found: "+t.ID)
	}
	s.judgeFactor(t, best >= 0, r)
	if t.Root != nil {
		s.RootTrue++
		ok := false
		for _, want := range append([]Root{*t.Root}, t.RootAlso...) {
			ok = ok || r.Root != nil && sameRoot(want, *r.Root)
		}
		if ok {
			s.RootOK++
		} else if best >= 0 {
			s.Wrong = append(s.Wrong, "root of "+t.ID)
		}
	}
	for _, c := range append([]incident.CauseName{t.Cause}, t.CauseAlso...) {
		if best >= 0 && r.Cause == c {
			s.CauseOK++
			break
		}
	}
}

func (s *Score) judgeFactor(t *TrueIncident, found bool, r Reported) {
	var have Factor
	if r.Shared != nil {
		have = Factor{r.Shared.Name, r.Shared.Value}
	}
	also := false
	for _, f := range t.SharedAlso {
		also = also || f == have
	}
	switch {
	case t.Shared != nil:
		s.FactorTrue++
		if have == *t.Shared || also {
			s.FactorOK++
		} else if found {
			s.Wrong = append(s.Wrong, "factor of "+t.ID+": "+string(have.Name)+" "+have.Value)
		}
	case found:
		s.FactorNone++
		if have.Name != "" && !also {
			s.FactorFake++
			s.Wrong = append(s.Wrong, "factor claimed for "+t.ID+": "+string(have.Name)+" "+have.Value)
		}
	}
}

func sameRoot(want Root, have incident.Ref) bool {
	if want.Kind == "Node" || want.Kind == "Namespace" {
		want.Namespace, have.Entity.Namespace = "", ""
	}
	return want == Root{have.Cluster, have.Entity.Kind, have.Entity.Namespace, have.Entity.Name}
}
