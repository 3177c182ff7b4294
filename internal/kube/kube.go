// Package kube turns a kubeconfig into clients: one per context, with protobuf, explicit rate
// limits and deadlines. It reads files and environment only when asked to, stores nothing and
// starts nothing.
package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tocsin-io/tocsin/incident"
)

// Rate limits of one client. client-go's defaults (5 and 10) make an action wait for seconds;
// API priority and fairness on the server side is the real limit.
const (
	clientQPS   = 50
	clientBurst = 100
)

// Cluster is how to reach one API server. It is safe for concurrent use.
type Cluster struct {
	Name   incident.ClusterName // the context's name
	Server string               // URL, for messages
	Config *rest.Config         // JSON; copy before changing
	Client kubernetes.Interface // protobuf
	Custom dynamic.Interface    // for custom resources
	Broken error                // set: the context cannot be used, Client and Custom are nil
}

// Contexts returns the clusters of the named contexts of the kubeconfig at path, in the given
// order; no names means every context in name order, those that cannot be used with Broken set. An empty path means the usual places
// ($KUBECONFIG, ~/.kube/config), then the pod's own service account. An unknown context and an
// empty kubeconfig are errors that say what there is.
func Contexts(path string, names []string) ([]Cluster, error) {
	raw, err := load(path)
	if err != nil {
		return nil, err
	}
	if len(raw.Contexts) == 0 {
		if path == "" && len(names) == 0 {
			if c, err := inCluster(); err == nil {
				return []Cluster{c}, nil
			}
		}
		return nil, incident.Invalidf("kubeconfig %s has no contexts: set KUBECONFIG or --kubeconfig to one that has", where(path))
	}
	all := len(names) == 0
	if all {
		for n := range raw.Contexts {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	var out []Cluster
	for _, n := range names {
		if raw.Contexts[n] == nil {
			return nil, incident.Invalidf("kubeconfig %s has no context %q; it has %s", where(path), n, strings.Join(contextNames(raw), ", "))
		}
		cfg, err := clientcmd.NewNonInteractiveClientConfig(*raw, n, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
		var c Cluster
		if err == nil {
			c, err = New(incident.ClusterName(n), cfg)
		}
		if err != nil {
			err = fmt.Errorf("kubeconfig %s, context %s: %w", where(path), n, err)
			if !all {
				return nil, err
			}
			c = Cluster{Name: incident.ClusterName(n), Broken: err} // one stale context does not stop the others
		}
		out = append(out, c)
	}
	return out, nil
}

// New returns the clients for one API server.
func New(name incident.ClusterName, cfg *rest.Config) (Cluster, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = clientQPS, clientBurst
	cfg.UserAgent = "tocsin"
	pb := rest.CopyConfig(cfg)
	pb.ContentType = "application/vnd.kubernetes.protobuf"
	pb.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(pb)
	if err != nil {
		return Cluster{}, err
	}
	custom, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return Cluster{}, err
	}
	return Cluster{Name: name, Server: cfg.Host, Config: cfg, Client: client, Custom: custom}, nil
}

// Reachable asks the API server for its version, for at most timeout. A nil error means that it
// answers and takes our credentials.
func (c Cluster) Reachable(ctx context.Context, timeout time.Duration) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := c.Client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("%s does not answer within %s", c.Server, timeout)
		}
		return "", err
	}
	return versionOf(body)
}

func inCluster() (Cluster, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return Cluster{}, err
	}
	return New("in-cluster", cfg)
}

func load(path string) (*clientcmdapi.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	}
	raw, err := rules.Load()
	if err != nil {
		return nil, incident.Invalidf("kubeconfig %s: %v", where(path), err)
	}
	return raw, nil
}

func where(path string) string {
	if path != "" {
		return path
	}
	if v := os.Getenv("KUBECONFIG"); v != "" {
		return v
	}
	return "~/.kube/config"
}

func contextNames(c *clientcmdapi.Config) []string {
	var out []string
	for n := range c.Contexts {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
