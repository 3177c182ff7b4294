package runbooks

import "context"

// Embedder turns texts into vectors whose nearness is likeness of meaning. Implementations are
// safe for concurrent use.
type Embedder interface {
	// Name names model and dimension, e.g. "text-embedding-3-small-512". Vectors of embedders
	// with different names never meet.
	Name() string
	// Embed returns one vector of each text, in order, all of one length.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Record is one section in a Store.
type Record struct {
	ID     string // "path#number"
	Source string // what the section came from; Probe.Sources filters by it
	Hash   string // of what was embedded; equal hash, equal vector
	Text   string // what was embedded, for the store's own text search
	Vector []float32
}

// Probe asks for the nearest sections.
type Probe struct {
	Vector  []float32
	Text    string   // words to look for as well, where the store can; empty: by vector only
	Sources []string // only records of these; empty: all
	Limit   int      // at most this many, 1..1000
}

// Match is one section found.
type Match struct {
	ID     string
	Cosine float32 // -1..1
	Text   float32 // likeness by words, 0..1; 0: not found by them, or the store has no text search
}

// Store keeps the vectors of one or more spaces; a space is named after its Embedder.
// Implementations are safe for concurrent use.
type Store interface {
	// Hashes returns ID and Hash of all records of a space; empty for an unknown space.
	Hashes(ctx context.Context, space string) (map[string]string, error)
	// Apply replaces or adds the records of put and removes those named in drop, all or
	// nothing. All vectors of a space must have one length, else ErrInvalid.
	Apply(ctx context.Context, space string, put []Record, drop []string) error
	// Nearest returns the records nearest by cosine, nearest first, ties by ID; never fewer
	// than Limit while the space has as many that pass the filter. With Text, records found
	// only by their words may follow.
	Nearest(ctx context.Context, space string, p Probe) ([]Match, error)
}
