package bus

import (
	"context"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a file system whose content survives a power cut only where it was fsynced: cache holds
// what programs see, platter what a cut leaves. Names (create, rename, remove) are kept at once:
// the test is about content.
type disk struct {
	cache, platter string

	mu    sync.Mutex
	dirty map[string][]extent // by path below the root: written and not yet fsynced
}

type extent struct{ off, end int64 }

func (d *disk) path(root, rel string) string { return filepath.Join(root, rel) }

func (d *disk) wrote(rel string, off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ext := d.dirty[rel]
	if k := len(ext); k > 0 && ext[k-1].end == off { // appending
		ext[k-1].end += n
		return
	}
	d.dirty[rel] = append(ext, extent{off, off + n})
}

// sync copies what was written to the platter, with the file's size.
func (d *disk) sync(rel string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ext := d.dirty[rel]
	delete(d.dirty, rel)
	from, err := os.Open(d.path(d.cache, rel))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(d.path(d.platter, rel), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	st, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(st.Size()); err != nil {
		return err
	}
	for _, e := range ext {
		buf := make([]byte, max(0, min(e.end, st.Size())-e.off))
		n, _ := from.ReadAt(buf, e.off)
		if _, err := to.WriteAt(buf[:n], e.off); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) moved(from, to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dirty, to)
	if ext, ok := d.dirty[from]; ok {
		d.dirty[to] = ext
		delete(d.dirty, from)
	}
}

// diskNode is a file or folder of a disk.
type diskNode struct {
	*fs.LoopbackNode
	d *disk
}

func (n *diskNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &diskNode{LoopbackNode: child.(*fs.LoopbackNode), d: n.d}
}

func (n *diskNode) rel() string { return n.Path(n.Root()) }

func (n *diskNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, fl, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	if flags&syscall.O_TRUNC != 0 {
		n.d.wrote(n.rel(), 0, 0)
	}
	return &diskFile{loopback: h.(loopback), n: n, rel: n.rel(), direct: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}, fl, 0
}

func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	ino, h, fl, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	rel := filepath.Join(n.rel(), name)
	if f, err := os.OpenFile(n.d.path(n.d.platter, rel), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	}
	return ino, &diskFile{loopback: h.(loopback), n: n, rel: rel, direct: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}, fl, 0
}

func (n *diskNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	ino, errno := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	if errno == 0 {
		_ = os.Mkdir(n.d.path(n.d.platter, filepath.Join(n.rel(), name)), 0o700)
	}
	return ino, errno
}

func (n *diskNode) Unlink(ctx context.Context, name string) syscall.Errno {
	errno := n.LoopbackNode.Unlink(ctx, name)
	if errno == 0 {
		_ = os.Remove(n.d.path(n.d.platter, filepath.Join(n.rel(), name)))
	}
	return errno
}

func (n *diskNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	errno := n.LoopbackNode.Rmdir(ctx, name)
	if errno == 0 {
		_ = os.Remove(n.d.path(n.d.platter, filepath.Join(n.rel(), name)))
	}
	return errno
}

func (n *diskNode) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	errno := n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
	if errno == 0 {
		from, to := filepath.Join(n.rel(), name), filepath.Join(parent.EmbeddedInode().Path(n.Root()), newName)
		_ = os.Rename(n.d.path(n.d.platter, from), n.d.path(n.d.platter, to))
		n.d.moved(from, to)
	}
	return errno
}

// loopback is what go-fuse's own file handle can do.
type loopback interface {
	fs.FileHandle
	fs.FileReader
	fs.FileWriter
	fs.FileFsyncer
	fs.FileFlusher
	fs.FileReleaser
	fs.FileGetattrer
	fs.FileSetattrer
	fs.FileLseeker
	fs.FileAllocater
}

// diskFile is an open file; rel is its name when it was opened.
type diskFile struct {
	loopback
	n      *diskNode
	rel    string
	direct bool // O_SYNC
}

func (f *diskFile) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, errno := f.loopback.Write(ctx, data, off)
	f.n.d.wrote(f.rel, off, int64(n))
	if errno == 0 && f.direct {
		return n, f.Fsync(ctx, 0)
	}
	return n, errno
}

func (f *diskFile) Fsync(context.Context, uint32) syscall.Errno {
	return fs.ToErrno(f.n.d.sync(f.rel))
}

// mountDisk makes a disk and returns it with the folder where it is mounted and how to unmount it.
func mountDisk(t *testing.T) (d *disk, dir string, unmount func()) {
	t.Helper()
	d = &disk{cache: t.TempDir(), platter: t.TempDir(), dirty: map[string][]extent{}}
	dir = t.TempDir()
	root, err := fs.NewLoopbackRoot(d.cache)
	if err != nil {
		t.Fatal(err)
	}
	node := &diskNode{LoopbackNode: root.(*fs.LoopbackNode), d: d}
	node.RootData.RootNode = node
	srv, err := fs.Mount(dir, node, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, Name: "platter"}})
	if err != nil {
		t.Skipf("a file system of our own cannot be mounted here (needs root and /dev/fuse): %v", err)
	}
	return d, dir, func() {
		if err := srv.Unmount(); err != nil {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}
}

// powerCut lets a child write for a while on a disk whose power is then cut, and returns what was
// acknowledged and how much of that is gone.
func powerCut(t *testing.T, d time.Duration, env ...string) (a acked, lost int) {
	t.Helper()
	dk, dir, unmount := mountDisk(t)
	a = runChild(t, filepath.Join(dir, "data"), 0, d, env...)
	unmount()
	events, kv, log := a.missing(t, filepath.Join(dk.platter, "data"))
	return a, events + kv + log
}

func TestNothingAcknowledgedIsLostInAPowerCut(t *testing.T) {
	cuts := 4
	if testing.Short() {
		cuts = 1
	}
	if n, err := strconv.Atoi(os.Getenv("TOCSIN_BUS_CUTS")); err == nil {
		cuts = n
	}
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	total := 0
	for range cuts {
		a, lost := powerCut(t, time.Duration(100+rng.Intn(400))*time.Millisecond)
		if lost > 0 {
			t.Errorf("lost %d of %d", lost, len(a.events)+len(a.kv)+len(a.log))
		}
		total += len(a.events) + len(a.kv) + len(a.log)
	}
	t.Logf("seed %d: %d cuts, %d acknowledged", seed, cuts, total)
	if total == 0 {
		t.Error("nothing was acknowledged")
	}
}

func TestPowerCutTestSeesLossWithoutFsync(t *testing.T) {
	a, lost := powerCut(t, 300*time.Millisecond, childEnv+"_LAZY=1")
	t.Logf("without fsync %d of %d acknowledged were lost", lost, len(a.events)+len(a.kv)+len(a.log))
	if lost == 0 {
		t.Error("the cut lost nothing: this test would not see a missing fsync")
	}
}
