package runbooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/tocsin-io/tocsin/incident"
)

// Source is where runbooks come from. Load may be called again at any time to see changes.
type Source interface {
	Name() string // unique among the sources loaded together
	Load(context.Context) ([]Runbook, []Problem, error)
}

// Dir is a folder. Nothing outside it is opened, even by a link put there while it is read.
type Dir struct{ ID, Path string }

// Name implements Source.
func (d Dir) Name() string { return d.ID }

// Load implements Source.
func (d Dir) Load(ctx context.Context) ([]Runbook, []Problem, error) { return LoadDir(ctx, d.Path) }

// Files is any file system, e.g. the embedded starter library.
type Files struct {
	ID string
	FS fs.FS
}

// Name implements Source.
func (f Files) Name() string { return f.ID }

// Load implements Source.
func (f Files) Load(ctx context.Context) ([]Runbook, []Problem, error) { return Load(ctx, f.FS) }

// LoadDir reads the runbooks of a folder (see Load).
func LoadDir(ctx context.Context, dir string) ([]Runbook, []Problem, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("runbooks: %w", err)
	}
	defer root.Close()
	return Load(ctx, root.FS())
}

// LoadAll reads several sources in order. With more than one, paths begin with the source's name.
// A source that cannot be read is a fatal Problem under its name; the error is not nil only when
// none could be read, or ctx ended.
func LoadAll(ctx context.Context, sources []Source) ([]Runbook, []Problem, error) {
	var pages []Runbook
	var problems []Problem
	var failed []error
	for _, s := range sources {
		ps, probs, err := s.Load(ctx)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
			problems = append(problems, Problem{Path: s.Name(), Message: plainError(err), Fatal: true})
		}
		for i := range ps {
			ps[i].Source = s.Name()
			if len(sources) > 1 {
				ps[i].Path = s.Name() + "/" + ps[i].Path
			}
		}
		for i := range probs {
			if len(sources) > 1 {
				probs[i].Path = s.Name() + "/" + probs[i].Path
			}
		}
		pages, problems = append(pages, ps...), append(problems, probs...)
	}
	if len(failed) > 0 && len(failed) == len(sources) {
		return nil, problems, errors.Join(failed...)
	}
	return pages, problems, nil
}

// Git is a Git repository, read from its objects: nothing is checked out, so links, hooks and
// file modes of the repository have no effect. It is safe for concurrent use.
type Git struct {
	ID     string
	URL    string
	Branch string // empty: the remote's default
	Folder string // only pages below it; empty: all
	Cache  string // folder for the bare clone; kept between runs
	Token  string // sent as password to https remotes; empty: none

	mu sync.Mutex
}

const (
	gitDeadline = 2 * time.Minute
	gitRemote   = "origin"
)

// Name implements Source.
func (g *Git) Name() string { return g.ID }

// Load implements Source: it fetches the newest commit and reads its pages. When the remote cannot
// be reached, the pages of the last fetch are returned with a Problem that says so.
func (g *Git) Load(ctx context.Context) ([]Runbook, []Problem, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fctx, cancel := context.WithTimeout(ctx, gitDeadline)
	defer cancel()
	repo, fetchErr := g.fetch(fctx)
	if repo == nil {
		return nil, nil, fmt.Errorf("runbooks: repository %s: %w", g.ID, fetchErr)
	}
	commit, err := g.commit(repo)
	if err != nil {
		return nil, nil, fmt.Errorf("runbooks: repository %s: %w", g.ID, errors.Join(err, fetchErr))
	}
	pages, problems, err := g.read(ctx, commit)
	if err != nil {
		return nil, nil, fmt.Errorf("runbooks: repository %s: %w", g.ID, err)
	}
	if fetchErr != nil {
		problems = append(problems, Problem{Path: g.ID, Message: fmt.Sprintf("could not be fetched (%s); pages are those of commit %s of %s",
			plainError(fetchErr), commit.Hash.String()[:12], commit.Committer.When.UTC().Format(time.DateOnly))})
	}
	return pages, problems, nil
}

// fetch clones or updates the bare clone. A nil repository means there is none to fall back to.
func (g *Git) fetch(ctx context.Context) (*git.Repository, error) {
	repo, err := git.PlainOpen(g.Cache)
	if err != nil {
		repo, err = git.PlainCloneContext(ctx, g.Cache, true, &git.CloneOptions{URL: g.URL, Auth: g.auth(), RemoteName: gitRemote,
			ReferenceName: g.reference(), SingleBranch: true, Depth: 1, Tags: git.NoTags})
		if err != nil {
			return nil, err
		}
		return repo, nil
	}
	ref := config.RefSpec("+HEAD:refs/remotes/" + gitRemote + "/HEAD")
	if g.Branch != "" {
		ref = config.RefSpec("+refs/heads/" + g.Branch + ":refs/remotes/" + gitRemote + "/HEAD")
	}
	err = repo.FetchContext(ctx, &git.FetchOptions{RemoteName: gitRemote, RemoteURL: g.URL, Auth: g.auth(), RefSpecs: []config.RefSpec{ref}, Depth: 1, Force: true, Tags: git.NoTags})
	if errors.Is(err, git.NoErrAlreadyUpToDate) {
		err = nil
	}
	return repo, err
}

func (g *Git) reference() plumbing.ReferenceName {
	if g.Branch == "" {
		return plumbing.HEAD
	}
	return plumbing.NewBranchReferenceName(g.Branch)
}

func (g *Git) auth() transport.AuthMethod {
	if g.Token == "" || !strings.HasPrefix(g.URL, "https://") {
		return nil
	}
	return &githttp.BasicAuth{Username: "tocsin", Password: g.Token}
}

// commit returns the newest commit fetched, or that of the clone.
func (g *Git) commit(repo *git.Repository) (*object.Commit, error) {
	ref, err := repo.Reference(plumbing.NewRemoteHEADReferenceName(gitRemote), true)
	if err != nil {
		if ref, err = repo.Head(); err != nil {
			return nil, err
		}
	}
	return repo.CommitObject(ref.Hash())
}

// read parses the regular Markdown files of a commit.
func (g *Git) read(ctx context.Context, commit *object.Commit) ([]Runbook, []Problem, error) {
	tree, err := commit.Tree()
	if err != nil {
		return nil, nil, err
	}
	folder := strings.Trim(path.Clean("/"+g.Folder), "/")
	if folder != "" {
		if tree, err = tree.Tree(folder); err != nil {
			return nil, nil, fmt.Errorf("folder %s: %w", folder, err)
		}
	}
	var pages []Runbook
	var problems []Problem
	total := int64(0)
	walk := tree.Files()
	defer walk.Close()
	for {
		f, err := walk.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || ctx.Err() != nil {
			return nil, nil, errors.Join(err, ctx.Err())
		}
		if !isRunbook(f.Name) || hidden(f.Name) || strings.Count(f.Name, "/") > maxDepth {
			continue
		}
		if f.Mode != filemode.Regular && f.Mode != filemode.Executable && f.Mode != filemode.Deprecated {
			problems = append(problems, Problem{Path: f.Name, Message: "is not a regular file (a link?); links are not followed"})
			continue
		}
		if total += min(f.Size, MaxPageBytes); total > maxSource || len(pages) >= maxPages {
			return nil, nil, incident.Invalidf("source is larger than %d pages or %d bytes", maxPages, int64(maxSource))
		}
		rb, err := parseBlob(f)
		if err != nil {
			problems = append(problems, problemsOf(f.Name, err)...)
			continue
		}
		pages = append(pages, rb)
	}
	slices.SortFunc(pages, func(a, b Runbook) int { return strings.Compare(a.Path, b.Path) })
	return pages, problems, nil
}

func parseBlob(f *object.File) (Runbook, error) {
	r, err := f.Reader()
	if err != nil {
		return Runbook{}, err
	}
	defer r.Close()
	return Parse(f.Name, r)
}

// hidden reports whether any element of a path starts with a dot.
func hidden(p string) bool {
	for e := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(e, ".") {
			return true
		}
	}
	return false
}
