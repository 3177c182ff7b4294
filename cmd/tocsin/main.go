// Command tocsin finds out what is wrong in many Kubernetes clusters, groups it into one incident
// per cause, and repairs it after approval. See README.md.
//
// This package holds flags, help texts, signal handling and exit codes; the commands' work is in
// internal/app. Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused (denied or stale).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// patience is how long an orderly end may take; service managers kill after 30 s or more.
const patience = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // a second Ctrl-C ends at once
		time.AfterFunc(patience, func() {
			fmt.Fprintf(os.Stderr, "tocsin: did not come to an end within %s; what was acknowledged is on disk\n", patience)
			os.Exit(1)
		})
	})
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tocsin: "+incident.UntrustedText(err.Error()).Plain(2000))
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	switch {
	case errors.Is(err, incident.ErrDenied), errors.Is(err, incident.ErrStale):
		return 3
	case errors.As(err, new(usageError)), strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		return 2
	}
	return 1
}

// usageError marks wrong flags and arguments.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }
