package app

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// loadKeys reads the keys of the data folder, made at the first start: approval.key signs
// commands, seal.key seals an agent's plans; both stay on this machine with mode 0600.
// approval.pub is what other machines' agents are given with --trust. With trust given only the
// keys of that file are obeyed, otherwise our own.
func loadKeys(data, trust string) (keys, error) {
	dir := filepath.Join(data, "keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys{}, fmt.Errorf("keys: %w", err)
	}
	seed, err := secretFile(filepath.Join(dir, "approval.key"), ed25519.SeedSize)
	if err != nil {
		return keys{}, err
	}
	k := keys{approval: ed25519.NewKeyFromSeed(seed)}
	if k.seal, err = secretFile(filepath.Join(dir, "seal.key"), 32); err != nil {
		return keys{}, err
	}
	own := k.approval.Public().(ed25519.PublicKey)
	pub := filepath.Join(dir, "approval.pub")
	if err := os.WriteFile(pub, []byte(base64.StdEncoding.EncodeToString(own)+"\n"), 0o644); err != nil {
		return keys{}, fmt.Errorf("keys: %w", err)
	}
	if trust == "" {
		k.trusted = []ed25519.PublicKey{own}
		return k, nil
	}
	k.trusted, err = readTrusted(trust)
	return k, err
}

// secretFile reads n random bytes, base64, or makes them. One that others may read is refused.
func secretFile(path string, n int) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		b := make([]byte, n)
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		return b, writeSecret(path, []byte(base64.StdEncoding.EncodeToString(b)+"\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, incident.Invalidf("key %s may be read by others; chmod 600 it", path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(b) != n {
		return nil, incident.Invalidf("key %s is damaged: want %d bytes in base64", path, n)
	}
	return b, nil
}

// writeSecret writes a file that is there whole or not at all, also after a power cut.
func writeSecret(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

func readTrusted(path string) ([]ed25519.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--trust: %w", err)
	}
	var out []ed25519.PublicKey
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, incident.Invalidf("--trust %s: want one base64 Ed25519 public key a line", path)
		}
		out = append(out, b)
	}
	if len(out) == 0 {
		return nil, incident.Invalidf("--trust %s holds no key", path)
	}
	return out, nil
}
