package runbooks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/tocsin-io/tocsin/incident"
)

// Facts are what `when` and `not_when` may ask about. Every name is always set; a fact that is
// not known is empty (or zero), so a condition about it is false rather than an error. Facts
// come from the correlator and the detectors; labels are as the alert source gave them.
//
//	cause       string               the incident's cause; "" when not known
//	causes      list(string)         causes of all hypotheses, best first
//	confidence  double               of cause, 0..1
//	alerts      list(string)         alert names
//	reasons     list(string)         reasons of all members: CrashLoopBackOff, BackOff, …
//	kinds       list(string)         kinds of the affected entities and of the blamed object
//	namespaces  list(string)
//	clusters    int                  how many clusters are affected
//	clusterNames list(string)
//	severity    string               info, warning or critical
//	labels      map(string, string)  labels of the query
//	factor      string               name of the shared factor: image, registry, zone, …; "": none
//	factorValue string
//	members     int                  affected entities
//	text        string               titles and messages, at most 16 KiB
type Facts struct {
	Cause      string
	Causes     []string
	Confidence float64
	Alerts     []string
	Reasons    []string
	Kinds      []string
	Namespaces []string
	Clusters   []string
	Severity   string
	Labels     map[string]string
	Factor     string
	Value      string // of Factor
	Members    int
	Text       string
}

// Limits of one condition. A honest condition costs some hundred units; the deadline is the
// second lock.
const (
	maxConditionBytes = 4 << 10
	conditionCost     = 100_000
	conditionDeadline = 50 * time.Millisecond
)

func nonNil[M ~map[string]string](m M) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (f Facts) activation() map[string]any {
	list := func(s []string) []string {
		if s == nil {
			return []string{}
		}
		return s
	}
	return map[string]any{
		"cause": f.Cause, "causes": list(f.Causes), "confidence": f.Confidence, "alerts": list(f.Alerts), "reasons": list(f.Reasons),
		"kinds": list(f.Kinds), "namespaces": list(f.Namespaces), "severity": f.Severity,
		"labels": nonNil(f.Labels), "factor": f.Factor, "factorValue": f.Value, "clusters": int64(len(f.Clusters)), "clusterNames": list(f.Clusters),
		"members": int64(f.Members), "text": f.Text,
	}
}

// conditionEnv is built once: it is immutable and safe for concurrent use.
var conditionEnv = sync.OnceValues(func() (*cel.Env, error) {
	texts, table := cel.ListType(cel.StringType), cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("cause", cel.StringType), cel.Variable("causes", texts), cel.Variable("confidence", cel.DoubleType),
		cel.Variable("alerts", texts), cel.Variable("reasons", texts), cel.Variable("kinds", texts),
		cel.Variable("namespaces", texts), cel.Variable("clusterNames", texts), cel.Variable("severity", cel.StringType),
		cel.Variable("clusters", cel.IntType), cel.Variable("factor", cel.StringType), cel.Variable("factorValue", cel.StringType),
		cel.Variable("labels", table), cel.Variable("members", cel.IntType),
		cel.Variable("text", cel.StringType))
})

// compileCondition compiles one CEL expression to a program. Errors are one line and name the
// column.
func compileCondition(src string) (cel.Program, error) {
	if len(src) > maxConditionBytes {
		return nil, incident.Invalidf("condition is %d bytes long, limit %d", len(src), maxConditionBytes)
	}
	env, err := conditionEnv()
	if err != nil {
		return nil, fmt.Errorf("condition environment: %w", err)
	}
	ast, iss := env.Compile(src)
	if err := iss.Err(); err != nil {
		if es := iss.Errors(); len(es) > 0 {
			return nil, incident.Invalidf("%q: column %d: %s", incident.Clip(src, 120), es[0].Location.Column()+1, incident.Clip(es[0].Message, 300))
		}
		return nil, incident.Invalidf("%q: %s", incident.Clip(src, 120), incident.Clip(err.Error(), 300))
	}
	if ast.OutputType() != cel.BoolType {
		return nil, incident.Invalidf("%q gives %s, want a bool", incident.Clip(src, 120), ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(conditionCost), cel.InterruptCheckFrequency(100))
}

// holds evaluates prg; an error means "cannot be told", which callers treat as not applicable.
func holds(ctx context.Context, prg cel.Program, f map[string]any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, conditionDeadline)
	defer cancel()
	v, _, err := prg.ContextEval(ctx, f)
	if err != nil {
		return false, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, incident.Invalidf("gave no bool")
	}
	return b, nil
}
