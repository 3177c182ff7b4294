package remediations

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

func resumeCronJob() Action {
	return Action{
		Name: incident.ResumeCronJob, Kinds: []string{"CronJob"}, Risk: incident.RiskReversible, Touches: true, Window: time.Minute,
		Summary: "let a suspended CronJob start Jobs again",
		Undo:    "the CronJob is suspended again",
		Signal:  "the CronJob is not suspended; the incident's signals resolved",
		Rules:   patchCronJobs(),
		plan: func(_ context.Context, r *request) (plan, error) {
			return fieldPatch(edit(r.object).set(false, "spec", "suspend"))
		},
		health: field(func(map[string]string) any { return false }, "spec", "suspend"),
	}
}
