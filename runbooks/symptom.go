package runbooks

import (
	"regexp"
	"strings"
)

// messages are what Kubernetes, its runtimes and common servers print, and the words by which
// people name that trouble. A query with the left side (all of its "+" parts, none of those with
// "!", without regard to case) is read as if it also had the right side. General knowledge of event reasons and error
// texts; one row for one message.
var messages = [][2]string{
	{"back-off restarting failed", "CrashLoopBackOff pod crash looping restarts"},
	{"crashloopbackoff", "pod crash looping restarts"},
	{"liveness probe failed", "liveness probe failing container restarts CrashLoopBackOff"},
	{"readiness probe failed", "readiness probe failing pod not ready"},
	{"startup probe failed", "startup probe failing container restarts"},
	{"oomkilled", "container OOMKilled memory limit"},
	{"out of memory", "OOMKilled memory limit"},
	{"oom-kill", "OOMKilled memory limit"},
	{"exit code 137", "killed OOMKilled exit code 137"},
	{"exit code 1", "container exits error crash"},
	{"errimagepull", "ImagePullBackOff image pull failure"},
	{"imagepullbackoff", "image pull failure registry"},
	{"failed to pull image", "ImagePullBackOff image pull failure registry"},
	{"manifest unknown", "ImagePullBackOff image not found tag"},
	{"pull access denied", "ImagePullBackOff registry authentication secret"},
	{"failedscheduling", "pod pending unschedulable not scheduled"},
	{"nodes are available", "pod pending unschedulable not scheduled"},
	{"insufficient cpu", "pod pending insufficient cpu resources scheduling"},
	{"insufficient memory", "pod pending insufficient memory resources scheduling"},
	{"untolerated taint", "taint toleration pod pending scheduling"},
	{"didn't match pod's node affinity", "node affinity selector pod pending scheduling"},
	{"unbound immediate persistentvolumeclaims", "PersistentVolumeClaim pending unbound"},
	{"provisioningfailed", "PersistentVolume provisioning failed PersistentVolumeClaim pending StorageClass"},
	{"storageclass+not found", "StorageClass missing PersistentVolumeClaim pending"},
	{"multi-attach error", "FailedAttachVolume volume attach failure"},
	{"failedattachvolume", "volume attach failure"},
	{"failedmount", "volume mount failure"},
	{"unable to attach or mount volumes", "FailedMount volume mount failure"},
	{"no space left on device+!df -i+!inode+!iuse%", "disk full filesystem out of space"},
	{"iuse%", "inodes exhausted filesystem out of files"},
	{"df -i", "inodes exhausted filesystem out of files"},
	{"no free inodes", "inodes exhausted filesystem out of files"},
	{"disk-pressure", "node DiskPressure"},
	{"diskpressure", "node disk pressure"},
	{"low on resource: ephemeral-storage", "pod evicted node DiskPressure"},
	{"low on resource: memory", "pod evicted node MemoryPressure"},
	{"evictionthresholdmet", "node pressure eviction"},
	{"freediskspacefailed", "node DiskPressure image garbage collection"},
	{"memory-pressure", "node MemoryPressure"},
	{"reason: evicted", "pods evicted node pressure"},
	{"stopped posting node status", "node not ready kubelet down"},
	{"nodenotready", "node not ready"},
	{"pleg is not healthy", "kubelet PLEG node not ready"},
	{"failedcreatepodsandbox", "pod sandbox network plugin CNI ContainerCreating"},
	{"failed to create pod sandbox", "pod sandbox network plugin CNI ContainerCreating"},
	{"no such host", "DNS resolution failure"},
	{"no servers could be reached", "DNS resolution failure CoreDNS"},
	{"temporary failure in name resolution", "DNS resolution failure"},
	{"could not resolve host", "DNS resolution failure"},
	{"servfail", "DNS resolution failure CoreDNS errors"},
	{"plugin/loop", "CoreDNS crash looping"},
	{"connection refused", "connection refused service not accessible"},
	{"endpoints+<none>", "service has no endpoints selector not forwarding traffic not accessible"},
	{"no endpoints available", "service has no endpoints not accessible"},
	{"i/o timeout", "network timeout unreachable"},
	{"context deadline exceeded", "timeout slow"},
	{"certificate has expired", "certificate expired TLS"},
	{"x509: certificate signed by unknown authority", "certificate authority not trusted TLS failure"},
	{"tls handshake", "TLS certificate failure"},
	{"429 too many requests", "rate limit exceeded throttled"},
	{"rate limit exceeded", "rate limited throttled limit reached"},
	{"503 service", "service unavailable"},
	{"502 bad gateway", "ingress backend error bad gateway"},
	{"504 gateway", "ingress gateway timeout"},
	{"is forbidden: user", "RBAC permission denied role binding unauthorized"},
	{"accessdenied", "access denied permission policy"},
	{"unauthorized", "authentication failure credentials"},
	{"exceeded quota", "ResourceQuota exceeded namespace quota"},
	{"violates podsecurity", "pod security admission denied"},
	{"failed calling webhook", "admission webhook failing"},
	{"denied the request", "admission webhook denied"},
	{"failedgetresourcemetric", "HPA horizontal pod autoscaler metrics not scaling"},
	{"unable to get metrics for resource", "HPA horizontal pod autoscaler metrics server not scaling"},
	{"faileddiscoverycheck", "aggregated API service down errors"},
	{"unable to fetch metrics from resource metrics api", "metrics server aggregated API down"},
	{"unable to handle the request", "API service unavailable aggregated API"},
	{"database space exceeded", "etcd database quota low space"},
	{"alarm:nospace", "etcd database quota low space"},
	{"slow fdatasync", "etcd high fsync duration disk slow"},
	{"apply request took too long", "etcd slow high latency"},
	{"elected leader", "etcd leader changes"},
	{"lost leader", "etcd no leader"},
	{"namespacecontentremaining", "namespace stuck terminating deletion finalizers"},
	{"finalizersremaining", "stuck terminating deletion finalizers"},
	{"terminating", "stuck terminating deletion"},
	{"backofflimitexceeded", "job failed not completing"},
	{"deadlineexceeded+job", "job failed not completing"},
	{"cannot evict pod", "PodDisruptionBudget eviction blocked drain"},
	{"disruption budget", "PodDisruptionBudget limit"},
	{"progressdeadlineexceeded", "deployment rollout stuck replicas mismatch"},
	{"too many open files", "file descriptors exhausted"},
	{"remaining connection slots", "PostgreSQL too many connections saturation"},
	{"too many clients", "PostgreSQL too many connections saturation"},
	{"could not serialize", "PostgreSQL transaction conflict"},
	{"read-only transaction", "database read only replica failover"},
	{"requested wal segment", "PostgreSQL replication lag WAL"},
	{"error reloading config", "configuration reload failed bad config"},
	{"couldn't load configuration", "configuration reload failed bad config"},
	{"out of bounds", "samples rejected out of order remote write failing"},
	{"out of order", "samples rejected out of order duplicate timestamps"},
	{"err-mimir", "limit exceeded"},
	{"context canceled", "request canceled timeout"},
	{"remote_name", "remote write remote storage failures"},
	{"clock skew", "clock not synchronising NTP"},
	{"conntrack: table full", "conntrack table limit"},
	{"split brain", "cluster inconsistent"},
}

// disappeared is how rules on absent() and up speak of what they name XDown.
var disappeared = regexp.MustCompile(`([A-Za-z][\w-]{2,60}) (?:has|have) disappeared`)

// spoken returns the words for the messages that text holds, one line a message.
func spoken(text string) string {
	low := strings.ToLower(text)
	var out strings.Builder
	for _, m := range messages {
		all := true
		for part := range strings.SplitSeq(m[0], "+") {
			want, not := strings.CutPrefix(part, "!")
			all = all && strings.Contains(low, want) != not
		}
		if all {
			out.WriteString(m[1])
			out.WriteByte('\n')
		}
	}
	for _, m := range disappeared.FindAllStringSubmatch(text, 4) {
		out.WriteString(m[1] + "Down target down\n")
	}
	return out.String()
}
