package causes

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

func plural(kind string) string {
	switch kind {
	case "Ingress":
		return "ingresses"
	case "StorageClass", "IngressClass", "PriorityClass":
		return strings.ToLower(kind) + "es"
	case "NetworkPolicy":
		return "networkpolicies"
	case "Endpoints":
		return "endpoints"
	}
	return strings.ToLower(kind) + "s"
}

func resourceOf(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }

// previous returns the newest earlier ReplicaSet whose template differs; nil when there is none.
func previous(w *cluster.Workload) *appsv1.ReplicaSet {
	if w.Entity.Kind != "Deployment" || len(w.ReplicaSets) < 2 {
		return nil
	}
	for _, rs := range w.ReplicaSets[1:] {
		if cluster.Revision(rs) > 0 && cluster.Revision(rs) < cluster.Revision(w.ReplicaSets[0]) {
			return rs
		}
	}
	return nil
}

// rollback proposes the revision before, where a Deployment has one.
func (c *scan) rollback(s *suspect, w *cluster.Workload) {
	rs := previous(w)
	if rs == nil {
		return
	}
	rev := strconv.FormatInt(cluster.Revision(rs), 10)
	var images []string
	for _, ct := range rs.Spec.Template.Spec.Containers {
		images = append(images, ct.Image)
	}
	image := strings.Join(images, ",")
	s.propose(incident.RolloutUndo, w.Entity, "roll back "+w.Entity.String()+" to revision "+rev+" ("+image+")", incident.ParamRevision, rev, incident.ParamImage, image)
}

// nearest returns the candidate spelled most like s, "" when none is close: at most a third of
// its letters differ.
func nearest(s string, candidates []string) string {
	best, at := "", len(s)/3+1
	for _, o := range candidates {
		if o == s {
			continue
		}
		if d := distance(s, o, at); d < at || d == at && best == "" && d <= len(s)/3 {
			best, at = o, d
		}
	}
	return best
}

// distance is the Levenshtein distance, cut off above limit.
func distance(a, b string, limit int) int {
	if len(a) > 253 || len(b) > 253 || len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			prev, row[j] = row[j], min(row[j]+1, row[j-1]+1, prev+cost)
		}
	}
	return row[len(b)]
}
