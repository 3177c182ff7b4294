package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/remediations"
	"github.com/tocsin-io/tocsin/remediations/policy"
)

// Decision is a person's answer from the command line.
type Decision struct {
	ID      string
	Approve bool
	Digest  incident.Digest
	Reason  string
	JSON    bool
}

// Decide sends an answer and prints where the action stands.
func Decide(ctx context.Context, c *Client, d Decision, out io.Writer) error {
	got, err := c.Decide(ctx, d.ID, d.Approve, d.Digest, d.Reason)
	if err != nil {
		return err
	}
	if d.JSON {
		return json.NewEncoder(out).Encode(got)
	}
	var r remediations.Record
	if err := json.Unmarshal(got, &r); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	w := text.To(out)
	w.Printf("%s is %s. %s", r.ID, r.State, plainLine(r.Why))
	if r.State == remediations.Approved || r.State == remediations.Dispatched {
		w.Printf("The agent of %s checks it once more, acts, and watches for %s: tocsin actions %s", r.Proposal.Target.Cluster, r.Bound.Prepared.Window, r.ID)
	}
	return nil
}

// Actions prints all proposals, or one with its exact change.
func Actions(ctx context.Context, c *Client, id string, asJSON bool, out io.Writer) error {
	path := "/api/v1/actions"
	if id != "" {
		path += "/" + escape(id)
	}
	got, err := c.Raw(ctx, path)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(out).Encode(got)
	}
	if id != "" {
		var r remediations.Record
		if err := json.Unmarshal(got, &r); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
		_, err := io.WriteString(out, remediations.Card(r))
		return err
	}
	var rs []remediations.Record
	if err := json.Unmarshal(got, &rs); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	w := text.To(out)
	if len(rs) == 0 {
		w.Printf("No actions are proposed.")
		return nil
	}
	w.Table([]string{"ACTION", "STATE", "INCIDENT", "CLUSTER", "WHAT", "OUTCOME"}, actionRows(rs))
	return nil
}

func actionRows(rs []remediations.Record) [][]string {
	var rows [][]string
	for _, r := range rs {
		outcome := ""
		if r.Outcome != nil {
			outcome = string(r.Outcome.State)
		}
		rows = append(rows, []string{string(r.ID), string(r.State), string(r.Proposal.Incident), string(r.Proposal.Target.Cluster), r.Proposal.Summary, outcome})
	}
	return rows
}

// Show prints an incident and where its actions stand.
func Show(ctx context.Context, c *Client, i incident.Incident, out io.Writer) error {
	w := text.To(out)
	w.Incident(i)
	got, err := c.Raw(ctx, "/api/v1/actions")
	if err != nil {
		return nil // a hub without a desk; the incident itself is shown
	}
	var rs, ours []remediations.Record
	if err := json.Unmarshal(got, &rs); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	for _, r := range rs {
		if r.Proposal.Incident == i.ID && r.State != remediations.Step {
			ours = append(ours, r)
		}
	}
	if len(ours) > 0 {
		w.Printf("\nactions")
		w.Table([]string{"ACTION", "STATE", "INCIDENT", "CLUSTER", "WHAT", "OUTCOME"}, actionRows(ours))
	}
	return nil
}

// SayAudit says how far the audit log is intact.
func SayAudit(raw json.RawMessage, out io.Writer) error {
	var c struct {
		Number uint64
		Hash   incident.Digest
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	text.To(out).Printf("The audit log is intact: %d entries, the last one's hash is %s.", c.Number, c.Hash)
	return nil
}

// PolicyTest runs a file of cases against a policy ("": the default one).
func PolicyTest(ctx context.Context, policyFile, casesFile string, asJSON bool, out io.Writer) error {
	p, err := (&actions{opts: Options{PolicyFile: policyFile}}).policy()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(casesFile)
	if err != nil {
		return err
	}
	cases, err := policy.ParseCases(b)
	if err != nil {
		return fmt.Errorf("%s: %w", casesFile, err)
	}
	results, failed := policy.Test(ctx, p.p, cases), 0
	w := text.To(out)
	for _, r := range results {
		if r.Fail != "" {
			failed++
		}
		if !asJSON {
			mark, why := "ok  ", string(r.Got.Decision)+" by "+r.Got.Rule
			if r.Fail != "" {
				mark, why = "FAIL", r.Fail
			}
			w.Printf("%s %s: %s", mark, r.Name, why)
		}
	}
	if asJSON {
		if err := json.NewEncoder(out).Encode(results); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases failed", failed, len(results))
	}
	return nil
}

// PolicyExplain prints what a policy would say of an action, rule by rule.
func PolicyExplain(ctx context.Context, policyFile string, in policy.Input, out io.Writer) error {
	p, err := (&actions{opts: Options{PolicyFile: policyFile}}).policy()
	if err != nil {
		return err
	}
	a, ok := remediations.Catalogue()[in.Action]
	if !ok {
		return incident.Invalidf("action %q is not in the catalogue", incident.Clip(string(in.Action), 60))
	}
	in.Risk, in.Requester = a.Risk, remediations.Requester
	ans, steps := p.p.Trace(ctx, in)
	w := text.To(out)
	w.Printf("%s: %s. Risk: %s. Undo: %s", a.Name, a.Summary, a.Risk, a.Undo)
	for _, s := range steps {
		mark := "    "
		if s.Holds {
			mark = "yes "
		}
		w.Printf("  %s %s %s", mark, s.Rule, s.Error)
	}
	w.Printf("→ %s: %s", ans.Decision, ans.Reason)
	if ans.Decision == incident.Ask {
		w.Printf("  asks %d of %v", ans.Approvals, ans.Roles)
	}
	return nil
}

// ExplainInput is what `tocsin policy explain` was told.
type ExplainInput = policy.Input
