package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Image returns the name of the workload image (see images/app) with the given tag: v1, v2 and
// v3 exist, every other tag does not.
func Image(tag string) string { return registryHost + "/app:" + tag }

const (
	// registryHost is what real nodes call the registry on loopback.
	registryHost = "registry.lab.test"
	// PrivateImage exists but is refused without credentials.
	PrivateImage = privateHost + "/app:v1"
	privateHost  = "private.lab.test"
	pauseImage   = registryHost + "/pause:1"
)

// images is a registry on loopback with the workload and pause images.
type images struct {
	srv  *http.Server
	port int
}

// serveImages starts the registry and fills it from the built binaries.
func serveImages(ctx context.Context, c *Cluster) (*images, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lab: registry: %w", err)
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := &images{port: l.Addr().(*net.TCPAddr).Port, srv: &http.Server{Handler: denyPrivate(handler), ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = r.srv.Serve(l) }() // ends with close
	for binary, tags := range map[string][]string{"pause": {"1"}, "app": {"v1", "v2", "v3"}} {
		if err := r.push(ctx, c.binary(binary), binary, tags); err != nil {
			return nil, errors.Join(fmt.Errorf("lab: image %s: %w", binary, err), r.srv.Close())
		}
	}
	return r, nil
}

// denyPrivate answers as a registry does that wants credentials, for requests that containerd
// makes on behalf of privateHost (it names the host it was asked for in the query).
func denyPrivate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("ns") == privateHost {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// push stores an image of one static binary, as a client would over HTTP.
func (r *images) push(ctx context.Context, path, repo string, tags []string) error {
	layer, err := layerOf(path, repo)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/" + repo}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	if err != nil {
		return err
	}
	const media = "application/vnd.docker.distribution.manifest.v2+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": media,
		"config": map[string]any{"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digest(config)},
		"layers": []any{map[string]any{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": len(layer), "digest": digest(layer)}},
	})
	if err != nil {
		return err
	}
	for _, blob := range [][]byte{layer, config} {
		if err := r.send(ctx, http.MethodPost, repo+"/blobs/uploads/?digest="+digest(blob), "application/octet-stream", blob); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := r.send(ctx, http.MethodPut, repo+"/manifests/"+tag, media, manifest); err != nil {
			return err
		}
	}
	return nil
}

func (r *images) send(ctx context.Context, method, path, media string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d/v2/%s", r.port, path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}

func layerOf(path, entry string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: entry, Mode: 0o755, Size: int64(len(raw))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
