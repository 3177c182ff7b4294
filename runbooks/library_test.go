package runbooks

import (
	"testing"

	"github.com/tocsin-io/tocsin/runbooks/library"
)

func TestTheStarterLibraryLoadsWithoutProblems(t *testing.T) {
	pages, problems, err := Load(t.Context(), library.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if len(pages) == 0 {
		t.Error("the library is empty")
	}
}
