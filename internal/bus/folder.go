package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// dataFormat is the version of the data folder's layout. A folder of a higher one is refused.
const dataFormat = 1

// versionFile says who wrote the folder; it is written first and read before anything else.
const versionFile = "version.json"

type folderVersion struct {
	Format     int    `json:"format"`
	NATSServer string `json:"natsServer"` // the newest nats-server that wrote the store
}

// openFolder makes and locks the data folder. Close the returned file to release it. A folder
// in use, or written by a newer version, is refused before anything in it changes.
func openFolder(dir, natsVersion string) (*os.File, error) {
	if err := checkVersion(dir, natsVersion); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := lockFile(f); err != nil {
		owner, _ := os.ReadFile(f.Name())
		f.Close()
		return nil, fmt.Errorf("data folder %s is in use by another process (%s): stop it or choose another folder: %w", dir, strings.TrimSpace(string(owner)), err)
	}
	// Somebody newer may have come and gone between the first look and the lock.
	err = checkVersion(dir, natsVersion)
	if err == nil {
		err = writeVersion(dir, natsVersion)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte("pid "+strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkVersion(dir, natsVersion string) error {
	b, err := os.ReadFile(filepath.Join(dir, versionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	var v folderVersion
	if err := json.Unmarshal(b, &v); err != nil || v.Format < 1 {
		return incident.Invalidf("data folder %s: %s is not readable as a version; nothing was changed", dir, versionFile)
	}
	if v.Format > dataFormat {
		return incident.Invalidf("data folder %s has format %d, this version knows up to %d: use the newer version; nothing was changed", dir, v.Format, dataFormat)
	}
	if minor(v.NATSServer) > minor(natsVersion) {
		return incident.Invalidf("data folder %s was written with nats-server %s, this version holds %s: use the newer version; nothing was changed", dir, v.NATSServer, natsVersion)
	}
	return nil
}

// minor returns major and minor of a version as one comparable number; patch releases of NATS
// read each other's stores. Unreadable versions count as 0.
func minor(v string) int {
	p := strings.Split(v, ".")
	if len(p) < 2 {
		return 0
	}
	major, err1 := strconv.Atoi(p[0])
	mid, err2 := strconv.Atoi(p[1])
	if err1 != nil || err2 != nil {
		return 0
	}
	return major*1000 + mid
}

// writeVersion replaces the version file atomically where it says something else.
func writeVersion(dir, natsVersion string) error {
	want, err := json.Marshal(folderVersion{Format: dataFormat, NATSServer: natsVersion})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, versionFile)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(want) {
		return nil
	}
	if err := writeSynced(path+".new", want); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("data folder: write %s: %w", path, err)
	}
	return nil
}

// probeWrite proves that the folder takes n bytes durably.
func probeWrite(dir string, n int) error {
	path := filepath.Join(dir, "probe")
	err := writeSynced(path, make([]byte, n))
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	return err
}

// storeShare bounds the store below the disk, so that the answer to "full" is a clear
// error from the store and not a failing file system.
const storeShare = 0.8

// storeCap returns the cap in bytes for the store in dir: want, or the default when want is 0.
func storeCap(dir string, want int64) (int64, error) {
	free, err := freeBytes(dir)
	if err != nil {
		return 0, fmt.Errorf("data folder %s: free space: %w", dir, err)
	}
	limit := int64(float64(free+usedBytes(dir)) * storeShare)
	if want > limit {
		return 0, incident.Invalidf("data folder %s: a store of %d MiB does not fit: %d MiB are available to it (80 %% of the free space)", dir, want>>20, limit>>20)
	}
	if want == 0 {
		want = min(limit, quotaCap)
	}
	if want < 16<<20 {
		return 0, fmt.Errorf("data folder %s: only %d MiB available, at least 16 MiB are needed: free some space", dir, want>>20)
	}
	return want, nil
}

func usedBytes(dir string) int64 {
	var sum int64
	// A file that vanishes meanwhile is no error: the sum is an estimate.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
