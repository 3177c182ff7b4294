package runbooks

import (
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// splitter cuts a page into sections line by line. A Markdown parser is not used: only headings
// and code fences matter here, one pass over the lines is linear whatever the nesting, and line
// numbers come for free.
type splitter struct {
	out      []Section
	headings []string // heading text by level-1; empty where a level was skipped
	lines    []string // of the section being read
	size     int
	start    int // page line of lines[0]
	fence    string
	lastText string // the line before, a candidate for a setext heading
}

// split cuts body into sections; firstLine is the page line body starts at. It always returns at
// least one section, and never cuts inside a fenced code block.
func split(body string, firstLine int) []Section {
	s := &splitter{start: firstLine}
	n := firstLine
	for line := range strings.SplitSeq(body, "\n") {
		s.line(strings.TrimRight(line, " \t"), n)
		n++
	}
	s.flush()
	if len(s.out) == 0 {
		s.out = append(s.out, Section{Line: firstLine, Headings: s.path()})
	}
	return s.out
}

func (s *splitter) line(line string, n int) {
	if s.fence != "" {
		if t := strings.TrimLeft(line, " \t>"); strings.HasPrefix(t, s.fence) && strings.Trim(t, s.fence[:1]) == "" {
			s.fence = ""
		}
		s.add(line, n)
		return
	}
	if f := fenceOf(line); f != "" {
		s.fence = f
		s.add(line, n)
		return
	}
	if level, text := heading(line); level > 0 {
		s.flush()
		s.enter(level, text)
		s.start = n + 1
		return
	}
	if level := setext(line); level > 0 && s.lastText != "" && len(s.lines) > 0 {
		text := s.lastText
		s.size -= len(s.lines[len(s.lines)-1]) + 1
		s.lines = s.lines[:len(s.lines)-1]
		s.flush()
		s.enter(level, text)
		s.start = n + 1
		return
	}
	if s.size+len(line) > MaxSectionBytes && (line == "" || s.size > 2*MaxSectionBytes) && s.size > 0 {
		s.flush()
		s.start = n
	}
	s.add(line, n)
	s.lastText = ""
	if t := strings.TrimSpace(line); t != "" && !strings.HasPrefix(line, "    ") && !strings.HasPrefix(t, "|") && (len(s.lines) < 2 || s.lines[len(s.lines)-2] == "") {
		s.lastText = t
	}
}

func (s *splitter) add(line string, n int) {
	if len(s.lines) == 0 {
		if line == "" {
			return
		}
		s.start = n
	}
	s.lines = append(s.lines, line)
	s.size += len(line) + 1
}

// flush ends the section. Text beyond MaxSections sections of a page is dropped: such a page is
// hostile or generated. (Lint says so.)
func (s *splitter) flush() {
	for len(s.lines) > 0 && s.lines[len(s.lines)-1] == "" {
		s.lines = s.lines[:len(s.lines)-1]
	}
	if len(s.lines) > 0 && len(s.out) < MaxSections {
		text := strings.Join(s.lines, "\n")
		s.out = append(s.out, Section{Headings: s.path(), Line: s.start, Text: text, Commands: commands(s.lines)})
	}
	s.lines, s.size, s.lastText = nil, 0, ""
}

// path returns the headings that the current text stands under.
func (s *splitter) path() []string {
	var path []string
	for _, h := range s.headings {
		if h != "" {
			path = append(path, h)
		}
	}
	return path
}

func (s *splitter) enter(level int, text string) {
	if len(s.headings) > level-1 {
		s.headings = s.headings[:level-1]
	}
	for len(s.headings) < level-1 {
		s.headings = append(s.headings, "")
	}
	s.headings = append(s.headings, text)
}

// heading returns the level (1..6) and text of an ATX heading, or 0.
func heading(line string) (int, string) {
	t := strings.TrimLeft(line, " ")
	if len(line)-len(t) > 3 {
		return 0, ""
	}
	level := len(t) - len(strings.TrimLeft(t, "#"))
	if level < 1 || level > 6 || (len(t) > level && t[level] != ' ' && t[level] != '\t') {
		return 0, ""
	}
	text := strings.TrimSpace(strings.TrimRight(strings.TrimSpace(t[level:]), "#"))
	if text == "" {
		return 0, ""
	}
	return level, incident.Clip(plainInline(text), MaxHeading)
}

// setext returns 1 for a line of "=", 2 for one of "-" (three or more), else 0.
func setext(line string) int {
	if len(line) < 3 {
		return 0
	}
	switch {
	case strings.Trim(line, "=") == "":
		return 1
	case strings.Trim(line, "-") == "":
		return 2
	}
	return 0
}

// fenceOf returns the fence ("```" or "~~~", as long as written) that a line opens, or "".
func fenceOf(line string) string {
	t := strings.TrimLeft(line, " \t>")
	for _, c := range []string{"`", "~"} {
		n := len(t) - len(strings.TrimLeft(t, c))
		if n >= 3 && !strings.Contains(t[n:], "`") {
			return strings.Repeat(c, n)
		}
	}
	return ""
}

// plainInline takes links, emphasis and code marks out of one line of Markdown.
func plainInline(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '`', '*', '[':
			continue
		case ']':
			if i+1 < len(s) && s[i+1] == '(' {
				if j := strings.IndexByte(s[i:], ')'); j > 0 {
					i += j
				}
			}
			continue
		}
		b.WriteByte(s[i])
	}
	return strings.TrimSpace(b.String())
}
