package remediations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Caps bound what one action may reach and how often actions run. The zero value takes the
// defaults; a negative number allows nothing.
type Caps struct {
	MaxPods        int           `json:"maxPods,omitempty"`        // a blast radius may touch; default 50
	MaxShare       float64       `json:"maxShare,omitempty"`       // of ready replicas gone at once; default 0.5
	MaxNodes       int           `json:"maxNodes,omitempty"`       // default 1
	Cooldown       time.Duration `json:"cooldown,omitempty"`       // between actions on one target; default 10 min
	PerClusterHour int           `json:"perClusterHour,omitempty"` // default 10
	PerFleetHour   int           `json:"perFleetHour,omitempty"`   // hub only; default 30
}

func (c Caps) withDefaults() Caps {
	if c.MaxPods == 0 {
		c.MaxPods = 50
	}
	if c.MaxShare == 0 {
		c.MaxShare = 0.5
	}
	if c.MaxNodes == 0 {
		c.MaxNodes = 1
	}
	if c.Cooldown == 0 {
		c.Cooldown = 10 * time.Minute
	}
	if c.PerClusterHour == 0 {
		c.PerClusterHour = 10
	}
	if c.PerFleetHour == 0 {
		c.PerFleetHour = 30
	}
	return c
}

// run is one execution that was let through.
type run struct {
	At        time.Time    `json:"at"`
	Target    incident.Ref `json:"target"`
	Execution string       `json:"execution"`
}

// rates counts what was let through in the last hour or cooldown, in one compare-and-set value:
// two replicas cannot both take the last place.
type rates struct {
	kv   KV
	caps Caps
}

var errTooSoon = errors.New("too soon")

// check says why another execution on target would be too much now; empty when it would not.
func (r rates) check(runs []run, target incident.Ref, execution string, now time.Time) string {
	cluster, fleet := 0, 0
	for _, x := range runs {
		if x.Execution == execution {
			continue // taken before an interruption
		}
		if x.Target.Cluster == target.Cluster && x.Target.Entity.Key() == target.Entity.Key() && now.Sub(x.At) < r.caps.Cooldown {
			return fmt.Sprintf("%s was acted on %s ago; one action per %s", target.Entity, now.Sub(x.At).Round(time.Second), r.caps.Cooldown)
		}
		if now.Sub(x.At) < time.Hour {
			fleet++
			cluster += count(x.Target.Cluster == target.Cluster)
		}
	}
	switch {
	case cluster >= r.caps.PerClusterHour:
		return fmt.Sprintf("%d actions in cluster %s in the last hour; the limit is %d", cluster, target.Cluster, r.caps.PerClusterHour)
	case fleet >= r.caps.PerFleetHour:
		return fmt.Sprintf("%d actions in the last hour; the limit is %d", fleet, r.caps.PerFleetHour)
	}
	return ""
}

// peek is check against what is stored now.
func (r rates) peek(ctx context.Context, target incident.Ref, execution string) (string, error) {
	runs, _, _, err := load[[]run](ctx, r.kv, keyRates)
	return r.check(runs, target, execution, time.Now()), err
}

// release gives back what take took for an execution that wrote nothing.
func (r rates) release(ctx context.Context, execution string) error {
	_, err := update(ctx, r.kv, keyRates, func(runs *[]run) error {
		*runs = slices.DeleteFunc(*runs, func(x run) bool { return x.Execution == execution })
		return nil
	})
	return err
}

// take records an execution, or returns why not. Taking again for the same execution is free.
func (r rates) take(ctx context.Context, target incident.Ref, execution string) (string, error) {
	reason, now := "", time.Now().UTC()
	_, err := update(ctx, r.kv, keyRates, func(runs *[]run) error {
		if slices.ContainsFunc(*runs, func(x run) bool { return x.Execution == execution }) {
			return nil
		}
		if reason = r.check(*runs, target, execution, now); reason != "" {
			return errTooSoon
		}
		keep := max(time.Hour, r.caps.Cooldown)
		*runs = append(slices.DeleteFunc(*runs, func(x run) bool { return now.Sub(x.At) > keep }), run{now, target, execution})
		return nil
	})
	if errors.Is(err, errTooSoon) {
		err = nil
	}
	return reason, err
}

// lockValue is who acts on a target. A lock is never deleted; it runs out or is released.
type lockValue struct {
	Execution string    `json:"execution"`
	Until     time.Time `json:"until"`
}

func lockKey(e incident.Entity) string { return keyOf(keyLock, e.Kind, e.Namespace, e.Name) }

var errHeld = errors.New("held")

// lockedBy returns the other execution that acts on e now; empty when none does.
func lockedBy(ctx context.Context, kv KV, e incident.Entity, execution string) (string, error) {
	l, _, _, err := load[lockValue](ctx, kv, lockKey(e))
	if err != nil || l.Execution == execution || !time.Now().Before(l.Until) {
		return "", err
	}
	return l.Execution, nil
}

// lock takes the target until then, or returns who holds it.
func lock(ctx context.Context, kv KV, e incident.Entity, execution string, until time.Time) (string, error) {
	return lockKeyed(ctx, kv, lockKey(e), execution, until)
}

func lockKeyed(ctx context.Context, kv KV, key, execution string, until time.Time) (string, error) {
	holder := ""
	_, err := update(ctx, kv, key, func(l *lockValue) error {
		if l.Execution != execution && time.Now().Before(l.Until) {
			holder = l.Execution
			return errHeld
		}
		*l = lockValue{execution, until.UTC()}
		return nil
	})
	if errors.Is(err, errHeld) {
		err = nil
	}
	return holder, err
}

// unlock releases the target if execution still holds it.
func unlock(ctx context.Context, kv KV, e incident.Entity, execution string) error {
	return unlockKeyed(ctx, kv, lockKey(e), execution)
}

func unlockKeyed(ctx context.Context, kv KV, key, execution string) error {
	_, err := update(ctx, kv, key, func(l *lockValue) error {
		if l.Execution != execution {
			return errHeld
		}
		l.Until = time.Time{}
		return nil
	})
	if errors.Is(err, errHeld) {
		return nil
	}
	return err
}
