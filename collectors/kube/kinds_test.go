package kube

import (
	"testing"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// Every row of kinds is one that client-go can watch.
func TestEveryKindCanBeWatched(t *testing.T) {
	f := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	for _, k := range kinds() {
		if _, err := f.ForResource(k.gvr()); err != nil {
			t.Errorf("%s: %v", k.source(), err)
		}
	}
}
