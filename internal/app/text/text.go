// Package text writes incidents, findings and tables for a person at a terminal. Everything that
// came from outside is made plain first: no escape sequence of a workload reaches the terminal.
// Colour is used only where the Writer was told that it is one.
package text

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/tocsin-io/tocsin/incident"
)

// Writer writes to one place. The zero Now means the wall clock.
type Writer struct {
	W     io.Writer
	Color bool
	Dry   bool // nothing can be approved: a recording
	Now   func() time.Time
}

// To returns a writer for w, with colour when w is a terminal and NO_COLOR is not set.
func To(w io.Writer) *Writer {
	f, ok := w.(*os.File)
	return &Writer{W: w, Color: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "", Now: time.Now}
}

// Printf writes a line; errors of the terminal are not reported (nobody could read them).
func (w *Writer) Printf(format string, args ...any) { fmt.Fprintf(w.W, format+"\n", args...) }

const (
	red, yellow, green, bold, dim = "31", "33", "32", "1", "2"
)

func (w *Writer) paint(code, s string) string {
	if !w.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (w *Writer) severity(s incident.Severity) string {
	switch s {
	case incident.Critical:
		return w.paint(red, "critical")
	case incident.Warning:
		return w.paint(yellow, "warning")
	}
	return "info"
}

// Table writes rows under a header, aligned. Cells are made plain.
func (w *Writer) Table(header []string, rows [][]string) {
	tw := tabwriter.NewWriter(w.W, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = incident.UntrustedText(r[i]).Plain(120)
		}
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	_ = tw.Flush()
}

// Age says how long ago t was: "40s", "12m", "3h20m", "4d".
func (w *Writer) Age(t time.Time) string {
	d := w.Now().Sub(t)
	switch {
	case t.IsZero():
		return "?"
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// List writes one line per incident.
func (w *Writer) List(list []incident.Incident) {
	if len(list) == 0 {
		w.Printf("No incidents. (tocsin doctor says what was seen and what was not.)")
		return
	}
	var rows [][]string
	for _, i := range list {
		cause := string(i.Cause)
		if cause == "" {
			cause = "not known"
		}
		rows = append(rows, []string{string(i.ID), string(i.Severity), string(i.State), w.Age(i.OpenedAt), fmt.Sprint(len(i.Clusters)), cause, i.Title})
	}
	w.Table([]string{"INCIDENT", "SEVERITY", "STATE", "AGE", "CLUSTERS", "CAUSE", "TITLE"}, rows)
}

// Line writes an incident in one line, as watch does.
func (w *Writer) Line(i incident.Incident, what string) {
	w.Printf("%s  %-9s %-8s %s  %s", w.Now().Format("15:04:05"), what, w.severity(i.Severity), w.paint(bold, string(i.ID)), incident.UntrustedText(i.Title).Plain(140))
}
