package remediations

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Scope is what a stop switch stops: the fleet (zero value), one cluster, or one namespace of it.
type Scope struct {
	Cluster   incident.ClusterName `json:"cluster,omitempty"`
	Namespace string               `json:"namespace,omitempty"`
}

// String names the scope for a person.
func (s Scope) String() string {
	switch {
	case s.Cluster == "":
		return "the fleet"
	case s.Namespace == "":
		return "cluster " + string(s.Cluster)
	}
	return "namespace " + s.Namespace + " of cluster " + string(s.Cluster)
}

func (s Scope) key() string {
	switch {
	case s.Cluster == "":
		return keyStop
	case s.Namespace == "":
		return keyOf(keyStop, string(s.Cluster))
	}
	return keyOf(keyStop, string(s.Cluster), s.Namespace)
}

// Stop is the state of one switch.
type Stop struct {
	Scope  Scope     `json:"scope"`
	On     bool      `json:"on"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Switch is the stop switch. It is read from the bucket at every decision and before every
// write, never from a watch. A switch that cannot be read is on.
type Switch struct{ kv KV }

// NewSwitch returns the switch kept in kv; hub and agents must be given the same bucket.
func NewSwitch(kv KV) *Switch { return &Switch{kv: kv} }

// Set turns a switch on or off. Whoever calls it has checked that by may.
func (s *Switch) Set(ctx context.Context, stop Stop) error {
	if stop.Scope.Namespace != "" && stop.Scope.Cluster == "" {
		return incident.Invalidf("stop switch: a namespace needs its cluster")
	}
	_, err := update(ctx, s.kv, stop.Scope.key(), func(v *Stop) error {
		*v = stop
		v.At = time.Now().UTC()
		return nil
	})
	return err
}

// List returns the switches that were ever set, in no order.
func (s *Switch) List(ctx context.Context) ([]Stop, error) {
	keys, err := s.kv.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("stop switches: %w", err)
	}
	var out []Stop
	for _, k := range keys {
		if k != keyStop && !strings.HasPrefix(k, keyStop+".") {
			continue
		}
		v, _, found, err := load[Stop](ctx, s.kv, k)
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, v)
		}
	}
	return out, nil
}

// stopped returns why nothing may be done to target now; empty when it may.
func (s *Switch) stopped(ctx context.Context, target incident.Ref) string {
	scopes := []Scope{{}, {Cluster: target.Cluster}}
	if ns := target.Entity.Namespace; ns != "" {
		scopes = append(scopes, Scope{Cluster: target.Cluster, Namespace: ns})
	} else if target.Entity.Kind == "Namespace" {
		scopes = append(scopes, Scope{Cluster: target.Cluster, Namespace: target.Entity.Name})
	}
	for _, sc := range scopes {
		v, _, _, err := load[Stop](ctx, s.kv, sc.key())
		if err != nil {
			return "the stop switch cannot be read: " + err.Error()
		}
		if v.On {
			return fmt.Sprintf("%s is stopped by %s: %s", sc, v.By, v.Reason)
		}
	}
	return ""
}
