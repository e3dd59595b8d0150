package rounds

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed schema1.sql
var schema1 string

//go:embed schema2.sql
var schema2 string

// migrations are the versions of the schema, in order. One that was released is
// never changed: a change is a further one.
func migrations() []string { return []string{schema1, schema2} }

// migrationLock is the advisory lock that brokers take while they migrate.
const migrationLock = 0x616e63686f72

// migrate brings the schema to the newest version in one transaction. A schema of a
// newer broker is refused.
func migrate(ctx context.Context, c *pgx.Conn) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		// Once the schema is there, a role that may not alter it is enough.
		var there bool
		err := tx.QueryRow(ctx, "SELECT to_regclass('fed_schema') IS NOT NULL").Scan(&there)
		if err == nil && !there {
			_, err = tx.Exec(ctx, "CREATE TABLE fed_schema (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())")
		}
		if err != nil {
			return err
		}
		var have int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM fed_schema").Scan(&have); err != nil {
			return err
		}
		steps := migrations()
		if have > len(steps) {
			return damaged("the database has schema %d; this broker knows %d", have, len(steps))
		}
		for ; have < len(steps); have++ {
			if _, err := tx.Exec(ctx, steps[have]); err != nil {
				return fmt.Errorf("schema %d: %w", have+1, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO fed_schema (version) VALUES ($1)", have+1); err != nil {
				return err
			}
		}
		return nil
	})
}
