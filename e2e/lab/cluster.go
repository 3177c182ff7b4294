package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Options of a cluster. The zero value is right for most tests.
type Options struct {
	// Dir holds the cluster's files and logs; "": a temporary folder, removed by Stop.
	Dir string
	// Log gets progress lines; nil: none.
	Log io.Writer
	// APIServer are further flags of the API server.
	APIServer []string
}

// Cluster is a running control plane. Its methods are safe for concurrent use.
type Cluster struct {
	Name   string
	Dir    string                // files and logs (Dir/logs)
	Client *kubernetes.Clientset // full rights, no rate limit
	Config *rest.Config          // what Client was made from

	binaries string
	token    string
	ports    ports
	spawn    *spawner
	procs    []*process // in start order
	nodes    []*Node
	temp     bool
	dynamic  dynamic.Interface
	mapper   *restmapper.DeferredDiscoveryRESTMapper
}

type ports struct{ etcd, peer, api, controllers, scheduler, kwok int }

// New starts a cluster for a test and stops it when the test ends. It skips the test with -short.
func New(t testing.TB, name string, opts Options) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("real clusters are left out with -short")
	}
	if opts.Log == nil {
		opts.Log = t.Output()
	}
	c, err := Start(t.Context(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("lab: logs of %s:\n%s", name, c.Logs(8))
		}
		c.Stop()
	})
	return c
}

// Start starts a control plane called name: etcd, API server, controllers and scheduler on free
// ports of loopback, no nodes. It returns when the API server is ready and the default
// namespace and its service account exist. Stop ends it; ctx only bounds the start.
func Start(ctx context.Context, name string, opts Options) (*Cluster, error) {
	bins, err := Binaries(ctx, opts.Log)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: name, Dir: opts.Dir, binaries: bins, token: rand.Text()}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "lab-"); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		c.temp = true
	}
	c.spawn = newSpawner()
	if err := c.start(ctx, opts); err != nil {
		err = fmt.Errorf("lab: cluster %s: %w", name, err)
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, opts Options) error {
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o755); err != nil {
		return err
	}
	if err := pki(c.Dir); err != nil {
		return err
	}
	users := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n", c.token)
	if err := os.WriteFile(filepath.Join(c.Dir, "tokens.csv"), []byte(users), 0o600); err != nil {
		return err
	}
	p, err := freePorts(6)
	if err != nil {
		return err
	}
	c.ports = ports{p[0], p[1], p[2], p[3], p[4], p[5]}
	if err := clientcmd.WriteToFile(*kubeconfig(c), c.Kubeconfig()); err != nil {
		return err
	}
	if err := c.clients(); err != nil {
		return err
	}
	if err := c.startStore(opts.APIServer); err != nil {
		return err
	}
	if err := c.Wait(ctx, "the API server to be ready", func(ctx context.Context) error {
		_, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}); err != nil {
		return err
	}
	if err := c.startControllers(); err != nil {
		return err
	}
	return c.Wait(ctx, "the default service account", func(ctx context.Context) error {
		_, err := c.Client.CoreV1().ServiceAccounts("default").Get(ctx, "default", getOptions)
		return err
	})
}

func (c *Cluster) startStore(further []string) error {
	client := "http://127.0.0.1:" + strconv.Itoa(c.ports.etcd)
	peer := "http://127.0.0.1:" + strconv.Itoa(c.ports.peer)
	err := c.run("etcd", "--data-dir", c.file("etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	return c.run("kube-apiserver", append([]string{"--etcd-servers=" + client, "--secure-port=" + strconv.Itoa(c.ports.api), "--bind-address=127.0.0.1",
		"--tls-cert-file=" + c.file("api.crt"), "--tls-private-key-file=" + c.file("api.key"), "--client-ca-file=" + c.file("ca.crt"),
		"--kubelet-client-certificate=" + c.file("client.crt"), "--kubelet-client-key=" + c.file("client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file=" + c.file("sa.key"), "--service-account-signing-key-file=" + c.file("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file=" + c.file("tokens.csv"), "--authorization-mode=Node,RBAC"}, further...)...)
}

func (c *Cluster) startControllers() error {
	err := c.run("kube-controller-manager", "--kubeconfig="+c.Kubeconfig(), "--service-account-private-key-file="+c.file("sa.key"),
		"--root-ca-file="+c.file("ca.crt"), "--leader-elect=false", "--secure-port="+strconv.Itoa(c.ports.controllers), "--bind-address=127.0.0.1",
		"--kube-api-qps=1000", "--kube-api-burst=2000")
	if err != nil {
		return err
	}
	return c.run("kube-scheduler", "--kubeconfig="+c.Kubeconfig(), "--leader-elect=false", "--secure-port="+strconv.Itoa(c.ports.scheduler),
		"--bind-address=127.0.0.1", "--kube-api-qps=1000", "--kube-api-burst=2000")
}

// run starts one of the built binaries.
func (c *Cluster) run(name string, args ...string) error {
	p, err := c.spawn.start(name, filepath.Join(c.Dir, "logs", name+".log"), childAttr(), c.binary(name), args...)
	if err != nil {
		return err
	}
	c.procs = append(c.procs, p)
	return nil
}

func (c *Cluster) file(name string) string   { return filepath.Join(c.Dir, name) }
func (c *Cluster) binary(name string) string { return filepath.Join(c.binaries, "bin", name) }

func (c *Cluster) clients() (err error) {
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return err
	}
	c.Config.QPS, c.Config.Burst = 1000, 2000
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	c.dynamic, c.mapper, err = applyClients(c.Config)
	return err
}

// Stop ends everything the cluster started, nodes first, and removes its temporary folder. A
// second call does nothing.
func (c *Cluster) Stop() {
	if c.spawn == nil {
		return
	}
	for _, n := range c.nodes {
		n.stop()
	}
	for _, p := range slices.Backward(c.procs) {
		p.stop(0) // nothing in it is worth a graceful end
	}
	c.spawn.close()
	c.spawn = nil
	if c.temp {
		_ = os.RemoveAll(c.Dir) // a leftover in the temporary folder is no reason to fail
	}
}

// KillAPIServer ends the API server at once, as a crash would. RestartAPIServer brings it back
// at the same address.
func (c *Cluster) KillAPIServer() {
	if i := c.proc("kube-apiserver"); i >= 0 {
		c.procs[i].stop(0)
	}
}

// RestartAPIServer starts the API server again, with the data it had, and waits until it is
// ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	i := c.proc("kube-apiserver")
	if i < 0 {
		return errors.New("lab: the API server was never started")
	}
	old := c.procs[i]
	old.stop(0)
	p, err := c.spawn.start(old.name, old.log+".again", childAttr(), old.cmd.Path, old.cmd.Args[1:]...)
	if err != nil {
		return err
	}
	c.procs[i] = p
	return c.Wait(ctx, "the API server to be ready again", func(ctx context.Context) error {
		_, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (c *Cluster) proc(name string) int {
	return slices.IndexFunc(c.procs, func(p *process) bool { return p.name == name })
}

// Wait calls check every 100 ms until it returns nil, and fails when ctx ends (after 60 s if it
// has no deadline) or one of the cluster's processes has ended. what completes "waiting for …".
func (c *Cluster) Wait(ctx context.Context, what string, check func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		for _, p := range c.procs {
			if ended := p.ended(); ended != nil {
				return ended
			}
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("lab: %s: waiting for %s: %w", c.Name, what, err)
		}
	}
}

// Logs returns the last lines of every process' log.
func (c *Cluster) Logs(lines int) string {
	var out string
	files, _ := filepath.Glob(filepath.Join(c.Dir, "logs", "*"))
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		out += "--- " + filepath.Base(f) + "\n" + tail(string(raw), lines) + "\n"
	}
	return out
}

// Kubeconfig returns the path of the cluster's own kubeconfig; its one context is Name.
func (c *Cluster) Kubeconfig() string { return c.file("kubeconfig") }

// Kubeconfig writes one kubeconfig for several clusters into dir and returns its path. Contexts
// are called like the clusters; the first is current. All have full rights.
func Kubeconfig(dir string, clusters ...*Cluster) (string, error) {
	path := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig(clusters...), path); err != nil {
		return "", fmt.Errorf("lab: kubeconfig: %w", err)
	}
	return path, nil
}

func kubeconfig(clusters ...*Cluster) *clientcmdapi.Config {
	k := clientcmdapi.NewConfig()
	for _, c := range clusters {
		ca, _ := os.ReadFile(c.file("ca.crt")) // without it every request fails and says so
		k.Clusters[c.Name] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:" + strconv.Itoa(c.ports.api), CertificateAuthorityData: ca}
		k.AuthInfos[c.Name] = &clientcmdapi.AuthInfo{Token: c.token}
		k.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	}
	if len(clusters) > 0 {
		k.CurrentContext = clusters[0].Name
	}
	return k
}

// freePorts returns n ports of loopback that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("lab: free port: %w", err)
		}
		defer l.Close() // all at the end, so that no port is given twice
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}
