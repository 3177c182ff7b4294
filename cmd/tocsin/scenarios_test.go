package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tocsin": func() {
		if err := root().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "tocsin: "+err.Error())
			os.Exit(exitCode(err))
		}
	}})
}

// TestScenarios runs testdata/scenarios: the command line as people and tools use it.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/scenarios", Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("XDG_DATA_HOME", e.WorkDir+"/data")
		e.Setenv("KUBECONFIG", "")
		return nil
	}})
}
