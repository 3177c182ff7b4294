package incident

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Decoder reads events one by one, several times as fast as Event.UnmarshalJSON, with the same
// results and errors: what is not plain (unknown or repeated fields, nulls, odd numbers) it hands
// to that. Strings that come again and again (clusters, kinds, reasons, factors) are kept once.
// The zero value is ready; it is not safe for concurrent use.
type Decoder struct {
	known   map[string]string
	signal  Signal
	owner   Entity
	factors Factors
	related []Entity
}

// Bounds of what a Decoder remembers: longer or later strings are simply made anew.
const (
	maxKnownStrings = 1 << 17
	maxKnownLength  = 160
)

// Decode reads one CloudEvents JSON event. A signal and its Owner, Factors and Related are valid
// until the next call; an inventory and a topology are the caller's. Errors wrap ErrInvalid.
func (d *Decoder) Decode(b []byte) (Event, error) {
	if d.known == nil {
		d.known = make(map[string]string)
	}
	p := parser{b: b, d: d}
	if ev, ok := p.event(); ok {
		switch {
		case ev.Signal != nil:
			return ev, ev.Signal.Validate()
		case ev.Inventory != nil:
			return ev, ev.Inventory.Cluster.Validate()
		case ev.Topology != nil:
			return ev, ev.Topology.Cluster.Validate()
		}
	}
	var ev Event
	if err := ev.UnmarshalJSON(b); err != nil {
		return Event{}, err
	}
	return ev, nil
}

// parser walks over one event. Every method reports false for what is not plain; nothing read so
// far is then used.
type parser struct {
	b []byte
	i int
	d *Decoder
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

// raw returns the bytes of a string without its quotes; plain is false when it has escapes.
func (p *parser) raw() (s []byte, plain, ok bool) {
	if !p.take('"') {
		return nil, false, false
	}
	from := p.i
	plain = true
	ascii := true
	for p.i < len(p.b) {
		c := p.b[p.i]
		switch {
		case c == '"':
			s = p.b[from:p.i]
			p.i++
			return s, plain, ascii || utf8.Valid(s)
		case c == '\\':
			plain = false
			p.i++
		case c < 0x20:
			return nil, false, false
		case c >= 0x80:
			ascii = false
		}
		p.i++
	}
	return nil, false, false
}

// text reads a string, kept once when keep is set.
func (p *parser) text(keep bool) (string, bool) {
	s, plain, ok := p.raw()
	if !ok {
		return "", false
	}
	if !plain {
		if out, ok := unescape(s); ok {
			return out, true
		}
		var out string
		if json.Unmarshal(p.b[p.i-len(s)-2:p.i], &out) != nil {
			return "", false
		}
		return out, true
	}
	if !keep || len(s) > maxKnownLength {
		return string(s), true
	}
	if k, hit := p.d.known[string(s)]; hit {
		return k, true
	}
	out := string(s)
	if len(p.d.known) < maxKnownStrings {
		p.d.known[out] = out
	}
	return out, true
}

// unescape resolves the short escapes; false when there are others.
func unescape(s []byte) (string, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			i++
			if i == len(s) {
				return "", false
			}
			switch s[i] {
			case '"', '\\', '/':
				c = s[i]
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'r':
				c = '\r'
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			default:
				return "", false
			}
		}
		out = append(out, c)
	}
	return string(out), true
}

// object calls field for every key; field reads the value. A key without escapes is passed as it
// is, others are not plain.
func (p *parser) object(field func(key string) bool) bool {
	if !p.take('{') {
		return false
	}
	if p.take('}') {
		return true
	}
	for {
		key, plain, ok := p.raw()
		if !ok || !plain || !p.take(':') {
			return false
		}
		k, hit := p.d.known[string(key)]
		if !hit {
			k = string(key)
			if len(p.d.known) < maxKnownStrings && len(k) <= maxKnownLength {
				p.d.known[k] = k
			}
		}
		if !field(k) {
			return false
		}
		if p.take(',') {
			continue
		}
		return p.take('}')
	}
}

func (p *parser) array(item func() bool) bool {
	if !p.take('[') {
		return false
	}
	if p.take(']') {
		return true
	}
	for {
		if !item() {
			return false
		}
		if p.take(',') {
			continue
		}
		return p.take(']')
	}
}

// fields notes which fields of a struct were seen; a repeated one is not plain.
type fields uint32

func (f *fields) once(bit uint) bool {
	if *f&(1<<bit) != 0 {
		return false
	}
	*f |= 1 << bit
	return true
}

func (p *parser) event() (Event, bool) {
	var seen fields
	var id, source, typ, at, spec string
	var out Event
	ok := p.object(func(key string) bool {
		set := func(bit uint, to *string, keep bool) bool {
			var ok bool
			*to, ok = p.text(keep)
			return ok && seen.once(bit)
		}
		var skip string
		switch key {
		case "specversion":
			return set(0, &spec, true)
		case "id":
			return set(1, &id, false)
		case "source":
			return set(2, &source, true)
		case "type":
			return set(3, &typ, true)
		case "subject":
			return set(4, &skip, true)
		case "time":
			return set(5, &at, false)
		case "datacontenttype":
			return set(6, &skip, true)
		case "data":
			var ok bool
			out, ok = p.payload(typ) // a type that comes later is not plain
			return ok && seen.once(7)
		}
		return false
	})
	p.space()
	if !ok || p.i != len(p.b) || spec != "1.0" {
		return Event{}, false
	}
	when, err := parseTime(at)
	if err != nil || checkName("id", id, 128, true) != nil || checkName("source", source, 512, true) != nil {
		return Event{}, false
	}
	switch {
	case out.Signal != nil:
		out.Signal.ID, out.Signal.Source, out.Signal.Time = SignalID(id), source, when
	case out.Inventory != nil:
		out.Inventory.ID, out.Inventory.Source, out.Inventory.Time = SignalID(id), source, when
	case out.Topology != nil:
		out.Topology.ID, out.Topology.Source, out.Topology.Time = SignalID(id), source, when
	default:
		return Event{}, false
	}
	return out, true
}

// payload reads the data of an event of the type.
func (p *parser) payload(typ string) (Event, bool) {
	switch typ {
	case TypeSignal:
		return p.asSignal()
	case TypeInventory:
		return p.asInventory()
	case TypeTopology:
		return p.asTopology()
	}
	return Event{}, false
}

// skip passes over one value whose form is checked when it is read.
func (p *parser) skip(depth int) bool {
	p.space()
	if depth > 16 || p.i >= len(p.b) {
		return false
	}
	switch p.b[p.i] {
	case '"':
		_, _, ok := p.raw()
		return ok
	case '{', '[':
		return p.balance()
	}
	return false
}

// balance passes over a bracketed value, strings heeded.
func (p *parser) balance() bool {
	depth := 0
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case '"':
			p.i++
			for p.i < len(p.b) && p.b[p.i] != '"' {
				if p.b[p.i] == '\\' {
					p.i++
				}
				p.i++
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				p.i++
				return true
			}
		}
		p.i++
	}
	return false
}

func (p *parser) asSignal() (Event, bool) {
	d := p.d
	if d.factors == nil {
		d.factors = make(Factors)
	}
	clear(d.factors)
	d.signal = Signal{}
	s := &d.signal
	var seen fields
	ok := p.object(func(key string) bool { return p.signalField(s, &seen, key) })
	return Event{Signal: s}, ok
}

func word[T ~string](p *parser, to *T, keep bool) bool {
	v, ok := p.text(keep)
	*to = T(v)
	return ok
}

func (p *parser) signalField(s *Signal, seen *fields, key string) bool {
	switch key {
	case "cluster":
		return seen.once(0) && word(p, &s.Cluster, true)
	case "entity":
		return seen.once(1) && p.entity(&s.Entity)
	case "kind":
		return seen.once(2) && word(p, &s.Kind, true)
	case "status":
		return seen.once(3) && word(p, &s.Status, true)
	case "severity":
		return seen.once(4) && word(p, &s.Severity, true)
	case "reason":
		return seen.once(5) && word(p, &s.Reason, true)
	case "owner":
		p.d.owner = Entity{}
		s.Owner = &p.d.owner
		return seen.once(6) && p.entity(s.Owner)
	case "message":
		return seen.once(7) && word(p, &s.Message, false)
	case "cause":
		return seen.once(8) && word(p, &s.Cause, true)
	case "confidence":
		return seen.once(9) && p.float(&s.Confidence)
	case "factors":
		s.Factors = p.d.factors
		return seen.once(10) && p.object(func(name string) bool {
			v, ok := p.text(true)
			s.Factors[FactorName(name)] = v
			return ok
		})
	case "related":
		s.Related = p.d.related[:0]
		ok := seen.once(11) && p.array(func() bool {
			var e Entity
			if !p.entity(&e) {
				return false
			}
			s.Related = append(s.Related, e)
			return true
		})
		p.d.related = s.Related
		if len(s.Related) == 0 {
			s.Related = []Entity{}
		}
		return ok
	case "labels":
		s.Labels = make(map[string]string)
		return seen.once(12) && p.object(func(name string) bool {
			v, ok := p.text(true)
			s.Labels[name] = v
			return ok
		})
	case "evidence":
		p.space()
		from := p.i
		return seen.once(13) && p.skip(0) && json.Unmarshal(p.b[from:p.i], &s.Evidence) == nil
	}
	return false
}

func (p *parser) entity(e *Entity) bool {
	var seen fields
	return p.object(func(key string) bool {
		switch key {
		case "kind":
			return seen.once(0) && word(p, &e.Kind, true)
		case "namespace":
			return seen.once(1) && word(p, &e.Namespace, true)
		case "name":
			return seen.once(2) && word(p, &e.Name, true)
		case "uid":
			return seen.once(3) && word(p, &e.UID, false)
		}
		return false
	})
}

// number returns the bytes of a JSON number.
func (p *parser) number() ([]byte, bool) {
	p.space()
	from := p.i
	digits := func() bool {
		n := p.i
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			p.i++
		}
		return p.i > n
	}
	if p.i < len(p.b) && p.b[p.i] == '-' {
		p.i++
	}
	zero := p.i
	if !digits() || p.b[zero] == '0' && p.i > zero+1 {
		return nil, false
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if !digits() {
			return nil, false
		}
	}
	if p.i < len(p.b) && (p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		return nil, false // seldom: not plain
	}
	return p.b[from:p.i], true
}

func (p *parser) float(to *float64) bool {
	s, ok := p.number()
	if !ok {
		return false
	}
	v, err := strconv.ParseFloat(string(s), 64)
	*to = v
	return err == nil
}

func (p *parser) int(to *int) bool {
	s, ok := p.number()
	if !ok {
		return false
	}
	v, err := strconv.Atoi(string(s))
	*to = v
	return err == nil
}

func (p *parser) asInventory() (Event, bool) {
	v := &Inventory{}
	var seen fields
	ok := p.object(func(key string) bool {
		switch key {
		case "cluster":
			return seen.once(0) && word(p, &v.Cluster, true)
		case "workloads":
			return seen.once(1) && p.int(&v.Workloads)
		case "factors":
			v.Factors = make(map[FactorName]map[string]int)
			return seen.once(2) && p.object(func(name string) bool {
				if v.Factors[FactorName(name)] != nil {
					return false
				}
				counts := make(map[string]int)
				v.Factors[FactorName(name)] = counts
				return p.object(func(value string) bool {
					n := 0
					ok := p.int(&n)
					counts[value] = n
					return ok
				})
			})
		}
		return false
	})
	return Event{Inventory: v}, ok
}

func (p *parser) asTopology() (Event, bool) {
	v := &Topology{}
	var seen fields
	ok := p.object(func(key string) bool {
		switch key {
		case "cluster":
			return seen.once(0) && word(p, &v.Cluster, true)
		case "edges":
			v.Edges = []Edge{}
			return seen.once(1) && p.array(func() bool {
				var e Edge
				if !p.edge(&e) {
					return false
				}
				v.Edges = append(v.Edges, e)
				return true
			})
		}
		return false
	})
	return Event{Topology: v}, ok
}

func (p *parser) edge(e *Edge) bool {
	var seen fields
	return p.object(func(key string) bool {
		switch key {
		case "from":
			return seen.once(0) && p.entity(&e.From)
		case "to":
			return seen.once(1) && p.entity(&e.To)
		case "kind":
			return seen.once(2) && word(p, &e.Kind, true)
		}
		return false
	})
}
