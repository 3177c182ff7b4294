package vector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// cacheFormat is the first line of a cache file. Change it with the layout: an unknown format is
// an empty cache, not an error.
const cacheFormat = "tocsin vectors 1\n"

// maxCache bounds what is read back: 100,000 sections of 1,536 dimensions are about 700 MiB.
const maxCache = 1 << 30

type cachedSpace struct {
	Name    string
	Records []runbooks.Record
}

// OpenMemory returns a memory store filled from the cache file at path, if there is one that is
// whole. A file that is missing gives an empty store; one that is damaged gives an empty store
// and an error that wraps ErrInvalid, which the caller may report and ignore: a cache can always
// be rebuilt. Save writes it.
func OpenMemory(path string) (*Memory, error) {
	m := NewMemory()
	m.path = path
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("vector cache: %w", err)
	}
	body, ok := bytes.CutPrefix(b, []byte(cacheFormat))
	if !ok || len(body) < sha256.Size || len(body) > maxCache {
		return m, incident.Invalidf("vector cache %s: not a cache of this version", path)
	}
	sum, body := body[:sha256.Size], body[sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return m, incident.Invalidf("vector cache %s: damaged", path)
	}
	dec := gob.NewDecoder(bytes.NewReader(body))
	for {
		var s cachedSpace
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			return m, nil
		} else if err != nil {
			return NewMemory(), incident.Invalidf("vector cache %s: %v", path, err)
		}
		if err := m.Apply(context.Background(), s.Name, s.Records, nil); err != nil {
			return NewMemory(), fmt.Errorf("vector cache %s: %w", path, err)
		}
	}
}

// Save writes all spaces to the cache file, atomically. Without a path it does nothing.
func (m *Memory) Save() error {
	if m.path == "" {
		return nil
	}
	var body bytes.Buffer
	enc := gob.NewEncoder(&body)
	for _, name := range m.spaceNames() {
		hashes, _ := m.Hashes(context.Background(), name)
		ids := make([]string, 0, len(hashes))
		for id := range hashes {
			ids = append(ids, id)
		}
		if err := enc.Encode(cachedSpace{Name: name, Records: m.records(name, ids)}); err != nil {
			return fmt.Errorf("vector cache: %w", err)
		}
	}
	return writeFile(m.path, body.Bytes())
}

// writeFile replaces path by format line, checksum and body, and syncs it before the rename.
func writeFile(path string, body []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".vectors-*")
	if err != nil {
		return fmt.Errorf("vector cache: %w", err)
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	sum := sha256.Sum256(body)
	w.WriteString(cacheFormat)
	w.Write(sum[:])
	w.Write(body)
	err = errors.Join(w.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("vector cache: %w", err)
	}
	return nil
}
