package runbooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

type fakeReranker struct {
	order []int
	err   error
}

func (f fakeReranker) Rerank(context.Context, Query, []incident.RunbookHit) ([]int, error) {
	return f.order, f.err
}

func TestAModelOrdersHitsAndNothingElse(t *testing.T) {
	files := []string{"a.md", "# Disk full on the node\nThe disk is full.\n", "b.md", "# Disk slow on the node\nThe disk is slow.\n", "c.md", "# Disk lost on the node\nThe disk is lost.\n"}
	q := QueryOfText("", "the disk is full on the node", nil)
	plain := found(search(t, indexed(t, Options{}, files...), q))
	tests := []struct {
		name   string
		model  fakeReranker
		want   []string
		reason string
	}{
		{"its order is taken", fakeReranker{order: []int{1, 0, 2}}, []string{plain[1], plain[0], plain[2]}, "the model puts"},
		{"what it leaves out follows", fakeReranker{order: []int{0}}, plain, ""},
		{"an index out of range changes nothing", fakeReranker{order: []int{7}}, plain, "failed"},
		{"an index given twice changes nothing", fakeReranker{order: []int{1, 1}}, plain, "failed"},
		{"an error changes nothing", fakeReranker{err: errors.New("away")}, plain, "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := search(t, indexed(t, Options{Reranker: tt.model}, files...), q)
			if !slices.Equal(found(res), tt.want) || !strings.Contains(strings.Join(res.Reasons, "; "), tt.reason) {
				t.Errorf("found %v (%v), want %v with %q", found(res), res.Reasons, tt.want, tt.reason)
			}
			if res.Hits[0].Path != plain[0] && res.Confident {
				t.Error("still confident although the model disagrees")
			}
		})
	}
}

// manySections is the library over and over under other names: at least n sections.
func manySections(t testing.TB, n int) []Runbook {
	_, library := libraryIndex(t)
	var out []Runbook
	for sections, copyNo := 0, 0; sections < n; copyNo++ {
		for _, rb := range library {
			rb.Path = fmt.Sprintf("copy%d/%s", copyNo, rb.Path)
			rb.Front = Front{}
			rb.Title = fmt.Sprintf("%s of product%d", rb.Title, copyNo)
			sections += len(rb.Sections)
			out = append(out, rb)
		}
	}
	return out
}

func BenchmarkSearch10000Sections(b *testing.B) {
	x := NewIndex(Options{})
	if err := x.Replace(b.Context(), manySections(b, 10_000)); err != nil {
		b.Fatal(err)
	}
	q := QueryOfText("", "alertname: KubePodCrashLooping\nsummary: Pod is crash looping.\ndescription: Pod shop/cart-1 (cart) is in waiting state (reason: CrashLoopBackOff) since 10 minutes.", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Search(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndex10000Sections(b *testing.B) {
	pages := manySections(b, 10_000)
	for b.Loop() {
		if err := NewIndex(Options{}).Replace(b.Context(), pages); err != nil {
			b.Fatal(err)
		}
	}
}
