package runbooks

import (
	"strings"
	"sync"
)

// conceptWords are the kinds of trouble that alert names tell apart and that descriptions word
// freely: "NoReady…" and "not one pod has been in Ready condition", "…Latency" and "takes more
// than 2 s". Pages on one component often differ in just this. General knowledge of alerts, one
// concept a line; "_" stands inside a pair of words.
var conceptWords = []string{
	"high too_many too_much many excessive exceeds above over surge spike burst large increased greater heavy",
	"low less fewer below under insufficient too_few lack",
	"none no zero not_one without missing absent disappeared vanished empty nothing",
	"down unreachable offline not_responding not_running stopped dead lost disappeared unavailable killed gone",
	"error failed failing fault exception unsuccessful rejected invalid wrong bad broken",
	"latency slow slowly delay duration slower slowest too_long percentile quantile",
	"timeout timed_out deadline hang",
	"full filling run_out out_space space capacity saturated utilization nospace exhausted",
	"near nearly almost soon approaching close predicted warning within",
	"critical critically dangerous urgent immediate",
	"inode inodes files",
	"space bytes size disk",
	"memory oom out_memory rss heap",
	"cpu cores load",
	"restart restarting restarted crash crashing looping back_off panic flapping",
	"lag lagging behind stale outdated late old hasn't",
	"different inconsistent mismatch diverge drift skew unequal conflict split",
	"expire expires expired expiry runs_out renew certificate",
	"not_ready unready ready unhealthy degraded health healthy",
	"quota limit budget threshold maximum max",
	"throttled throttling rate_limit too_many_requests limited",
	"duplicate duplication twice",
	"corrupt corrupted corruption checksum damaged wal",
	"sync synced synchronization replication replica replicas",
	"config reload reloading setting misconfigured parsing yaml",
	"pending stuck waiting schedule scheduled scheduling unschedulable unbound",
	"evicted evicting pressure preempted",
	"connection connect refused disconnected network",
	"permission denied unauthorized forbidden authentication credentials token password access",
	"queue backlog pile queued",
	"leader election quorum",
	"upgrade upgrading version update updating rollout deprecated removed",
	"read query queries querier select",
	"write ingest ingestion ingester push receive upload",
	"backup snapshot archive restore dump",
	"compact compaction compactor block bucket",
	"dns resolve resolution lookup nameserver nxdomain",
	"target targets scrape discovery exporter",
	"drop dropped dropping discarded loss",
	"alerts notification notifications alerting silence",
	"rule rules evaluation evaluating",
	"volume mount attach storage pvc",
	"image pull registry",
	"job cronjob",
	"probe liveness readiness",
	"node kubelet host machine",
	"terminating finalizer deletion deleted delete",
	"webhook admission",
	"backend endpoint endpoints ingress",
	"split_brain multiple more_than_one several default",
}

type conceptSet uint64

// concepts gives each word, and each pair with a space between, its concepts. It is built once
// and then only read.
var concepts = sync.OnceValue(func() map[string]conceptSet {
	m := map[string]conceptSet{}
	an := newAnalyzer()
	for i, line := range conceptWords {
		for entry := range strings.FieldsSeq(line) {
			var t terms
			for w := range strings.SplitSeq(entry, "_") {
				an.read(w, &t)
			}
			m[strings.Join(t.Words, " ")] |= 1 << i
		}
	}
	delete(m, "")
	return m
})

func conceptsOf(words []string) conceptSet {
	table := concepts()
	var s conceptSet
	prev := ""
	for _, w := range words {
		s |= table[w]
		if prev != "" && w != "" {
			s |= table[prev+" "+w]
		}
		prev = w
	}
	return s
}
