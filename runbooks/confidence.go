package runbooks

import (
	"fmt"
	"math"
)

// answerCut is the confidence from which a result claims an answer.
const answerCut = 0.5

// confidence returns the calibrated chance that the first candidate applies, and the reasons.
func confidence(list []candidate) (float64, []string) {
	if len(list) == 0 {
		return 0, []string{"no page shares a word with the incident"}
	}
	top := &list[0]
	margin := top.score
	for i := 1; i < len(list); i++ {
		margin = top.score - list[i].score
		break
	}
	p := 1 / (1 + math.Exp(-(0.8*top.score + 0.5*margin - 5)))
	return p, []string{fmt.Sprintf("score %.1f, %.1f above the next", top.score, margin)}
}
