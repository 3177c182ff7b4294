package remediations

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// CommandKind says what an agent is told to do.
type CommandKind string

// Command kinds.
const (
	CommandExecute CommandKind = "execute"
	CommandUndo    CommandKind = "undo" // of an execution that is done
)

// Command is what the hub signs and one agent executes, once.
type Command struct {
	Kind      CommandKind          `json:"kind"`
	Cluster   incident.ClusterName `json:"cluster"` // the audience
	Bound     Bound                `json:"bound"`
	Digest    incident.Digest      `json:"digest"` // of Bound
	Plan      *PlanProof           `json:"plan,omitempty"`
	Approvals []incident.Approval  `json:"approvals"`
	Issued    time.Time            `json:"issued"`
	Expires   time.Time            `json:"expires"`
}

// PlanProof ties one cluster's action to the digest of the fleet plan that was approved.
type PlanProof struct {
	ID      string            `json:"id"`
	Members []incident.Digest `json:"members"` // of all clusters, in order
	Stages  incident.Digest   `json:"stages"`  // of sizes and pauses
}

// Digest returns the hash a person approves for the whole plan.
func (p PlanProof) Digest() incident.Digest {
	parts := []string{"tocsin.plan.v1", p.ID, string(p.Stages)}
	for _, m := range p.Members {
		parts = append(parts, string(m))
	}
	return incident.HashParts(parts...)
}

// The envelope is binary, so that no byte of it is without meaning: magic, the first 8 bytes of
// the key's SHA-256, the Ed25519 signature over everything else, the command as JSON.
const (
	envelopeMagic = "TOCSINC1"
	keyIDSize     = 8
	headSize      = len(envelopeMagic) + keyIDSize + ed25519.SignatureSize
	maxEnvelope   = 512 << 10
)

func keyID(pub ed25519.PublicKey) []byte {
	sum := sha256.Sum256(pub)
	return sum[:keyIDSize]
}

// Seal signs a command. The key is the approval key: the broker does not hold it.
func (c Command) Seal(key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, incident.Invalidf("approval key: want an Ed25519 private key")
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, incident.Invalidf("approval key: want an Ed25519 private key")
	}
	head := append([]byte(envelopeMagic), keyID(pub)...)
	out := append(slices.Clone(head), ed25519.Sign(key, append(slices.Clone(head), body...))...)
	out = append(out, body...)
	if len(out) > maxEnvelope {
		return nil, incident.Invalidf("command is %d bytes, limit %d", len(out), maxEnvelope)
	}
	return out, nil
}

// OpenCommand verifies an envelope against the trusted keys and reads the command. The error
// wraps ErrInvalid: such an envelope can never be accepted. Audience, time and approvals are
// checked by Command.check.
func OpenCommand(envelope []byte, trusted []ed25519.PublicKey) (Command, error) {
	if len(envelope) <= headSize || len(envelope) > maxEnvelope || string(envelope[:len(envelopeMagic)]) != envelopeMagic {
		return Command{}, incident.Invalidf("command: not an envelope")
	}
	id := envelope[len(envelopeMagic) : len(envelopeMagic)+keyIDSize]
	sig, body := envelope[len(envelopeMagic)+keyIDSize:headSize], envelope[headSize:]
	signed := append(slices.Clone(envelope[:len(envelopeMagic)+keyIDSize]), body...)
	i := slices.IndexFunc(trusted, func(k ed25519.PublicKey) bool {
		return len(k) == ed25519.PublicKeySize && bytes.Equal(keyID(k), id)
	})
	if i < 0 {
		return Command{}, incident.Invalidf("command: signed by a key that is not trusted here")
	}
	if !ed25519.Verify(trusted[i], signed, sig) {
		return Command{}, incident.Invalidf("command: the signature does not fit")
	}
	var c Command
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Command{}, incident.Invalidf("command: %v", err)
	}
	// Only the canonical form is taken: no doubled keys, no data behind.
	if again, err := json.Marshal(c); err != nil || !bytes.Equal(again, body) {
		return Command{}, incident.Invalidf("command: not in canonical form")
	}
	return c, nil
}

// check refuses a command that is not for cluster, not in time, or not approved exactly as it
// stands. The error wraps ErrDenied and names the reason.
func (c Command) check(cluster incident.ClusterName, now time.Time) error {
	p := c.Bound.Prepared
	switch {
	case c.Kind != CommandExecute && c.Kind != CommandUndo:
		return fmt.Errorf("command kind %q: %w", incident.Clip(string(c.Kind), 20), incident.ErrDenied)
	case c.Cluster != cluster || p.Proposal.Target.Cluster != cluster:
		return fmt.Errorf("command is for cluster %s, this is %s: %w", c.Cluster, cluster, incident.ErrDenied)
	case !executionForm.MatchString(p.Execution):
		return fmt.Errorf("execution %q is malformed: %w", incident.Clip(p.Execution, 40), incident.ErrDenied)
	case c.Digest != c.Bound.Digest():
		return fmt.Errorf("digest is not that of the action: %w", incident.ErrDenied)
	case !now.Before(c.Expires):
		return fmt.Errorf("command expired at %s: %w", c.Expires.Format(time.RFC3339), incident.ErrDenied)
	case c.Kind == CommandExecute && !now.Before(c.Bound.Expires):
		return fmt.Errorf("approval expired at %s: %w", c.Bound.Expires.Format(time.RFC3339), incident.ErrDenied)
	}
	return c.checkApprovals()
}

func (c Command) checkApprovals() error {
	want := c.Digest
	if c.Plan != nil {
		if !slices.Contains(c.Plan.Members, c.Digest) {
			return fmt.Errorf("action is not part of the approved plan: %w", incident.ErrDenied)
		}
		want = c.Plan.Digest()
	}
	byPolicy, people := false, map[string]bool{}
	for _, a := range c.Approvals {
		switch {
		case !a.Approve || a.Digest != want:
			return fmt.Errorf("approval by %s is not for this action: %w", incident.Clip(a.By, 80), incident.ErrDenied)
		case a.Via == ViaPolicy:
			byPolicy = true
		case a.By == "" || a.By == c.Bound.Requester:
			return fmt.Errorf("approved by who asked for it (%q): %w", incident.Clip(a.By, 80), incident.ErrDenied)
		default:
			people[a.By] = true
		}
	}
	n := c.Bound.Need.Approvals
	if n <= 0 && byPolicy {
		return nil
	}
	if n <= 0 || len(people) < n {
		return fmt.Errorf("%d of %d approvals: %w", len(people), max(n, 1), incident.ErrDenied)
	}
	return nil
}

// ViaPolicy marks an approval that is the policy's own decision.
const ViaPolicy = "policy"
