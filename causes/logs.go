package causes

import (
	"regexp"
	"strings"
	"sync"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// logClass is what a log line says is wrong, as far as a detector cares.
type logClass uint8

const (
	logOther       logClass = iota
	logRefused              // connection refused, reset or unreachable
	logTimeout              // connection timed out
	logUnknownHost          // the resolver says there is no such name
	logDNSTimeout           // the resolver does not answer
	logDBDown               // a database client cannot connect, no matter why
	logDBAccess             // a database refuses user or password
	logDBReadOnly           // a database refuses writes
	logDBTooMany            // a database refuses more connections
	logPermission           // the file system says no
	logInUse                // an address or port is taken
	logEnvMissing           // a variable or setting is missing
	logFileMissing          // a file is missing
	logCertExpired          // a certificate has expired
	logTLS                  // TLS peers do not agree
	logOOM                  // out of memory
	logPanic                // a crash with a stack
	logNoSpace              // no space left on device
	logMeshDenied           // a mesh proxy denies the call
	logExecFormat           // a binary of another platform
	logUnavailable          // an upstream answers 502, 503, UNAVAILABLE
	logNotFound             // a route or path is not there
)

// logWords are the lower-case words that give a line its class. Where several match, the class
// with the highest weight wins; classes of equal weight by order.
func logWords() []logWord {
	return []logWord{
		{"connection refused", logRefused, 5}, {"econnrefused", logRefused, 5}, {"connectexception", logRefused, 4}, {"connection reset by peer", logRefused, 2},
		{"no route to host", logRefused, 5}, {"network is unreachable", logRefused, 5}, {"host is unreachable", logRefused, 5}, {"failed to connect to all addresses", logRefused, 4},
		{"connect timed out", logTimeout, 5}, {"connection timed out", logTimeout, 5}, {"etimedout", logTimeout, 5}, {"i/o timeout", logTimeout, 4},
		{"context deadline exceeded", logTimeout, 3}, {"deadline_exceeded", logTimeout, 3}, {"deadlineexceeded", logTimeout, 3}, {"read timed out", logTimeout, 3}, {"sockettimeoutexception", logTimeout, 3},
		{"no such host", logUnknownHost, 7}, {"name or service not known", logUnknownHost, 7}, {" enotfound", logUnknownHost, 7}, {"'enotfound", logUnknownHost, 7}, {"\"enotfound", logUnknownHost, 7}, {"unknownhostexception", logUnknownHost, 6},
		{"could not translate host name", logUnknownHost, 7}, {"nodename nor servname provided", logUnknownHost, 7}, {"unknown mysql server host", logUnknownHost, 7},
		{"could not resolve host", logUnknownHost, 7}, {"name resolution failed", logUnknownHost, 6}, {"dns resolution failed", logUnknownHost, 6}, {"unable to resolve host", logUnknownHost, 6}, {"nxdomain", logUnknownHost, 6},
		{"temporary failure in name resolution", logDNSTimeout, 8}, {"eai_again", logDNSTimeout, 8}, {"server misbehaving", logDNSTimeout, 8}, {"failed to resolve", logUnknownHost, 5},
		{"communications link failure", logDBDown, 5}, {"can't connect to mysql server", logDBDown, 6}, {"could not connect to server", logDBDown, 5}, {"mongoserverselectionerror", logDBDown, 5},
		{"access denied for user", logDBAccess, 8}, {"password authentication failed", logDBAccess, 8}, {"authentication failed", logDBAccess, 4}, {"wrongpass", logDBAccess, 8},
		{"noauth authentication required", logDBAccess, 8}, {"invalid username-password pair", logDBAccess, 8}, {"login failed for user", logDBAccess, 8}, {"invalid password", logDBAccess, 3},
		{"no pg_hba.conf entry", logDBAccess, 7}, {"access_refused", logDBAccess, 6}, {"ora-01017", logDBAccess, 8}, {"role \"", logOther, 0},
		{"read-only option", logDBReadOnly, 9}, {"--read-only", logDBReadOnly, 9}, {"super-read-only", logDBReadOnly, 9}, {"read only replica", logDBReadOnly, 9}, {"in a read-only transaction", logDBReadOnly, 9}, {"not master and slaveok", logDBReadOnly, 7}, {"notwritableprimary", logDBReadOnly, 9},
		{"readonly you can't write", logDBReadOnly, 9}, {"connection is read-only", logDBReadOnly, 7}, {"misconf redis", logDBReadOnly, 7}, {"database is read-only", logDBReadOnly, 9}, {"database is in read-only", logDBReadOnly, 9},
		{"too many connections", logDBTooMany, 9}, {"too many clients", logDBTooMany, 9}, {"remaining connection slots", logDBTooMany, 9}, {"max number of clients reached", logDBTooMany, 9}, {"max_user_connections", logDBTooMany, 9}, {"connection limit exceeded", logDBTooMany, 8}, {"sorry, too many", logDBTooMany, 9},
		{"permission denied", logPermission, 5}, {"eacces:", logPermission, 5}, {"'eacces", logPermission, 5}, {"\"eacces", logPermission, 5}, {"accessdeniedexception", logPermission, 5}, {"operation not permitted", logPermission, 4}, {"read-only file system", logPermission, 6}, {"erofs", logPermission, 6}, {"access is denied", logPermission, 3},
		{"address already in use", logInUse, 8}, {"eaddrinuse", logInUse, 8}, {"was already in use", logInUse, 8}, {"port is already allocated", logInUse, 8}, {"already in use by another process", logInUse, 8}, {"failed to bind", logInUse, 4}, {"bind failed", logInUse, 4}, {"bindexception", logInUse, 6},
		{"environment variable", logEnvMissing, 2}, {"env var", logEnvMissing, 2}, {"keyerror:", logEnvMissing, 3}, {"could not resolve placeholder", logEnvMissing, 7}, {"is not set", logEnvMissing, 3}, {"not specified", logEnvMissing, 2}, {"required key", logEnvMissing, 3}, {"missing required", logEnvMissing, 4}, {"must be set", logEnvMissing, 4}, {"you must specify", logEnvMissing, 4}, {"need to specify one of", logEnvMissing, 4}, {"unset variable", logEnvMissing, 4}, {"unbound variable", logEnvMissing, 6}, {"parameter not set", logEnvMissing, 6}, {"environment variable not set", logEnvMissing, 7},
		{"no such file or directory", logFileMissing, 4}, {"enoent", logFileMissing, 4}, {"filenotfoundexception", logFileMissing, 4}, {"filenotfounderror", logFileMissing, 4}, {"cannot find module", logFileMissing, 3}, {"module not found", logFileMissing, 3},
		{"certificate has expired", logCertExpired, 9}, {"certificate is expired", logCertExpired, 9}, {"certificateexpiredexception", logCertExpired, 9}, {"cert_has_expired", logCertExpired, 9}, {"certificate expired", logCertExpired, 9}, {"expired or is not yet valid", logCertExpired, 9}, {"notafter:", logCertExpired, 6},
		{"wrong version number", logTLS, 6}, {"first record does not look like a tls handshake", logTLS, 6}, {"tls: ", logTLS, 2}, {"tls handshake", logTLS, 3}, {"server gave http response to https client", logTLS, 6}, {"ssl routines", logTLS, 4}, {"certificate_verify_failed", logTLS, 5}, {"tls_error", logTLS, 4},
		{"outofmemoryerror", logOOM, 9}, {"out of memory", logOOM, 7}, {"cannot allocate memory", logOOM, 8}, {"memoryerror", logOOM, 8}, {"heap out of memory", logOOM, 9}, {"oom-kill", logOOM, 8},
		{"panic:", logPanic, 4}, {"segmentation fault", logPanic, 6}, {"sigsegv", logPanic, 6}, {"fatal error", logPanic, 2}, {"traceback (most recent", logPanic, 3}, {"unhandled exception", logPanic, 3}, {"uncaught exception", logPanic, 3},
		{"no space left on device", logNoSpace, 9}, {"disk quota exceeded", logNoSpace, 8}, {"enospc", logNoSpace, 9}, {"disk is full", logNoSpace, 6}, {"disk full", logNoSpace, 6},
		{"rbac: access denied", logMeshDenied, 9}, {"rbac_access_denied", logMeshDenied, 9},
		{"exec format error", logExecFormat, 9},
		{"503 service unavailable", logUnavailable, 3}, {"code = unavailable", logUnavailable, 2}, {"statuscode.unavailable", logUnavailable, 3}, {"502 bad gateway", logUnavailable, 3}, {"14 unavailable", logUnavailable, 3}, {"no healthy upstream", logUnavailable, 4}, {"503 server error", logUnavailable, 3}, {"upstream connect error", logUnavailable, 4}, {"service unavailable", logUnavailable, 2},
		{"404 not found", logNotFound, 2}, {"404 : ", logNotFound, 2},
	}
}

type logWord struct {
	word   string
	class  logClass
	weight int
}

// logFact is one kind of line that a container wrote: class and peer, with an example, how often
// and whether the container said it last.
type logFact struct {
	class     logClass
	log       *cluster.Log
	pod       incident.Entity
	owner     incident.Entity
	host      string // the peer the line names; "" when it names none
	port      string
	text      string // the first such line, cut
	count     int
	previous  bool // in the run before, too
	last      bool // among the last 60 lines of a log
	container string
}

const maxLine = 4 << 10

// facts returns what the logs say, in log order; proxies' own logs are kept apart by container.
func (c *scan) facts() []*logFact {
	if c.logFacts == nil {
		c.logFacts = []*logFact{}
		for i := range c.Logs {
			c.readLog(&c.Logs[i])
		}
		c.factsOf = map[incident.Entity][]*logFact{}
		for _, f := range c.logFacts {
			c.factsOf[f.owner.Key()] = append(c.factsOf[f.owner.Key()], f)
		}
	}
	return c.logFacts
}

// said returns what a workload's containers said, proxies' logs left out.
func (c *scan) said(w incident.Entity, classes ...logClass) []*logFact {
	c.facts()
	var out []*logFact
	for _, f := range c.factsOf[w.Key()] {
		for _, cl := range classes {
			if f.class == cl && !proxyContainer(f.container) {
				out = append(out, f)
			}
		}
	}
	return out
}

func proxyContainer(name string) bool {
	return name == "istio-proxy" || name == "linkerd-proxy" || name == "envoy" || name == "istio-init" || name == "istio-validation"
}

func (c *scan) readLog(l *cluster.Log) {
	pod := incident.Entity{Kind: "Pod", Namespace: l.Namespace, Name: l.Pod}
	owner := pod
	if p, ok := c.Pods.Get(l.Namespace, l.Pod); ok {
		owner = c.owner(p)
	}
	byKey := map[[3]string]*logFact{}
	for i, s := range []string{l.Previous, l.Current} {
		eachMatch(s, func(line string, class logClass, last bool) {
			if class == logTimeout && strings.Contains(line, "lookup ") {
				class = logDNSTimeout
			}
			host, port := peer(line, class)
			k := [3]string{string(rune(class)), host, port}
			f := byKey[k]
			if f == nil {
				f = &logFact{class: class, log: l, pod: pod, owner: owner, host: host, port: port, text: incident.Clip(strings.TrimSpace(line), 500), container: l.Container}
				byKey[k] = f
				c.logFacts = append(c.logFacts, f)
			}
			f.count++
			f.previous = f.previous || i == 0
			f.last = f.last || last
		})
	}
}

// eachMatch calls f for each line of s that has a class. Long lines are cut at 4 KiB.
func eachMatch(s string, f func(line string, class logClass, last bool)) {
	m := matcher()
	state, start := int32(0), 0
	best, weight := logOther, 0
	left := 0
	tail := len(s)
	for n := 0; n < 60 && tail > 0; n++ {
		tail = strings.LastIndexByte(s[:tail], '\n')
		if tail < 0 {
			tail = 0
		}
	}
	emit := func(end int) {
		if weight > 0 {
			f(s[start:min(end, start+maxLine)], best, start >= tail)
		}
		state, best, weight, left = 0, logOther, 0, maxLine
	}
	left = maxLine
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b == '\n' {
			emit(i)
			start = i + 1
			continue
		}
		if left--; left < 0 {
			if j := strings.IndexByte(s[i:], '\n'); j >= 0 {
				i += j - 1
				continue
			}
			break
		}
		state = m.next[state<<7|int32(fold[b])]
		if o := m.out[state]; o.weight > weight {
			best, weight = o.class, o.weight
		}
	}
	emit(len(s))
}

// fold maps bytes to lower-case ASCII; bytes beyond it to 0.
var fold = func() (t [256]byte) {
	for i := range t {
		switch {
		case i >= 'A' && i <= 'Z':
			t[i] = byte(i) + 32
		case i < 128:
			t[i] = byte(i)
		}
	}
	return t
}()

// automaton finds all words in one pass (Aho and Corasick, 1975).
type automaton struct {
	next []int32
	out  []logWord
}

var matcher = sync.OnceValue(func() *automaton {
	a := &automaton{next: make([]int32, 128), out: make([]logWord, 1)}
	for _, w := range logWords() {
		s := int32(0)
		for i := 0; i < len(w.word); i++ {
			k := s<<7 | int32(w.word[i])
			if a.next[k] == 0 {
				a.next[k] = int32(len(a.out))
				a.out = append(a.out, logWord{})
				a.next = append(a.next, make([]int32, 128)...)
			}
			s = a.next[k]
		}
		if w.weight > a.out[s].weight {
			a.out[s] = w
		}
	}
	fail := make([]int32, len(a.out))
	var queue []int32
	for b := range int32(128) {
		if n := a.next[b]; n != 0 {
			queue = append(queue, n)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if o := a.out[fail[s]]; o.weight > a.out[s].weight {
			a.out[s] = o
		}
		for b := range int32(128) {
			k := s<<7 | b
			if n := a.next[k]; n != 0 {
				fail[n] = a.next[fail[s]<<7|b]
				queue = append(queue, n)
			} else {
				a.next[k] = a.next[fail[s]<<7|b]
			}
		}
	}
	return a
})

var (
	peerURL    = regexp.MustCompile(`(?i)(?:https?|jdbc:[a-z]+|redis|amqp|mongodb|postgres(?:ql)?|mysql|grpc|tcp)://(?:[^@/\s"]*@)?([a-z0-9][a-z0-9.-]*)(?::(\d{1,5}))?`)
	peerLookup = regexp.MustCompile(`(?i)(?:lookup |UnknownHostException: |ENOTFOUND |EAI_AGAIN |resolve host:? |resolve host name |translate host name "|Failed to resolve '?|failed for |not known: |resolution: |getaddrinfo failed: |host '|host )([a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*)(?::(\d{1,5}))?`)
	peerDial   = regexp.MustCompile(`(?i)(?:dial tcp |connect to |connecting to |ECONNREFUSED |connect |refused: |addr=|address[:=] ?"?|server at |to server |host=)"?/?\[?([a-z0-9][a-z0-9.:-]*?)\]?[:/ ](\d{2,5})\b`)
	peerPlain  = regexp.MustCompile(`\b([a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*|\d{1,3}(?:\.\d{1,3}){3}):(\d{2,5})\b`)
)

// peer returns the host and port that a line about a connection names; empty when it names none.
func peer(line string, class logClass) (host, port string) {
	switch class {
	case logUnknownHost, logDNSTimeout:
		if m := peerLookup.FindStringSubmatch(line); m != nil && !strings.EqualFold(m[1], "name") {
			return strings.ToLower(strings.TrimSuffix(m[1], ".")), m[2]
		}
	case logInUse:
		if m := portInUse.FindStringSubmatch(line); m != nil {
			return "", m[1]
		}
		return "", ""
	case logRefused, logTimeout, logDBDown, logUnavailable, logTLS, logMeshDenied, logNotFound:
	default:
		return "", ""
	}
	for _, re := range []*regexp.Regexp{peerURL, peerDial, peerPlain} {
		if m := re.FindStringSubmatch(line); m != nil {
			return strings.ToLower(m[1]), m[2]
		}
	}
	return "", ""
}

var portInUse = regexp.MustCompile(`(?i)(?:port |:)(\d{2,5})\b`)
