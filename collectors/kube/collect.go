package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// pageSize bounds what one reply makes us hold beside the state: 500 is what kubectl uses.
const pageSize = 500

// Collect reads the state of one cluster once: every kind that may be listed, in pages, and the
// logs of containers in trouble. custom may be nil (no custom resources). progress may be nil; it
// is called from several goroutines with one line per kind. What could not be read stands in the
// state's coverage; an error means that the server does not answer at all.
func Collect(ctx context.Context, name incident.ClusterName, client kubernetes.Interface, custom dynamic.Interface, progress func(string)) (*cluster.State, error) {
	a, err := probe(ctx, client, custom != nil)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	b := &lockedBuilder{b: cluster.New(name, time.Now().UTC())}
	for _, s := range a.sources {
		b.b.Saw(s.Source, s.State, s.Detail)
	}
	var g errgroup.Group
	g.SetLimit(4)
	for _, k := range a.kinds {
		g.Go(func() error {
			n, err := b.page(func(o metav1.ListOptions) (runtime.Object, error) { return k.list(ctx, client, o) })
			b.saw(k.source(), n, err, progress)
			return nil
		})
	}
	for _, r := range a.customs {
		g.Go(func() error {
			n, err := b.page(func(o metav1.ListOptions) (runtime.Object, error) { return custom.Resource(r).List(ctx, o) })
			b.saw("objects/"+r.Resource, n, err, progress)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: they stand in the coverage
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	addLogs(b.b, fetchLogs(ctx, client, troubled(b.pods)))
	return b.b.Seal(), nil
}

func addLogs(b *cluster.Builder, logs []cluster.Log) {
	for _, l := range logs {
		b.AddLog(l)
	}
	b.Saw("logs", incident.Partial, fmt.Sprintf("the tails of %d containers in trouble; others were not read", len(logs)))
}

type lockedBuilder struct {
	mu   sync.Mutex
	b    *cluster.Builder
	pods []*corev1.Pod
}

// page lists all pages and adds their objects. A list that expires half way (410) is started anew
// once.
func (l *lockedBuilder) page(list func(metav1.ListOptions) (runtime.Object, error)) (int, error) {
	n, opts, restarted := 0, metav1.ListOptions{Limit: pageSize}, false
	for {
		page, err := list(opts)
		if err != nil && opts.Continue != "" && !restarted {
			n, opts.Continue, restarted = 0, "", true
			continue
		}
		if err != nil {
			return n, err
		}
		l.mu.Lock()
		err = meta.EachListItem(page, func(o runtime.Object) error {
			if _, err := cluster.Strip(o); err != nil {
				return err
			}
			n++
			if p, ok := o.(*corev1.Pod); ok {
				l.pods = append(l.pods, p)
			}
			return l.b.Add(o.(metav1.Object))
		})
		l.mu.Unlock()
		if err != nil {
			return n, err
		}
		m, err := meta.ListAccessor(page)
		if err != nil || m.GetContinue() == "" {
			return n, err
		}
		opts.Continue = m.GetContinue()
	}
}

func (l *lockedBuilder) saw(source string, n int, err error, progress func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state, detail := incident.Seen, ""
	if err != nil {
		state, detail = incident.NotSeen, err.Error()
		if n > 0 {
			state = incident.Partial
		}
	}
	l.b.Saw(source, state, detail)
	if progress != nil {
		progress(fmt.Sprintf("%s: %d", source, n))
	}
}
