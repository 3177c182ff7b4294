package vector_test

import (
	"testing"

	"github.com/tocsin-io/tocsin/internal/vector"
	"github.com/tocsin-io/tocsin/internal/vector/vectortest"
)

func TestMemoryKeepsTheContractOfAStore(t *testing.T) {
	vectortest.Conformance(t, vector.NewMemory(), 1e-5)
}

func TestPostgresKeepsTheContractOfAStore(t *testing.T) {
	p, err := vector.OpenPostgres(t.Context(), vector.Config{DSN: vectortest.Postgres(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if w := p.Warning(); w != "" {
		t.Logf("warning: %s", w)
	}
	vectortest.Conformance(t, p, 1e-4)
}

func TestPostgresKeepsTheContractWithAnHNSWIndex(t *testing.T) {
	// Two sections already make the index: every search goes through the iterative scan.
	p, err := vector.OpenPostgres(t.Context(), vector.Config{DSN: vectortest.Postgres(t), IndexFrom: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vectortest.Conformance(t, p, 1e-4)
}
