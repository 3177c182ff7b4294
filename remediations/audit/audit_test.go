package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

// memLog is an append-only log in memory.
type memLog struct {
	mu      sync.Mutex
	entries [][]byte
	fail    error
	lost    error // appended, but the answer is lost
}

func (m *memLog) Append(_ context.Context, e []byte, last uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	if last != uint64(len(m.entries)) {
		return 0, incident.ErrStale
	}
	m.entries = append(m.entries, slices.Clone(e))
	if m.lost != nil {
		err := m.lost
		m.lost = nil
		return 0, err
	}
	return uint64(len(m.entries)), nil
}

func (m *memLog) Read(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	m.mu.Lock()
	all := slices.Clone(m.entries)
	m.mu.Unlock()
	for i, e := range all {
		if uint64(i+1) >= from {
			if err := fn(uint64(i+1), e); err != nil {
				return err
			}
		}
	}
	return nil
}

func filled(t testing.TB, n int) *memLog {
	t.Helper()
	log := &memLog{}
	c := New(log)
	for i := range n {
		data, _ := json.Marshal(map[string]any{"n": i, "text": "a < b & \"c\"", "big": int64(1) << 60})
		if _, err := c.Append(t.Context(), Entry{Kind: "note", Actor: "ann", Text: fmt.Sprintf("entry %d <é>", i), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

func TestEveryChangeIsFound(t *testing.T) {
	log := filled(t, 12)
	end, err := Verify(t.Context(), log)
	if err != nil || end.Number != 12 {
		t.Fatalf("%+v %v", end, err)
	}
	tampered := func(f func(es [][]byte) [][]byte) error {
		es := make([][]byte, len(log.entries))
		for i := range es {
			es[i] = slices.Clone(log.entries[i])
		}
		_, err := Verify(t.Context(), &memLog{entries: f(es)}, end)
		return err
	}
	for i := range log.entries {
		for j := range log.entries[i] {
			for _, mask := range []byte{0x01, 0x20, 0x80} {
				if err := tampered(func(es [][]byte) [][]byte { es[i][j] ^= mask; return es }); !errors.Is(err, incident.ErrInvalid) {
					t.Fatalf("entry %d byte %d flipped by %#x: %v", i, j, mask, err)
				}
			}
		}
		for name, f := range map[string]func(es [][]byte) [][]byte{
			"deleted":    func(es [][]byte) [][]byte { return slices.Delete(es, i, i+1) },
			"doubled":    func(es [][]byte) [][]byte { return slices.Insert(es, i, es[i]) },
			"reordered":  func(es [][]byte) [][]byte { j := (i + 1) % len(es); es[i], es[j] = es[j], es[i]; return es },
			"truncated":  func(es [][]byte) [][]byte { return es[:i] },
			"blanked":    func(es [][]byte) [][]byte { es[i] = []byte("{}"); return es },
			"cut short":  func(es [][]byte) [][]byte { es[i] = es[i][:len(es[i])/2]; return es },
			"with space": func(es [][]byte) [][]byte { es[i] = append(es[i], ' '); return es },
		} {
			if err := tampered(f); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("entry %d %s: %v", i, name, err)
			}
		}
	}
	t.Run("a trail written anew is found by the checkpoint", func(t *testing.T) {
		if _, err := Verify(t.Context(), filled(t, 12), end); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a trail that grew still holds the checkpoint", func(t *testing.T) {
		if _, err := New(log).Append(t.Context(), Entry{Kind: "note"}); err != nil {
			t.Fatal(err)
		}
		if got, err := Verify(t.Context(), log, end); err != nil || got.Number != 13 {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestAppend(t *testing.T) {
	t.Run("several writers make one chain", func(t *testing.T) {
		log := &memLog{}
		var wg sync.WaitGroup
		for range 4 {
			c := New(log)
			wg.Go(func() {
				for range 20 {
					for {
						if _, err := c.Append(t.Context(), Entry{Kind: "note"}); err == nil {
							break
						} else if !errors.Is(err, incident.ErrStale) {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		if end, err := Verify(t.Context(), log); err != nil || end.Number != 80 {
			t.Errorf("%+v %v", end, err)
		}
	})
	t.Run("what is not durable is an error", func(t *testing.T) {
		log := &memLog{fail: errors.New("disk full")}
		if _, err := New(log).Append(t.Context(), Entry{Kind: "note"}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a lost answer does not break the chain", func(t *testing.T) {
		log := filled(t, 3)
		c := New(log)
		log.lost = errors.New("connection reset")
		if _, err := c.Append(t.Context(), Entry{Kind: "note"}); err == nil {
			t.Error("want an error")
		}
		if _, err := c.Append(t.Context(), Entry{Kind: "note"}); err != nil {
			t.Fatal(err)
		}
		if end, err := Verify(t.Context(), log); err != nil || end.Number != 5 {
			t.Errorf("%+v %v", end, err)
		}
	})
	t.Run("a broken chain is not added to", func(t *testing.T) {
		log := filled(t, 3)
		log.entries[1][20] ^= 1
		if _, err := New(log).Append(t.Context(), Entry{Kind: "note"}); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

func TestExport(t *testing.T) {
	log := filled(t, 5)
	var b bytes.Buffer
	end, err := Export(t.Context(), log, &b)
	if err != nil || end.Number != 5 || strings.Count(b.String(), "\n") != 5 {
		t.Fatalf("%+v %v %d lines", end, err, strings.Count(b.String(), "\n"))
	}
	lines := bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n"))
	if _, err := Verify(t.Context(), &memLog{entries: lines}, end); err != nil {
		t.Errorf("what was exported does not verify: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	log := filled(f, 2)
	f.Add(log.entries[0], log.entries[1])
	f.Add([]byte("{}"), []byte("null"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		end, err := Verify(t.Context(), &memLog{entries: [][]byte{a, b}})
		if err != nil && !errors.Is(err, incident.ErrInvalid) {
			t.Fatalf("error does not wrap ErrInvalid: %v", err)
		}
		if err == nil && end.Number != 2 {
			t.Fatalf("two entries, the end is %d", end.Number)
		}
	})
}
