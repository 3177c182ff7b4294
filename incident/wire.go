package incident

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"time"
)

// CloudEvents types on the wire.
const (
	TypeSignal    = "tocsin.signal.v1"
	TypeInventory = "tocsin.inventory.v1"
	TypeTopology  = "tocsin.topology.v1"
)

// Limits of one batch on the wire (DESIGN §4): whichever comes first.
const (
	MaxBatchEvents = 256
	MaxBatchBytes  = 512 << 10
	MaxBatchDelay  = 100 * time.Millisecond
	// MaxEventBytes bounds one event in a file or batch. Inventories of 1,000 workloads with 18
	// factors are about 300 KiB; topologies are larger.
	MaxEventBytes = 8 << 20
)

// Event is one line of the wire: exactly one of its pointers is set.
type Event struct {
	Signal    *Signal
	Inventory *Inventory
	Topology  *Topology
}

// Cluster returns the cluster the event is about.
func (e Event) Cluster() ClusterName {
	switch {
	case e.Signal != nil:
		return e.Signal.Cluster
	case e.Inventory != nil:
		return e.Inventory.Cluster
	case e.Topology != nil:
		return e.Topology.Cluster
	}
	return ""
}

// Time returns the source's time of the event.
func (e Event) Time() time.Time {
	switch {
	case e.Signal != nil:
		return e.Signal.Time
	case e.Inventory != nil:
		return e.Inventory.Time
	case e.Topology != nil:
		return e.Topology.Time
	}
	return time.Time{}
}

type envelope struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject,omitempty"`
	Time        string          `json:"time"`
	ContentType string          `json:"datacontenttype,omitempty"`
	Data        json.RawMessage `json:"data"`
}

// MarshalJSON writes the event as a CloudEvents 1.0 JSON event.
func (e Event) MarshalJSON() ([]byte, error) {
	env := envelope{SpecVersion: "1.0", ContentType: "application/json"}
	var data any
	var at time.Time
	switch {
	case e.Signal != nil:
		s := e.Signal
		env.ID, env.Source, env.Type, env.Subject, at, data = string(s.ID), s.Source, TypeSignal, s.Subject(), s.Time, s
	case e.Inventory != nil:
		v := e.Inventory
		env.ID, env.Source, env.Type, env.Subject, at, data = string(v.ID), v.Source, TypeInventory, string(v.Cluster), v.Time, v
	case e.Topology != nil:
		v := e.Topology
		env.ID, env.Source, env.Type, env.Subject, at, data = string(v.ID), v.Source, TypeTopology, string(v.Cluster), v.Time, v
	default:
		return nil, Invalidf("empty event")
	}
	env.Time = at.UTC().Format(time.RFC3339Nano)
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	env.Data = raw
	return json.Marshal(env)
}

// UnmarshalJSON reads a CloudEvents 1.0 JSON event of a known type and validates it. Errors
// wrap ErrInvalid and name the field.
func (e *Event) UnmarshalJSON(b []byte) error {
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil {
		return Invalidf("event: %v", err)
	}
	if env.SpecVersion != "1.0" {
		return Invalidf("specversion %q: want \"1.0\"", Clip(env.SpecVersion, 20))
	}
	at, err := parseTime(env.Time)
	if err != nil {
		return err
	}
	if err := checkName("id", env.ID, 128, true); err != nil {
		return err
	}
	if err := checkName("source", env.Source, 512, true); err != nil {
		return err
	}
	id := SignalID(env.ID)
	*e = Event{}
	switch env.Type {
	case TypeSignal:
		s := &Signal{ID: id, Source: env.Source, Time: at}
		if err := json.Unmarshal(env.Data, s); err != nil {
			return Invalidf("event %s: data: %v", Clip(env.ID, 40), err)
		}
		e.Signal = s
		return s.Validate()
	case TypeInventory:
		v := &Inventory{ID: id, Source: env.Source, Time: at}
		if err := json.Unmarshal(env.Data, v); err != nil {
			return Invalidf("event %s: data: %v", Clip(env.ID, 40), err)
		}
		e.Inventory = v
		return v.Cluster.Validate()
	case TypeTopology:
		v := &Topology{ID: id, Source: env.Source, Time: at}
		if err := json.Unmarshal(env.Data, v); err != nil {
			return Invalidf("event %s: data: %v", Clip(env.ID, 40), err)
		}
		e.Topology = v
		return v.Cluster.Validate()
	}
	return Invalidf("type %q is not known", Clip(env.Type, 60))
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, Invalidf("time %q: want RFC 3339", Clip(s, 40))
	}
	// Outside this range UnixNano overflows and durations lie.
	if y := t.Year(); y < 1970 || y > 2261 {
		return time.Time{}, Invalidf("time %q: year outside 1970..2261", Clip(s, 40))
	}
	return t.UTC(), nil
}

// DecodeBatch reads a CloudEvents JSON batch: an array of events, in order. It stops at the
// first bad one; nothing of a bad batch is returned. At most 16 × MaxBatchEvents are taken.
func DecodeBatch(b []byte) ([]Event, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	t, err := dec.Token()
	if err != nil || t != json.Delim('[') {
		return nil, Invalidf("batch: want a JSON array of CloudEvents")
	}
	var out []Event
	for dec.More() {
		if len(out) == 16*MaxBatchEvents {
			return nil, Invalidf("batch holds more than %d events", 16*MaxBatchEvents)
		}
		var e Event
		if err := dec.Decode(&e); err != nil {
			return nil, Invalidf("batch[%d]: %v", len(out), err)
		}
		out = append(out, e)
	}
	if _, err := dec.Token(); err != nil {
		return nil, Invalidf("batch is cut off after %d events", len(out))
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, Invalidf("batch: data after the array")
	}
	return out, nil
}

// EncodeBatch writes events as a CloudEvents JSON batch.
func EncodeBatch(events []Event) ([]byte, error) { return json.Marshal(events) }

// NewSignalID derives the ID of a signal from what makes it one: source, entity, reason,
// status, time to the millisecond and cause. The same observation gives the same ID on every
// machine and run. Parts are length-prefixed, so no two different signals share a form.
func NewSignalID(s *Signal) SignalID {
	return SignalID(HashParts(s.Source, string(s.Cluster), s.Entity.String(), s.Entity.UID, string(s.Kind), string(s.Status),
		s.Reason, string(s.Cause), strconv.FormatInt(s.Time.UnixMilli(), 10))[:24])
}

// HashParts returns the hex SHA-256 over the length-prefixed parts.
func HashParts(parts ...string) Digest {
	h := sha256.New()
	for _, p := range parts {
		io.WriteString(h, strconv.Itoa(len(p)))
		io.WriteString(h, ":")
		io.WriteString(h, p)
	}
	return Digest(hex.EncodeToString(h.Sum(nil)))
}
