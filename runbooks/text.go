package runbooks

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kljensen/snowball/english"
)

// analyzer turns text into terms the way Kubernetes people write names: identifiers are split
// at case changes, "_", "-", ":" and ".", and kept whole beside their parts; values that name
// one instance (addresses, hashes, generated suffixes, most numbers) are left out; words are
// stemmed. It caches stems and is not safe for concurrent use.
type analyzer struct {
	stems map[string]string
}

func newAnalyzer() *analyzer { return &analyzer{stems: make(map[string]string, 4096)} }

// terms are the words of one text in order. Joint holds identifiers kept whole ("~" before
// them), which have no place in word order.
type terms struct {
	Words []string
	Joint []string
}

const maxIdentifier = 120 // bytes; longer runs are data, not names

// read appends the terms of s to t.
func (a *analyzer) read(s string, t *terms) {
	for i := 0; i < len(s); {
		c := s[i]
		if !joins(c) && c < utf8.RuneSelf {
			i++
			continue
		}
		j := i
		for j < len(s) && (joins(s[j]) || s[j] >= utf8.RuneSelf) {
			j++
		}
		if run := s[i:j]; !strings.HasPrefix(run, "http://") && !strings.HasPrefix(run, "https://") {
			a.identifier(run, t)
		}
		if j < len(s) && (s[j] == '\n') && len(t.Words) > 0 && t.Words[len(t.Words)-1] != "" {
			t.Words = append(t.Words, "") // a line end breaks pairs
		}
		i = j
	}
}

// joins reports whether c may stand inside an identifier.
func joins(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':' || c == '/' || c == '\''
}

// identifier adds the parts of one run of joined characters.
func (a *analyzer) identifier(s string, t *terms) {
	s = strings.Trim(s, "-_.:/'")
	if s == "" || len(s) > 4*maxIdentifier || isAddress(s) {
		return
	}
	// Paths and URLs: every element on its own, so that the last one keeps its meaning.
	if strings.Contains(s, "/") {
		for p := range strings.SplitSeq(s, "/") {
			a.identifier(p, t)
		}
		return
	}
	parts := splitIdentifier(s)
	var joint strings.Builder
	kept := 0
	for i, p := range parts {
		if !informative(p, i, len(parts)) {
			continue
		}
		joint.WriteString(p)
		kept++
		for _, w := range canonical(p) {
			if stop[w] {
				continue
			}
			t.Words = append(t.Words, a.stem(w))
		}
	}
	if kept > 1 && joint.Len() <= maxIdentifier {
		t.Joint = append(t.Joint, "~"+joint.String())
	}
}

// splitIdentifier cuts at separators and case changes and lower-cases the parts:
// "KubeAPIErrorBudgetBurn" gives kube api error budget burn, "etcd_disk_wal" etcd disk wal.
func splitIdentifier(s string) []string {
	var out []string
	for field := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '_' || r == '-' || r == '.' || r == ':' }) {
		if i := strings.IndexByte(field, '\''); i >= 0 {
			field = field[:i] + strings.TrimPrefix(field[i+1:], "s")
			field = strings.ReplaceAll(field, "'", "")
		}
		out = appendCamel(out, field)
	}
	return out
}

func appendCamel(out []string, s string) []string {
	r := []rune(s)
	start := 0
	for i := 1; i < len(r); i++ {
		lowerUpper := unicode.IsLower(r[i-1]) && unicode.IsUpper(r[i])
		// In "APIError" the word begins at the last upper-case letter; "PVCs" and "VMs" are plurals.
		acronym := i+1 < len(r) && unicode.IsUpper(r[i-1]) && unicode.IsUpper(r[i]) && unicode.IsLower(r[i+1]) &&
			!(r[i+1] == 's' && (i+2 == len(r) || unicode.IsUpper(r[i+2])))
		if lowerUpper || acronym {
			out = append(out, strings.ToLower(string(r[start:i])))
			start = i
		}
	}
	if start < len(r) {
		out = append(out, strings.ToLower(string(r[start:])))
	}
	return out
}

// informative says whether a part may help to find a page. HTTP status and exit codes do; other
// numbers, hashes and the random ends of generated names do not.
func informative(p string, i, n int) bool {
	digits, letters, vowels := 0, 0, 0
	for _, c := range p {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case strings.ContainsRune("aeiouy", c):
			vowels++
			letters++
		default:
			letters++
		}
	}
	switch {
	case len(p) > 40:
		return false
	case letters == 0:
		return len(p) == 3 && (p[0] == '4' || p[0] == '5' || p == "137" || p == "139" || p == "143")
	case digits > 0 && letters > 0 && len(p) >= 5 && !strings.HasPrefix(p, "v1") && !strings.HasPrefix(p, "v2") && !strings.HasPrefix(p, "sha") && !strings.HasPrefix(p, "ipv"):
		return digits <= 2 && vowels > 0 && p[len(p)-1] >= '0' && p[len(p)-1] <= '9' // db01, but not 7f5d8
	case i == n-1 && n > 2 && len(p) == 5 && vowels == 0 && digits > 0:
		return false
	case len(p) == 1:
		return false
	}
	return true
}

// isAddress reports IPv4 addresses with or without a port, IPv6 addresses and times of day.
func isAddress(s string) bool {
	dots, colons := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			dots++
		case c == ':':
			colons++
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '/':
		default:
			return false
		}
	}
	return dots == 3 || colons > 1
}

func (a *analyzer) stem(w string) string {
	if s, ok := a.stems[w]; ok {
		return s
	}
	s := w
	if len(w) > 3 {
		s = english.Stem(w, false)
	}
	if len(a.stems) < 200_000 {
		a.stems[strings.Clone(w)] = s
	}
	return s
}

// canonical spells out the usual abbreviations of Kubernetes and operations, so that both
// spellings meet. General knowledge, not taken from any collection of runbooks.
func canonical(w string) []string {
	if c, ok := spelled[w]; ok {
		return c
	}
	return []string{w}
}

var spelled = map[string][]string{
	"pvc": {"persistent", "volume", "claim"}, "pvcs": {"persistent", "volume", "claim"}, "persistentvolumeclaim": {"persistent", "volume", "claim"},
	"persistentvolumeclaims": {"persistent", "volume", "claim"}, "pv": {"persistent", "volume"}, "pvs": {"persistent", "volume"},
	"persistentvolume": {"persistent", "volume"}, "persistentvolumes": {"persistent", "volume"}, "storageclass": {"storage", "class"},
	"apiserver": {"api", "server"}, "kubeapiserver": {"kube", "api", "server"}, "apiservice": {"api", "service"}, "ns": {"namespace"}, "svc": {"service"},
	"deploy": {"deployment"}, "sts": {"statefulset"}, "ds": {"daemonset"}, "hpa": {"horizontal", "pod", "autoscaler"},
	"pdb": {"pod", "disruption", "budget"}, "k8s": {"kubernetes"}, "kube": {"kubernetes"}, "db": {"database"}, "mem": {"memory"}, "fs": {"filesystem"},
	"cm": {"configmap"}, "sa": {"service", "account"}, "serviceaccount": {"service", "account"}, "certs": {"certificate"}, "cert": {"certificate"}, "config": {"configuration"},
	"configs": {"configuration"}, "auth": {"authentication"}, "oom": {"out", "memory"}, "oomkilled": {"oom", "killed", "out", "memory"}, "oomkill": {"oom", "killed", "out", "memory"}, "conn": {"connection"},
	"repl": {"replication"}, "postgres": {"postgresql"}, "pg": {"postgresql"}, "lb": {"load", "balancer"}, "loadbalancer": {"load", "balancer"}, "vm": {"virtual", "machine"}, "vms": {"virtual", "machine"},
	"vmi": {"virtual", "machine", "instance"}, "vmis": {"virtual", "machine", "instance"}, "netpol": {"network", "policy"}, "networkpolicy": {"network", "policy"}, "crd": {"custom", "resource", "definition"},
	"crds": {"custom", "resource", "definition"}, "iops": {"io"}, "reqs": {"request"}, "err": {"error"}, "errs": {"error"}, "failed": {"fail"}, "failure": {"fail"},
	"failures": {"fail"}, "failing": {"fail"}, "unavailable": {"unavailable"}, "async": {"asynchronous"}, "sync": {"sync"}, "prom": {"prometheus"},
	"replicas": {"replica"}, "crashloopbackoff": {"crash", "loop", "back", "off"}, "crashloop": {"crash", "loop"}, "crashlooping": {"crash", "loop"},
	"backoff": {"back", "off"}, "imagepullbackoff": {"image", "pull", "back", "off"}, "errimagepull": {"image", "pull", "error"}, "msg": {"message"},
	"timeout": {"time", "out"}, "timeouts": {"time", "out"}, "timedout": {"time", "out"}, "timed": {"time"}, "readonly": {"read", "only"}, "disk": {"disk"}, "disks": {"disk"},
	"alertmanager": {"alertmanager"}, "multi": {"multi"}, "sec": {"second"}, "secs": {"second"}, "mins": {"minute"}, "min": {"minute"}, "async-": {"async"},
}

var stop = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`a about above after again against all also although always am an and any are as at be because been before being below between both but by can
could did do does doing down during each either else etc few for from further had has have having he her here hers him his how however i if in into is it its itself just may me might
more most must my need no nor not now of on once only onto or other our out over own per same she should so some such than that the their them then there these they this those
through thus to too under until up upon us use used using very via was we were what when where whether which while who whom why will with within without would you your
please see check eg ie http https www com org io md html svc cluster local example`) {
		m[w] = true
	}
	// These say what is wrong and stay: "down", "not", "no", "out", "over", "under", "without".
	for _, w := range []string{"down", "no", "not", "out", "over", "under", "without", "cluster", "local", "need", "too", "above", "below", "few", "more", "before", "once"} {
		delete(m, w)
	}
	return m
}()
