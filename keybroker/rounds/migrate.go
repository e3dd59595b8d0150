package rounds

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// migrations are the versions of the schema, in order. One that was released is
// never changed: a change is a further one.
func migrations() []string {
	return []string{`
CREATE TABLE fed_rounds (
	id      bytea  PRIMARY KEY CHECK (length(id) = 16),
	seq     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
	version bigint NOT NULL,
	record  bytea  NOT NULL
);
CREATE TABLE fed_ledgers (
	model   text   PRIMARY KEY,
	charges bigint NOT NULL CHECK (charges >= 0),
	last    bytea  NOT NULL CHECK (length(last) = 32)
);
CREATE TABLE fed_charges (
	model  text   NOT NULL REFERENCES fed_ledgers,
	n      bigint NOT NULL CHECK (n > 0),
	round  bytea  NOT NULL UNIQUE REFERENCES fed_rounds,
	charge bytea  NOT NULL,
	PRIMARY KEY (model, n)
);
CREATE FUNCTION fed_keep() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'rounds and charges are never removed or rewritten'; END $$;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON fed_charges FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON fed_ledgers FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON fed_rounds FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
`}
}

// migrationLock is the advisory lock that brokers take while they migrate.
const migrationLock = 0x616e63686f72

// migrate brings the schema to the newest version in one transaction. A schema of a
// newer broker is refused.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
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
