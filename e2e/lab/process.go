package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// spawner starts processes from one thread that lives as long as it does: on Linux children are
// told to die with the thread that started them, and a thread of Go's pool may end early.
type spawner struct {
	starts chan func()
	done   chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		defer close(s.done)
		for start := range s.starts {
			start()
		}
	}()
	return s
}

// close ends the thread, and with it what still runs of its children.
func (s *spawner) close() {
	close(s.starts)
	<-s.done
}

// process is a running child.
type process struct {
	name string
	log  string // file
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start runs a command whose output goes to the file logPath.
func (s *spawner) start(name, logPath string, attr *syscall.SysProcAttr, bin string, args ...string) (*process, error) {
	out, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, attr
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+fmt.Sprint(runtime.NumCPU()))
	started := make(chan error)
	s.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		out.Close()
		return nil, fmt.Errorf("lab: start %s: %w", name, err)
	}
	p := &process{name: name, log: logPath, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log
		out.Close()
	}()
	return p, nil
}

// ended says whether the process has ended, with the end of its log.
func (p *process) ended() error {
	select {
	case <-p.done:
		raw, _ := os.ReadFile(p.log)
		return fmt.Errorf("lab: %s ended:\n%s", p.name, tail(string(raw), 15))
	default:
		return nil
	}
}

// stop ends the process: politely for as long as grace says, then not.
func (p *process) stop(grace time.Duration) {
	if grace > 0 {
		terminate(p.cmd)
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
