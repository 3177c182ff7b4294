package cluster

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Limits of a snapshot. Beyond MaxFileBytes a file is left out and named in Gaps; beyond the
// others the reader stops with an error that wraps incident.ErrInvalid.
const (
	MaxFileBytes     = 256 << 20
	MaxSnapshotBytes = 1 << 30
	maxFiles         = 300_000
	maxYAMLBytes     = 64 << 20
)

// Read reads the state of a cluster from a folder, a .tar.gz or a .tar: Tocsin's own snapshots,
// the output of `kubectl cluster-info dump`, Troubleshoot support bundles, OpenShift must-gather
// and any tree of Kubernetes JSON or YAML. Content decides what a file is; only logs are known
// by their path. What could not be read is named in Gaps. A path without any Kubernetes object
// gives an error that wraps incident.ErrInvalid, one that does not exist incident.ErrNotFound.
func Read(ctx context.Context, name string) (*State, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read snapshot %s: %w", name, incident.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(filepath.Base(filepath.Clean(name)), ".gz"), ".tgz"), ".tar")
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		defer root.Close()
		return ReadFS(ctx, root.FS(), base)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	return ReadTar(ctx, f, base)
}

// ReadFS reads a tree of files; see Read. The name is the cluster's where the snapshot tells none.
func ReadFS(ctx context.Context, fsys fs.FS, name string) (*State, error) {
	r := newReader(name)
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			r.b.Gap("%s: %v", p, err)
			return nil
		}
		if err := ctx.Err(); err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := fsys.Open(p)
		if err != nil {
			r.b.Gap("%s: %v", p, err)
			return nil
		}
		defer f.Close()
		return r.file(p, f)
	})
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return r.finish()
}

// ReadTar reads a tar stream, gzip'ed or not; see Read. Nothing is written anywhere: entries
// whose names lead out of the archive, links and devices are left out and named in Gaps.
func ReadTar(ctx context.Context, in io.Reader, name string) (*State, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	var src io.Reader = br
	if magic, err := br.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		gz, err := gzip.NewReader(br)
		if err != nil {
			return nil, incident.Invalidf("read snapshot %s: %v", name, err)
		}
		src = gz
	}
	r, tr := newReader(name), tar.NewReader(src)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return r.finish()
		}
		if err != nil {
			return nil, incident.Invalidf("read snapshot %s: %v", name, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		p := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !fs.ValidPath(p) {
			r.b.Gap("archive entry %q is no plain file inside it and was left out", h.Name)
			continue
		}
		if err := r.file(p, tr); err != nil {
			return nil, fmt.Errorf("read snapshot %s: %w", name, err)
		}
	}
}

// reader takes files in any order and builds the state.
type reader struct {
	b     *Builder
	d     *decoder
	name  string
	meta  meta
	calls []Call
	buf   bytes.Buffer
	files int
	bytes int64
	seen  map[string]bool // plurals of which a list was seen
	bad   map[string]int  // plurals → objects that could not be read
	count int
}

type meta struct {
	Cluster     string `json:"cluster"`
	CollectedAt string `json:"collectedAt"`
	Namespace   string `json:"namespace"`
	Report      string `json:"report"`
}

func newReader(name string) *reader {
	return &reader{b: New(incident.ClusterName(name), time.Time{}), d: newDecoder(), name: name, seen: map[string]bool{}, bad: map[string]int{}}
}

// file takes one file. Errors end the reading; what is wrong with one file alone is a gap.
func (r *reader) file(p string, in io.Reader) error {
	if r.files++; r.files > maxFiles {
		return incident.Invalidf("more than %d files", maxFiles)
	}
	if l, kind, ok := logPath(p); ok {
		return r.log(l, kind, in)
	}
	ext := path.Ext(p)
	if ext != ".json" && ext != ".yaml" && ext != ".yml" {
		return nil
	}
	limit := int64(MaxFileBytes)
	if ext != ".json" {
		limit = maxYAMLBytes
	}
	r.buf.Reset()
	n, err := io.Copy(&r.buf, io.LimitReader(in, limit+1))
	if err != nil {
		return incident.Invalidf("%s: %v", p, err)
	}
	if r.bytes += n; r.bytes > MaxSnapshotBytes {
		return incident.Invalidf("more than %d MiB of files", MaxSnapshotBytes>>20)
	}
	if n > limit {
		r.b.Gap("%s is larger than %d MiB and was left out", p, limit>>20)
		return nil
	}
	if ext == ".json" {
		return r.json(p, r.buf.Bytes())
	}
	return r.yaml(p, r.buf.Bytes())
}

func (r *reader) finish() (*State, error) {
	b := r.b
	if r.count == 0 && len(r.seen) == 0 {
		return nil, incident.Invalidf("read snapshot %s: no Kubernetes objects found", r.name)
	}
	for plural := range r.seen {
		state, detail := incident.Seen, ""
		if n := r.bad[plural]; n > 0 {
			state, detail = incident.Partial, fmt.Sprintf("%d objects could not be read", n)
		}
		b.Saw("objects/"+plural, state, detail)
	}
	if r.seen["events"] {
		b.Saw("events", incident.Seen, "")
	}
	if r.meta.Cluster != "" && incident.ClusterName(r.meta.Cluster).Validate() == nil {
		b.st.Name = incident.ClusterName(r.meta.Cluster)
	}
	if err := b.st.Name.Validate(); err != nil {
		b.st.Name = "snapshot"
	}
	b.Asked(r.meta.Namespace, r.meta.Report)
	for i := range r.calls {
		if r.calls[i].Namespace == "" {
			r.calls[i].Namespace = r.meta.Namespace
		}
	}
	b.AddCalls(r.calls...)
	b.st.At, _ = time.Parse(time.RFC3339, r.meta.CollectedAt)
	if b.st.At.IsZero() {
		b.st.At = latest(&b.st.Objects)
	}
	return b.Seal(), nil
}

// latest returns the latest time that the objects mention: a snapshot without its own time was
// collected shortly after it.
func latest(o *Objects) time.Time {
	var t time.Time
	later := func(u time.Time) {
		if u.After(t) {
			t = u
		}
	}
	for _, e := range o.Events.All() {
		later(EventTime(e))
	}
	for _, p := range o.Pods.All() {
		later(p.CreationTimestamp.Time)
		for _, c := range p.Status.Conditions {
			later(c.LastTransitionTime.Time)
		}
	}
	for _, n := range o.Nodes.All() {
		for _, c := range n.Status.Conditions {
			later(c.LastHeartbeatTime.Time)
		}
	}
	return t.UTC()
}
