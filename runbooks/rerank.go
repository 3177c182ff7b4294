package runbooks

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Reranker puts the best hits in another order, e.g. by asking a model. Order holds indices of
// hits, best first; those left out follow in their old order. Hits are data from runbooks and
// must be quoted as such; whatever the answer, no page is added and nothing is run.
type Reranker interface {
	Rerank(ctx context.Context, q Query, hits []incident.RunbookHit) (order []int, err error)
}

const (
	rerankHits     = 5
	rerankDeadline = 20 * time.Second
)

// rerank lets the Reranker order the first hits. A failed or nonsensical answer changes nothing
// and is reported. When it puts another page first, the result is no longer confident: two
// judges disagree, and the confidence was calibrated without the second.
func (x *Index) rerank(ctx context.Context, q Query, res *Result) {
	if x.opt.Reranker == nil || len(res.Hits) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rerankDeadline)
	defer cancel()
	n := min(rerankHits, len(res.Hits))
	order, err := x.opt.Reranker.Rerank(ctx, q, res.Hits[:n:n])
	if err == nil {
		err = checkOrder(order, n)
	}
	if err != nil {
		res.Reasons = append(res.Reasons, "order is that of the index: re-ranking failed: "+incident.Clip(err.Error(), 200))
		return
	}
	sorted := make([]incident.RunbookHit, 0, len(res.Hits))
	taken := make([]bool, n)
	for _, i := range order {
		sorted, taken[i] = append(sorted, res.Hits[i]), true
	}
	for i, h := range res.Hits {
		if i >= n || !taken[i] {
			sorted = append(sorted, h)
		}
	}
	if first := res.Hits[0]; sorted[0].Path != first.Path {
		res.Confident = false
		res.Reasons = append(res.Reasons, fmt.Sprintf("the model puts %s first, the index %s", sorted[0].Path, first.Path))
		for i := range sorted {
			sorted[i].Confident = false
		}
	}
	res.Hits = sorted
}

func checkOrder(order []int, n int) error {
	seen := make([]bool, n)
	for _, i := range order {
		if i < 0 || i >= n || seen[i] {
			return incident.Invalidf("order %v: want distinct indices below %d", order, n)
		}
		seen[i] = true
	}
	return nil
}
