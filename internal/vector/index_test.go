package vector_test

import (
	"slices"
	"testing"

	"github.com/tocsin-io/tocsin/internal/vector"
	"github.com/tocsin-io/tocsin/internal/vector/vectortest"
	"github.com/tocsin-io/tocsin/runbooks"
	"github.com/tocsin-io/tocsin/runbooks/library"
)

func TestAnIndexAnswersAlikeWhereverItsVectorsAre(t *testing.T) {
	pages, _, err := runbooks.Load(t.Context(), library.FS)
	if err != nil {
		t.Fatal(err)
	}
	pg, err := vector.OpenPostgres(t.Context(), vector.Config{DSN: vectortest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	var first [][]string
	for _, store := range []runbooks.Store{nil, vector.NewMemory(), pg} {
		x := runbooks.NewIndex(runbooks.Options{Store: store})
		if err := x.Replace(t.Context(), pages); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, text := range []string{"Back-off restarting failed container", "0/3 nodes are available: insufficient memory", "x509: certificate has expired",
			"FailedMount: secret not found", "no route to host between pods after a policy was added", "exceeded quota: pods"} {
			res, err := x.Search(t.Context(), runbooks.QueryOfText("", text, nil))
			if err != nil || res.Degraded != "" || len(res.Hits) == 0 {
				t.Fatalf("%q in %T: %v, degraded %q", text, store, err, res.Degraded)
			}
			got = append(got, res.Hits[0].Path)
		}
		first = append(first, got)
	}
	if !slices.Equal(first[0], first[1]) || !slices.Equal(first[0], first[2]) {
		t.Errorf("first hits differ: in the index %v, in memory %v, in Postgres %v", first[0], first[1], first[2])
	}
	t.Log(first[0])
}
