package causes

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tocsin-io/tocsin/incident"
)

// expiredCertificates names certificates past their end: those that cert-manager keeps, and those
// that callers refuse. A server's certificate is blamed on the server where it runs in the
// cluster, else on the workload that cannot use it.
func expiredCertificates(c *scan) {
	for _, u := range c.Custom("Certificate") {
		c.certManager(u)
	}
	for _, f := range c.facts() {
		if f.class != logCertExpired || !f.last || systemNamespace(f.pod.Namespace) {
			continue
		}
		object := f.owner
		for _, m := range peerURL.FindAllStringSubmatch(f.text, 4) {
			if h := c.Resolve(f.pod.Namespace, m[1]); h.Service != nil {
				object = c.backing(h.Service)
			}
		}
		s := c.blame("CertificateExpired", object, 0.9, "%s: its certificate has expired", object).explain(object, "")
		s.quote("logs", f.pod, f.text, time.Time{}).relate(f.owner).explain(f.owner, "").explain(f.pod, "")
		s.step(object, "Renew the certificate that %s serves or uses, and restart what reads it only at start", object)
	}
}

func (c *scan) certManager(u *unstructured.Unstructured) {
	end, err := time.Parse(time.RFC3339, field(u, "status", "notAfter"))
	ready := conditionOf(u, "Ready")
	if err != nil || end.After(c.At) && ready.Reason != "Expired" {
		return
	}
	e := incident.Entity{Kind: "Secret", Namespace: u.GetNamespace(), Name: field(u, "spec", "secretName")}
	if e.Name == "" {
		e = customEntity(u)
	}
	s := c.blame("CertificateExpired", e, 0.96, "the certificate in %s expired at %s", e, end.UTC().Format(time.RFC3339)).explain(e, "").explain(customEntity(u), "").first(end)
	s.see(customSource(u), customEntity(u), "status.notAfter", end.UTC().Format(time.RFC3339), "later than now").relate(customEntity(u))
	s.quote(customSource(u), customEntity(u), ready.Reason+": "+ready.Message, ready.At)
	for _, in := range c.Ingresses.In(u.GetNamespace()) {
		for _, t := range in.Spec.TLS {
			if t.SecretName == e.Name {
				s.relate(incident.Entity{Kind: "Ingress", Namespace: in.Namespace, Name: in.Name})
			}
		}
	}
	s.step(customEntity(u), "See why %s is not renewed: its CertificateRequest and Order say so", customEntity(u))
}
