package causes

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// crash is a container that ends by itself again and again, with what it said last.
type crash struct {
	trouble
	exit  int32
	facts []*logFact
}

// crashes returns the containers that crash, with their log facts; init containers too.
func (c *scan) crashes() []crash {
	if c.crashed != nil {
		return c.crashed
	}
	c.crashed = []crash{}
	for _, t := range c.brokenContainers() {
		if t.reason != "CrashLoopBackOff" && t.reason != "Error" && t.reason != "Completed" && !(t.ended() != nil && t.ended().ExitCode != 0) {
			continue
		}
		if t.reason == "OOMKilled" || proxyContainer(t.Spec.Name) {
			continue
		}
		if t.ready() && c.age(t.at) > 30*time.Minute {
			continue // it recovered long ago
		}
		k := crash{trouble: t}
		if e := t.ended(); e != nil {
			k.exit = e.ExitCode
		}
		c.facts()
		for _, f := range c.factsOf[t.workload.Entity.Key()] {
			if f.container == t.Spec.Name {
				k.facts = append(k.facts, f)
			}
		}
		c.crashed = append(c.crashed, k)
	}
	return c.crashed
}

// of returns the crash's facts of the given classes, those among the last lines first.
func (k crash) of(classes ...logClass) []*logFact {
	var out []*logFact
	for _, last := range []bool{true, false} {
		for _, f := range k.facts {
			if f.last == last && slices.Contains(classes, f.class) {
				out = append(out, f)
			}
		}
	}
	return out
}

// crashLogs names crashes that their own logs explain.
func crashLogs(c *scan) {
	for _, k := range c.crashes() {
		w := k.workload.Entity
		if fs := k.of(logInUse); len(fs) > 0 {
			c.portConflict(k, fs[0])
			continue
		}
		if fs := k.of(logExecFormat); len(fs) > 0 {
			s := k.citeLog(c.blame("ImagePlatformMismatch", w, 0.95, "%s: image %s is built for another platform than its node", w, k.Spec.Image), fs[0])
			c.seePlatform(s, k.trouble)
			c.imageFix(s, "ImagePlatformMismatch", k.trouble)
			continue
		}
		if fs := k.of(logCertExpired); len(fs) > 0 {
			s := k.citeLog(c.blame("CertificateExpired", w, 0.85, "%s: a certificate it uses has expired", w), fs[0])
			s.step(w, "Renew the certificate that %s uses", w)
		}
		if fs := k.of(logOOM); len(fs) > 0 {
			s := k.citeLog(c.blame("OOMKilled", w, 0.7, "%s: its process runs out of memory", w), fs[0])
			limit := k.Spec.Resources.Limits[corev1.ResourceMemory]
			if limit.Sign() > 0 {
				more := c.betterLimit(k.trouble, limit)
				s.propose(incident.PatchResources, w, "raise the memory limit of container "+k.Spec.Name+" to "+more.String(), incident.ParamContainer, k.Spec.Name, "limits.memory", more.String())
			}
		}
		c.crashFiles(k)
		c.crashEnv(k)
		c.crashCommand(k)
		c.crashPlain(k)
	}
}

// citeLog adds the container's state and the line that explains it.
func (k crash) citeLog(s *suspect, f *logFact) *suspect {
	k.cite(s)
	return s.quote("logs", f.pod, f.text, time.Time{})
}

func (c *scan) portConflict(k crash, f *logFact) {
	w := k.workload.Entity
	running := 0
	for _, ct := range containersOf(k.Pod) {
		if !ct.Init || ct.sidecar() {
			running++
		}
	}
	if k.Pod.Spec.HostNetwork {
		s := k.citeLog(c.blame("HostPortConflict", w, 0.85, "%s: port %s is taken on node %s, whose network it uses", w, f.port, k.Pod.Spec.NodeName), f)
		s.relate(nodeEntity(k.Pod.Spec.NodeName)).step(w, "Give %s another port or find what listens on it on node %s", w, k.Pod.Spec.NodeName)
		return
	}
	if running < 2 {
		return // nothing else in the pod could hold the port: the process is at odds with itself
	}
	s := k.citeLog(c.blame("ContainerPortConflict", w, 0.95, "%s: container %s wants port %s, which another container of the pod holds", w, k.Spec.Name, f.port), f)
	for _, ct := range containersOf(k.Pod) {
		for i, p := range ct.Spec.Ports {
			if strconv.Itoa(int(p.ContainerPort)) == f.port || f.port == "" {
				s.see("objects/pods", podEntity(k.Pod), ct.Path+".ports["+itoa(i)+"].containerPort", ct.Spec.Name+": "+strconv.Itoa(int(p.ContainerPort)), "a port of its own for each container")
			}
		}
	}
	c.rollback(s, k.workload)
	s.step(w, "Give the containers of %s ports of their own", w)
}

var pathInLine = regexp.MustCompile(`(/[A-Za-z0-9_.\-]+)+`)

// crashFiles names volumes that a process may not use or that are full.
func (c *scan) crashFiles(k crash) {
	w := k.workload.Entity
	if fs := k.of(logNoSpace); len(fs) > 0 {
		c.noSpace(k.trouble, fs[0])
	}
	fs := k.of(logPermission)
	if len(fs) == 0 {
		return
	}
	f := fs[0]
	paths := pathInLine.FindAllString(f.text, 6)
	mount := ""
	for _, m := range k.Spec.VolumeMounts {
		if strings.HasPrefix(m.MountPath, "/var/run/secrets/") {
			continue
		}
		if mount == "" || slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, m.MountPath) }) {
			mount = m.MountPath
		}
	}
	score := 0.9
	if !slices.ContainsFunc(paths, func(p string) bool { return mount != "" && strings.HasPrefix(p, mount) }) {
		score = 0.82 // a relative path, or one the image makes a link of
	}
	if mount == "" {
		if has(f.text, "read-only file system", "erofs") || k.Spec.SecurityContext != nil && k.Spec.SecurityContext.ReadOnlyRootFilesystem != nil && *k.Spec.SecurityContext.ReadOnlyRootFilesystem || has(f.text, "bind", "listen", "operation not permitted", "setuid", "chown") {
			s := k.citeLog(c.blame("SecurityContextInvalid", w, 0.82, "%s: container %s is not permitted what it needs: %s", w, k.Spec.Name, f.text), f)
			s.see("objects/"+plural(w.Kind), w, k.path("securityContext"), describeSecurity(k.trouble), "one that permits what the image does")
			c.rollback(s, k.workload)
			s.step(w, "Correct the security context of container %s in %s", k.Spec.Name, w)
		}
		return
	}
	s := k.citeLog(c.blame("VolumeMountPermissionDenied", w, score, "%s: container %s may not use its volume at %s", w, k.Spec.Name, mount), f)
	s.see("objects/"+plural(w.Kind), w, k.path("volumeMounts"), mount, "a path that the process's user may write")
	c.rollback(s, k.workload)
	s.step(w, "Set fsGroup or correct the owner of the volume at %s for %s", mount, w)
}

// noSpace blames the claim or ephemeral storage behind a full path.
func (c *scan) noSpace(t trouble, f *logFact) {
	w := t.workload.Entity
	for _, m := range t.Spec.VolumeMounts {
		for _, v := range t.Pod.Spec.Volumes {
			if v.Name != m.Name || v.PersistentVolumeClaim == nil {
				continue
			}
			e := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: t.Pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
			s := c.blame("VolumeFull", e, 0.9, "claim %s has no space left; %s writes to it", e, w)
			s.quote("logs", f.pod, f.text, time.Time{}).explain(w, "").explain(podEntity(t.Pod), "").relate(w, podEntity(t.Pod))
			s.explain(w, "ApplicationCrash").explain(w, "BadRollout").explain(w, "EphemeralStorageExceeded")
			c.expand(s, e)
			return
		}
	}
}

// expand proposes half as much again for a claim whose class allows it.
func (c *scan) expand(s *suspect, e incident.Entity) {
	pvc, ok := c.Claims.Get(e.Namespace, e.Name)
	if !ok {
		return
	}
	size := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	s.see("objects/persistentvolumeclaims", e, "spec.resources.requests.storage", size.String(), "more than the data needs")
	more := resource.NewQuantity((size.Value()*3/2+(1<<30-1))/(1<<30)*(1<<30), resource.BinarySI)
	if sc := c.classOf(pvc); sc != nil && sc.AllowVolumeExpansion != nil && *sc.AllowVolumeExpansion {
		s.propose(incident.ExpandPVC, e, "grow claim "+e.Name+" from "+size.String()+" to "+more.String(), incident.ParamSize, more.String())
		return
	}
	s.step(e, "Free space on claim %s; its storage class does not allow it to grow", e)
}

var variable = regexp.MustCompile(`\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z]{4,})\b|\$\{([A-Za-z_][\w.]*)`)

// listedVariable finds variables with an underscore in the lines after a complaint.
var listedVariable = regexp.MustCompile(`\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b()`)

// after returns the five lines after a fact's line, at most 1 KiB.
func after(f *logFact) string {
	for _, s := range []string{f.log.Previous, f.log.Current} {
		if _, rest, ok := strings.Cut(s, incident.Clip(f.text, 100)); ok {
			lines := strings.SplitAfterN(rest[:min(len(rest), 1<<10)], "\n", 7)
			return strings.Join(lines[:min(len(lines), 6)], "")
		}
	}
	return ""
}

// crashEnv names processes that miss a variable.
func (c *scan) crashEnv(k crash) {
	w := k.workload.Entity
	for _, f := range k.of(logEnvMissing) {
		if has(f.text, "display a backtrace") {
			continue // the hint of a panic, not a demand
		}
		names := variable.FindAllStringSubmatch(f.text, 6)
		if len(names) == 0 {
			names = listedVariable.FindAllStringSubmatch(after(f), 6)
		}
		for _, m := range names {
			name := or(m[1], m[2])
			if name == "ERROR" || name == "FATAL" || name == "WARN" || name == "INFO" || name == "DEBUG" || name == "PANIC" {
				continue
			}
			value, set := c.envValue(k.workload, k.Spec, strings.ToUpper(strings.ReplaceAll(name, ".", "_")))
			if set && value != "" {
				continue
			}
			s := k.citeLog(c.blame("EnvironmentVariableMissing", w, 0.9, "%s ends because variable %s is missing", w, name), f)
			s.see("objects/"+plural(w.Kind), w, k.path("env"), "no "+name, name+" set")
			if rs := previous(k.workload); rs != nil {
				c.rollback(s, k.workload)
			}
			s.step(w, "Set %s in container %s of %s", name, k.Spec.Name, w)
			return
		}
	}
}

// envValue returns the value of a variable and whether it is set at all (by reference: "?").
func (c *scan) envValue(w *cluster.Workload, ct *corev1.Container, name string) (string, bool) {
	for _, e := range ct.Env {
		if strings.ToUpper(e.Name) == name {
			if e.ValueFrom != nil {
				return "?", true
			}
			return e.Value, true
		}
	}
	for _, e := range ct.EnvFrom {
		kind, ref := "ConfigMap", ""
		if e.ConfigMapRef != nil {
			ref = e.ConfigMapRef.Name
		} else if e.SecretRef != nil {
			kind, ref = "Secret", e.SecretRef.Name
		}
		if slices.ContainsFunc(c.keysOf(kind, w.Entity.Namespace, ref), func(k string) bool { return strings.ToUpper(e.Prefix+k) == name }) {
			return "?", true
		}
	}
	return "", false
}

// crashCommand names commands that a shell or interpreter cannot find.
func (c *scan) crashCommand(k crash) {
	w := k.workload.Entity
	fs := k.of(logFileMissing)
	notFound := k.exit == 127 || k.exit == 126
	for _, f := range k.facts {
		notFound = notFound || has(f.text, "can't open file", "cannot find module", "unable to access jarfile", "could not find or load main class")
	}
	if !notFound {
		return
	}
	s := k.cite(c.blame("InvalidCommand", w, 0.85, "%s: the command of container %s names a program that the image lacks (exit code %d)", w, k.Spec.Name, k.exit))
	s.see("objects/"+plural(w.Kind), w, k.path("command"), strings.Join(append(slices.Clone(k.Spec.Command), k.Spec.Args...), " "), "a program that the image has")
	if len(fs) > 0 {
		s.quote("logs", fs[0].pod, fs[0].text, time.Time{})
	}
	c.quoteEnd(s, k.trouble)
	c.rollback(s, k.workload)
	s.step(w, "Correct command and args of container %s in %s", k.Spec.Name, w)
}

// crashPlain names a crash that nothing narrower explains, and a bad rollout where the revision
// before was well.
func (c *scan) crashPlain(k crash) {
	w := k.workload
	if k.Init && !k.sidecar() {
		return
	}
	if (w.Entity.Kind == "Job" || w.Entity.Kind == "CronJob") && !c.jobStillFails(k) {
		return
	}
	if k.ready() && c.age(k.at) > 10*time.Minute && k.restarts() < 5 {
		return
	}
	score := 0.7
	if k.ready() {
		score = 0.45
	}
	s := k.cite(c.blame("ApplicationCrash", w.Entity, score, "%s: container %s ends by itself with exit code %d", w.Entity, k.Spec.Name, k.exit))
	c.quoteEnd(s, k.trouble)
	s.step(w.Entity, "See the last lines of container %s of %s", k.Spec.Name, w.Entity)
	if rs := previous(w); rs != nil && c.changedJustBefore(w) {
		b := k.cite(c.blame("BadRollout", w.Entity, 0.75, "%s fails since its last change of template; revision %d was well", w.Entity, cluster.Revision(rs)))
		b.relate(cluster.EntityOf("ReplicaSet", w.ReplicaSets[0]))
		c.quoteEnd(b, k.trouble)
		c.seeChange(b, w)
		c.rollback(b, w)
	}
}

// jobStillFails reports whether a crashing pod of a Job has something to say and its Job has not
// ended well, nor one of its CronJob since.
func (c *scan) jobStillFails(k crash) bool {
	return !c.madeUpFor(k.Pod) && slices.ContainsFunc(c.PodLogs(k.Pod.Namespace, k.Pod.Name), func(l *cluster.Log) bool {
		return l.Container == k.Spec.Name && or(l.Previous, l.Current) != ""
	})
}
