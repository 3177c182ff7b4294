package runbooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// Limits of one source. Public collections have at most some thousand pages.
const (
	maxPages  = 50_000
	maxDepth  = 16
	maxSource = 1 << 30 // bytes of all pages of one source
)

// notRunbooks are Markdown files that accompany pages and are none.
var notRunbooks = map[string]bool{"license.md": true, "notice.md": true, "sources.md": true, "contributing.md": true, "code_of_conduct.md": true, "changelog.md": true, "security.md": true, "codeowners.md": true}

// Load reads all runbooks under root "." of fsys in path order. Symbolic links are not followed,
// wherever they lead; hidden files and folders, files that are no Markdown, licences and notices
// are left out. A page that cannot be taken is a fatal Problem and is left out; the others are
// returned. The error is not nil only when the folder itself cannot be read, a source is over
// its limits (ErrInvalid), or ctx ended.
func Load(ctx context.Context, fsys fs.FS) ([]Runbook, []Problem, error) {
	var pages []Runbook
	var problems []Problem
	total := int64(0)
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && p == ".":
			return err
		case err != nil:
			problems = append(problems, Problem{Path: p, Message: "cannot be read: " + plainError(err), Fatal: true})
			return nil
		case p != "." && strings.HasPrefix(path.Base(p), "."):
			return skipIf(e.IsDir())
		case e.IsDir():
			return skipIf(strings.Count(p, "/") >= maxDepth || e.Name() == "node_modules")
		case !isRunbook(p):
			return nil
		case !e.Type().IsRegular():
			problems = append(problems, Problem{Path: p, Message: "is not a regular file (a link?); links are not followed"})
			return nil
		}
		rb, size, err := readPage(fsys, p)
		total += size
		if total > maxSource || len(pages) >= maxPages {
			return incident.Invalidf("source is larger than %d pages or %d bytes", maxPages, int64(maxSource))
		}
		if err != nil {
			problems = append(problems, problemsOf(p, err)...)
			return nil
		}
		pages = append(pages, rb)
		return nil
	})
	if err != nil {
		return nil, problems, fmt.Errorf("runbooks: %w", err)
	}
	slices.SortFunc(pages, func(a, b Runbook) int { return strings.Compare(a.Path, b.Path) })
	return pages, problems, nil
}

func skipIf(dir bool) error {
	if dir {
		return fs.SkipDir
	}
	return nil
}

func isRunbook(p string) bool {
	base := strings.ToLower(path.Base(p))
	ext := path.Ext(base)
	if ext != ".md" && ext != ".markdown" {
		return false
	}
	return !notRunbooks[strings.TrimSuffix(base, ext)+".md"]
}

func readPage(fsys fs.FS, p string) (Runbook, int64, error) {
	f, err := fsys.Open(p)
	if err != nil {
		return Runbook{}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Runbook{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return Runbook{}, 0, incident.Invalidf("%s: is not a regular file", p)
	}
	rb, err := Parse(p, f)
	rb.Modified = info.ModTime().UTC()
	return rb, min(info.Size(), MaxPageBytes), err
}

// problemsOf turns an error of Parse, one "path:line: message" a line, into problems.
func problemsOf(p string, err error) []Problem {
	msg := plainError(err)
	if errors.Is(err, incident.ErrInvalid) {
		msg = strings.TrimPrefix(msg, incident.ErrInvalid.Error()+": ")
	}
	var out []Problem
	for line := range strings.SplitSeq(msg, "\n") {
		pr := Problem{Path: p, Message: line, Fatal: true}
		if rest, ok := strings.CutPrefix(line, p+":"); ok {
			if n, text, ok := strings.Cut(rest, ": "); ok {
				if v := atoi(n); v > 0 {
					pr.Line, pr.Message = v, text
				}
			} else {
				pr.Message = strings.TrimSpace(rest)
			}
			if pr.Line == 0 {
				pr.Message = strings.TrimSpace(rest)
			}
		}
		out = append(out, pr)
	}
	return out
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<24 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func plainError(err error) string { return incident.Clip(err.Error(), 4096) }
