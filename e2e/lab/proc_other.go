//go:build !linux

package lab

import (
	"context"
	"io"
	"os/exec"
	"syscall"
)

func childAttr() *syscall.SysProcAttr { return nil }

func nodeAttr() *syscall.SysProcAttr { return nil }

// lockFile does not lock: two first builds at once do the work twice.
func lockFile(context.Context, string, io.Writer) (func(), error) { return func() {}, nil }

func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func alive(int) bool { return true }
