package bus

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

// Snapshots keep large states (the correlator's, with the positions it stands at) by name. A
// save is all or nothing; an older holder cannot overwrite a newer one's.
type Snapshots struct{ kv *KV }

// Snapshots returns the snapshot store.
func (b *Bus) Snapshots() *Snapshots { return &Snapshots{kv: b.KV(snapshots)} }

const (
	// snapshotChunk keeps chunks below the default payload limit of external servers.
	snapshotChunk = 512 << 10
	// maxSnapshot bounds a state, unpacked: the hub's memory budget.
	maxSnapshot = 1 << 30
)

// snapshotPointer is the stored form of the key <name>; the chunks are <name>/<gen>/<n>.
type snapshotPointer struct {
	Gen    string          `json:"gen"` // "" before the first save
	Chunks int             `json:"chunks"`
	Size   int             `json:"size"` // unpacked
	SHA256 incident.Digest `json:"sha256"`
}

// Claim loads the newest state and makes every earlier claimant's Save fail with ErrStale. rev
// is for the first Save. Before the first save data is nil.
func (s *Snapshots) Claim(ctx context.Context, name string) (data []byte, rev uint64, err error) {
	p, have, err := s.pointer(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	// What lies there before the claim is the state or a leftover of holders whose saves the
	// claim makes fail; what comes after it is none of our business.
	gens := s.generations(ctx, name)
	if rev, err = s.point(ctx, name, p, have); err != nil {
		return nil, 0, err
	}
	if data, err = s.load(ctx, name, p); err != nil {
		return nil, 0, err
	}
	for gen := range gens {
		if gen != p.Gen {
			s.purge(ctx, name, gen)
		}
	}
	return data, rev, nil
}

// Load reads the newest state without claiming it; nil before the first save.
func (s *Snapshots) Load(ctx context.Context, name string) ([]byte, error) {
	for try := 0; ; try++ {
		p, rev, err := s.pointer(ctx, name)
		if err != nil {
			return nil, err
		}
		data, err := s.load(ctx, name, p)
		if err == nil || try == 3 {
			return data, err
		}
		// The state may have been replaced while it was read.
		if _, now, perr := s.pointer(ctx, name); perr != nil || now == rev {
			return nil, err
		}
	}
}

// Save replaces the state if rev is from our own Claim or last Save, else ErrStale. A crash at
// any moment leaves the old or the new state whole.
func (s *Snapshots) Save(ctx context.Context, name string, data []byte, rev uint64) (uint64, error) {
	if len(data) > maxSnapshot {
		return 0, incident.Invalidf("snapshot %s is %d MiB, limit %d", name, len(data)>>20, maxSnapshot>>20)
	}
	old, have, err := s.pointer(ctx, name)
	if err != nil {
		return 0, err
	}
	if have != rev {
		return 0, fmt.Errorf("snapshot %s was claimed or saved by another holder: %w", name, incident.ErrStale)
	}
	packed, err := pack(data)
	if err != nil {
		return 0, err
	}
	p := snapshotPointer{Gen: strings.ToLower(rand.Text()), Size: len(data), SHA256: digest(data)}
	for ; len(packed) > 0; p.Chunks++ {
		n := min(len(packed), snapshotChunk)
		if err := s.putChunk(ctx, chunkSubject(name, p.Gen, p.Chunks), packed[:n]); err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", name, err)
		}
		packed = packed[n:]
	}
	next, err := s.point(ctx, name, p, rev)
	if errors.Is(err, incident.ErrStale) {
		s.purge(ctx, name, p.Gen)
	}
	if err != nil {
		return 0, err
	}
	if old.Gen != "" {
		s.purge(ctx, name, old.Gen)
	}
	return next, nil
}

func pointerKey(name string) string { return name + "/" }

// chunkSubject uses dots, so that a whole generation can be purged by one subject.
func chunkSubject(name, gen string, n int) string {
	return fmt.Sprintf("%s%s.%s.%s.%d", subjectKV, snapshots, encode(name, ""), gen, n)
}

func (s *Snapshots) pointer(ctx context.Context, name string) (p snapshotPointer, rev uint64, err error) {
	value, rev, err := s.kv.Get(ctx, pointerKey(name))
	if errors.Is(err, incident.ErrNotFound) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	if err := json.Unmarshal(value, &p); err != nil || p.Chunks < 0 || p.Size < 0 || p.Size > maxSnapshot {
		return p, 0, incident.Invalidf("snapshot %s: its record is not readable", name)
	}
	return p, rev, nil
}

func (s *Snapshots) point(ctx context.Context, name string, p snapshotPointer, rev uint64) (uint64, error) {
	value, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	return s.kv.Update(ctx, pointerKey(name), value, rev)
}

func (s *Snapshots) putChunk(ctx context.Context, subject string, chunk []byte) error {
	_, err := s.kv.b.publish(ctx, s.kv.b.bucketConfig(snapshots), &nats.Msg{Subject: subject, Data: chunk})
	return err
}

func (s *Snapshots) load(ctx context.Context, name string, p snapshotPointer) ([]byte, error) {
	if p.Gen == "" {
		return nil, nil
	}
	st, err := s.kv.b.stream(ctx, s.kv.b.bucketConfig(snapshots))
	if err != nil {
		return nil, err
	}
	var packed []byte
	for i := range p.Chunks {
		cctx, cancel := s.kv.b.linked(ctx, s.kv.b.cfg.AckTimeout)
		msg, err := st.GetLastMsgForSubject(cctx, chunkSubject(name, p.Gen, i))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: chunk %d of %d: %w", name, i, p.Chunks, translate(err))
		}
		packed = append(packed, msg.Data...)
	}
	data, err := unpack(packed, p.Size)
	if err != nil || digest(data) != p.SHA256 {
		return nil, incident.Invalidf("snapshot %s is damaged (%d bytes, want %d; %v)", name, len(data), p.Size, err)
	}
	return data, nil
}

// generations lists what lies under name; on an error nothing, the next claim sees it.
func (s *Snapshots) generations(ctx context.Context, name string) map[string]bool {
	gens := map[string]bool{}
	st, err := s.kv.b.stream(ctx, s.kv.b.bucketConfig(snapshots))
	if err != nil {
		return gens
	}
	prefix := fmt.Sprintf("%s%s.%s.", subjectKV, snapshots, encode(name, ""))
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return gens
	}
	for subject := range info.State.Subjects {
		gen, _, _ := strings.Cut(strings.TrimPrefix(subject, prefix), ".")
		gens[gen] = true
	}
	return gens
}

func (s *Snapshots) purge(ctx context.Context, name, gen string) {
	st, err := s.kv.b.stream(ctx, s.kv.b.bucketConfig(snapshots))
	if err == nil {
		err = st.Purge(ctx, jetstream.WithPurgeSubject(fmt.Sprintf("%s%s.%s.%s.*", subjectKV, snapshots, encode(name, ""), gen)))
	}
	if err != nil {
		s.kv.b.log.Warn("bus: old snapshot not removed", "name", name, "err", err)
	}
}

func digest(data []byte) incident.Digest {
	h := sha256.Sum256(data)
	return incident.Digest(hex.EncodeToString(h[:]))
}

func pack(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// unpack takes at most size bytes out.
func unpack(packed []byte, size int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, int64(size)+1))
}
