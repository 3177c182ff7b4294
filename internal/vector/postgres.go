package vector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// Config says how to reach Postgres.
type Config struct {
	// DSN is a libpq URL or keyword string. Use sslmode=verify-full for another machine. It holds
	// a password and is never logged.
	DSN string
	// AllowPlaintext permits an unencrypted connection to another machine. Zero: refused.
	AllowPlaintext bool
	// StatementTimeout bounds every read; zero: 2 s. Writes get thirty times as long.
	StatementTimeout time.Duration
	// IndexFrom is the number of sections from which a space gets an HNSW index; below it search
	// is exact. Zero: 10,000.
	IndexFrom int
}

// Versions of pgvector: iterative scans came with 0.8.0; 0.8.6 is the first without known index
// corruption.
var (
	minIterative   = [3]int{0, 8, 0}
	minRecommended = [3]int{0, 8, 6}
)

// Postgres is a runbooks.Store in Postgres with pgvector. It is safe for concurrent use.
type Postgres struct {
	pool    *pgxpool.Pool
	cfg     Config
	version [3]int // of pgvector

	mu     sync.Mutex
	spaces map[string]pgSpace // what is known of the spaces; refreshed by Apply
}

type pgSpace struct {
	table   string
	dim     int
	count   int
	indexed bool
}

var _ runbooks.Store = (*Postgres)(nil)

// OpenPostgres connects, checks the extension, and migrates. The caller closes the result. Errors
// about settings wrap ErrInvalid and do not hold the DSN.
func OpenPostgres(ctx context.Context, cfg Config) (*Postgres, error) {
	if cfg.StatementTimeout == 0 {
		cfg.StatementTimeout = 2 * time.Second
	}
	if cfg.IndexFrom == 0 {
		cfg.IndexFrom = 10_000
	}
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, incident.Invalidf("postgres: the connection string cannot be read")
	}
	if !cfg.AllowPlaintext {
		if err := requireTLS(&pc.ConnConfig.Config.Host, pc); err != nil {
			return nil, err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	p := &Postgres{pool: pool, cfg: cfg, spaces: map[string]pgSpace{}}
	if err := p.prepare(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return p, nil
}

// requireTLS refuses a configuration that may fall back to plaintext to another machine.
func requireTLS(host *string, pc *pgxpool.Config) error {
	local := func(h string) bool {
		ip := net.ParseIP(h)
		return h == "localhost" || strings.HasPrefix(h, "/") || ip != nil && ip.IsLoopback()
	}
	plain := pc.ConnConfig.TLSConfig == nil && !local(*host)
	for _, f := range pc.ConnConfig.Fallbacks {
		plain = plain || f.TLSConfig == nil && !local(f.Host)
	}
	if plain {
		return incident.Invalidf("postgres at %s: connection is not encrypted; set sslmode=verify-full (or allow plaintext)", *host)
	}
	return nil
}

func (p *Postgres) prepare(ctx context.Context) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS vector"); err != nil {
		return fmt.Errorf("postgres: extension vector: %w", err)
	}
	var v string
	if err := conn.QueryRow(ctx, "SELECT extversion FROM pg_extension WHERE extname = 'vector'").Scan(&v); err != nil {
		return fmt.Errorf("postgres: extension vector: %w", err)
	}
	p.version = parseVersion(v)
	return migrate(ctx, conn.Conn())
}

func parseVersion(s string) (v [3]int) {
	for i, part := range strings.SplitN(s, ".", 3) {
		v[i], _ = strconv.Atoi(part)
	}
	return v
}

// Warning says what is wrong with the server although it works, or "".
func (p *Postgres) Warning() string {
	v := fmt.Sprintf("%d.%d.%d", p.version[0], p.version[1], p.version[2])
	switch {
	case slices.Compare(p.version[:], minIterative[:]) < 0:
		return "pgvector " + v + " has no iterative scans: search stays exact, slow above 10,000 sections; upgrade to 0.8.6 or later"
	case slices.Compare(p.version[:], minRecommended[:]) < 0:
		return "pgvector " + v + " has known index faults; upgrade to 0.8.6 or later"
	}
	return ""
}

// Close ends all connections.
func (p *Postgres) Close() { p.pool.Close() }

// Ping reports whether the server answers.
func (p *Postgres) Ping(ctx context.Context) error { return p.pool.Ping(ctx) }

// read runs f in a read-only transaction with the statement time-out and the settings given as
// name, value, …; all of them end with it, whichever connection of the pool it got.
func (p *Postgres) read(ctx context.Context, settings []string, f func(pgx.Tx) error) error {
	return p.in(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, p.cfg.StatementTimeout, settings, f)
}

func (p *Postgres) in(ctx context.Context, opt pgx.TxOptions, timeout time.Duration, settings []string, f func(pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
	defer cancel()
	return pgx.BeginTxFunc(ctx, p.pool, opt, func(tx pgx.Tx) error {
		if err := set(ctx, tx, append([]string{"statement_timeout", strconv.FormatInt(timeout.Milliseconds(), 10)}, settings...)); err != nil {
			return err
		}
		return f(tx)
	})
}

// set is SET LOCAL of several settings in one round trip.
func set(ctx context.Context, tx pgx.Tx, settings []string) error {
	var calls []string
	var args []any
	for i := 0; i < len(settings); i += 2 {
		calls = append(calls, fmt.Sprintf("set_config($%d, $%d, true)", i+1, i+2))
		args = append(args, settings[i], settings[i+1])
	}
	_, err := tx.Exec(ctx, "SELECT "+strings.Join(calls, ", "), args...)
	return err
}

// lookup returns the space; found is false for one that does not exist.
func (p *Postgres) lookup(ctx context.Context, tx pgx.Tx, name string) (s pgSpace, found bool, err error) {
	p.mu.Lock()
	s, found = p.spaces[name]
	p.mu.Unlock()
	if found {
		return s, true, nil
	}
	err = tx.QueryRow(ctx, "SELECT sections, dimensions FROM tocsin_spaces WHERE space = $1", name).Scan(&s.table, &s.dim)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if err := p.count(ctx, tx, &s); err != nil {
		return s, false, err
	}
	p.remember(name, s)
	return s, true, nil
}

func (p *Postgres) count(ctx context.Context, tx pgx.Tx, s *pgSpace) error {
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+s.table).Scan(&s.count); err != nil {
		return err
	}
	return tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.table+"_hnsw").Scan(&s.indexed)
}

func (p *Postgres) remember(name string, s pgSpace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spaces[name] = s
}

// Hashes implements runbooks.Store.
func (p *Postgres) Hashes(ctx context.Context, name string) (map[string]string, error) {
	out := map[string]string{}
	err := p.read(ctx, nil, func(tx pgx.Tx) error {
		s, found, err := p.lookup(ctx, tx, name)
		if err != nil || !found {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT id, hash FROM "+s.table)
		if err != nil {
			return err
		}
		var id, hash string
		_, err = pgx.ForEachRow(rows, []any{&id, &hash}, func() error { out[id] = hash; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: reading space %q: %w", name, err)
	}
	return out, nil
}

// Apply implements runbooks.Store.
func (p *Postgres) Apply(ctx context.Context, name string, put []runbooks.Record, drop []string) error {
	dim := 0
	for i := range put {
		if err := checkRecord(&put[i], &dim); err != nil {
			return err
		}
	}
	var s pgSpace
	err := p.in(ctx, pgx.TxOptions{}, 30*p.cfg.StatementTimeout, nil, func(tx pgx.Tx) error {
		var err error
		if s, err = p.ensure(ctx, tx, name, dim); err != nil || s.table == "" {
			return err
		}
		if len(drop) > 0 {
			if _, err := tx.Exec(ctx, "DELETE FROM "+s.table+" WHERE id = ANY($1)", drop); err != nil {
				return err
			}
		}
		for chunk := range slices.Chunk(put, 500) {
			if err := upsert(ctx, tx, s, chunk); err != nil {
				return err
			}
		}
		if err := p.count(ctx, tx, &s); err != nil {
			return err
		}
		if s.count >= p.cfg.IndexFrom && !s.indexed && slices.Compare(p.version[:], minIterative[:]) >= 0 {
			// The graph is built much faster when it fits into memory.
			if err := set(ctx, tx, []string{"maintenance_work_mem", "256MB"}); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf("CREATE INDEX %s_hnsw ON %s USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 128)", s.table, s.table)); err != nil {
				return err
			}
			s.indexed = true
		}
		return nil
	})
	if err != nil {
		if errors.Is(err, incident.ErrInvalid) {
			return err
		}
		return fmt.Errorf("postgres: writing space %q: %w", name, err)
	}
	if s.table != "" {
		p.remember(name, s)
	}
	return nil
}

// ensure creates the space when it does not exist and dim is known. An empty table name means
// that there is none and nothing to put.
func (p *Postgres) ensure(ctx context.Context, tx pgx.Tx, name string, dim int) (pgSpace, error) {
	s, found, err := p.lookup(ctx, tx, name)
	switch {
	case err != nil:
		return s, err
	case found && dim > 0 && s.dim != dim:
		return s, incident.Invalidf("space %q has %d dimensions, the vectors have %d", incident.Clip(name, 80), s.dim, dim)
	case found || dim == 0:
		return s, nil
	}
	s = pgSpace{table: "tocsin_sections_" + string(incident.HashParts(name))[:12], dim: dim}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return s, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO tocsin_spaces (space, sections, dimensions) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", name, s.table, dim); err != nil {
		return s, err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %[1]s (
		id text PRIMARY KEY, source text NOT NULL, hash text NOT NULL, body tsvector NOT NULL, embedding vector(%[2]d) NOT NULL);
		CREATE INDEX IF NOT EXISTS %[1]s_body ON %[1]s USING gin (body)`, s.table, dim))
	return s, err
}

func upsert(ctx context.Context, tx pgx.Tx, s pgSpace, recs []runbooks.Record) error {
	var ids, sources, hashes, texts, vecs []string
	for _, r := range recs {
		v := slices.Clone(r.Vector)
		normalise(v)
		ids, sources, hashes = append(ids, r.ID), append(sources, r.Source), append(hashes, r.Hash)
		// Postgres text takes no NUL; a tsvector at most 1 MB.
		texts = append(texts, strings.ToValidUTF8(strings.ReplaceAll(incident.Clip(r.Text, 64<<10), "\x00", ""), ""))
		vecs = append(vecs, pgvector.NewVector(v).String())
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (id, source, hash, body, embedding)
		SELECT i, s, h, to_tsvector('english', t), v::vector(%d) FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u(i, s, h, t, v)
		ON CONFLICT (id) DO UPDATE SET source = EXCLUDED.source, hash = EXCLUDED.hash, body = EXCLUDED.body, embedding = EXCLUDED.embedding`, s.table, s.dim),
		ids, sources, hashes, texts, vecs)
	return err
}

// Nearest implements runbooks.Store. Below IndexFrom sections it is exact; above, an HNSW scan
// goes on until enough rows pass the filter, and should it still come back short, the exact
// search answers.
func (p *Postgres) Nearest(ctx context.Context, name string, probe runbooks.Probe) ([]runbooks.Match, error) {
	if err := checkProbe(&probe); err != nil {
		return nil, err
	}
	s, found, err := p.space(ctx, name)
	if err != nil || !found {
		return nil, err
	}
	if len(probe.Vector) != s.dim {
		return nil, incident.Invalidf("probe has %d dimensions, space %q has %d", len(probe.Vector), incident.Clip(name, 80), s.dim)
	}
	approximate := s.indexed && s.count >= p.cfg.IndexFrom
	settings := exact
	if approximate {
		settings = scanning(probe.Limit)
	}
	var out []runbooks.Match
	err = p.read(ctx, settings, func(tx pgx.Tx) error {
		var err error
		if out, err = nearest(ctx, tx, s, probe); err != nil {
			return err
		}
		if approximate && len(out) < min(probe.Limit, s.count) {
			if err := set(ctx, tx, exact); err != nil {
				return err
			}
			if out, err = nearest(ctx, tx, s, probe); err != nil {
				return err
			}
		}
		if probe.Text != "" {
			return byWords(ctx, tx, s, probe, &out)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: searching space %q: %w", name, err)
	}
	return out, nil
}

// exact makes the planner read all vectors.
var exact = []string{"enable_indexscan", "off"}

// scanning makes it walk the HNSW graph until limit rows pass the filter. ef_search of at least
// 200 was measured (docs/runbooks.md); strict order keeps the ranking exact among what was seen.
func scanning(limit int) []string {
	return []string{"enable_indexscan", "on", "hnsw.iterative_scan", "strict_order", "hnsw.ef_search", strconv.Itoa(min(1000, max(200, 2*limit))), "hnsw.max_scan_tuples", "40000"}
}

// space returns what is known of a space, asking the server once.
func (p *Postgres) space(ctx context.Context, name string) (s pgSpace, found bool, err error) {
	p.mu.Lock()
	s, found = p.spaces[name]
	p.mu.Unlock()
	if found {
		return s, true, nil
	}
	err = p.read(ctx, nil, func(tx pgx.Tx) error {
		s, found, err = p.lookup(ctx, tx, name)
		return err
	})
	if err != nil {
		return s, false, fmt.Errorf("postgres: reading space %q: %w", incident.Clip(name, 80), err)
	}
	return s, found, nil
}

func nearest(ctx context.Context, tx pgx.Tx, s pgSpace, probe runbooks.Probe) ([]runbooks.Match, error) {
	args := []any{pgvector.NewVector(probe.Vector).String(), probe.Limit}
	where := ""
	if len(probe.Sources) > 0 {
		where = "WHERE source = ANY($3)"
		args = append(args, probe.Sources)
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT id, 1 - (embedding <=> $1::text::vector(%d)) FROM %s %s ORDER BY embedding <=> $1::text::vector(%d) LIMIT $2::int", s.dim, s.table, where, s.dim), args...)
	if err != nil {
		return nil, err
	}
	var out []runbooks.Match
	var id string
	var cos float64
	_, err = pgx.ForEachRow(rows, []any{&id, &cos}, func() error {
		out = append(out, runbooks.Match{ID: id, Cosine: float32(cos)})
		return nil
	})
	slices.SortStableFunc(out, func(a, b runbooks.Match) int {
		if a.Cosine != b.Cosine {
			return 0
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, err
}

// byWords fills Text of what was found and appends what only the words find.
func byWords(ctx context.Context, tx pgx.Tx, s pgSpace, probe runbooks.Probe, out *[]runbooks.Match) error {
	words := strings.Fields(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return ' '
	}, probe.Text))
	if len(words) == 0 {
		return nil
	}
	args := []any{strings.Join(words[:min(len(words), 64)], " | "), probe.Limit}
	where := ""
	if len(probe.Sources) > 0 {
		where = "AND source = ANY($3)"
		args = append(args, probe.Sources)
	}
	// Normalisation 32 maps the rank to 0..1.
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT id, ts_rank(body, q, 32) r FROM %s, to_tsquery('english', $1) q WHERE body @@ q %s ORDER BY r DESC, id LIMIT $2::int", s.table, where), args...)
	if err != nil {
		return err
	}
	at := map[string]int{}
	for i, m := range *out {
		at[m.ID] = i
	}
	var id string
	var rank float32
	_, err = pgx.ForEachRow(rows, []any{&id, &rank}, func() error {
		if i, ok := at[id]; ok {
			(*out)[i].Text = rank
		} else {
			*out = append(*out, runbooks.Match{ID: id, Text: rank})
		}
		return nil
	})
	return err
}
