package causes

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// FuzzAnalyze reads any file as a snapshot and analyses it: no panic, only answers that keep the
// contract of a hypothesis and of a signal.
func FuzzAnalyze(f *testing.F) {
	for _, file := range caseFiles(f)[:20] {
		ar, _ := readCase(f, file)
		for _, a := range ar.Files {
			if strings.HasPrefix(a.Name, "objects/") && len(a.Data) < 20_000 {
				f.Add(a.Data, []byte("panic: boom\n"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, objects, log []byte) {
		st, err := cluster.ReadFS(context.Background(), fstest.MapFS{"objects/all.yaml": {Data: objects}, "logs/shop/cart-0/cart.log": {Data: log}}, "fuzz")
		if err != nil {
			return
		}
		r := Analyze(st)
		for i, h := range r.Hypotheses {
			if h.Rank != i+1 || h.Confidence < 0 || h.Confidence > 1 || h.Cause == "" || h.Object.IsZero() || h.Summary == "" {
				t.Errorf("hypothesis %+v", h)
			}
		}
		for _, s := range Signals(st, r) {
			s.ID, s.Source = "x", "/fuzz"
			if err := s.Validate(); err != nil {
				t.Errorf("signal %s: %v", s.Reason, err)
			}
		}
	})
}

// FuzzLogLines cuts and classifies any log.
func FuzzLogLines(f *testing.F) {
	for _, s := range []string{"dial tcp 10.0.0.1:5432: connect: connection refused\n", "UnknownHostException: cart\n", "Port 8080 was already in use", "\x1b[31mpanic:\x00\xff", strings.Repeat("x", 9000) + "connection refused"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		eachMatch(s, func(line string, class logClass, _ bool) {
			if len(line) > maxLine {
				t.Errorf("line of %d bytes", len(line))
			}
			host, port := peer(line, class)
			if len(port) > 5 || utf8.ValidString(s) && !utf8.ValidString(host) {
				t.Errorf("peer %q %q of %q", host, port, line)
			}
		})
	})
}

func TestEachMatchFindsWordsInLongAndManyLines(t *testing.T) {
	s := strings.Repeat("all is well\n", 1000) + strings.Repeat("y", 10<<20) + "\nERROR Connection Refused: db:5432\n"
	n := 0
	eachMatch(s, func(line string, class logClass, last bool) {
		n++
		if class != logRefused || !last {
			t.Errorf("class %d, last %v: %s", class, last, incident.Clip(line, 60))
		}
		if host, port := peer(line, class); host != "db" || port != "5432" {
			t.Errorf("peer %q %q", host, port)
		}
	})
	if n != 1 {
		t.Errorf("%d lines matched", n)
	}
}
