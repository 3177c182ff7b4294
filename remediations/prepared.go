package remediations

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Seen is what the target was when it was looked at.
type Seen struct {
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Generation      int64             `json:"generation,omitempty"`
	Replicas        *int64            `json:"replicas,omitempty"`
	Images          string            `json:"images,omitempty"` // comma-joined
	Labels          map[string]string `json:"labels,omitempty"` // untrusted
	Owner           Owner             `json:"owner,omitzero"`
	// Print covers everything but status and annotations, keyed by the agent.
	Print incident.Digest `json:"print"`
}

// ShownWrite is one API call as a person sees it; its content is in Prepared.Changes.
type ShownWrite struct {
	Verb   Verb            `json:"verb"`
	Target incident.Entity `json:"target"`
	Source string          `json:"source,omitempty"` // what it is copied or made from
	Branch string          `json:"branch,omitempty"`
	Path   string          `json:"path,omitempty"`
}

// Prepared is a proposal made exact against the live cluster by its agent: what is shown, what
// an approval binds to, and what execution must find again. It holds no secrets.
type Prepared struct {
	Execution string                 `json:"execution"` // "a-" and 24 hex digits, never used twice
	Proposal  incident.Proposal      `json:"proposal"`
	Seen      Seen                   `json:"seen"`
	Writes    []ShownWrite           `json:"writes"`
	Changes   []incident.FieldChange `json:"changes"` // by server-side dry run, secrets masked
	Blast     incident.BlastRadius   `json:"blast"`
	Verdicts  []incident.Verdict     `json:"verdicts"`
	Risk      incident.Risk          `json:"risk"`
	Undo      string                 `json:"undo"`
	Signal    string                 `json:"signal"`
	Window    time.Duration          `json:"window"` // of verification, nanoseconds
	Notes     []string               `json:"notes,omitempty"`
	DryRun    bool                   `json:"dryRun,omitempty"` // the agent will not write
	At        time.Time              `json:"at"`
	// Instead is what to do where the target's owner would revert this.
	Instead []incident.Proposal `json:"instead,omitempty"`
	// Seal is the agent's keyed hash over the exact, unmasked writes and their dry-run result.
	Seal incident.Digest `json:"seal"`
}

// Need is how many approvals of which roles an action needs. Approvals 0 means that the policy
// itself approved.
type Need struct {
	Approvals int      `json:"approvals"`
	Roles     []string `json:"roles,omitempty"` // any of them; nil: "approver"
	Rule      string   `json:"rule"`            // of the policy
}

// Bound is everything an approval binds to.
type Bound struct {
	Prepared  Prepared        `json:"prepared"`
	Policy    incident.Digest `json:"policy"`   // version of the policy that judged it
	Evidence  incident.Digest `json:"evidence"` // of the incident's cause, members and evidence
	Requester string          `json:"requester"`
	Need      Need            `json:"need"`
	Nonce     string          `json:"nonce"`
	Expires   time.Time       `json:"expires"`
}

// Digest returns the hash a person approves. Two bound actions that differ in anything have
// different digests.
func (b Bound) Digest() incident.Digest {
	raw, err := json.Marshal(b)
	if err != nil {
		panic("remediations: bound action cannot be marshalled: " + err.Error())
	}
	return incident.HashParts("tocsin.bound.v1", string(raw))
}

var executionForm = regexp.MustCompile(`^a-[0-9a-f]{24}$`)

func newExecution() string { return "a-" + randomHex(12) }

func randomHex(n int) string {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic("remediations: no randomness: " + err.Error())
	}
	return hex.EncodeToString(b)
}

// keyed hashes v under the agent's key: low-entropy values cannot be guessed from it.
func keyed(key []byte, v any) (incident.Digest, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	m := hmac.New(sha256.New, key)
	m.Write(raw)
	return incident.Digest(hex.EncodeToString(m.Sum(nil))), nil
}

// seenOf records what o is now.
func seenOf(o *Object, owner Owner, key []byte) (Seen, error) {
	s := Seen{UID: string(o.GetUID()), ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		Images: images(o), Labels: o.GetLabels(), Owner: owner}
	if n, ok, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); ok {
		s.Replicas = &n
	}
	content := maps.Clone(o.Object)
	delete(content, "status")
	content["metadata"] = map[string]any{"uid": s.UID, "labels": o.GetLabels(), "finalizers": o.GetFinalizers(),
		"owners": o.GetOwnerReferences(), "deleted": o.GetDeletionTimestamp() != nil}
	var err error
	s.Print, err = keyed(key, content)
	return s, err
}

// differs names the first thing in which the target is no longer what was seen; empty when it
// is the same. Changes of status alone do not count.
func (s Seen) differs(now Seen) string {
	switch {
	case now.UID != s.UID:
		return fmt.Sprintf("it was recreated (UID %s, was %s)", now.UID, s.UID)
	case (s.Replicas == nil) != (now.Replicas == nil) || (s.Replicas != nil && *s.Replicas != *now.Replicas):
		return fmt.Sprintf("it was scaled (replicas %s, was %s)", number(now.Replicas), number(s.Replicas))
	case now.Images != s.Images:
		return fmt.Sprintf("its image changed (%s, was %s)", incident.Clip(now.Images, 200), incident.Clip(s.Images, 200))
	case now.Owner.System != s.Owner.System || now.Owner.Object.Name != s.Owner.Object.Name || now.Owner.Heals != s.Owner.Heals:
		return fmt.Sprintf("it was taken over by another controller (%s, was %s)", now.Owner.String(), s.Owner.String())
	case now.Generation != s.Generation:
		return fmt.Sprintf("it was edited (generation %d, was %d)", now.Generation, s.Generation)
	case now.Print != s.Print:
		return fmt.Sprintf("it was edited (resourceVersion %s, was %s)", now.ResourceVersion, s.ResourceVersion)
	}
	return ""
}

// String names the owner for a person.
func (o Owner) String() string {
	if o.System == OwnedByNobody {
		return "nobody"
	}
	return string(o.System) + " " + o.Object.String()
}

func number(n *int64) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}
