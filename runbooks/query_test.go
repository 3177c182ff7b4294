package runbooks

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/incident"
)

func TestUsualAlertLayoutsAreUnderstood(t *testing.T) {
	tests := []struct {
		name, text    string
		labels        map[string]string
		names, metric []string
		want, namesp  string
	}{
		{"key and value lines", "alertname: KubePodCrashLooping\nnamespace: shop\nseverity: warning\nsummary: Pod is crash looping.\ndescription: Pod shop/x restarts.", nil,
			[]string{"KubePodCrashLooping"}, nil, "Pod is crash looping.\nPod shop/x restarts.", "shop"},
		{"a chat message", "[FIRING:2] KubePodCrashLooping (warning)\nPod is crash looping.\nLabels: namespace=shop, severity=warning", nil,
			[]string{"KubePodCrashLooping"}, nil, "Pod is crash looping.", "shop"},
		{"a sentence", "Alert KubePodCrashLooping has been firing for 5m (severity warning). Pod is crash looping. (namespace=shop pod=x-1)", nil,
			[]string{"KubePodCrashLooping"}, nil, "Pod is crash looping.", "shop"},
		{"no name but metrics", "Pod is crash looping.\nMetrics: kube_pod_container_status_restarts_total, up\nLabels: namespace=shop", map[string]string{"namespace": "shop"},
			nil, []string{"kube_pod_container_status_restarts_total"}, "Pod is crash looping.", "shop"},
		{"labels given apart win over text", "Labels: namespace=evil", map[string]string{"namespace": "shop", "alertname": "X"}, []string{"X"}, nil, "", "shop"},
		{"a log line stays as it is", "E1121 12:00 reflector.go:1] failed: x=1 (y)", nil, nil, nil, "E1121 12:00 reflector.go:1] failed: x=1 (y)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := QueryOfText("q", tt.text, tt.labels)
			if !slices.Equal(q.Names, tt.names) || !slices.Equal(q.Metrics, tt.metric) || q.Text != tt.want || q.Labels["namespace"] != tt.namesp {
				t.Errorf("names %q, metrics %q, text %q, namespace %q", q.Names, q.Metrics, q.Text, q.Labels["namespace"])
			}
		})
	}
}

func TestAnIncidentGivesEverythingItKnows(t *testing.T) {
	root := incident.Ref{Cluster: "eu-1", Entity: incident.Entity{Kind: "Deployment", Namespace: "shop", Name: "cart"}}
	inc := incident.Incident{ID: "inc-x", Title: "cart is killed", Cause: "OOMKilled", Confidence: 0.8, Severity: incident.Critical, Root: &root,
		Clusters: []incident.ClusterName{"eu-1", "us-1"}, Shared: &incident.SharedFactor{Name: incident.FactorImage, Value: "cart:v9"},
		Members: []incident.Member{{Cluster: "eu-1", Entity: root.Entity, Reasons: []string{"OOMKilled", "KubePodCrashLooping"}}}}
	hyps := []incident.Hypothesis{{Cause: "OOMKilled", Object: root.Entity, Summary: "cart passes its memory limit",
		Evidence: []incident.Evidence{{Source: "events", Text: "Back-off restarting failed container"}, {Source: "alerts", Text: "expr: container_memory_working_set_bytes > 1"}}},
		{Cause: "ApplicationCrash", Object: root.Entity}}
	q := QueryOf(inc, hyps)
	f := q.Facts
	switch {
	case f.Cause != "OOMKilled", !slices.Equal(f.Causes, []string{"OOMKilled", "ApplicationCrash"}), !slices.Contains(f.Kinds, "Deployment"), len(f.Clusters) != 2,
		f.Factor != "image", f.Value != "cart:v9", f.Severity != "critical", !slices.Contains(q.Names, "KubePodCrashLooping"),
		!slices.Contains(q.Metrics, "container_memory_working_set_bytes"), !strings.Contains(q.Text, "Back-off restarting"), !strings.Contains(q.Text, "memory limit"):
		t.Errorf("query %+v", q)
	}
}

func TestWordsAreSplitAsKubernetesPeopleWriteThem(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{"KubePodCrashLooping", []string{"kubernet", "pod", "crash", "loop", "~kubepodcrashlooping"}},
		{"kube_pod_status_phase", []string{"kubernet", "pod", "status", "phase", "~kubepodstatusphase"}},
		{"KubeAPIErrorBudgetBurn", []string{"kubernet", "api", "error", "budget", "burn", "~kubeapierrorbudgetburn"}},
		{"etcdHighFsyncDurations PVCs OSDs", []string{"etcd", "high", "fsync", "durat", "persist", "volum", "claim", "osd", "~etcdhighfsyncdurations"}},
		{"rook-ceph-osd-1-7f5d8c64c9-8vwqz", []string{"rook", "ceph", "osd", "~rookcephosd"}},
		{"10.1.2.3:9100 fe80::1 137 503 42 0x7fff", []string{"137", "503"}},
		{"https://example.com/some/page", nil},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			var got terms
			newAnalyzer().read(tt.text, &got)
			all := slices.DeleteFunc(slices.Concat(got.Words, got.Joint), func(s string) bool { return s == "" })
			if !slices.Equal(all, tt.want) {
				t.Errorf("terms %q, want %q", all, tt.want)
			}
		})
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("alertname: X\nsummary: y (a=b)", `{"a":"b"}`)
	f.Add("[FIRING:1] X (critical)\nLabels: a=b, c=\"d\"", `null`)
	f.Add("Alert X has been firing for 5m (severity w). t (k=v)", `{}`)
	x := NewIndex(Options{})
	rb, err := Parse("a/KubePodCrashLooping.md", strings.NewReader("# KubePodCrashLooping\nA pod restarts.\n"))
	if err != nil {
		f.Fatal(err)
	}
	if err := x.Replace(f.Context(), []Runbook{rb}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, labels string) {
		var l map[string]string
		if json.Unmarshal([]byte(labels), &l) != nil {
			l = nil
		}
		q := QueryOfText("id", text, l)
		if len(q.Text) > maxQueryText || len(q.Names) > 20 || len(q.Metrics) > 50 {
			t.Fatalf("query is not bounded: %d bytes, %d names, %d metrics", len(q.Text), len(q.Names), len(q.Metrics))
		}
		if utf8.ValidString(text) && !utf8.ValidString(q.Text) {
			t.Fatalf("text became invalid UTF-8: %q", q.Text)
		}
		a, err := x.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := x.Search(t.Context(), q)
		if a.Confidence != b.Confidence || len(a.Hits) != len(b.Hits) || !(a.Confidence >= 0 && a.Confidence <= 1) {
			t.Fatalf("two searches gave confidence %v and %v", a.Confidence, b.Confidence)
		}
	})
}
