package causes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// databases names faults between clients and their databases: credentials, address, read-only
// mode, exhausted connections.
func databases(c *scan) {
	c.databaseRefuses(logDBTooMany, "DatabaseConnectionsExhausted", "accepts no more connections", "Find the client that holds the connections of %s, or raise its limit")
	c.databaseRefuses(logDBReadOnly, "DatabaseReadOnly", "accepts no writes", "Find out why %s is read-only (replica, full disk, failover) and make it writable")
	for _, k := range c.crashes() {
		c.clientFails(k)
	}
	for _, w := range c.Workloads() {
		c.clientRefused(w)
	}
}

// databaseRefuses blames the database that its own log or its clients' logs say refuses.
func (c *scan) databaseRefuses(class logClass, cause incident.CauseName, what, todo string) {
	byDB := map[*cluster.Workload][]*logFact{}
	var order []*cluster.Workload
	for _, f := range c.facts() {
		if f.class != class || proxyContainer(f.container) {
			continue
		}
		w := c.Workload(f.owner)
		if w == nil {
			continue
		}
		db := w
		if !database(w) {
			db = c.databaseOf(w, f)
		}
		if db == nil {
			continue
		}
		if byDB[db] == nil {
			order = append(order, db)
		}
		byDB[db] = append(byDB[db], f)
	}
	for _, db := range order {
		fs := byDB[db]
		clients, own, n := map[incident.Entity]bool{}, false, 0
		for _, f := range fs {
			n += f.count
			if f.owner == db.Entity {
				own = true
			} else {
				clients[f.owner] = true
			}
		}
		score := 0.75
		switch {
		case own && len(clients) > 0, len(clients) > 1:
			score = 0.95
		case len(clients) == 1:
			score = 0.88
		case own && n < 5 || own && class == logDBReadOnly:
			score = 0.3
		}
		s := c.blame(cause, db.Entity, score, "%s %s; %d clients say so", db.Entity, what, len(clients)).explain(db.Entity, "")
		if score < 0.5 {
			s.level(incident.Info)
		}
		for _, f := range fs {
			s.quote("logs", f.pod, f.text, time.Time{})
			if f.owner != db.Entity {
				s.explain(f.owner, "").explain(f.pod, "").relate(f.owner)
			}
		}
		for _, svc := range db.Services {
			s.relate(cluster.EntityOf("Service", svc))
		}
		s.step(db.Entity, todo, db.Entity)
	}
}

// databaseOf returns the database a client speaks of: by the host it names, its settings, the
// topology, a database's name in its log, or because there is only one.
func (c *scan) databaseOf(w *cluster.Workload, f *logFact) *cluster.Workload {
	if f != nil && f.host != "" {
		if db := c.databaseAt(w, f.host); db != nil {
			return db
		}
	}
	for _, n := range c.needsOf(w.Entity) {
		if n.host.Service != nil {
			if db := c.databaseAt(w, n.text); db != nil && (f == nil || sameEngine(db, f.text)) {
				return db
			}
		}
	}
	var found []*cluster.Workload
	for _, o := range c.Workloads() {
		if o.Entity.Namespace != w.Entity.Namespace || !database(o) || f != nil && !sameEngine(o, f.text) {
			continue
		}
		found = append(found, o)
		if f == nil {
			continue
		}
		for _, svc := range o.Services {
			if strings.Contains(f.log.Current, svc.Name) || strings.Contains(f.log.Previous, svc.Name) {
				return o
			}
		}
	}
	if len(found) > 1 { // leave out those that belong to somebody else by their settings
		found = slices.DeleteFunc(found, func(o *cluster.Workload) bool {
			return slices.ContainsFunc(c.needs(), func(n need) bool {
				return n.caller != w && n.host.Service != nil && slices.Contains(o.Services, n.host.Service)
			})
		})
	}
	if len(found) > 1 { // or by their names
		found = slices.DeleteFunc(found, func(o *cluster.Workload) bool {
			return slices.ContainsFunc(c.Workloads(), func(x *cluster.Workload) bool {
				return x != w && !database(x) && x.Entity.Namespace == o.Entity.Namespace && len(x.Entity.Name) >= 4 && strings.HasPrefix(o.Entity.Name, x.Entity.Name)
			})
		})
	}
	if len(found) == 1 {
		return found[0]
	}
	return nil
}

func (c *scan) databaseAt(w *cluster.Workload, host string) *cluster.Workload {
	h := c.Resolve(w.Entity.Namespace, host)
	if h.Pod != nil {
		if db := c.WorkloadOf(h.Pod); db != nil && database(db) {
			return db
		}
	}
	if h.Service == nil {
		return nil
	}
	ws, _ := c.ServiceWorkloads(h.Service)
	for _, db := range ws {
		if database(db) {
			return db
		}
	}
	return nil
}

// sameEngine reports whether a log line can be about that database; true when the line tells no
// engine.
func sameEngine(db *cluster.Workload, text string) bool {
	engines := map[string][]string{"mysql": {"mysql", "mariadb", "percona", "mycat"}, "postgres": {"postgres", "pgbouncer", "cockroach"}, "psql": {"postgres"}, "pg_": {"postgres"}, "mongo": {"mongo"}, "redis": {"redis", "valkey"}}
	for word, images := range engines {
		if !has(text, word) {
			continue
		}
		return slices.ContainsFunc(db.Template.Spec.Containers, func(ct corev1.Container) bool { return has(ct.Image+" "+db.Entity.Name, images...) })
	}
	return true
}

// clientFails names why a client that crashes cannot use its database.
func (c *scan) clientFails(k crash) {
	w := k.workload
	if database(w) && len(k.of(logDBDown)) == 0 {
		return
	}
	if fs := k.of(logDBAccess); len(fs) > 0 && len(k.of(logDBTooMany)) == 0 {
		c.badCredentials(w, k.cite, fs[0])
		return
	}
	down := k.of(logDBDown)
	if len(down) == 0 {
		return
	}
	if len(k.of(logDNSTimeout)) > 0 || len(k.of(logDBTooMany)) > 0 {
		return
	}
	if unknown := k.of(logUnknownHost); len(unknown) > 0 {
		if h := c.Resolve(w.Entity.Namespace, unknown[0].host); h.Service == nil && !c.dnsBroken(w) {
			c.badAddress(k, unknown[0], unknown[0].host+" is not the name of any service", 0.9)
		}
		return
	}
	refused := k.of(logRefused, logTimeout)
	f := down[0]
	if len(refused) > 0 {
		f = refused[0]
	}
	db := c.databaseOf(w, f)
	if db != nil && short(db) && db.Ready == 0 {
		return // the database's own fault explains its clients
	}
	if db == nil && c.brokenDatabase(w.Entity.Namespace) {
		return
	}
	score := 0.85
	if db != nil && db.Ready > 0 {
		score = 0.92
	}
	if len(refused) == 0 {
		score -= 0.15
	}
	c.badAddress(k, f, "the database is there and other clients reach it", score)
}

func (c *scan) brokenDatabase(ns string) bool {
	return slices.ContainsFunc(c.Workloads(), func(o *cluster.Workload) bool {
		return o.Entity.Namespace == ns && database(o) && o.Desired > 0 && o.Ready == 0
	})
}

func (c *scan) badAddress(k crash, f *logFact, why string, score float64) {
	w := k.workload
	s := k.citeLog(c.blame("DatabaseInvalidPort", w.Entity, score, "%s cannot connect to its database: wrong address or port (%s)", w.Entity, why), f)
	db := c.databaseOf(w, f)
	for _, n := range c.needsOf(w.Entity) {
		if n.port != 0 && n.host.Service != nil && !hasPort(n.host.Service, n.port) && n.path != "" {
			s.score = max(s.score, 0.95)
			s.see("objects/"+plural(n.object.Kind), n.object, n.path, n.value, "one of the ports of "+n.host.Service.Name+": "+servicePorts(n.host.Service))
		}
	}
	if db != nil {
		s.relate(db.Entity)
		for _, svc := range db.Services {
			s.relate(cluster.EntityOf("Service", svc)).see("objects/services", cluster.EntityOf("Service", svc), "spec.ports", servicePorts(svc), "the port the client uses")
		}
	}
	c.rollback(s, w)
	s.step(w.Entity, "Correct the database host and port in the settings of %s", w.Entity)
}

func (c *scan) badCredentials(w *cluster.Workload, cite func(*suspect) *suspect, f *logFact) {
	s := c.blame("DatabaseInvalidCredentials", w.Entity, 0.95, "%s: its database refuses its user or password", w.Entity)
	if cite != nil {
		cite(s)
	}
	s.quote("logs", f.pod, f.text, time.Time{}).explain(w.Entity, "").explain(f.pod, "")
	if db := c.databaseOf(w, f); db != nil {
		s.relate(db.Entity)
	}
	for _, ct := range w.Template.Spec.Containers {
		for _, e := range ct.EnvFrom {
			if e.SecretRef != nil {
				s.relate(incident.Entity{Kind: "Secret", Namespace: w.Entity.Namespace, Name: e.SecretRef.Name})
			}
		}
		for _, e := range ct.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				s.relate(incident.Entity{Kind: "Secret", Namespace: w.Entity.Namespace, Name: e.ValueFrom.SecretKeyRef.Name})
			}
		}
	}
	s.step(w.Entity, "Correct the database user and password in the Secret of %s", w.Entity)
}

// clientRefused names clients that run but are refused by their database again and again.
func (c *scan) clientRefused(w *cluster.Workload) {
	if database(w) {
		return
	}
	for _, f := range c.said(w.Entity, logDBAccess) {
		if f.last && (f.count >= 3 || short(w)) && c.databaseOf(w, f) != nil {
			c.badCredentials(w, nil, f)
			return
		}
	}
}
