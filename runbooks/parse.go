package runbooks

import (
	"bytes"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/incident"
)

// Parse reads one Markdown page. name is its slash-separated path and becomes Path. Any Markdown
// is taken; errors wrap incident.ErrInvalid, name file and line, and come from: a page larger
// than MaxPageBytes, binary content, front matter that is broken or names an unknown cause or
// action, or a condition that does not compile.
func Parse(name string, r io.Reader) (Runbook, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxPageBytes+1))
	if err != nil {
		return Runbook{}, err
	}
	if len(b) > MaxPageBytes {
		return Runbook{}, incident.Invalidf("%s: page is larger than %d bytes", name, MaxPageBytes)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(b, 0) >= 0 {
		return Runbook{}, incident.Invalidf("%s: binary content (NUL byte), not Markdown", name)
	}
	if !utf8.Valid(b) {
		if bad := 1 - float64(len(bytes.ToValidUTF8(b, nil)))/float64(len(b)); bad > 0.05 {
			return Runbook{}, incident.Invalidf("%s: not UTF-8 text", name)
		}
		b = bytes.ToValidUTF8(b, []byte("\ufffd"))
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	rb := Runbook{Path: name, Hash: incident.HashParts(name, text)}
	front, body, skipped := cutFront(text)
	if skipped > 0 {
		f, ok, err := parseFront(name, front)
		if err != nil {
			return Runbook{}, err
		}
		if !ok {
			body, skipped = text, 0
		}
		rb.Front = f
	}
	rb.Sections = split(body, skipped+1)
	rb.Title = title(rb)
	return rb, nil
}

func title(rb Runbook) string {
	if rb.Front.Title != "" {
		return rb.Front.Title
	}
	for _, s := range rb.Sections {
		if len(s.Headings) > 0 {
			return s.Headings[0]
		}
	}
	return baseName(rb.Path)
}

// baseName returns the file name without folder and extension.
func baseName(p string) string {
	b := path.Base(p)
	return strings.TrimSuffix(b, path.Ext(b))
}
