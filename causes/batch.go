package causes

import (
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// failedJobs names Jobs that ran past their deadline or failed as often as they may. A Job of a
// CronJob counts while no later one succeeded.
func failedJobs(c *scan) {
	for _, j := range c.Jobs.All() {
		for _, k := range j.Status.Conditions {
			if k.Type != batchv1.JobFailed || k.Status != corev1.ConditionTrue || c.succeededSince(j) {
				continue
			}
			e := cluster.EntityOf("Job", j)
			switch k.Reason {
			case batchv1.JobReasonDeadlineExceeded:
				s := c.failedJob(c.blame("JobDeadlineExceeded", e, 0.93, "%s ran past its deadline", e), e, k)
				if d := j.Spec.ActiveDeadlineSeconds; d != nil {
					s.see("objects/jobs", e, "spec.activeDeadlineSeconds", (time.Duration(*d) * time.Second).String(), "longer than the work takes")
				}
			case batchv1.JobReasonBackoffLimitExceeded, batchv1.JobReasonMaxFailedIndexesExceeded, batchv1.JobReasonFailedIndexes, batchv1.JobReasonPodFailurePolicy:
				s := c.failedJob(c.blame("JobBackoffLimitExceeded", e, 0.6, "%s failed as often as it may", e), e, k)
				s.lack("logs of its pods")
			}
		}
	}
}

func (c *scan) failedJob(s *suspect, e incident.Entity, k batchv1.JobCondition) *suspect {
	s.see("objects/jobs", e, "status.conditions[Failed]", k.Reason+": "+k.Message, "Complete").explain(e, "").first(k.LastTransitionTime.Time)
	if c.age(k.LastTransitionTime.Time) > 24*time.Hour {
		s.level(incident.Info) // whoever missed it has seen it by now
	}
	if owner := c.OwnerOf(e); owner != e {
		s.relate(owner).explain(owner, "")
	}
	if w := c.Workload(e); w != nil {
		for _, p := range w.Pods {
			s.explain(podEntity(p), "")
		}
	}
	return s.propose(incident.RerunJob, e, "run "+e.String()+" again once its cause is gone")
}

// succeededSince reports whether a later Job of the same CronJob succeeded.
func (c *scan) succeededSince(j *batchv1.Job) bool {
	owner := c.OwnerOf(cluster.EntityOf("Job", j))
	if owner.Kind != "CronJob" {
		return false
	}
	if cj, ok := c.CronJobs.Get(owner.Namespace, owner.Name); ok && cj.Status.LastSuccessfulTime != nil && cj.Status.LastSuccessfulTime.After(j.CreationTimestamp.Time) {
		return true
	}
	for _, o := range c.Jobs.In(j.Namespace) {
		if o != j && o.Status.Succeeded > 0 && o.CreationTimestamp.After(j.CreationTimestamp.Time) && c.OwnerOf(cluster.EntityOf("Job", o)).Key() == owner.Key() {
			return true
		}
	}
	return false
}

// suspendedCronJobs names CronJobs that are suspended and missed: an alert or event speaks of
// them. One that nobody misses is suspended on purpose and gives a note only.
func suspendedCronJobs(c *scan) {
	for _, cj := range c.CronJobs.All() {
		if cj.Spec.Suspend == nil || !*cj.Spec.Suspend {
			continue
		}
		e := cluster.EntityOf("CronJob", cj)
		score, level := 0.3, incident.Info
		missed, at := c.alertAbout(e)
		if missed != "" {
			score, level = 0.93, incident.Critical
		}
		s := c.blame("CronJobSuspended", e, score, "%s is suspended", e).level(level).see("objects/cronjobs", e, "spec.suspend", "true", "false").explain(e, "")
		if t := cj.Status.LastScheduleTime; t != nil {
			s.see("objects/cronjobs", e, "status.lastScheduleTime", t.UTC().Format(time.RFC3339), "within the schedule "+cj.Spec.Schedule)
		}
		if missed != "" {
			s.quote("alerts", e, missed, at)
		}
		s.propose(incident.ResumeCronJob, e, "let "+e.String()+" run again")
	}
}

// alertAbout returns the text of an alert about an entity: one that names it as its object or in
// the label of its kind.
func (c *scan) alertAbout(e incident.Entity) (string, time.Time) {
	for _, a := range c.Alerts {
		label := a.Labels[strings.ToLower(e.Kind)]
		if a.Object.Key() == e.Key() || label == e.Name && (a.Labels["namespace"] == "" || a.Labels["namespace"] == e.Namespace) {
			return a.Name + ": " + strings.Join(a.Text, "; "), a.From
		}
	}
	return "", time.Time{}
}
