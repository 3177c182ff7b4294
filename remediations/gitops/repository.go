package gitops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/memfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
	"github.com/tocsin-io/tocsin/incident"
)

// Commit is one change of one file, to be pushed as a branch of its own.
type Commit struct{ Base, Branch, Path, Content, Title, Body string }

// Repository is a remote Git repository. URL is the operator's configuration, never text from a
// cluster. Auth may be nil for a local repository. It is safe for concurrent use: every call
// works on its own clone in memory.
type Repository struct {
	URL    string
	Deploy string // branch that is deployed, e.g. main
	Auth   transport.AuthMethod
}

func (r *Repository) clone(ctx context.Context) (*git.Repository, error) {
	repo, err := git.CloneContext(ctx, memory.NewStorage(), memfs.New(), &git.CloneOptions{URL: r.URL, Auth: r.Auth,
		ReferenceName: plumbing.NewBranchReferenceName(r.Deploy), SingleBranch: true, Tags: git.NoTags})
	if err != nil {
		return nil, fmt.Errorf("clone branch %s: %w", r.Deploy, err)
	}
	return repo, nil
}

// Read returns a file of the deployed branch and the commit it is of.
func (r *Repository) Read(ctx context.Context, path string) (content, commit string, err error) {
	repo, err := r.clone(ctx)
	if err != nil {
		return "", "", err
	}
	head, err := repo.Head()
	if err != nil {
		return "", "", fmt.Errorf("branch %s: %w", r.Deploy, err)
	}
	tree, err := repo.CommitObject(head.Hash())
	if err != nil {
		return "", "", fmt.Errorf("commit %s: %w", head.Hash(), err)
	}
	f, err := tree.File(path)
	if errors.Is(err, object.ErrFileNotFound) {
		return "", "", fmt.Errorf("file %s: %w", path, incident.ErrNotFound)
	}
	if err != nil {
		return "", "", fmt.Errorf("file %s: %w", path, err)
	}
	if f.Size > maxFile {
		return "", "", incident.Invalidf("file %s is %d bytes, limit %d", path, f.Size, maxFile)
	}
	content, err = f.Contents()
	return content, head.Hash().String(), err
}

// Find returns the path of the one YAML file of the deployed branch that holds the document;
// ErrNotFound when none or several do.
func (r *Repository) Find(ctx context.Context, doc Document) (string, error) {
	repo, err := r.clone(ctx)
	if err != nil {
		return "", err
	}
	head, err := repo.Head()
	if err != nil {
		return "", fmt.Errorf("branch %s: %w", r.Deploy, err)
	}
	c, err := repo.CommitObject(head.Hash())
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", head.Hash(), err)
	}
	files, err := c.Files()
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", head.Hash(), err)
	}
	var found []string
	err = files.ForEach(func(f *object.File) error {
		if f.Size > maxFile || !(strings.HasSuffix(f.Name, ".yaml") || strings.HasSuffix(f.Name, ".yml")) {
			return nil
		}
		text, err := f.Contents()
		if err != nil {
			return err
		}
		if Holds(text, doc) {
			found = append(found, f.Name)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("search %s %s: %w", doc.Kind, doc.Name, err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files hold %s %s: %w", len(found), doc.Kind, doc.Name, incident.ErrNotFound)
	}
	return found[0], nil
}

// Branch returns the commit a branch of the remote stands at; ErrNotFound when there is none.
func (r *Repository) Branch(ctx context.Context, name string) (string, error) {
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{r.URL}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: r.Auth})
	if err != nil {
		return "", fmt.Errorf("list branches: %w", err)
	}
	for _, ref := range refs {
		if ref.Name() == plumbing.NewBranchReferenceName(name) {
			return ref.Hash().String(), nil
		}
	}
	return "", fmt.Errorf("branch %s: %w", name, incident.ErrNotFound)
}

// Push makes one commit on a new branch from c.Base and pushes that branch only. ErrStale when
// c.Base is no longer the tip of the deployed branch or the branch exists.
func (r *Repository) Push(ctx context.Context, c Commit) (string, error) {
	repo, err := r.clone(ctx)
	if err != nil {
		return "", err
	}
	head, err := repo.Head()
	if err != nil {
		return "", fmt.Errorf("branch %s: %w", r.Deploy, err)
	}
	if head.Hash().String() != c.Base {
		return "", fmt.Errorf("branch %s moved from %s to %s: %w", r.Deploy, c.Base, head.Hash(), incident.ErrStale)
	}
	if _, err := r.Branch(ctx, c.Branch); !errors.Is(err, incident.ErrNotFound) {
		if err == nil {
			err = incident.ErrStale
		}
		return "", fmt.Errorf("branch %s exists already: %w", c.Branch, err)
	}
	hash, err := commit(repo, c)
	if err != nil {
		return "", err
	}
	ref := plumbing.NewBranchReferenceName(c.Branch)
	err = repo.PushContext(ctx, &git.PushOptions{Auth: r.Auth, RefSpecs: []config.RefSpec{config.RefSpec(ref + ":" + ref)}})
	if err != nil {
		return "", fmt.Errorf("push branch %s: %w", c.Branch, err)
	}
	return hash.String(), nil
}

func commit(repo *git.Repository, c Commit) (plumbing.Hash, error) {
	wt, err := repo.Worktree()
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("work tree: %w", err)
	}
	if err := wt.Checkout(&git.CheckoutOptions{Branch: plumbing.NewBranchReferenceName(c.Branch), Create: true}); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("branch %s: %w", c.Branch, err)
	}
	f, err := wt.Filesystem.Create(c.Path)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("file %s: %w", c.Path, err)
	}
	if _, err := io.WriteString(f, c.Content); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("file %s: %w", c.Path, err)
	}
	if err := f.Close(); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("file %s: %w", c.Path, err)
	}
	if _, err := wt.Add(c.Path); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("file %s: %w", c.Path, err)
	}
	who := &object.Signature{Name: "tocsin", Email: "tocsin@localhost", When: time.Now()}
	hash, err := wt.Commit(c.Title+"\n\n"+c.Body, &git.CommitOptions{Author: who, Committer: who})
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("commit: %w", err)
	}
	return hash, nil
}
