package causes

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

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

func (c *scan) seePlatform(s *suspect, t trouble) {
	if n, ok := c.Nodes.Get("", t.Pod.Spec.NodeName); ok {
		s.see("objects/nodes", nodeEntity(n.Name), "status.nodeInfo.architecture", n.Status.NodeInfo.Architecture, "the platform of "+t.Spec.Image)
	}
}
