package rounds

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

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonDatabase means a database that cannot be believed: reached without TLS and
// a verified name, or not durable.
const ReasonDatabase refusal.Reason = "round-database-refused"

// Postgres is the store of a fleet: one PostgreSQL database that any number of
// brokers use at once. Rows are locked while they are changed, and the database
// itself refuses to remove or rewrite a charge.
type Postgres struct{ pool *pgxpool.Pool }

// ErrUnreachable means that the database did not answer. One that answers and is refused is
// another matter.
var ErrUnreachable = errors.New("the rounds' database cannot be reached")

// OpenPostgres connects and brings the schema up to date. The database is reached
// over a unix socket, or over TLS 1.3 with its name verified (sslmode=verify-full).
// With ErrUnreachable it returns a store all the same: what is asked of it fails until
// the database answers, and the schema is brought up to date then.
func OpenPostgres(ctx context.Context, dsn string) (*Postgres, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("rounds database: %w", err) // without the password
	}
	if err := authenticated(cfg.ConnConfig); err != nil {
		return nil, err
	}
	var migrated atomic.Bool
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		err := checkDurable(ctx, c)
		if err == nil && !migrated.Load() {
			if err = migrate(ctx, c); err == nil {
				migrated.Store(true)
			}
		}
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("rounds database: %w", err)
	}
	switch err := pool.Ping(ctx); {
	case err == nil:
		return &Postgres{pool}, nil
	case unreachable(err):
		return &Postgres{pool}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	default:
		pool.Close()
		return nil, fmt.Errorf("rounds database: %w", err)
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
func authenticated(cfg *pgx.ConnConfig) error {
	check := func(host string, t *tls.Config) error {
		switch {
		case strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@"):
			return nil
		case t == nil || t.InsecureSkipVerify:
			return refusal.New(ReasonDatabase, "%s: a database on the network requires sslmode=verify-full", host)
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
func checkDurable(ctx context.Context, c *pgx.Conn) error {
	var fsync, pages string
	if err := c.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &pages); err != nil {
		return err
	}
	if fsync != "on" || pages != "on" {
		return refusal.New(ReasonDatabase, "the server runs with fsync %s and full_page_writes %s: a charge could be lost", fsync, pages)
	}
	return nil
}

// Close ends all connections.
func (p *Postgres) Close() error {
	p.pool.Close()
	return nil
}

// write runs f in one transaction that is durable once it is committed, whatever
// the server's default is.
func (p *Postgres) write(ctx context.Context, f func(pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '10s', true), set_config('synchronous_commit',
			CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`); err != nil {
			return err
		}
		return f(tx)
	})
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "23505", "40001", "40P01", "55P03": // unique, serialization, deadlock, lock not available: rolled back
			return refusal.New(ReasonConflict, "the database refused: %w", err)
		}
	}
	return err
}

// Create implements Store.
func (p *Postgres) Create(ctx context.Context, r Record) error {
	raw, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return p.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO fed_rounds (id, version, record) VALUES ($1, $2, $3)", r.ID[:], int64(r.Version), raw)
		return err
	})
}

// Get implements Store.
func (p *Postgres) Get(ctx context.Context, id digest.RoundID) (Record, error) {
	return readListed(p.pool.QueryRow(ctx, "SELECT record, "+listOfRound+" FROM fed_rounds WHERE id = $1", id[:]), id)
}

func readRound(row pgx.Row, id digest.RoundID) (Record, error) {
	var raw []byte
	switch err := row.Scan(&raw); {
	case errors.Is(err, pgx.ErrNoRows):
		return Record{}, refusal.New(ReasonUnknown, "no round %s", id)
	case err != nil:
		return Record{}, err
	}
	return decodeRound(raw, id)
}

// Each implements Store.
func (p *Postgres) Each(ctx context.Context, visit func(Record) error) error {
	rows, err := p.pool.Query(ctx, "SELECT record, "+listOfRound+" FROM fed_rounds ORDER BY seq DESC")
	if err != nil {
		return err
	}
	var raw []byte
	var members [][]byte
	_, err = pgx.ForEachRow(rows, []any{&raw, &members}, func() error {
		r, err := decodeRecord(raw)
		if err == nil {
			err = r.addListed(members)
		}
		if err != nil {
			return err
		}
		return visit(r)
	})
	return err
}

// Update implements Store. The round's row is locked before the ledger's, in every
// transaction, so that two brokers wait for each other and never for ever.
func (p *Postgres) Update(ctx context.Context, r Record, charge *Charge) error {
	return p.write(ctx, func(tx pgx.Tx) error {
		held, err := readRound(tx.QueryRow(ctx, "SELECT record FROM fed_rounds WHERE id = $1 FOR UPDATE", r.ID[:]), r.ID)
		if err != nil {
			return err
		}
		listed, err := takeList(ctx, tx, r.ID) // undone where the change is refused
		if err != nil {
			return err
		}
		if err := errors.Join(r.follows(held, charge), r.listKept(listed)); err != nil {
			return err
		}
		r.Version = held.Version + 1
		raw, err := encodeRecord(r)
		if err != nil {
			return err
		}
		if charge != nil {
			if err := chargePostgres(ctx, tx, r.ledger(), *charge); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE fed_rounds SET version = $2, record = $3 WHERE id = $1", r.ID[:], int64(r.Version), raw)
		return err
	})
}

// chargePostgres appends to a ledger whose head it locks.
func chargePostgres(ctx context.Context, tx pgx.Tx, model string, charge Charge) error {
	raw, err := encodeCharge(charge)
	if err != nil {
		return err
	}
	next, err := charge.digest()
	if err != nil {
		return err
	}
	var none digest.Digest
	if _, err := tx.Exec(ctx, "INSERT INTO fed_ledgers (model, charges, last) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING", model, none[:]); err != nil {
		return err
	}
	var n int64
	var last []byte
	if err := tx.QueryRow(ctx, "SELECT charges, last FROM fed_ledgers WHERE model = $1 FOR UPDATE", model).Scan(&n, &last); err != nil {
		return err
	}
	if string(last) != string(charge.Previous[:]) {
		return refusal.New(ReasonConflict, "the privacy ledger of %q was charged concurrently", model)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO fed_charges (model, n, round, charge) VALUES ($1, $2, $3, $4)", model, n+1, charge.Round[:], raw); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE fed_ledgers SET charges = $2, last = $3 WHERE model = $1", model, n+1, next[:])
	return err
}

// Ledgers implements Store.
func (p *Postgres) Ledgers(ctx context.Context) ([]Head, error) {
	rows, err := p.pool.Query(ctx, "SELECT model, last FROM fed_ledgers ORDER BY model")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Head, err error) {
		var last []byte
		if err = row.Scan(&h.Name, &last); err == nil && copy(h.Last[:], last) != len(h.Last) {
			err = damaged("the head of the ledger %q", h.Name)
		}
		return h, err
	})
}

// Charges implements Store. The ledger's head says how many there must be and what
// the last one is: charges that were taken away are noticed.
func (p *Postgres) Charges(ctx context.Context, model string) ([]Charge, error) {
	rows, err := p.pool.Query(ctx, "SELECT l.charges, l.last, coalesce(c.n, 0), coalesce(c.charge, '') FROM fed_ledgers l LEFT JOIN fed_charges c USING (model) WHERE model = $1 ORDER BY c.n", model)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Charge
	var want, n int64
	var last, raw []byte
	for rows.Next() {
		if err := rows.Scan(&want, &last, &n, &raw); err != nil {
			return nil, err
		}
		if n == 0 {
			continue // a head without charges
		}
		c, err := decodeCharge(raw)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	end, err := complete(model, list, uint64(want))
	if err == nil && want > 0 && string(last) != string(end[:]) {
		err = damaged("the last charge of %q is not the one that the ledger names", model)
	}
	return list, err
}
