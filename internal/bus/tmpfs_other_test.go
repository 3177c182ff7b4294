//go:build !linux

package bus

import "testing"

func tmpfs(t *testing.T, _ string) string {
	t.Helper()
	t.Skip("needs Linux to mount a small file system")
	return ""
}
