package volumes

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/database"
)

// Postgres is the store that the brokers of a fleet share: one PostgreSQL database. It compares and swaps in one
// transaction, and the database itself refuses to remove a volume, or to take it to a lower generation.
type Postgres struct {
	db   *database.DB
	most int // volumes that there may be
}

//go:embed schema1.sql
var schema1 string

// tables is what volumes keep in the database.
func tables() database.Schema {
	return database.Schema{Of: "volumes", Versions: "vol_schema", Steps: []string{schema1}, Refused: ReasonDatabase, Newer: ReasonStore, Conflict: ReasonConflict}
}

// OpenPostgres connects as [database.Open] does. With [database.ErrUnreachable] it returns a store all the same.
func OpenPostgres(ctx context.Context, dsn string) (*Postgres, error) {
	db, err := database.Open(ctx, dsn, tables())
	if db == nil {
		return nil, err
	}
	return &Postgres{db, MaxVolumes}, err
}

// Close implements Store. Called on nil too.
func (p *Postgres) Close() error {
	if p != nil {
		p.db.Close()
	}
	return nil
}

// columns are an entry's, of which no more is read than [maxEntryBytes] and one byte: others may write here, too.
const columns = "version, generation, substring(entry for 32769)"

// Get implements Store.
func (p *Postgres) Get(ctx context.Context, volume string) (Entry, error) {
	return scanEntry(p.db.QueryRow(ctx, "SELECT "+columns+" FROM vol_volumes WHERE volume = $1", volume), volume)
}

func scanEntry(row pgx.Row, volume string) (e Entry, err error) {
	var version, generation int64
	var raw []byte
	switch err := row.Scan(&version, &generation, &raw); {
	case errors.Is(err, pgx.ErrNoRows):
		return Entry{Volume: volume}, nil
	case err != nil:
		return Entry{}, err
	}
	return decodeRow(volume, version, generation, raw)
}

func decodeRow(volume string, version, generation int64, raw []byte) (Entry, error) {
	e, err := decodeEntry(volume, raw)
	if err == nil && (e.Version != uint64(version) || e.State.Generation != uint64(generation)) {
		return Entry{}, refusal.New(ReasonStore, "the row of %s is another's", volume)
	}
	return e, err
}

// newVolumes is the advisory lock under which volumes are added, so that their number is exact.
const newVolumes = 0x766f6c756d65

// Put implements Store.
func (p *Postgres) Put(ctx context.Context, e Entry) error {
	before := int64(e.Version)
	raw, err := encodeEntry(&e)
	if err != nil {
		return err
	}
	return p.db.Write(ctx, func(tx pgx.Tx) error {
		if before == 0 {
			return p.add(ctx, tx, e, raw)
		}
		// What is there has to be an entry before another takes its place.
		if _, err := scanEntry(tx.QueryRow(ctx, "SELECT "+columns+" FROM vol_volumes WHERE volume = $1 FOR UPDATE", e.Volume), e.Volume); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, "UPDATE vol_volumes SET version = $3, generation = $4, entry = $5 WHERE volume = $1 AND version = $2",
			e.Volume, before, int64(e.Version), int64(e.State.Generation), raw)
		if err == nil && done.RowsAffected() != 1 {
			err = conflict(e.Volume)
		}
		return err
	})
}

func (p *Postgres) add(ctx context.Context, tx pgx.Tx, e Entry, raw []byte) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(newVolumes)); err != nil {
		return err
	}
	held, err := scanEntry(tx.QueryRow(ctx, "SELECT "+columns+" FROM vol_volumes WHERE volume = $1", e.Volume), e.Volume)
	if err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM vol_volumes").Scan(&n); err != nil {
		return err
	}
	switch {
	case held.Version != 0:
		return conflict(e.Volume)
	case n >= p.most:
		return full(p.most)
	}
	_, err = tx.Exec(ctx, "INSERT INTO vol_volumes (volume, version, generation, entry) VALUES ($1, $2, $3, $4)", e.Volume, int64(e.Version), int64(e.State.Generation), raw)
	return err
}

// Each implements Store.
func (p *Postgres) Each(ctx context.Context, visit func(Entry) error) error {
	rows, err := p.db.Query(ctx, "SELECT volume, "+columns+` FROM vol_volumes ORDER BY volume COLLATE "C" LIMIT $1`, p.most+1)
	if err != nil {
		return err
	}
	var volume string
	var version, generation int64
	var raw []byte
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&volume, &version, &generation, &raw}, func() error {
		if n++; n > p.most {
			return refusal.New(ReasonStore, "the database has more than %d volumes, the most there may be", p.most)
		}
		e, err := decodeRow(volume, version, generation, raw)
		if err != nil {
			return err
		}
		return visit(e)
	})
	return err
}
