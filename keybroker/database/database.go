// Package database is a fleet's PostgreSQL database, as the stores of rounds and volumes use it: reached by a way on
// which nobody in between can answer, durable, and with a schema that the first broker to come brings up to date.
//
// It refuses a server that loses what it acknowledged, and a schema that a later broker made. It trusts the server to keep
// what it acknowledged until somebody puts an older copy back; what that means is for each store to notice, by its
// broker's own audit log. The stores keep their own tables and queries; a transaction of [DB.Write] is durable once it
// returns, whatever the server's default is.
package database

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ErrUnreachable means that the database did not answer. One that answers and is refused is
// another matter.
var ErrUnreachable = errors.New("the database cannot be reached")

// Schema is what one store keeps in the database.
type Schema struct {
	// Of says what is kept, for messages.
	Of string
	// Versions is the table of the versions that were applied.
	Versions string
	// Steps are the versions, in order. One that was released is never changed: a change is a further one.
	Steps []string
	// Refused is the reason where the database cannot be believed: reached without TLS and a verified name, or not
	// durable. Newer is the reason where a later broker made the schema, Conflict where the database undid a change
	// because of another one.
	Refused, Newer, Conflict refusal.Reason
}

// DB are the connections of one store. Its methods may be called from several goroutines.
type DB struct {
	*pgxpool.Pool
	schema Schema
}

// Open connects and brings the schema up to date. The database is reached over a unix socket, or over TLS 1.3 with
// its name verified (sslmode=verify-full). With ErrUnreachable it returns a database all the same: what is asked of it
// fails until it answers, and the schema is brought up to date then.
func Open(ctx context.Context, dsn string, s Schema) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s database: %w", s.Of, err) // without the password
	}
	if err := s.authenticated(cfg.ConnConfig); err != nil {
		return nil, err
	}
	var migrated atomic.Bool
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		err := s.checkDurable(ctx, c)
		if err == nil && !migrated.Load() {
			if err = s.migrate(ctx, c); err == nil {
				migrated.Store(true)
			}
		}
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s database: %w", s.Of, err)
	}
	switch err := pool.Ping(ctx); {
	case err == nil:
		return &DB{pool, s}, nil
	case unreachable(err):
		return &DB{pool, s}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	default:
		pool.Close()
		return nil, fmt.Errorf("%s database: %w", s.Of, err)
	}
}

// unreachable tells a database that is away, or has no place for anybody now, from one that
// refuses this broker.
func unreachable(err error) bool {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		// It ends (57P01, 57P02), starts or recovers (57P03), or has no connection, memory or disk
		// left (class 53).
		return slices.Contains([]string{"57P01", "57P02", "57P03"}, answer.Code) || strings.HasPrefix(answer.Code, "53")
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || errors.Is(err, context.DeadlineExceeded)
}

// authenticated refuses every way to the database, the alternatives too, on which
// someone in between could answer.
func (s Schema) authenticated(cfg *pgx.ConnConfig) error {
	check := func(host string, t *tls.Config) error {
		switch {
		case strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@"):
			return nil
		case t == nil || t.InsecureSkipVerify:
			return refusal.New(s.Refused, "%s: a database on the network requires sslmode=verify-full", host)
		}
		t.MinVersion = tls.VersionTLS13
		return nil
	}
	err := check(cfg.Host, cfg.TLSConfig)
	for _, f := range cfg.Fallbacks {
		err = errors.Join(err, check(f.Host, f.TLSConfig))
	}
	return err
}

// checkDurable refuses a server that loses what it acknowledged.
func (s Schema) checkDurable(ctx context.Context, c *pgx.Conn) error {
	var fsync, pages string
	if err := c.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &pages); err != nil {
		return err
	}
	if fsync != "on" || pages != "on" {
		return refusal.New(s.Refused, "the server runs with fsync %s and full_page_writes %s: what it acknowledged could be lost", fsync, pages)
	}
	return nil
}

// Write runs f in one transaction that is durable once it is committed, whatever
// the server's default is.
func (d *DB) Write(ctx context.Context, f func(pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, d.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '10s', true), set_config('synchronous_commit',
			CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`); err != nil {
			return err
		}
		return f(tx)
	})
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "23505", "40001", "40P01", "55P03": // unique, serialization, deadlock, lock not available: rolled back
			return refusal.New(d.schema.Conflict, "the database refused: %w", err)
		}
	}
	return err
}
