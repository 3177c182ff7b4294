package cluster

import (
	"bufio"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

type logKind int

const (
	logCurrent logKind = iota
	logPrevious
	logErr
	logDump // all containers of a pod in one file, as kubectl cluster-info dump writes them
)

// logPath tells which container's log a file is:
//
//	…/<namespace>/<pod>/<container>.log | .previous.log | -previous.log | .err
//	…/<namespace>/pods/<pod>/<container>/<container>/logs/current.log | previous.log  (must-gather)
//	…/<namespace>/<pod>/logs.txt                                                       (cluster-info dump)
func logPath(p string) (Log, logKind, bool) {
	parts := strings.Split(p, "/")
	n := len(parts)
	base := parts[n-1]
	if base == "logs.txt" && n >= 3 {
		return Log{Namespace: parts[n-3], Pod: parts[n-2]}, logDump, true
	}
	ext := path.Ext(base)
	if ext != ".log" && ext != ".err" || n < 3 {
		return Log{}, 0, false
	}
	if parts[n-2] == "logs" && n >= 7 && parts[n-6] == "pods" {
		l := Log{Namespace: parts[n-7], Pod: parts[n-5], Container: parts[n-3]}
		switch {
		case base == "current.log":
			return l, logCurrent, true
		case base == "previous.log":
			return l, logPrevious, true
		}
		return Log{}, 0, false
	}
	l := Log{Namespace: parts[n-3], Pod: parts[n-2]}
	stem := strings.TrimSuffix(base, ext)
	switch {
	case ext == ".err":
		l.Container = stem
		return l, logErr, true
	case strings.HasSuffix(stem, ".previous"), strings.HasSuffix(stem, "-previous"):
		l.Container = stem[:len(stem)-len(".previous")]
		return l, logPrevious, true
	}
	l.Container = stem
	return l, logCurrent, !strings.Contains(stem, ".")
}

// log takes one log file: its last MaxLogBytes.
func (r *reader) log(l Log, kind logKind, in io.Reader) error {
	if kind == logDump {
		return r.dump(l, in)
	}
	s, n, err := tail(in)
	if err != nil {
		return incident.Invalidf("log of %s/%s: %v", l.Namespace, l.Pod, err)
	}
	if r.bytes += n; r.bytes > MaxSnapshotBytes {
		return incident.Invalidf("more than %d MiB of files", MaxSnapshotBytes>>20)
	}
	switch kind {
	case logPrevious:
		l.Previous = s
	case logErr:
		l.Err = s
	default:
		l.Current = s
	}
	r.b.AddLog(l)
	r.b.Saw("logs", incident.Seen, "")
	return nil
}

// tail returns the last MaxLogBytes of in and how many bytes it had.
func tail(in io.Reader) (string, int64, error) {
	var total int64
	buf := make([]byte, 0, 32<<10)
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= 2*MaxLogBytes {
				buf = append(buf[:0], buf[len(buf)-MaxLogBytes:]...)
			} else {
				buf = append(buf, 0)[:len(buf)]
			}
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if total += int64(n); total > MaxFileBytes {
			return "", total, errors.New("the file is too large")
		}
		if err == io.EOF {
			return string(buf[max(0, len(buf)-MaxLogBytes):]), total, nil
		}
		if err != nil {
			return "", total, err
		}
	}
}

// dump takes a file with the logs of all containers of a pod, between lines
// "==== START logs for container NAME of pod NS/POD ====" and "==== END …".
func (r *reader) dump(l Log, in io.Reader) error {
	br := bufio.NewReaderSize(in, 64<<10)
	var sb strings.Builder
	flush := func() {
		if l.Container != "" && sb.Len() > 0 {
			l.Current = sb.String()
			r.b.AddLog(l)
			l.Current = ""
		}
		sb.Reset()
	}
	for {
		line, err := br.ReadSlice('\n')
		if r.bytes += int64(len(line)); r.bytes > MaxSnapshotBytes {
			return incident.Invalidf("more than %d MiB of files", MaxSnapshotBytes>>20)
		}
		s := string(line)
		if rest, ok := strings.CutPrefix(s, "==== START logs for container "); ok {
			flush()
			l.Container, _, _ = strings.Cut(rest, " ")
		} else if strings.HasPrefix(s, "==== END logs") {
			flush()
			l.Container = ""
		} else if sb.Len() < 4*MaxLogBytes {
			sb.WriteString(s)
		}
		if err != nil && err != bufio.ErrBufferFull {
			flush()
			r.b.Saw("logs", incident.Seen, "")
			if err == io.EOF {
				return nil
			}
			return incident.Invalidf("log of %s/%s: %v", l.Namespace, l.Pod, err)
		}
	}
}
