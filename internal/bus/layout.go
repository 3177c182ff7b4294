package bus

import (
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

// Streams. <cluster> is EncodeName of the cluster's name: the authenticated owner of the stream
// is the cluster, whatever a payload says. Deduplication and quota are per stream, so no cluster
// can suppress or crowd out another's signals.
const (
	streamSignals  = "SIGNALS_"   // + <cluster>: CloudEvents batches; oldest dropped at quota or after SignalsAge
	streamCommands = "COMMANDS_"  // + <cluster>: work queue of signed commands; gone when acknowledged
	streamOutcomes = "OUTCOMES"   // what was measured after actions, all clusters
	streamAudit    = "AUDIT"      // append-only; refuses deletes and purges; full: appending fails
	streamDead     = "DEADLETTER" // messages nobody could handle, with the reason in headers
	streamKV       = "KV_"        // + bucket
)

// Subjects.
const (
	subjectSignals  = "signals."    // signals.<partition>.<cluster>
	subjectCommands = "commands."   // commands.<cluster>
	subjectOutcomes = "outcomes."   // outcomes.<cluster>
	subjectLog      = "log."        // log.<stream in lower case>
	subjectDead     = "deadletter." // deadletter.<signals|commands|outcomes>.<cluster>
	subjectAgent    = "agent."      // agent.<cluster>.<verb>: requests to a cluster's agent; not stored
	subjectKV       = "$KV."        // $KV.<bucket>.<key>, the layout of NATS key-value tools
)

// Headers of ours.
const (
	headerReason   = "Tocsin-Reason"   // dead letters: why
	headerStream   = "Tocsin-Stream"   // dead letters: where from
	headerSequence = "Tocsin-Sequence" // dead letters: sequence in that stream
	headerAttempts = "Tocsin-Attempts" // dead letters: how often it was tried
	headerError    = "Tocsin-Error"    // replies of agents: the text of the error
	headerKind     = "Tocsin-Kind"     // replies of agents: which sentinel the error wraps
)

// BucketName names a key-value bucket. Every bucket keeps the newest value of a key.
type BucketName string

// Buckets.
const (
	Incidents BucketName = "incidents" // incident ID → incident; compare-and-set
	Actions   BucketName = "actions"   // proposal ID → state machine of one action; claims: Create once, never deleted
	Inventory BucketName = "inventory" // cluster → factor counts
	Health    BucketName = "health"    // cluster/collector → heartbeat
	Memory    BucketName = "memory"    // what people said of findings and runbooks
	Controls  BucketName = "controls"  // stop switch and modes; read the key itself at every decision
	Leases    BucketName = "leases"    // lease name → holder (see Lease)
	snapshots BucketName = "snapshots" // correlator state in chunks (see Snapshots)
)

// LogName names an append-only log.
type LogName string

// Audit is the log every action is recorded in; each entry carries the hash of the one before.
const Audit LogName = streamAudit

const (
	// DuplicateWindow is how long a repeated message ID is recognised: longer than any retry of ours.
	DuplicateWindow = 10 * time.Minute
	// SignalsAge is how long signals are kept for replay.
	SignalsAge = 72 * time.Hour
	// CommandAge is how long an undelivered command lives; commands carry a shorter expiry of their own.
	CommandAge = 24 * time.Hour
	// MaxPayload is the largest message of the embedded server: one topology event of a large
	// cluster. External servers say theirs (1 MiB by default).
	MaxPayload = incident.MaxEventBytes
)

// quotas are the sizes of streams at a store cap of quotaCap bytes; with a smaller cap they
// shrink in proportion, so that their sum plus forty clusters fits below the cap.
const quotaCap = 16 << 30

var quotas = map[string]int64{
	streamSignals: 256 << 20, streamCommands: 16 << 20, streamOutcomes: 128 << 20, streamAudit: 1 << 30, streamDead: 64 << 20,
	streamKV + string(Incidents): 1 << 30, streamKV + string(Actions): 512 << 20, streamKV + string(Inventory): 256 << 20,
	streamKV + string(Health): 64 << 20, streamKV + string(Memory): 256 << 20, streamKV + string(Controls): 16 << 20,
	streamKV + string(Leases): 16 << 20, streamKV + string(snapshots): 1 << 30,
}

// minQuota holds a few of the largest values.
const minQuota = 1 << 20

func (b *Bus) quota(name string) int64 {
	q := quotas[name]
	if b.storeCap > 0 && b.storeCap < quotaCap {
		q = int64(float64(q) * float64(b.storeCap) / quotaCap)
	}
	return max(q, minQuota)
}

// PartitionOf returns the partition, 0 to n-1, that correlates the cluster's signals; n < 1
// counts as 1. It depends on the name alone.
func PartitionOf(c incident.ClusterName, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(c))
	return int(h.Sum32() % uint32(n))
}

func (b *Bus) signalsConfig(token string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamSignals + token, Subjects: []string{subjectSignals + "*." + token},
		Description: "signals of one cluster", Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxBytes: b.quota(streamSignals), MaxAge: SignalsAge, Duplicates: DuplicateWindow, Replicas: b.cfg.Replicas,
	}
}

func (b *Bus) commandsConfig(token string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamCommands + token, Subjects: []string{subjectCommands + token},
		Description: "commands to one cluster's agent", Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxBytes: b.quota(streamCommands), MaxAge: CommandAge, Duplicates: DuplicateWindow, Replicas: b.cfg.Replicas,
	}
}

func (b *Bus) outcomesConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamOutcomes, Subjects: []string{subjectOutcomes + "*"}, Description: "outcomes of actions",
		Discard: jetstream.DiscardOld, MaxBytes: b.quota(streamOutcomes), MaxAge: 30 * 24 * time.Hour,
		Duplicates: DuplicateWindow, Replicas: b.cfg.Replicas,
	}
}

func (b *Bus) deadConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamDead, Subjects: []string{subjectDead + ">"}, Description: "messages nobody could handle",
		Discard: jetstream.DiscardOld, MaxBytes: b.quota(streamDead), MaxAge: 30 * 24 * time.Hour,
		Duplicates: DuplicateWindow, Replicas: b.cfg.Replicas,
	}
}

func (b *Bus) logConfig(name LogName) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: string(name), Subjects: []string{logSubject(name)}, Description: "append-only log",
		Discard: jetstream.DiscardNew, MaxBytes: b.quota(string(name)), DenyDelete: true, DenyPurge: true,
		Duplicates: DuplicateWindow, Replicas: b.cfg.Replicas,
	}
}

// bucketConfig is what NATS key-value tools expect, but for AllowDirect: reads go to the leader,
// because decisions (approval, stop switch) must not see a lagging replica.
func (b *Bus) bucketConfig(name BucketName) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamKV + string(name), Subjects: []string{subjectKV + string(name) + ".>"}, MaxMsgsPerSubject: 1,
		Discard: jetstream.DiscardNew, MaxBytes: b.quota(streamKV + string(name)), AllowRollup: true, DenyDelete: true,
		Duplicates: 2 * time.Minute, Replicas: b.cfg.Replicas,
	}
}

func logSubject(name LogName) string { return subjectLog + strings.ToLower(string(name)) }

func signalSubject(partition int, token string) string {
	return subjectSignals + strconv.Itoa(partition) + "." + token
}

// clusterOf returns the cluster a per-cluster stream belongs to.
func clusterOf(stream, prefix string) (incident.ClusterName, bool) {
	token, ok := strings.CutPrefix(stream, prefix)
	if !ok {
		return "", false
	}
	name, err := DecodeName(token)
	return incident.ClusterName(name), err == nil
}
