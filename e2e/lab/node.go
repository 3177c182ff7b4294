package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Node is a real node: a kubelet with containerd in namespaces of their own, so that whatever
// runs on it ends with it.
type Node struct {
	Name string

	dir    string
	bridge string
	cgroup string
	images *images
	proc   *process
}

// CanRunNodes returns nil where real nodes can run, or in plain words what is missing.
func CanRunNodes() error {
	if runtime.GOOS != "linux" {
		return errors.New("real nodes need Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("real nodes need root")
	}
	for _, bin := range []string{"containerd", "runc", "ip", "mount"} {
		if _, err := exec.LookPath(bin); err != nil {
			return fmt.Errorf("real nodes need %s (Debian: apt-get install containerd runc containernetworking-plugins iproute2)", bin)
		}
	}
	if cniDir() == "" {
		return errors.New("real nodes need the CNI plug-ins (Debian: apt-get install containernetworking-plugins)")
	}
	if err := writableCgroups(); err != nil {
		return fmt.Errorf("real nodes need to make control groups: %w", err)
	}
	return nil
}

func cniDir() string {
	for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return ""
}

// RealNode adds a real node to the cluster, called <cluster>-node-<n>, and returns when it is
// ready. It is labelled type=real and tainted lab.tocsin.io/real:NoSchedule, so that simulated
// workloads stay off it: RealDeployment goes there. Callers look at CanRunNodes first.
func (c *Cluster) RealNode(ctx context.Context) (*Node, error) {
	if err := CanRunNodes(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	n := &Node{Name: fmt.Sprintf("%s-node-%d", c.Name, len(c.nodes)), dir: c.file(fmt.Sprintf("node-%d", len(c.nodes)))}
	c.nodes = append(c.nodes, n) // Stop cleans up whatever was made
	var err error
	if n.images, err = serveImages(ctx, c); err != nil {
		return nil, err
	}
	if err := n.start(c); err != nil {
		return nil, fmt.Errorf("lab: node %s: %w", n.Name, err)
	}
	err = c.Wait(ctx, "node "+n.Name, func(ctx context.Context) error {
		if err := n.proc.ended(); err != nil {
			return err
		}
		node, err := c.Client.CoreV1().Nodes().Get(ctx, n.Name, getOptions)
		if err != nil {
			return err
		}
		if !nodeReady(node) {
			return errors.New("it is not ready")
		}
		return nil
	})
	return n, err
}

// nodeFiles are the configuration of a node; see nodeValues.
var nodeFiles = map[string]string{
	"containerd.toml": `version = 2
root = "{{.Dir}}/containerd"
state = "{{.Dir}}/run"
[grpc]
  address = "{{.Socket}}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.CNI}}"
    conf_dir = "{{.Dir}}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{{.Dir}}/certs.d"
`,
	"cni/10-lab.conflist": `{"cniVersion":"0.4.0","name":"lab","plugins":[{"type":"bridge","bridge":"{{.Bridge}}","isGateway":true,
"ipam":{"type":"host-local","dataDir":"{{.Dir}}/ipam","subnet":"{{.Net}}.0/24","rangeStart":"{{.Net}}.10","gateway":"{{.Net}}.1","routes":[{"dst":"0.0.0.0/0"}]}}]}
`,
	// Every registry is ours: what it does not have does not exist.
	"certs.d/_default/hosts.toml": `server = "http://127.0.0.1:{{.Registry}}"
[host."http://127.0.0.1:{{.Registry}}"]
  capabilities = ["pull", "resolve"]
`,
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {{.Net}}.1
port: 10250
healthzPort: 0
readOnlyPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: {{.CA}}}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: {{.Cgroup}}
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://{{.Socket}}
clusterDNS: [10.96.0.10]
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
registerWithTaints: [{key: lab.tocsin.io/real, effect: NoSchedule}]
nodeStatusUpdateFrequency: 5s
`,
	// The first process of the node's process namespace; the kernel ends the others with it.
	"init.sh": `#!/bin/sh
mount -t proc proc /proc
containerd -c {{.Dir}}/containerd.toml > {{.Logs}}/containerd-{{.Name}}.log 2>&1 &
i=0
until ctr -a {{.Socket}} version > /dev/null 2>&1; do
  i=$((i+1)); [ $i -gt 100 ] && echo "containerd does not answer" && exit 1
  sleep 0.1
done
exec {{.Kubelet}} --config {{.Dir}}/kubelet.yaml --kubeconfig {{.Kubeconfig}} --hostname-override={{.Name}} --node-ip={{.Net}}.1 \
  --node-labels=type=real --root-dir={{.Dir}}/kubelet --cert-dir={{.Dir}}/pki
`,
}

type nodeValues struct {
	Name, Dir, Socket, CNI, Bridge, Net, Cgroup, CA, Logs, Kubelet, Kubeconfig string
	Registry                                                                   int
}

func (n *Node) start(c *Cluster) error {
	number, err := n.makeBridge()
	if err != nil {
		return err
	}
	if n.cgroup, err = makeCgroup("tocsin-lab-" + strconv.Itoa(number)); err != nil {
		return err
	}
	v := nodeValues{
		Name: n.Name, Dir: n.dir, Socket: filepath.Join(n.dir, "c.sock"), CNI: cniDir(), Bridge: n.bridge, Net: fmt.Sprintf("10.244.%d", number),
		Cgroup: n.cgroup, CA: c.file("ca.crt"), Logs: c.file("logs"), Kubelet: c.binary("kubelet"), Kubeconfig: c.Kubeconfig(), Registry: n.images.port,
	}
	if len(v.Socket) > 100 {
		return fmt.Errorf("the folder's name is too long for a socket: %s", v.Socket)
	}
	for name, text := range nodeFiles {
		path := filepath.Join(n.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var out strings.Builder
		if err := template.Must(template.New(name).Parse(text)).Execute(&out, v); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(out.String()), 0o755); err != nil {
			return err
		}
	}
	n.proc, err = c.spawn.start("kubelet "+n.Name, c.file(filepath.Join("logs", "kubelet-"+n.Name+".log")), nodeAttr(), "/bin/sh", filepath.Join(n.dir, "init.sh"))
	return err
}

// makeBridge makes the node's network bridge, the first free of labnode1 … labnode200, and
// removes those whose lab has died.
func (n *Node) makeBridge() (number int, err error) {
	for number = 1; number <= 200; number++ {
		n.bridge = "labnode" + strconv.Itoa(number)
		alias, rerr := os.ReadFile("/sys/class/net/" + n.bridge + "/ifalias")
		if rerr == nil {
			pid, perr := strconv.Atoi(strings.TrimSpace(string(alias)))
			if perr != nil || alive(pid) {
				continue
			}
			if err := ip("link", "del", n.bridge); err != nil {
				continue
			}
		}
		if err = ip("link", "add", n.bridge, "type", "bridge"); err != nil {
			continue
		}
		if err = ip("link", "set", "dev", n.bridge, "alias", strconv.Itoa(os.Getpid())); err != nil {
			return 0, err
		}
		if err = ip("addr", "add", fmt.Sprintf("10.244.%d.1/24", number), "dev", n.bridge); err != nil {
			return 0, err
		}
		return number, ip("link", "set", n.bridge, "up")
	}
	n.bridge = ""
	return 0, fmt.Errorf("no network bridge could be made: %w", err)
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %s", strings.Join(args, " "), tail(string(out), 2))
	}
	return nil
}

func (n *Node) stop() {
	if n.proc != nil {
		n.proc.stop(0)
	}
	if n.images != nil {
		_ = n.images.srv.Close()
	}
	// The cleaning is best effort: what stays is empty and is reused or removed by the next lab.
	if n.bridge != "" {
		_ = ip("link", "del", n.bridge)
	}
	if n.cgroup != "" {
		removeCgroup(n.cgroup)
	}
}

const cgroupMount = "/sys/fs/cgroup"

// cgroupRoots lists the folders under which a control group has to be made: one with version
// 2, one per controller with version 1.
func cgroupRoots() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return []string{cgroupMount}, nil
	}
	dirs, err := filepath.Glob(filepath.Join(cgroupMount, "*", "cgroup.procs"))
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("none are mounted at %s", cgroupMount)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs, nil
}

func writableCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	probe := filepath.Join(roots[0], "tocsin-lab-probe")
	if err := os.Mkdir(probe, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Remove(probe)
}

func makeCgroup(name string) (string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return "", err
	}
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		// Version 1: a new cpuset is empty and takes nobody until it is filled from its parent.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			if raw, err := os.ReadFile(filepath.Join(root, f)); err == nil && len(roots) > 1 {
				if err := os.WriteFile(filepath.Join(dir, f), raw, 0o644); err != nil {
					return "", err
				}
			}
		}
	}
	return "/" + name, nil
}

func removeCgroup(name string) {
	roots, _ := cgroupRoots()
	deadline := time.Now().Add(2 * time.Second) // the kernel may still be ending the last tasks
	for _, root := range roots {
		for removeTree(filepath.Join(root, name)) != nil && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// removeTree removes the folders of a control group, deepest first; its files are not real.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// RealDeployment returns the YAML of a deployment of the workload image for real nodes; env are
// its variables (see images/app) as NAME=value. The memory limit is 64Mi, the probes ask
// /healthz on port 8080.
func RealDeployment(namespace, name string, replicas int, image string, env ...string) string {
	var vars string
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars += fmt.Sprintf("\n        - {name: %s, value: %q}", k, v)
	}
	if vars != "" {
		vars = "\n        env:" + vars
	}
	return Deployment(namespace, name, replicas, image) + `        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 5, initialDelaySeconds: 5}` + vars + `
      nodeSelector: {type: real}
      tolerations: [{key: lab.tocsin.io/real, operator: Exists}]
      terminationGracePeriodSeconds: 1
`
}
