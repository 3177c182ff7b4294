package kube

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tocsin-io/tocsin/incident"
)

// A watch that fails after the first sync leaves an old cache: it must not count as seen.
func TestAWatchThatFailsIsNotSeen(t *testing.T) {
	c := New(Config{Cluster: "eu-1"})
	inf := cache.NewSharedIndexInformer(&cache.ListWatch{}, &corev1.Pod{}, 0, nil)
	w := &watched{kinds: map[string]cache.SharedIndexInformer{"objects/pods": inf}}
	c.refuse("objects/pods", errors.New("pods is forbidden"))
	st, missing := c.build(t.Context(), w)
	if st.Sees("objects/pods") || len(missing) != 1 {
		t.Fatalf("seen %v, missing %v", st.Source("objects/pods"), missing)
	}
	c.refused["objects/pods"] = refusal{"old", time.Now().Add(-refusedFor - time.Second)}
	c.refused["objects/nodes"] = refusal{"no", time.Now()}
	if st, _ := c.build(t.Context(), w); st.Source("objects/nodes").State != incident.NotSeen {
		t.Fatalf("got %+v", st.Source("objects/nodes"))
	}
}
