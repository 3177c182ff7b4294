// Package policy decides who must agree to an action: rules in CEL over the action, its target,
// the cluster, the cause and the time, each allowing, asking or denying.
//
// Rules are tried in order and the first that holds decides; when none holds the answer is deny.
// Every rule is evaluated, within a cost limit and a deadline, and any error denies: a missing
// label, a division by zero or a rule that takes too long never lets an action through. A Policy
// is immutable and safe for concurrent use; its Version is a hash of its source, and approvals
// are bound to it.
package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/robfig/cron/v3"
	"github.com/tocsin-io/tocsin/incident"
	"sigs.k8s.io/yaml"
)

// Limits of one evaluation. A two-line nested comprehension over 2,000 items costs 24 million
// units and 1.4 s without a limit; this one ends it in 4 ms. Kubernetes allows 1,000,000 per call.
const (
	CostLimit = 100_000
	Deadline  = 50 * time.Millisecond // for all rules together
	maxRules  = 200
	maxSource = 256 << 10
)

// Input is what rules see. Labels are untrusted; they may only make a rule stricter if the
// policy's author says so.
type Input struct {
	Action        incident.ActionName
	Risk          incident.Risk
	Kind          string
	Namespace     string // empty: cluster-scoped
	Name          string
	Labels        map[string]string
	Cluster       incident.ClusterName
	ClusterLabels map[string]string
	Cause         incident.CauseName
	Confidence    float64
	Severity      incident.Severity
	Requester     string
	Pods, Nodes   int
	Share         float64
	Clusters      int // of the fleet plan; 1 for a single action
	Now           time.Time
}

// Answer is a policy's decision and who it asks.
type Answer struct {
	Decision  incident.Decision `json:"decision"`
	Approvals int               `json:"approvals,omitempty"`
	Roles     []string          `json:"roles,omitempty"`
	Rule      string            `json:"rule"` // name of the rule that decided
	Reason    string            `json:"reason"`
}

// Source is the written form of a policy. Unknown keys are refused.
type Source struct {
	Name     string   `json:"name"`
	Rules    []Rule   `json:"rules"`
	Expiry   Duration `json:"expiry,omitempty"` // of a question; default 30m
	Escalate Escalate `json:"escalate,omitempty"`
	Freeze   []Freeze `json:"freeze,omitempty"`
	Waves    Waves    `json:"waves,omitempty"`
}

// Rule is one row of a policy.
type Rule struct {
	Name      string            `json:"name"`
	When      string            `json:"when"` // CEL, of type bool
	Then      incident.Decision `json:"then"`
	Approvals int               `json:"approvals,omitempty"` // of Then ask; default 1
	Roles     []string          `json:"roles,omitempty"`     // default [approver]
	Reason    string            `json:"reason,omitempty"`
}

// Escalate says whom to tell when nobody answers. It never lowers what is needed.
type Escalate struct {
	After Duration `json:"after,omitempty"` // zero: never
	To    []string `json:"to,omitempty"`    // roles
}

// Freeze is a window in which nothing runs but what the rules' author excepts.
type Freeze struct {
	Name     string                `json:"name"`
	Schedule string                `json:"schedule"` // cron, five fields: when it begins
	Duration Duration              `json:"duration"`
	TimeZone string                `json:"timeZone"` // IANA name; required
	Clusters []string              `json:"clusters,omitempty"`
	Except   []incident.ActionName `json:"except,omitempty"`
}

// Waves is how a plan goes over the fleet: a canary of one cluster, then waves.
type Waves struct {
	Sizes []int    `json:"sizes,omitempty"` // clusters per wave after the canary, the last repeats; default 2, 5, 10
	Pause Duration `json:"pause,omitempty"` // after a wave is verified; default 1m
}

// Duration reads "30m".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v, err := time.ParseDuration(strings.Trim(string(b), `"`))
	if err != nil || v < 0 {
		return incident.Invalidf("duration %s: want e.g. 30m", incident.Clip(string(b), 40))
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}

// Policy is a compiled policy. The zero value denies everything.
type Policy struct {
	src     Source
	version incident.Digest
	rules   []cel.Program
	freeze  []freeze
}

type freeze struct {
	Freeze
	sched cron.Schedule
}

// Parse compiles a policy. The error wraps ErrInvalid and names the rule and the position.
func Parse(text []byte) (*Policy, error) {
	if len(text) > maxSource {
		return nil, incident.Invalidf("policy is %d bytes, limit %d", len(text), maxSource)
	}
	var src Source
	if err := yaml.UnmarshalStrict(text, &src); err != nil {
		return nil, incident.Invalidf("policy: %v", err)
	}
	if len(src.Rules) == 0 || len(src.Rules) > maxRules {
		return nil, incident.Invalidf("policy %s has %d rules, want 1 to %d", src.Name, len(src.Rules), maxRules)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p := &Policy{src: src, version: incident.HashParts("tocsin.policy.v1", string(text))}
	for i, r := range src.Rules {
		prog, err := compile(env, r)
		if err != nil {
			return nil, incident.Invalidf("policy %s: rule %d (%s): %v", src.Name, i+1, r.Name, err)
		}
		p.rules = append(p.rules, prog)
	}
	for _, f := range src.Freeze {
		sched, err := f.parse()
		if err != nil {
			return nil, incident.Invalidf("policy %s: freeze %s: %v", src.Name, f.Name, err)
		}
		p.freeze = append(p.freeze, freeze{f, sched})
	}
	return p, src.Waves.check()
}

func (w Waves) check() error {
	if slices.ContainsFunc(w.Sizes, func(n int) bool { return n < 1 }) {
		return incident.Invalidf("policy: wave sizes must be at least 1")
	}
	return nil
}

func (f Freeze) parse() (cron.Schedule, error) {
	if f.TimeZone == "" || f.Duration <= 0 || f.Name == "" {
		return nil, fmt.Errorf("name, timeZone and duration are required")
	}
	if _, err := time.LoadLocation(f.TimeZone); err != nil {
		return nil, err
	}
	return cron.ParseStandard("CRON_TZ=" + f.TimeZone + " " + f.Schedule)
}

func environment() (*cel.Env, error) {
	labels := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("action", cel.StringType), cel.Variable("risk", cel.StringType), cel.Variable("target.kind", cel.StringType),
		cel.Variable("target.namespace", cel.StringType), cel.Variable("target.name", cel.StringType), cel.Variable("target.labels", labels),
		cel.Variable("cluster", cel.StringType), cel.Variable("clusterLabels", labels), cel.Variable("cause", cel.StringType),
		cel.Variable("confidence", cel.DoubleType), cel.Variable("severity", cel.StringType), cel.Variable("requester", cel.StringType),
		cel.Variable("pods", cel.IntType), cel.Variable("nodes", cel.IntType), cel.Variable("share", cel.DoubleType),
		cel.Variable("clusters", cel.IntType), cel.Variable("target.clusterScoped", cel.BoolType), cel.Variable("now", cel.TimestampType))
}

func compile(env *cel.Env, r Rule) (cel.Program, error) {
	switch {
	case r.Name == "":
		return nil, fmt.Errorf("it has no name")
	case r.Then != incident.Allow && r.Then != incident.Ask && r.Then != incident.Deny:
		return nil, fmt.Errorf("then is %q, want allow, ask or deny", r.Then)
	case r.Approvals < 0 || (r.Then != incident.Ask && r.Approvals > 0):
		return nil, fmt.Errorf("approvals are for then: ask, and at least 1")
	}
	ast, iss := env.Compile(r.When)
	if iss.Err() != nil {
		return nil, iss.Err()
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("when is of type %s, want bool", ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(CostLimit), cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptOptimize))
}

// Version is a hash of the policy's source; empty for the zero value.
func (p *Policy) Version() incident.Digest { return p.version }

// Source returns the written form. The caller must not change its slices.
func (p *Policy) Source() Source { return p.src }

// Expiry is how long a question may stay open.
func (p *Policy) Expiry() time.Duration {
	if p.src.Expiry <= 0 {
		return 30 * time.Minute
	}
	return time.Duration(p.src.Expiry)
}

// Evaluate returns the policy's answer. It never fails: an error is a denial.
func (p *Policy) Evaluate(ctx context.Context, in Input) Answer {
	a, _ := p.Trace(ctx, in)
	return a
}

// Step is what one rule said.
type Step struct {
	Rule  string `json:"rule"`
	Holds bool   `json:"holds"`
	Error string `json:"error,omitempty"`
}

// Trace is Evaluate with what every rule said, in order.
func (p *Policy) Trace(ctx context.Context, in Input) (Answer, []Step) {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	vars := in.vars()
	answer := Answer{Decision: incident.Deny, Rule: "(none)", Reason: "no rule of the policy holds"}
	decided, failed := false, ""
	steps := make([]Step, 0, len(p.rules))
	for i, prog := range p.rules {
		r := p.src.Rules[i]
		s := Step{Rule: r.Name}
		out, _, err := prog.ContextEval(ctx, vars)
		if err == nil {
			holds, ok := out.Value().(bool)
			s.Holds = holds
			if !ok {
				err = fmt.Errorf("answer is not a bool")
			}
		}
		if err != nil {
			s.Error = incident.Clip(err.Error(), 200)
			if failed == "" {
				failed = r.Name + ": " + s.Error
			}
		} else if s.Holds && !decided {
			decided, answer = true, r.answer()
		}
		steps = append(steps, s)
	}
	if failed != "" {
		answer = Answer{Decision: incident.Deny, Rule: "(error)", Reason: "a rule could not be evaluated: " + failed}
	}
	return answer, steps
}

func (r Rule) answer() Answer {
	a := Answer{Decision: r.Then, Rule: r.Name, Reason: r.Reason}
	if a.Reason == "" {
		a.Reason = "rule " + r.Name
	}
	if r.Then == incident.Ask {
		a.Approvals, a.Roles = max(r.Approvals, 1), r.Roles
		if len(a.Roles) == 0 {
			a.Roles = []string{"approver"}
		}
	}
	return a
}

func (in Input) vars() map[string]any {
	lab := func(m map[string]string) map[string]string {
		if m == nil {
			return map[string]string{}
		}
		return m
	}
	risk := in.Risk
	if risk != incident.RiskReversible && risk != incident.RiskDisruptive {
		risk = incident.RiskIrreversible // an unknown class is the worst
	}
	return map[string]any{"action": string(in.Action), "risk": string(risk), "target.kind": in.Kind, "target.namespace": in.Namespace, "target.name": in.Name,
		"target.labels": lab(in.Labels), "cluster": string(in.Cluster), "clusterLabels": lab(in.ClusterLabels), "cause": string(in.Cause),
		"confidence": in.Confidence, "severity": string(in.Severity), "requester": in.Requester, "pods": in.Pods, "nodes": in.Nodes,
		"share": in.Share, "clusters": in.Clusters, "target.clusterScoped": in.Namespace == "" && in.Kind != "Namespace", "now": in.Now}
}

// Frozen returns why nothing may run now; empty outside of freeze windows.
func (p *Policy) Frozen(in Input) string {
	for _, f := range p.freeze {
		if slices.Contains(f.Except, in.Action) || (len(f.Clusters) > 0 && !slices.Contains(f.Clusters, string(in.Cluster))) {
			continue
		}
		begun := f.sched.Next(in.Now.Add(-time.Duration(f.Duration)))
		if !begun.IsZero() && !begun.After(in.Now) {
			return fmt.Sprintf("freeze window %s until %s", f.Name, begun.Add(time.Duration(f.Duration)).Format("Mon 15:04 MST"))
		}
	}
	return ""
}

// Stages returns how many clusters of n go in each wave: the canary first.
func (w Waves) Stages(n int) []int {
	sizes := w.Sizes
	if len(sizes) == 0 {
		sizes = []int{2, 5, 10}
	}
	var out []int
	for i := -1; n > 0; i++ {
		size := 1
		if i >= 0 {
			size = sizes[min(i, len(sizes)-1)]
		}
		out = append(out, min(size, n))
		n -= size
	}
	return out
}

// PauseOrDefault is the pause after each wave.
func (w Waves) PauseOrDefault() time.Duration {
	if w.Pause <= 0 {
		return time.Minute
	}
	return time.Duration(w.Pause)
}
