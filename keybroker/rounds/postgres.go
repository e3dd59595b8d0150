package rounds

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/database"
)

// ReasonDatabase means a database that cannot be believed: reached without TLS and
// a verified name, or not durable.
const ReasonDatabase refusal.Reason = "round-database-refused"

// Postgres is the store of a fleet: one PostgreSQL database that any number of
// brokers use at once. Rows are locked while they are changed, and the database
// itself refuses to remove or rewrite a charge.
type Postgres struct{ db *database.DB }

//go:embed schema1.sql
var schema1 string

//go:embed schema2.sql
var schema2 string

// tables is what rounds keep in the database.
func tables() database.Schema {
	return database.Schema{Of: "rounds", Versions: "fed_schema", Steps: []string{schema1, schema2}, Refused: ReasonDatabase, Newer: ReasonStore, Conflict: ReasonConflict}
}

// OpenPostgres connects as [database.Open] does. With [database.ErrUnreachable] it returns a store all the same.
func OpenPostgres(ctx context.Context, dsn string) (*Postgres, error) {
	db, err := database.Open(ctx, dsn, tables())
	if db == nil {
		return nil, err
	}
	return &Postgres{db}, err
}

// Close ends all connections.
func (p *Postgres) Close() error {
	p.db.Close()
	return nil
}

// Create implements Store.
func (p *Postgres) Create(ctx context.Context, r Record) error {
	raw, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return p.db.Write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO fed_rounds (id, version, record) VALUES ($1, $2, $3)", r.ID[:], int64(r.Version), raw)
		return err
	})
}

// Get implements Store.
func (p *Postgres) Get(ctx context.Context, id digest.RoundID) (Record, error) {
	return readListed(p.db.QueryRow(ctx, "SELECT record, "+listOfRound+" FROM fed_rounds WHERE id = $1", id[:]), id)
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
	rows, err := p.db.Query(ctx, "SELECT record, "+listOfRound+" FROM fed_rounds ORDER BY seq DESC")
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
	return p.db.Write(ctx, func(tx pgx.Tx) error {
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
	rows, err := p.db.Query(ctx, "SELECT model, last FROM fed_ledgers ORDER BY model")
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
	rows, err := p.db.Query(ctx, "SELECT l.charges, l.last, coalesce(c.n, 0), coalesce(c.charge, '') FROM fed_ledgers l LEFT JOIN fed_charges c USING (model) WHERE model = $1 ORDER BY c.n", model)
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
