package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	collectkube "github.com/tocsin-io/tocsin/collectors/kube"
	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app/text"
	"github.com/tocsin-io/tocsin/internal/kube"
)

// Check is one line of the doctor's answer.
type Check struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Say  string `json:"say"`
	Do   string `json:"do,omitempty"` // what to do about it; empty: nothing
}

// Doctor says in plain words what is reachable, what is not and what to do. The error is not nil
// when something needs doing.
func Doctor(ctx context.Context, kubeconfig string, contexts []string, c *Client, asJSON bool, out io.Writer) error {
	checks := append(doctorClusters(ctx, kubeconfig, contexts), doctorProcess(ctx, c)...)
	bad := 0
	for _, ch := range checks {
		if !ch.OK {
			bad++
		}
	}
	if asJSON {
		if err := json.NewEncoder(out).Encode(checks); err != nil {
			return err
		}
	} else {
		w := text.To(out)
		for _, ch := range checks {
			mark := "ok  "
			if !ch.OK {
				mark = "BAD "
			}
			w.Printf("%s %s: %s", mark, incident.UntrustedText(ch.What).Plain(80), incident.UntrustedText(ch.Say).Plain(300))
			if ch.Do != "" {
				w.Printf("     → %s", ch.Do)
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks need attention", bad, len(checks))
	}
	return nil
}

func doctorClusters(ctx context.Context, kubeconfig string, contexts []string) []Check {
	clusters, err := kube.Contexts(kubeconfig, contexts)
	if err != nil {
		return []Check{{What: "kubeconfig", Say: err.Error(), Do: "point --kubeconfig or KUBECONFIG at a file with contexts"}}
	}
	var out []Check
	for _, c := range clusters {
		what := "cluster " + string(c.Name)
		if c.Broken != nil {
			out = append(out, Check{What: what, Say: c.Broken.Error(), Do: "mend or remove this context; nothing is known of its cluster"})
			continue
		}
		v, err := c.Reachable(ctx, 5*time.Second)
		if err != nil {
			out = append(out, Check{What: what, Say: "not reachable: " + err.Error(), Do: "check the address, the network and the credentials of this context; the others go on without it"})
			continue
		}
		out = append(out, Check{What: what, OK: true, Say: fmt.Sprintf("%s answers, Kubernetes %s", c.Server, v)})
		denied, err := collectkube.Denied(ctx, c.Client, c.Custom != nil)
		switch {
		case err != nil:
			out = append(out, Check{What: what + ", permissions", Say: err.Error(), Do: "allow selfsubjectaccessreviews (every authenticated user has them by default)"})
		case len(denied) > 0:
			out = append(out, Check{What: what + ", permissions", Say: "may not read " + strings.Join(denied, ", "), Do: "bind the role of deploy/rbac/read.yaml; causes that need these kinds are not found"})
		default:
			out = append(out, Check{What: what + ", permissions", OK: true, Say: "everything that is looked at may be read (Secrets never are)"})
		}
	}
	return out
}

// Unseen returns one line about each cluster that is not seen right now: an empty list of
// incidents says nothing about those.
func Unseen(ctx context.Context, c *Client) []string {
	raw, err := c.Raw(ctx, "/api/v1/status")
	if err != nil {
		return nil
	}
	var sts []collectkube.Status
	if json.Unmarshal(raw, &sts) != nil {
		return nil
	}
	var out []string
	for _, st := range sts {
		switch {
		case st.At.IsZero():
			out = append(out, fmt.Sprintf("%s has never been reached: %s", st.Cluster, plainLine(st.LastError)))
		case time.Since(st.At) > freshFor:
			out = append(out, fmt.Sprintf("%s not seen since %s", st.Cluster, st.At.Format(time.DateTime+" MST")))
		}
	}
	return out
}

func doctorProcess(ctx context.Context, c *Client) []Check {
	raw, err := c.Raw(ctx, "/api/v1/status")
	if err != nil {
		return []Check{{What: "tocsin", Say: err.Error(), Do: "start it with `tocsin up`"}}
	}
	var sts []collectkube.Status
	if err := json.Unmarshal(raw, &sts); err != nil {
		return []Check{{What: "tocsin", Say: "its answer cannot be read: " + err.Error(), Do: "is it of the same version?"}}
	}
	out := []Check{{What: "tocsin", OK: true, Say: fmt.Sprintf("runs, knows %d clusters", len(sts))}}
	for _, st := range sts {
		ch := Check{What: "collector of " + string(st.Cluster)}
		switch {
		case st.At.IsZero():
			ch.Say, ch.Do = "has never reached its cluster: "+st.LastError, "check the context; nothing is known of this cluster"
		case time.Since(st.At) > time.Minute:
			ch.Say, ch.Do = "last seen "+st.At.Format(time.DateTime)+" "+st.LastError, "is its agent running and the cluster reachable?"
		default:
			ch.OK, ch.Say = true, fmt.Sprintf("%d objects, %d signals open, analysis takes %s", st.Objects, st.Open, st.Analysis.Round(100*time.Microsecond))
		}
		out = append(out, ch)
	}
	return out
}
