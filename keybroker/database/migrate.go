package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// migrationLock is the advisory lock that brokers take while they migrate.
const migrationLock = 0x616e63686f72

// migrate brings the schema to the newest version in one transaction. A schema of a
// newer broker is refused.
func (s Schema) migrate(ctx context.Context, c *pgx.Conn) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		table := pgx.Identifier{s.Versions}.Sanitize()
		// Once the schema is there, a role that may not alter it is enough.
		var there bool
		err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&there)
		if err == nil && !there {
			_, err = tx.Exec(ctx, "CREATE TABLE "+table+" (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())")
		}
		if err != nil {
			return err
		}
		var have int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+table).Scan(&have); err != nil {
			return err
		}
		if have > len(s.Steps) {
			return refusal.New(s.Newer, "the database has schema %d of %s; this broker knows %d", have, s.Of, len(s.Steps))
		}
		for ; have < len(s.Steps); have++ {
			if _, err := tx.Exec(ctx, s.Steps[have]); err != nil {
				return fmt.Errorf("schema %d: %w", have+1, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO "+table+" (version) VALUES ($1)", have+1); err != nil {
				return err
			}
		}
		return nil
	})
}
