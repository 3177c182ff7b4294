package runbooks

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/tocsin-io/tocsin/incident"
)

// searchIn is a line of a query file; searchOut is the line printed for it. Both are read by
// outside tools: fields are only added.
type searchIn struct {
	ID     string            `json:"id"`
	Text   string            `json:"text"`
	Labels map[string]string `json:"labels"`
}

type searchOut struct {
	ID        string   `json:"id"`
	Ranked    []string `json:"ranked"` // page paths, best first, at most Limit
	Confident bool     `json:"confident"`
	Reasons   []string `json:"reasons"`
}

// SearchLines answers each line {"id","text","labels"} of in with a line
// {"id","ranked","confident","reasons"} on out, in order. Empty lines are skipped; a line that
// is no such object ends it with an error that wraps ErrInvalid and names the line.
func (x *Index) SearchLines(ctx context.Context, in io.Reader, out io.Writer) error {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 4<<20)
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for n := 1; sc.Scan(); n++ {
		if len(sc.Bytes()) == 0 {
			continue
		}
		var q searchIn
		if err := json.Unmarshal(sc.Bytes(), &q); err != nil {
			return incident.Invalidf("line %d: %v", n, err)
		}
		res, err := x.Search(ctx, QueryOfText(q.ID, q.Text, q.Labels))
		if err != nil {
			return fmt.Errorf("query %q: %w", q.ID, err)
		}
		line := searchOut{ID: q.ID, Ranked: []string{}, Confident: res.Confident, Reasons: res.Reasons}
		for _, h := range res.Hits {
			line.Ranked = append(line.Ranked, h.Path)
		}
		if err := enc.Encode(line); err != nil {
			return fmt.Errorf("query %q: %w", q.ID, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("reading queries: %w", err)
	}
	return w.Flush()
}
