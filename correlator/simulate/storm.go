package simulate

import (
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Storm generates as Generate does and sends every firing symptom and alert copies times, with
// times 100 ms apart and IDs of their own, as agents without deduplication would. It calls emit
// for each event in the order of receipt and returns the truth, which holds the copies too.
func Storm(cfg Config, copies int, emit func(incident.Event)) (Truth, error) {
	events, truth, err := Generate(cfg)
	if err != nil {
		return Truth{}, err
	}
	more := make(map[incident.SignalID][]incident.SignalID)
	seen := make(map[incident.SignalID]bool)
	for _, ev := range events {
		emit(ev)
		s := ev.Signal
		if s == nil || s.Status != incident.Firing || s.Kind == incident.Change || seen[s.ID] {
			continue
		}
		seen[s.ID] = true
		for i := 1; i < copies; i++ {
			again := *s
			again.ID = incident.SignalID(fmt.Sprintf("%s.%d", s.ID, i))
			again.Time = s.Time.Add(time.Duration(i) * 100 * time.Millisecond)
			more[s.ID] = append(more[s.ID], again.ID)
			emit(incident.Event{Signal: &again})
		}
	}
	add := func(ids []incident.SignalID) []incident.SignalID {
		for _, id := range ids[:len(ids):len(ids)] {
			ids = append(ids, more[id]...)
		}
		return ids
	}
	for i := range truth.Incidents {
		truth.Incidents[i].Signals = add(truth.Incidents[i].Signals)
	}
	for i := range truth.Episodes {
		truth.Episodes[i] = add(truth.Episodes[i])
	}
	truth.Noise = add(truth.Noise)
	return truth, nil
}
