package vector

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tocsin-io/tocsin/incident"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationLock is the advisory lock under which one process migrates at a time ("tocsin" in hex).
const migrationLock = 0x746f6373696e

// migrate brings the schema to the newest version, each migration in the transaction that also
// records it. A database whose version is newer than this program, or whose recorded migration
// differs from ours, is refused before anything is written.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("migration: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS tocsin_migrations (version integer PRIMARY KEY, digest text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`); err != nil {
		return fmt.Errorf("migration table: %w", err)
	}
	done, err := applied(ctx, tx)
	if err != nil {
		return err
	}
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return err
	}
	for _, name := range names {
		sql, err := migrationFiles.ReadFile(name)
		if err != nil {
			return err
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		digest := string(incident.HashParts(string(sql)))
		if have, ok := done[version]; ok {
			if have != digest {
				return incident.Invalidf("database schema: migration %d is not the one of this program", version)
			}
			delete(done, version)
			continue
		}
		if _, err := tx.Exec(ctx, string(sql)); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO tocsin_migrations (version, digest) VALUES ($1, $2)", version, digest); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	for version := range done {
		return incident.Invalidf("database schema: version %d is newer than this program knows; run the newer program", version)
	}
	return tx.Commit(ctx)
}

func applied(ctx context.Context, tx pgx.Tx) (map[int]string, error) {
	rows, err := tx.Query(ctx, "SELECT version, digest FROM tocsin_migrations")
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	done := map[int]string{}
	var v int
	var d string
	if _, err := pgx.ForEachRow(rows, []any{&v, &d}, func() error { done[v] = d; return nil }); err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return done, nil
}
