package incident

import (
	"errors"
	"fmt"
)

// Sentinel errors on which callers act. Everything else is reported, not matched.
var (
	// ErrInvalid: the input can never be accepted; do not retry it.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: the named thing does not exist (any more).
	ErrNotFound = errors.New("not found")
	// ErrDenied: a gate, a policy or an authorizer said no.
	ErrDenied = errors.New("denied")
	// ErrStale: the thing changed since the caller looked at it; look again.
	ErrStale = errors.New("stale")
)

// Invalidf returns an error that wraps ErrInvalid and names what is wrong and where.
func Invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
