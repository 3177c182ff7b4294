package causes

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// trouble is a container that does not run, with the words of the kubelet about it.
type trouble struct {
	container
	workload *cluster.Workload
	reason   string
	message  string // of the waiting state, the termination or the latest fitting event
	at       time.Time
	source   string
}

// cite adds the container's state and words to a suspect.
func (t trouble) cite(s *suspect) *suspect {
	e := podEntity(t.Pod)
	s.see("objects/pods", e, "status.containerStatuses["+t.Spec.Name+"].state", t.reason, "Running").explain(t.workload.Entity, "").explain(e, "").relate(e)
	if t.message != "" {
		s.quote(t.source, e, t.message, t.at)
	}
	return s.first(t.Pod.CreationTimestamp.Time)
}

// path is the field path of the container in its workload's template.
func (t trouble) path(field string) string {
	if t.workload.Entity.Kind == "Pod" {
		return t.Path + "." + field
	}
	return strings.Replace(t.Path, "spec.", "spec.template.spec.", 1) + "." + field
}

// eventAbout returns the latest event of a pod that speaks of a container, with a reason and any
// of the words.
func (c *scan) eventAbout(p *corev1.Pod, ct *corev1.Container, reasons []string, words ...string) *corev1.Event {
	evs := c.warnings(podEntity(p), reasons...)
	for i := len(evs) - 1; i >= 0; i-- {
		f := evs[i].InvolvedObject.FieldPath
		if f != "" && strings.Contains(f, "{") && between(f, "{", "}") != ct.Name {
			continue
		}
		if len(words) == 0 || has(evs[i].Message, words...) {
			return evs[i]
		}
	}
	return nil
}

// brokenContainers returns the containers of each workload that wait or end, one of each name.
func (c *scan) brokenContainers() []trouble {
	if c.broken != nil {
		return c.broken
	}
	c.broken = []trouble{}
	for _, w := range c.Workloads() {
		seen := map[string]bool{}
		for _, p := range live(w) {
			if p.Status.Phase == corev1.PodFailed && p.Status.Reason != "" {
				continue // evicted, preempted or shut down with its node: not by itself
			}
			for _, ct := range containersOf(p) {
				if seen[ct.Spec.Name] || ct.Status == nil || ct.ready() && ct.restarts() == 0 {
					continue
				}
				t := trouble{container: ct, workload: w, source: "objects/pods"}
				if r, m := ct.waiting(); r != "" {
					t.reason, t.message = r, m
				} else if e := ct.ended(); e != nil && e.ExitCode != 0 {
					t.reason, t.message, t.at = or(e.Reason, "Error"), e.Message, e.FinishedAt.Time
				} else if e != nil && ct.restarts() > 0 && !ct.Init {
					t.reason, t.at = or(e.Reason, "Completed"), e.FinishedAt.Time
				} else {
					continue
				}
				if p.Status.Phase == corev1.PodFailed && t.reason == "ContainerCreating" {
					continue
				}
				seen[ct.Spec.Name] = true
				c.broken = append(c.broken, t)
			}
		}
	}
	return c.broken
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// failedStart names why containers do not start: image, configuration, command, volumes.
func failedStart(c *scan) {
	for _, t := range c.brokenContainers() {
		switch t.reason {
		case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
			c.imagePull(t)
		case "CreateContainerConfigError":
			c.configError(t)
		case "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PreCreateHookError", "PostStartHookError":
			c.startError(t)
		case "ContainerCreating", "PodInitializing":
			if t.Init || !c.initBlocked(t.Pod) {
				c.notCreated(t)
			}
		case "CrashLoopBackOff", "Error":
			if e := t.ended(); e != nil && (e.Reason == "StartError" || e.Reason == "ContainerCannotRun") {
				t.message, t.at = or(e.Message, t.message), e.FinishedAt.Time
				c.startError(t)
			} else if ev := c.eventAbout(t.Pod, t.Spec, []string{"Failed"}, "failed to start container", "failed to create containerd task", "executable file not found", "oci runtime"); ev != nil && t.restarts() <= ev.Count+2 {
				t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
				c.startError(t)
			}
		}
	}
}

// initBlocked reports whether an init container of the pod has not ended well.
func (c *scan) initBlocked(p *corev1.Pod) bool {
	return slices.ContainsFunc(containersOf(p), func(ct container) bool {
		return ct.Init && !ct.sidecar() && ct.Status != nil && (ct.Status.State.Running != nil || ct.crashing() || ct.Status.State.Waiting != nil && ct.Status.State.Waiting.Reason != "PodInitializing")
	})
}

var (
	missingRef  = regexp.MustCompile(`(?i)(secret|configmap) "?([^" ]+)"? not found`)
	missingKey  = regexp.MustCompile(`(?i)couldn't find key ([^ ]+) in (Secret|ConfigMap) "?([^" ]+)"?`)
	nonExistent = regexp.MustCompile(`(?i)references non-existent (secret|config) key:? ([^ "]+)`)
)

// startError names why the runtime could not start a container's process.
func (c *scan) startError(t trouble) {
	if ev := c.eventAbout(t.Pod, t.Spec, []string{"Failed", "FailedPostStartHook"}, "exec", "container", "oci", "mount"); ev != nil && len(ev.Message) > len(t.message) {
		t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
	}
	m := t.message
	w := t.workload.Entity
	switch {
	case has(m, "exec format error"):
		s := t.cite(c.blame("ImagePlatformMismatch", w, 0.95, "%s: image %s is built for another platform than its node", w, t.Spec.Image))
		c.seePlatform(s, t)
		c.imageFix(s, "ImagePlatformMismatch", t)
	case has(m, "oom-killed", "memory limit too low"):
		c.oom(t, 0.95, m)
	case has(m, "executable file not found", "no such file or directory", "no command specified", "is a directory: unknown", "not a directory: unknown") && !has(m, "mount"), has(m, "permission denied") && has(m, "exec"):
		s := t.cite(c.blame("InvalidCommand", w, 0.95, "%s: the command of container %s cannot be run: %s", w, t.Spec.Name, lastPart(m)))
		s.see("objects/"+plural(w.Kind), w, t.path("command"), strings.Join(append(slices.Clone(t.Spec.Command), t.Spec.Args...), " "), "a program that the image has")
		c.rollback(s, t.workload)
		s.step(w, "Correct command and args of container %s in %s", t.Spec.Name, w)
	case has(m, "mount") && has(m, "permission denied", "operation not permitted", "read-only file system"):
		s := t.cite(c.blame("VolumeMountPermissionDenied", w, 0.9, "%s: container %s may not use its volume: %s", w, t.Spec.Name, lastPart(m)))
		s.step(w, "Correct the volume's ownership (fsGroup) or mode for %s", w)
	case has(m, "operation not permitted", "runasnonroot", "capabilit", "seccomp", "apparmor", "selinux"):
		s := t.cite(c.blame("SecurityContextInvalid", w, 0.9, "%s: container %s may not start: %s", w, t.Spec.Name, lastPart(m)))
		c.rollback(s, t.workload)
		s.step(w, "Correct the security context of container %s in %s", t.Spec.Name, w)
	case missingRef.MatchString(m):
		g := missingRef.FindStringSubmatch(m)
		c.refMissing(t, kindOfRef(g[1]), g[2], "")
	default:
		s := t.cite(c.blame("InvalidCommand", w, 0.6, "%s: container %s cannot be started: %s", w, t.Spec.Name, lastPart(m)))
		c.rollback(s, t.workload)
		s.step(w, "See why the runtime cannot start container %s of %s", t.Spec.Name, w)
	}
}

// lastPart returns the end of a chain of errors, which tells most.
func lastPart(m string) string {
	if len(m) <= 160 {
		return m
	}
	return "…" + m[len(m)-157:]
}

var mountVolume = regexp.MustCompile(`volume "([^"]+)"`)

// notCreated names why a placed pod's containers are not created: sandbox, volumes, references.
func (c *scan) notCreated(t trouble) {
	e := podEntity(t.Pod)
	evs := c.warnings(e, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume", "FailedCreatePodContainer", "NetworkNotReady", "FailedSync")
	slices.SortStableFunc(evs, func(a, b *corev1.Event) int { return cmp.Compare(mountTimeout(b), mountTimeout(a)) })
	for i := len(evs) - 1; i >= 0; i-- {
		ev := evs[i]
		t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
		if c.age(t.at) > 20*time.Minute && c.age(t.at) > c.age(t.Pod.CreationTimestamp.Time)/2 {
			continue
		}
		if c.notCreatedBy(t, ev) {
			return
		}
	}
}

// mountTimeout is 1 for the kubelet's word that it waited for volumes in vain: another event tells
// what for.
func mountTimeout(ev *corev1.Event) int {
	if has(ev.Message, "timed out waiting for the condition", "context deadline exceeded") && has(ev.Message, "unable to attach or mount", "unmounted volumes") {
		return 1
	}
	return 0
}

func (c *scan) notCreatedBy(t trouble, ev *corev1.Event) bool {
	m, w := ev.Message, t.workload.Entity
	switch {
	case ev.Reason == "FailedCreatePodSandBox" && has(m, "oom-killed", "memory limit too low"):
		c.oom(t, 0.95, m)
	case ev.Reason == "FailedCreatePodSandBox", ev.Reason == "NetworkNotReady":
		s := t.cite(c.blame("SandboxCreationFailed", nodeEntity(t.Pod.Spec.NodeName), 0.93, "node %s cannot create pod sandboxes: %s", t.Pod.Spec.NodeName, lastPart(m)))
		s.relate(w, podEntity(t.Pod))
		s.step(nodeEntity(t.Pod.Spec.NodeName), "See the network plugin and container runtime of node %s; restart the plugin's pod there", t.Pod.Spec.NodeName)
	case missingRef.MatchString(m):
		g := missingRef.FindStringSubmatch(m)
		if c.namedAlready(t.Pod.Namespace, kindOfRef(g[1]), g[2]) {
			return false
		}
		c.refMissing(t, kindOfRef(g[1]), g[2], "")
	case nonExistent.MatchString(m):
		g := nonExistent.FindStringSubmatch(m)
		kind := kindOfRef(g[1])
		c.refMissing(t, kind, c.volumeRef(t.Pod, kind, m), g[2])
	case ev.Reason == "FailedAttachVolume", has(m, "attachvolume.attach failed", "multi-attach"):
		s := t.cite(c.blame("VolumeAttachFailed", w, 0.94, "%s: its volume cannot be attached: %s", w, lastPart(m)))
		for _, name := range claimsOf(&t.Pod.Spec) {
			s.relate(incident.Entity{Kind: "PersistentVolumeClaim", Namespace: t.Pod.Namespace, Name: name})
		}
		s.step(w, "See which node still holds the volume of %s; the pod there must end first", w)
	case has(m, "permission denied", "access denied", "operation not permitted", "not permitted"):
		s := t.cite(c.blame("VolumeMountPermissionDenied", w, 0.94, "%s may not mount its volume: %s", w, lastPart(m)))
		s.step(w, "Correct the export's or volume's permissions for %s", w)
	case has(m, "mount failed", "mountvolume.setup failed", "mountvolume.mountdevice failed", "unmounted volumes", "unable to attach or mount") && !has(m, "sync configmap cache", "sync secret cache", "kube-api-access"):
		s := t.cite(c.blame("VolumeAttachFailed", w, 0.7, "%s: a volume cannot be mounted: %s", w, lastPart(m)))
		s.step(w, "See why the volume of %s cannot be mounted", w)
	default:
		return false
	}
	return true
}

// initContainers names init containers that fail or do not end.
func initContainers(c *scan) {
	for _, w := range c.Workloads() {
		for _, p := range live(w) {
			if p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodFailed && p.Status.Reason != "" {
				continue
			}
			for _, ct := range containersOf(p) {
				if !ct.Init || ct.sidecar() || ct.Status == nil {
					continue
				}
				t := trouble{container: ct, workload: w, source: "objects/pods"}
				switch r := ct.Status.State.Running; {
				case ct.crashing():
					c.initFailing(t)
				case r != nil && c.age(r.StartedAt.Time) > 3*time.Minute:
					c.initHanging(t, c.age(r.StartedAt.Time))
				}
			}
		}
	}
}

func (c *scan) initFailing(t trouble) {
	e := t.ended()
	if e == nil {
		return
	}
	t.reason, t.message, t.at = or(e.Reason, "Error"), e.Message, e.FinishedAt.Time
	s := t.cite(c.blame("InitContainerFailing", t.workload.Entity, 0.85, "%s: init container %s ends with exit code %d", t.workload.Entity, t.Spec.Name, e.ExitCode))
	c.quoteEnd(s, t)
	c.rollback(s, t.workload)
	s.step(t.workload.Entity, "See the log of init container %s of %s", t.Spec.Name, t.workload.Entity)
}

func (c *scan) initHanging(t trouble, since time.Duration) {
	t.reason = "Running for " + since.Round(time.Minute).String()
	s := t.cite(c.blame("InitContainerHanging", t.workload.Entity, 0.88, "%s: init container %s has not ended for %s", t.workload.Entity, t.Spec.Name, since.Round(time.Minute)))
	c.quoteEnd(s, t)
	for _, h := range c.hostsIn(t.workload, t.Spec) {
		if h.Cluster {
			s.relate(incident.Entity{Kind: "Service", Namespace: h.Namespace, Name: h.Name})
		}
	}
	s.step(t.workload.Entity, "See what init container %s of %s waits for", t.Spec.Name, t.workload.Entity)
}

// quoteEnd cites the last lines a container wrote before it ended.
func (c *scan) quoteEnd(s *suspect, t trouble) {
	for _, l := range c.PodLogs(t.Pod.Namespace, t.Pod.Name) {
		if l.Container != t.Spec.Name {
			continue
		}
		lines := strings.Split(strings.TrimRight(or(l.Previous, l.Current), "\n"), "\n")
		s.quote("logs", podEntity(t.Pod), strings.Join(lines[max(0, len(lines)-6):], "\n"), time.Time{})
	}
}
