package app

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/console"
	"github.com/tocsin-io/tocsin/incident"
)

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTokensFile(t *testing.T) {
	const secret = "0123456789abcdef"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		ok   bool
	}{
		"people and alert senders":    {"# who\nada " + secret + "\nalerts:eu-1,us-1 " + secret + "x\n", 0o600, true},
		"a file that others may read": {"ada " + secret, 0o644, false},
		"a short secret":              {"ada 123", 0o600, false},
		"no secret":                   {"ada", 0o600, false},
		"an alert sender of nothing":  {"alerts: " + secret, 0o600, false},
	} {
		t.Run(name, func(t *testing.T) {
			tok, err := readTokens(write(t, "tokens", c.text, c.mode))
			if c.ok != (err == nil) || err != nil && !errors.Is(err, incident.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			if !c.ok {
				return
			}
			r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + secret}}}
			if who, err := tok.byToken(r); who != "ada" || err != nil {
				t.Fatalf("%s %v", who, err)
			}
			r.Header.Set("Authorization", "Bearer "+secret+"x")
			if _, err := tok.byToken(r); !errors.Is(err, incident.ErrDenied) {
				t.Fatal("an alert sender's token opened the API")
			}
		})
	}
}

func TestKeysStayTheSameAndPrivate(t *testing.T) {
	dir := t.TempDir()
	a, err := loadKeys(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadKeys(dir, "")
	if err != nil || !a.approval.Equal(b.approval) || string(a.seal) != string(b.seal) {
		t.Fatalf("another start has other keys: %v", err)
	}
	key := filepath.Join(dir, "keys", "approval.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeys(dir, ""); !errors.Is(err, incident.ErrInvalid) {
		t.Fatalf("a key that others may read was taken: %v", err)
	}
	_ = os.Chmod(key, 0o600)
	if err := os.WriteFile(key, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeys(dir, ""); !errors.Is(err, incident.ErrInvalid) {
		t.Fatalf("a damaged key was replaced or taken: %v", err)
	}
	if _, err := readTrusted(write(t, "trust", "# none\n", 0o644)); err == nil {
		t.Fatal("an empty trust file means nobody is obeyed; it must be an error")
	}
}

func TestRolesAreReadAtEveryQuestion(t *testing.T) {
	path := write(t, "roles", "ada approver,admin\n", 0o600)
	r := roles{file: path, own: "root"}
	if got, err := r.Roles(t.Context(), "ada"); err != nil || strings.Join(got, ",") != "approver,admin" {
		t.Fatalf("%v %v", got, err)
	}
	if got, _ := r.Roles(t.Context(), "root"); len(got) != 0 {
		t.Fatal("with a roles file the process's own user has no role by itself")
	}
	if err := os.WriteFile(path, []byte("#ada approver\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Roles(t.Context(), "ada"); len(got) != 0 {
		t.Fatal("a role that was taken away still holds")
	}
	if got, _ := (roles{own: "ada"}).Roles(t.Context(), ""); len(got) != 0 {
		t.Fatal("nobody has a role")
	}
}

func TestAnOpenPortNeedsTokens(t *testing.T) {
	o := Options{Listen: "127.0.0.1:0", Data: t.TempDir()}
	if err := o.serve(t.Context(), nil, consoleConfig()); !errors.Is(err, incident.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

func consoleConfig() (c console.Config) { return c }
