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

// imageWords sorts what registries and runtimes say about a pull into causes; the first row with
// a word in the message wins.
var imageWords = []struct {
	cause incident.CauseName
	words []string
}{
	{"ImageRegistryDNSFailure", []string{"no such host", "server misbehaving", "temporary failure in name resolution", "name or service not known", "could not resolve host", "lookup "}},
	{"ImagePlatformMismatch", []string{"no match for platform", "no matching manifest", "does not match the specified platform", "exec format error", "image operating system"}},
	{"ImageRegistryUnavailable", []string{"toomanyrequests", "too many requests", " 429", "rate limit", "500 internal", "502 bad", "503 service", "504 gateway", "status: 503", "status: 502", "status: 500", " 503", "connection refused",
		"i/o timeout", "tls handshake timeout", "context deadline exceeded", "connection reset", "no route to host", "unexpected eof", ": eof", "x509:", "registryunavailable", "connection timed out", "network is unreachable"}},
	{"ImageNotFound", []string{"manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "code = notfound", ": not found", "not found", "repository does not exist", "invalidimagename", "invalid reference", "couldn't parse image", "errimageneverpull", "is not present with pull policy"}},
	{"ImagePullUnauthorized", []string{" 401", " 403", "unauthorized", "authentication required", "no basic auth", "denied", "insufficient_scope", "failed to authorize", "authorization failed", "token has expired", "authorization token"}},
}

func (c *scan) imagePull(t trouble) {
	if ev := c.eventAbout(t.Pod, t.Spec, []string{"Failed", "InspectFailed", "ErrImageNeverPull"}, "failed to pull", "failed to inspect", "failed to apply default image", "is not present with pull policy", "rpc error", "invalid reference"); ev != nil && len(ev.Message) > len(t.message) {
		t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
	}
	text := t.reason + " " + strings.ReplaceAll(t.message, t.Spec.Image, "IMAGE")
	cause, score := incident.CauseName("ImageNotFound"), 0.5
	for _, row := range imageWords {
		if has(text, row.words...) {
			cause, score = row.cause, 0.95
			break
		}
	}
	secretGone := c.eventAbout(t.Pod, t.Spec, []string{"FailedToRetrieveImagePullSecret"})
	ambiguous := has(text, "pull access denied", "repository does not exist or may require")
	switch {
	case secretGone != nil && (has(text, imageWords[4].words...) || c.pullSecretMissing(t.Pod) != "" && score < 0.9):
		cause, score = "ImagePullUnauthorized", 0.96
	case ambiguous && len(t.Pod.Spec.ImagePullSecrets) > 0:
		cause, score = "ImagePullUnauthorized", 0.8
	case ambiguous:
		cause, score = "ImageNotFound", 0.75
	case cause == "ImageNotFound" && has(text, "401 unauthorized", "403 forbidden", "unauthorized:", "authentication required", "no basic auth"):
		cause, score = "ImagePullUnauthorized", 0.9
	}
	s := t.cite(c.blame(cause, t.workload.Entity, score, "%s cannot pull %s: %s", t.workload.Entity, t.Spec.Image, line(cause)))
	s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, t.path("image"), t.Spec.Image, c.expectedImage(cause, t))
	if score < 0.6 {
		s.lack("events: what the registry answered")
	}
	c.imageFix(s, cause, t)
}

func line(cause incident.CauseName) string {
	info, _ := incident.LookupCause(cause)
	return info.Line
}

func (c *scan) expectedImage(cause incident.CauseName, t trouble) string {
	if rs := previous(t.workload); rs != nil && cause != "ImageRegistryUnavailable" {
		for _, ct := range rs.Spec.Template.Spec.Containers {
			if ct.Name == t.Spec.Name && ct.Image != t.Spec.Image {
				return ct.Image + " (the revision before)"
			}
		}
	}
	return "an image the node can pull"
}

func (c *scan) pullSecretMissing(p *corev1.Pod) string {
	if !c.Sees("objects/secrets") {
		return ""
	}
	for _, r := range p.Spec.ImagePullSecrets {
		if _, ok := c.Secrets.Get(p.Namespace, r.Name); !ok {
			return r.Name
		}
	}
	return ""
}

func (c *scan) imageFix(s *suspect, cause incident.CauseName, t trouble) {
	ns := incident.Entity{Kind: "Namespace", Name: t.Pod.Namespace}
	switch cause {
	case "ImageNotFound", "ImageRegistryDNSFailure", "ImagePlatformMismatch":
		c.rollback(s, t.workload)
		s.step(t.workload.Entity, "Correct the image of container %s in %s", t.Spec.Name, t.workload.Entity)
	case "ImagePullUnauthorized":
		if name := c.pullSecretMissing(t.Pod); name != "" {
			s.see("objects/pods", podEntity(t.Pod), "spec.imagePullSecrets", name, "an existing secret")
			for _, o := range c.Secrets.All() {
				if o.Name == name && o.Type == corev1.SecretTypeDockerConfigJson {
					s.propose(incident.CreateImagePullSecretCopy, ns, "copy pull secret "+name+" from namespace "+o.Namespace, "fromNamespace", o.Namespace, "secret", name)
				}
			}
		}
		s.step(t.workload.Entity, "Give %s a pull secret that the registry accepts", t.workload.Entity)
	default:
		s.step(t.workload.Entity, "Wait for the registry or use a mirror; nothing in %s is wrong", t.workload.Entity)
	}
}

var (
	missingRef  = regexp.MustCompile(`(?i)(secret|configmap) "?([^" ]+)"? not found`)
	missingKey  = regexp.MustCompile(`(?i)couldn't find key ([^ ]+) in (Secret|ConfigMap) "?([^" ]+)"?`)
	nonExistent = regexp.MustCompile(`(?i)references non-existent (secret|config) key:? ([^ "]+)`)
)

func (c *scan) configError(t trouble) {
	if t.message == "" || !has(t.message, "not found", "key", "root", "non-existent") {
		if ev := c.eventAbout(t.Pod, t.Spec, []string{"Failed"}); ev != nil && ev.Message != "" {
			t.message, t.at, t.source = ev.Message, cluster.EventTime(ev), "events"
		}
	}
	switch m := t.message; {
	case missingKey.MatchString(m):
		g := missingKey.FindStringSubmatch(m)
		name := g[3][strings.LastIndex(g[3], "/")+1:]
		c.refMissing(t, kindOfRef(g[2]), name, g[1])
	case missingRef.MatchString(m):
		g := missingRef.FindStringSubmatch(m)
		c.refMissing(t, kindOfRef(g[1]), g[2], "")
	case has(m, "runasnonroot", "run as root", "non-root", "non-numeric user", "runasuser", "privilege"):
		s := t.cite(c.blame("SecurityContextInvalid", t.workload.Entity, 0.95, "%s: container %s may not start: %s", t.workload.Entity, t.Spec.Name, m))
		s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, t.path("securityContext"), describeSecurity(t), "a runAsUser that is not 0, or an image with a numeric non-root user")
		c.rollback(s, t.workload)
		s.step(t.workload.Entity, "Set runAsUser to a non-root id in %s or use an image that does not run as root", t.workload.Entity)
	default:
		c.refsByLookup(t)
	}
}

func kindOfRef(s string) string {
	if strings.EqualFold(s, "secret") {
		return "Secret"
	}
	return "ConfigMap"
}

func describeSecurity(t trouble) string {
	var out []string
	if sc := t.Pod.Spec.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil && *sc.RunAsNonRoot {
			out = append(out, "runAsNonRoot: true")
		}
	}
	if sc := t.Spec.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil && *sc.RunAsNonRoot {
			out = append(out, "runAsNonRoot: true")
		}
		if sc.RunAsUser != nil {
			out = append(out, "runAsUser: "+itoa(int(*sc.RunAsUser)))
		}
	}
	return strings.Join(slices.Compact(out), ", ")
}

// refMissing blames a missing Secret or ConfigMap, or a key of one; name and key are as the
// kubelet says them.
func (c *scan) refMissing(t trouble, kind, name, key string) {
	name = strings.Trim(name, `"`)
	if i := strings.LastIndex(name, "/"); i >= 0 {
		name = name[i+1:]
	}
	cause := incident.CauseName(kind + "Missing")
	what := kind + " " + name + ", which does not exist"
	if key != "" {
		cause, what = incident.CauseName(kind+"KeyMissing"), "key "+key+" of "+kind+" "+name+", which has no such key"
	}
	e := incident.Entity{Kind: kind, Namespace: t.Pod.Namespace, Name: name}
	s := t.cite(c.blame(cause, t.workload.Entity, 0.96, "%s needs %s", t.workload.Entity, what)).relate(e)
	var names []string
	if kind == "Secret" {
		for _, o := range c.Secrets.In(t.Pod.Namespace) {
			names = append(names, o.Name)
		}
	} else {
		for _, o := range c.ConfigMaps.In(t.Pod.Namespace) {
			names = append(names, o.Name)
		}
	}
	expected := "an existing " + kind
	if key != "" {
		expected, names = "a key that "+kind+" "+name+" has", c.keysOf(kind, t.Pod.Namespace, name)
		if n := nearest(key, names); n != "" {
			expected += ", e.g. " + n
		}
	} else if n := nearest(name, names); n != "" {
		expected += ", e.g. " + n
	}
	s.see("objects/"+plural(t.workload.Entity.Kind), t.workload.Entity, c.refPath(t, kind, name, key), or(key, name), expected)
	c.rollback(s, t.workload)
	s.step(t.workload.Entity, "Create %s or correct its name in %s (expected: %s)", e, t.workload.Entity, expected)
}

func (c *scan) keysOf(kind, ns, name string) []string {
	var out []string
	if kind == "Secret" {
		if o, ok := c.Secrets.Get(ns, name); ok {
			for k := range o.Data {
				out = append(out, k)
			}
		}
	} else if o, ok := c.ConfigMaps.Get(ns, name); ok {
		for k := range o.Data {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// refPath returns the field path of the reference in the pod template.
func (c *scan) refPath(t trouble, kind, name, key string) string {
	for i, e := range t.Spec.Env {
		if f := e.ValueFrom; f != nil && (kind == "Secret" && f.SecretKeyRef != nil && f.SecretKeyRef.Name == name && (key == "" || f.SecretKeyRef.Key == key) ||
			kind == "ConfigMap" && f.ConfigMapKeyRef != nil && f.ConfigMapKeyRef.Name == name && (key == "" || f.ConfigMapKeyRef.Key == key)) {
			return t.path("env[" + itoa(i) + "].valueFrom")
		}
	}
	for i, e := range t.Spec.EnvFrom {
		if kind == "Secret" && e.SecretRef != nil && e.SecretRef.Name == name || kind == "ConfigMap" && e.ConfigMapRef != nil && e.ConfigMapRef.Name == name {
			return t.path("envFrom[" + itoa(i) + "]")
		}
	}
	return "spec.template.spec.volumes"
}

// refsByLookup checks the references of a container against the objects, when the kubelet's
// words were not seen.
func (c *scan) refsByLookup(t trouble) {
	ns := t.Pod.Namespace
	gone := func(kind, name, key string, optional *bool) bool {
		if name == "" || optional != nil && *optional {
			return false
		}
		var ok bool
		if kind == "Secret" {
			_, ok = c.Secrets.Get(ns, name)
		} else {
			_, ok = c.ConfigMaps.Get(ns, name)
		}
		switch {
		case !ok && c.Sees("objects/"+plural(kind)):
			c.refMissing(t, kind, name, "")
			return true
		case ok && key != "" && !slices.Contains(c.keysOf(kind, ns, name), key):
			c.refMissing(t, kind, name, key)
			return true
		}
		return false
	}
	for _, e := range t.Spec.EnvFrom {
		if r := e.SecretRef; r != nil && gone("Secret", r.Name, "", r.Optional) {
			return
		}
		if r := e.ConfigMapRef; r != nil && gone("ConfigMap", r.Name, "", r.Optional) {
			return
		}
	}
	for _, e := range t.Spec.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil && gone("Secret", r.Name, r.Key, r.Optional) {
			return
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil && gone("ConfigMap", r.Name, r.Key, r.Optional) {
			return
		}
	}
}

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

func (c *scan) seePlatform(s *suspect, t trouble) {
	if n, ok := c.Nodes.Get("", t.Pod.Spec.NodeName); ok {
		s.see("objects/nodes", nodeEntity(n.Name), "status.nodeInfo.architecture", n.Status.NodeInfo.Architecture, "the platform of "+t.Spec.Image)
	}
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

// namedAlready reports whether the object that an event calls missing exists by now.
func (c *scan) namedAlready(ns, kind, name string) bool {
	name = strings.Trim(name[strings.LastIndex(name, "/")+1:], `"`)
	if kind == "Secret" {
		_, ok := c.Secrets.Get(ns, name)
		return ok
	}
	_, ok := c.ConfigMaps.Get(ns, name)
	return ok
}

// volumeRef returns the object behind the volume that a mount error names.
func (c *scan) volumeRef(p *corev1.Pod, kind, message string) string {
	g := mountVolume.FindStringSubmatch(message)
	for _, v := range p.Spec.Volumes {
		if g != nil && v.Name != g[1] {
			continue
		}
		if kind == "Secret" && v.Secret != nil {
			return v.Secret.SecretName
		}
		if kind == "ConfigMap" && v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
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
