//go:build !unix

package bus

import (
	"errors"
	"os"
)

// The embedded store needs a lock the kernel releases; elsewhere an external NATS is used.
func lockFile(*os.File) error { return errors.ErrUnsupported }

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
