package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rule(when string) string {
	return fmt.Sprintf("name: t\nrules:\n- {name: r, when: %q, then: allow}\n", when)
}

var shop = Input{Action: incident.RolloutUndo, Risk: incident.RiskReversible, Kind: "Deployment", Namespace: "shop", Name: "cart", Cluster: "eu-1", Clusters: 1, Requester: Requester}

func TestDefaultPolicy(t *testing.T) {
	p, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	with := func(f func(in *Input)) Input { in := shop; f(&in); return in }
	cases := []struct {
		name      string
		in        Input
		decision  incident.Decision
		approvals int
	}{
		{"a reversible action asks one", shop, incident.Ask, 1},
		{"a disruptive action asks one", with(func(in *Input) { in.Risk = incident.RiskDisruptive }), incident.Ask, 1},
		{"an irreversible action is denied", with(func(in *Input) { in.Risk = incident.RiskIrreversible }), incident.Deny, 0},
		{"an unknown risk is taken for the worst", with(func(in *Input) { in.Risk = "" }), incident.Deny, 0},
		{"kube-system asks two", with(func(in *Input) { in.Namespace = "kube-system" }), incident.Ask, 2},
		{"a node asks two", with(func(in *Input) { in.Namespace, in.Kind = "", "Node" }), incident.Ask, 2},
		{"a whole namespace asks two", with(func(in *Input) { in.Namespace, in.Kind = "", "Namespace" }), incident.Ask, 2},
		{"suspending GitOps asks two", with(func(in *Input) { in.Action = incident.GitOpsSuspend }), incident.Ask, 2},
		{"a plan over clusters asks two", with(func(in *Input) { in.Clusters = 3 }), incident.Ask, 2},
		{"an irreversible action in kube-system is denied", with(func(in *Input) { in.Namespace, in.Risk = "kube-system", incident.RiskIrreversible }), incident.Deny, 0},
		{"the zero value is denied", Input{}, incident.Deny, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if a := p.Evaluate(t.Context(), tc.in); a.Decision != tc.decision || a.Approvals != tc.approvals {
				t.Errorf("got %+v", a)
			}
		})
	}
}

func TestErrorsDeny(t *testing.T) {
	cases := []struct{ name, when string }{
		{"a label that is missing", `target.labels["team"] == "a"`},
		{"a division by zero", `pods / (pods - pods) == 1`},
		{"an index out of range", `[1, 2][pods + 5] == 1`},
		{"a cost above the limit", `[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))`},
		{"a time that cannot be read", `timestamp(target.name) < now`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			a := parse(t, rule(tc.when)).Evaluate(t.Context(), shop)
			if a.Decision != incident.Deny || a.Rule != "(error)" {
				t.Errorf("got %+v", a)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
	t.Run("an error in a rule behind the one that holds", func(t *testing.T) {
		p := parse(t, "name: t\nrules:\n- {name: yes, when: \"true\", then: allow}\n- {name: bad, when: 'target.labels[\"x\"] == \"\"', then: deny}\n")
		if a := p.Evaluate(t.Context(), shop); a.Decision != incident.Deny {
			t.Errorf("got %+v", a)
		}
	})
	t.Run("a context that is over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		big := make([]string, 2000)
		for i := range big {
			big[i] = fmt.Sprint(i)
		}
		when := "[" + strings.Join(big, ",") + "].all(a, a >= 0)"
		if a := parse(t, rule(when)).Evaluate(ctx, shop); a.Decision != incident.Deny {
			t.Errorf("got %+v", a)
		}
	})
	t.Run("no rule holds", func(t *testing.T) {
		if a := parse(t, rule("false")).Evaluate(t.Context(), shop); a.Decision != incident.Deny {
			t.Errorf("got %+v", a)
		}
	})
	t.Run("the zero policy", func(t *testing.T) {
		if a := new(Policy).Evaluate(t.Context(), shop); a.Decision != incident.Deny {
			t.Errorf("got %+v", a)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	cases := []struct{ name, text string }{
		{"nothing", ""},
		{"no rules", "name: x\n"},
		{"an unknown key", "name: x\nrulez: []\n"},
		{"a rule that is not a bool", rule(`"yes"`)},
		{"a variable that does not exist", rule(`target.secret == ""`)},
		{"a rule without a name", "rules:\n- {when: \"true\", then: allow}\n"},
		{"a decision that does not exist", "rules:\n- {name: x, when: \"true\", then: maybe}\n"},
		{"approvals of a denial", "rules:\n- {name: x, when: \"true\", then: deny, approvals: 2}\n"},
		{"a freeze without a time zone", rule("true") + "freeze: [{name: f, schedule: '0 0 * * *', duration: 1h}]\n"},
		{"a freeze in no known time zone", rule("true") + "freeze: [{name: f, schedule: '0 0 * * *', duration: 1h, timeZone: Mars/Olympus}]\n"},
		{"a freeze with a broken schedule", rule("true") + "freeze: [{name: f, schedule: 'now', duration: 1h, timeZone: UTC}]\n"},
		{"a negative duration", rule("true") + "expiry: -5m\n"},
		{"waves of nothing", rule("true") + "waves: {sizes: [0]}\n"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Parse([]byte(tc.text)); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFreezeWindows(t *testing.T) {
	p := parse(t, rule("true")+"freeze:\n- {name: weekend, schedule: '0 18 * * FRI', duration: 62h, timeZone: Europe/Berlin, except: [CordonNode]}\n")
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	cases := []struct {
		name   string
		now    string
		action incident.ActionName
		frozen bool
	}{
		{"just before it begins, in Berlin's summer", "2026-07-03T15:59:00Z", "Scale", false},
		{"just after it began", "2026-07-03T16:00:00Z", "Scale", true},
		{"just before it begins, in Berlin's winter", "2026-01-09T16:59:00Z", "Scale", false},
		{"in winter an hour later", "2026-01-09T17:00:01Z", "Scale", true},
		{"on Sunday", "2026-07-05T12:00:00Z", "Scale", true},
		{"on Monday at eight", "2026-07-06T06:00:01Z", "Scale", false},
		{"an action that is excepted", "2026-07-05T12:00:00Z", "CordonNode", false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := p.Frozen(Input{Action: tc.action, Now: at(tc.now)}); (got != "") != tc.frozen {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestStages(t *testing.T) {
	cases := []struct {
		name  string
		sizes []int
		n     int
		want  string
	}{
		{"one cluster is the canary", nil, 1, "[1]"},
		{"defaults grow", nil, 20, "[1 2 5 10 2]"},
		{"the last size repeats", []int{3}, 10, "[1 3 3 3]"},
		{"none", nil, 0, "[]"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := fmt.Sprint(Waves{Sizes: tc.sizes}.Stages(tc.n)); got != tc.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestCases(t *testing.T) {
	cases, err := ParseCases([]byte(`cases:
- {name: asks, input: {action: Scale, risk: reversible, kind: Deployment, namespace: shop}, want: {decision: ask, approvals: 1}}
- {name: wrong on purpose, input: {action: Scale, risk: irreversible}, want: {decision: allow}}
`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	got := Test(t.Context(), p, cases)
	if got[0].Fail != "" || got[1].Fail == "" {
		t.Errorf("got %+v", got)
	}
	if _, err := ParseCases([]byte("cases: [{nam: x}]")); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("an unknown key: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(DefaultSource()))
	f.Add(rule(`target.labels.exists(k, k == "a")`))
	f.Add(rule("true") + "freeze: [{name: f, schedule: '0 0 * * *', duration: 1h, timeZone: UTC}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse([]byte(text))
		if err != nil {
			if !errors.Is(err, incident.ErrInvalid) {
				t.Fatalf("error does not wrap ErrInvalid: %v", err)
			}
			return
		}
		start := time.Now()
		p.Evaluate(t.Context(), shop)
		p.Frozen(shop)
		if d := time.Since(start); d > 2*time.Second {
			t.Fatalf("took %s", d)
		}
	})
}
