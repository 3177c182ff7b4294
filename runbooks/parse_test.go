package runbooks

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func parse(t *testing.T, text string) Runbook {
	t.Helper()
	rb, err := Parse("dir/KubePodCrashLooping.md", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return rb
}

func TestTitlesComeFromFrontMatterHeadingOrFileName(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"front matter wins", "---\ntitle: From front\n---\n# From heading\n", "From front"},
		{"the first heading", "text\n\n## `Bold` [link](http://x) *heading* ##\ntext\n", "Bold link heading"},
		{"an underlined heading", "From line\n===\ntext", "From line"},
		{"the file name", "only text\n", "KubePodCrashLooping"},
		{"an empty page", "", "KubePodCrashLooping"},
		{"a comment in code is no heading", "```sh\n# not a heading\n```\n", "KubePodCrashLooping"},
		{"a rule is no front matter", "---\nsome text\n---\n# Heading\nx\n", "Heading"},
		{"an unclosed rule is no front matter", "---\ntitle: x\n# Heading\nx\n", "Heading"},
		{"windows line ends", "---\r\ntitle: Win\r\n---\r\n# Heading\r\n", "Win"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse(t, tt.text).Title; got != tt.want {
				t.Errorf("title %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFrontMatterIsReadInFull(t *testing.T) {
	rb := parse(t, `---
title: T
weight: 20
causes: [OOMKilled, PodMemoryPressure]
alerts: KubePodCrashLooping
kinds: [Deployment]
labels: {team: shop, tier: "*"}
when: 'cause == "OOMKilled"'
not_when: ['members > 100', '"x" in reasons']
actions:
  - RolloutUndo
  - action: PatchResources
    params: {limits.memory: 1Gi}
  - name: Scale
    replicas: 3
verify: no restarts
owner: platform
severity: warning
expires: 2027-06-30
---
# H
`)
	f := rb.Front
	switch {
	case !slices.Equal(f.Causes, []incident.CauseName{"OOMKilled", "PodMemoryPressure"}),
		!slices.Equal(f.Alerts, []string{"KubePodCrashLooping"}), f.Labels["tier"] != "*", len(f.When) != 1, len(f.NotWhen) != 2,
		len(f.Actions) != 3, f.Actions[1].Params["limits.memory"] != "1Gi", f.Actions[2].Name != "Scale", f.Actions[2].Params["replicas"] != "3",
		!f.Expires.Equal(time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)), f.Owner != "platform", !slices.Equal(f.Verify, []string{"no restarts"}):
		t.Errorf("front matter read as %+v", f)
	}
}

func TestWrongFrontMatterIsAnErrorWithItsLine(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an unknown cause", "---\ntitle: x\ncauses: [OOMKiled]\n---\n", `KubePodCrashLooping.md:3: cause "OOMKiled" is not in the catalogue; did you mean "OOMKilled"?`},
		{"an unknown action", "---\nactions:\n  - RolloutUndo\n  - DropDatabase\n---\n", `:4: action "DropDatabase" is not in the catalogue`},
		{"a condition that does not compile", "---\nwhen: 'caus == \"x\"'\n---\n", ":2: when: "},
		{"a condition that is no question", "---\nwhen: 'members + 1'\n---\n", "want a bool"},
		{"a list where a text belongs", "---\nowner: [a, b]\n---\n", ":2: owner: want text"},
		{"no date", "---\nexpires: soon\n---\n", `:2: expires "soon"`},
		{"a key given twice", "---\nowner: a\nowner: b\n---\n", "owner"},
		{"broken YAML", "---\ntitle: [a\ncauses: x\n---\n", "front matter"},
		{"an alias bomb", "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nalerts: *c\n---\n", "alerts"},
		{"deep nesting", "---\ntitle: " + strings.Repeat("[", 5000) + "\n---\n", "nested too deeply"},
		{"too much front matter", "---\ntitle: " + strings.Repeat("x", MaxFrontBytes) + "\n---\n", "limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("dir/KubePodCrashLooping.md", strings.NewReader(tt.text))
			if !errors.Is(err, incident.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestFrontMatterOfOthersIsTolerated(t *testing.T) {
	rb := parse(t, "---\ntitle: T\nlabels: [a, b]\nweight: 3\nseverity: page-me\ncategories:\n  - x\nnested: {a: {b: [1, 2]}}\n---\n# H\ntext\n")
	if rb.Title != "T" || rb.Front.Labels != nil {
		t.Errorf("read as %+v", rb.Front)
	}
}

func TestSectionsKeepHeadingPathLineAndWholeCode(t *testing.T) {
	rb := parse(t, "intro\n\n# A\ntext a\n\n## B\n```sh\n# comment\nkubectl get pods \\\n  -A\n$ not a prompt here\n```\n### C\n\n# D\nlast\n")
	var got []string
	for _, s := range rb.Sections {
		got = append(got, s.Name()+"@"+itoa(s.Line))
	}
	if want := []string{"@1", "A@4", "A › B@7", "D@16"}; !slices.Equal(got, want) {
		t.Errorf("sections %q, want %q", got, want)
	}
	long := "# H\n" + strings.Repeat("word word word word\n\n", 1000) + "```\n" + strings.Repeat("code\n\n", 2000) + "```\nend\n"
	for _, s := range parse(t, long).Sections {
		if n := strings.Count(s.Text, "```"); n%2 != 0 {
			t.Error("a code block was cut")
		}
		if !strings.Contains(s.Text, "code") && len(s.Text) > 3*MaxSectionBytes {
			t.Errorf("a section is %d bytes long", len(s.Text))
		}
	}
}

func TestCommandsAreThoseOfShellBlocksAsWritten(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a shell block", "```bash\nkubectl get po\n\n# why\nkubectl top po\n```", []string{"kubectl get po", "kubectl top po"}},
		{"prompts leave the output out", "```console\n$ kubectl get po\nNAME READY\n$ exit\n```", []string{"kubectl get po", "exit"}},
		{"no language, no prompt: not commands", "```\nNAME READY\n```", nil},
		{"no language with a prompt", "```\n$ ls\nx\n```", []string{"ls"}},
		{"another language", "```yaml\nkind: Pod\n```", nil},
		{"continued lines stay together", "```sh\nkubectl get po \\\n  -A\n```", []string{"kubectl get po \\\n  -A"}},
		{"prose is no command", "Run `kubectl delete ns prod` now", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range parse(t, tt.text).Sections {
				got = append(got, s.Commands...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("commands %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPagesThatAreNoMarkdownAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a page of 10 MB":   strings.Repeat("# heading\ntext\n", 700_000),
		"binary with NUL":   "# x\n\x00\x01\x02",
		"binary, not UTF-8": strings.Repeat("\xff\xfe\xfa\x81", 100),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("x.md", strings.NewReader(text)); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
		})
	}
}

func TestNestedMarkdownStaysLinear(t *testing.T) {
	start := time.Now()
	for _, text := range []string{strings.Repeat("> ", 400_000), strings.Repeat("- ", 400_000), strings.Repeat("#\n", 400_000), strings.Repeat("```\n", 200_000),
		strings.Repeat("[", 900_000), strings.Repeat("# h\nx\n", 150_000), strings.Repeat("a\n===\n", 150_000)} {
		rb := parse(t, text)
		if len(rb.Sections) > MaxSections {
			t.Errorf("%d sections, limit %d", len(rb.Sections), MaxSections)
		}
		newCorpus([]*Runbook{&rb})
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "# T\ntext", "---\ntitle: x\ncauses: [OOMKilled]\nwhen: 'true'\n---\n# H\n```sh\nls\n```\n", "---\na: &a [*a]\n---\n", "a\n===\nb\n---\n", "~~~\n```\n~~~", "\ufeff---\n---\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rb, err := Parse("p/x.md", strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, incident.ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		if rb.Title == "" || len(rb.Sections) == 0 || len(rb.Sections) > MaxSections {
			t.Fatalf("title %q, %d sections", rb.Title, len(rb.Sections))
		}
		for _, a := range rb.Front.Actions {
			if !slices.Contains(incident.Actions(), a.Name) {
				t.Fatalf("action %q passed", a.Name)
			}
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("# a\ntext\n## b\n```\n# c\n```\n", 1)
	f.Fuzz(func(t *testing.T, body string, first int) {
		first = first&0xffff + 1
		lines := strings.Split(body, "\n")
		last := 0
		for _, s := range split(body, first) {
			if s.Line < last || s.Line < first || s.Line > first+len(lines) {
				t.Fatalf("section at line %d after %d; the page has lines %d..%d", s.Line, last, first, first+len(lines))
			}
			last = s.Line
			if s.Text == "" {
				continue
			}
			// The first line of the section is the page's line it names.
			head, _, _ := strings.Cut(s.Text, "\n")
			if at := strings.TrimRight(lines[s.Line-first], " \t"); at != head {
				t.Fatalf("section at line %d begins with %q, the page has %q there", s.Line, head, at)
			}
		}
	})
}
