package runbooks

import (
	"regexp"
	"strings"
)

// kindSet is a set of classes of Kubernetes kinds that share runbooks.
type kindSet uint16

const (
	kindPods kindSet = 1 << iota
	kindNodes
	kindVolumes
	kindServices
	kindNamespaces
	kindJobs
	kindAutoscalers
)

// kindWords maps the stems by which names say a kind to its class.
var kindWords = map[string]kindSet{"pod": kindPods, "contain": kindPods, "deploy": kindPods, "deployment": kindPods, "statefulset": kindPods, "daemonset": kindPods,
	"replicaset": kindPods, "node": kindNodes, "kubelet": kindNodes, "volum": kindVolumes, "storag": kindVolumes, "servic": kindServices, "ingress": kindServices,
	"endpoint": kindServices, "namespac": kindNamespaces, "job": kindJobs, "cronjob": kindJobs, "autoscal": kindAutoscalers}

func kindsOf(words []string) kindSet {
	k := kindSet(0)
	for _, w := range words {
		k |= kindWords[w]
	}
	return k
}

// How people name pages for trouble and pages for procedures, and the headings of pages for
// alerts. General habits of runbook collections.
var (
	troubleName   = regexp.MustCompile(`troubleshoot|alert|error|fail|issue|debug`)
	procedureName = regexp.MustCompile(`^(how-?to|set-?up|install|create|add|remove|delete|enable|disable|manag(e|ing)|scal(e|ing)|upgrad(e|ing)|migrat(e|ing)|rotat(e|ing)|deploy|provision|build|us(e|ing)|getting|access|restore|mov(e|ing)|updat(e|ing)|run(ning)?|configure|rebuild|replace|switch|start|stop)[-_]`)
	alertHeading  = regexp.MustCompile(`(?i)^(meaning|symptoms?|impact|diagnosis|mitigation|resolution|remediation|playbook|(possible )?causes?|severity|triage|checks?|fix|verify|way back|steps to .*)$`)
)

// describe fills what the page's name and headings say it is for.
func (d *doc) describe(nameWords []string) {
	d.concepts, d.kinds = conceptsOf(nameWords), kindsOf(nameWords)
	base, lower := strings.ToLower(baseName(d.rb.Path)), strings.ToLower(d.rb.Path)
	d.stale = strings.Contains(lower, "deprecated") || strings.Contains(lower, "archive/") || base == "readme" || base == "index" || base == "_index"
	switch {
	case troubleName.MatchString(base):
		d.purpose = 1
	case procedureName.MatchString(base):
		d.purpose = -1
	}
	found := 0
	for _, s := range d.rb.Sections {
		if n := len(s.Headings); n > 0 && alertHeading.MatchString(s.Headings[n-1]) {
			found++
		}
	}
	d.alertPage = found >= 2
}
