package cluster

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type nsName struct{ namespace, name string }

// Table holds the objects of one kind in namespace and name order. The zero value is empty.
type Table[T metav1.Object] struct {
	list []T
	key  map[nsName]T
}

// All returns the objects, in namespace and name order. The slice must not be changed.
func (t *Table[T]) All() []T { return t.list }

// Len returns the number of objects.
func (t *Table[T]) Len() int { return len(t.list) }

// Get returns the object of that name; ok is false when there is none.
func (t *Table[T]) Get(namespace, name string) (obj T, ok bool) {
	obj, ok = t.key[nsName{namespace, name}]
	return obj, ok
}

// In returns the objects of one namespace, in name order. The slice must not be changed.
func (t *Table[T]) In(namespace string) []T {
	lo, _ := slices.BinarySearchFunc(t.list, namespace, func(o T, ns string) int { return cmp.Compare(o.GetNamespace(), ns) })
	hi := lo
	for hi < len(t.list) && t.list[hi].GetNamespace() == namespace {
		hi++
	}
	return t.list[lo:hi:hi]
}

func (t *Table[T]) add(obj T) { t.list = append(t.list, obj) }

// seal sorts and indexes; of two objects of one name the one added last is kept.
func (t *Table[T]) seal() {
	byName := func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	}
	if !slices.IsSortedFunc(t.list, byName) {
		slices.SortStableFunc(t.list, byName)
	}
	out := t.list[:0]
	for i, o := range t.list {
		if i+1 < len(t.list) && byName(o, t.list[i+1]) == 0 {
			continue
		}
		out = append(out, o)
	}
	clear(t.list[len(out):])
	t.list = out
	t.key = make(map[nsName]T, len(out))
	for _, o := range out {
		t.key[nsName{o.GetNamespace(), o.GetName()}] = o
	}
}
