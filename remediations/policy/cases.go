package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
	"sigs.k8s.io/yaml"
)

// Case is one row of a policy test file.
type Case struct {
	Name  string    `json:"name"`
	Input CaseInput `json:"input"`
	Want  Want      `json:"want"`
}

// CaseInput is Input as it is written; what is left out is empty, one cluster, requested by
// Tocsin, at the time of the test.
type CaseInput struct {
	Action        incident.ActionName  `json:"action"`
	Risk          incident.Risk        `json:"risk"`
	Kind          string               `json:"kind"`
	Namespace     string               `json:"namespace"`
	Name          string               `json:"name"`
	Labels        map[string]string    `json:"labels"`
	Cluster       incident.ClusterName `json:"cluster"`
	ClusterLabels map[string]string    `json:"clusterLabels"`
	Cause         incident.CauseName   `json:"cause"`
	Confidence    float64              `json:"confidence"`
	Severity      incident.Severity    `json:"severity"`
	Requester     string               `json:"requester"`
	Pods          int                  `json:"pods"`
	Nodes         int                  `json:"nodes"`
	Share         float64              `json:"share"`
	Clusters      int                  `json:"clusters"`
	Now           time.Time            `json:"now"`
}

// Want is the expected answer; zero fields are not compared, but for Decision.
type Want struct {
	Decision  incident.Decision `json:"decision"`
	Approvals int               `json:"approvals"`
	Rule      string            `json:"rule"`
	Frozen    *bool             `json:"frozen"`
}

// Result is what became of one case.
type Result struct {
	Name string `json:"name"`
	Got  Answer `json:"got"`
	Fail string `json:"fail,omitempty"` // empty: as expected
}

// ParseCases reads a policy test file: {"cases": [...]} as YAML. The error wraps ErrInvalid.
func ParseCases(text []byte) ([]Case, error) {
	if len(text) > maxSource {
		return nil, incident.Invalidf("policy cases: %d bytes, limit %d", len(text), maxSource)
	}
	var f struct {
		Cases []Case `json:"cases"`
	}
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return nil, incident.Invalidf("policy cases: %v", err)
	}
	if len(f.Cases) == 0 {
		return nil, incident.Invalidf("policy cases: there are none")
	}
	return f.Cases, nil
}

// Test runs cases against p, in order.
func Test(ctx context.Context, p *Policy, cases []Case) []Result {
	out := make([]Result, 0, len(cases))
	for _, c := range cases {
		in := clusterInput(c.Input.input())
		got := p.Evaluate(ctx, in)
		r := Result{Name: c.Name, Got: got}
		frozen := p.Frozen(in)
		switch {
		case got.Decision != c.Want.Decision:
			r.Fail = fmt.Sprintf("decision is %s (%s), want %s", got.Decision, got.Reason, c.Want.Decision)
		case c.Want.Approvals != 0 && got.Approvals != c.Want.Approvals:
			r.Fail = fmt.Sprintf("%d approvals, want %d", got.Approvals, c.Want.Approvals)
		case c.Want.Rule != "" && got.Rule != c.Want.Rule:
			r.Fail = fmt.Sprintf("rule %q decided, want %q", got.Rule, c.Want.Rule)
		case c.Want.Frozen != nil && *c.Want.Frozen != (frozen != ""):
			r.Fail = fmt.Sprintf("frozen is %q, want %v", frozen, *c.Want.Frozen)
		}
		out = append(out, r)
	}
	return out
}

func (c CaseInput) input() Input {
	if c.Now.IsZero() {
		c.Now = time.Now().UTC()
	}
	return Input(c)
}
