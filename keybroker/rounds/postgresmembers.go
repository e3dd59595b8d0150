package rounds

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// listOfRound selects the list of the round of a row, in its order and in the same snapshot.
const listOfRound = "ARRAY(SELECT member FROM fed_members m WHERE m.round = fed_rounds.id AND member IS NOT NULL ORDER BY n)"

func readListed(row pgx.Row, id digest.RoundID) (Record, error) {
	var raw []byte
	var members [][]byte
	switch err := row.Scan(&raw, &members); {
	case errors.Is(err, pgx.ErrNoRows):
		return Record{}, refusal.New(ReasonUnknown, "no round %s", id)
	case err != nil:
		return Record{}, err
	}
	r, err := decodeRound(raw, id)
	if err == nil {
		err = r.addListed(members)
	}
	return r, err
}

// addListed adds the list of an open round to its record.
func (r *Record) addListed(members [][]byte) error {
	if len(members) > 0 && r.State != Open {
		return damaged("round %s is %s, and has a list beside its record", r.ID, r.State)
	}
	for _, raw := range members {
		m, err := decodeMember(raw)
		if err != nil {
			return err
		}
		r.Members, r.listed = append(r.Members, m), r.listed+1
	}
	return nil
}

// takeList empties the list of a round and says how many were on it: brokers have no right to
// delete, and need none.
func takeList(ctx context.Context, tx pgx.Tx, id digest.RoundID) (int, error) {
	done, err := tx.Exec(ctx, "UPDATE fed_members SET contribution = NULL, agent = NULL, upload = NULL, chip = NULL, member = NULL WHERE round = $1 AND member IS NOT NULL", id[:])
	return int(done.RowsAffected()), err
}

// Head implements Store.
func (p *Postgres) Head(ctx context.Context, id digest.RoundID) (Record, error) {
	return readRound(p.db.QueryRow(ctx, "SELECT record FROM fed_rounds WHERE id = $1", id[:]), id)
}

// Members implements Store.
func (p *Postgres) Members(ctx context.Context, id digest.RoundID, contributions []digest.Digest) (map[digest.Digest]Member, error) {
	r, err := p.Head(ctx, id)
	if err != nil {
		return nil, err
	}
	found := ofRecord(r, contributions)
	list, err := p.listed(ctx, p.db, id, "contribution", contributions)
	for _, m := range list {
		found[m.Contribution] = m
	}
	return found, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func digestBytes(list []digest.Digest) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}

// planned has the server plan a query for the digests that are asked for, each time. Of a
// statement that it keeps it keeps the plan, too, made when the list was empty: by the index that
// begins with the round alone, and all of its list.
const planned = pgx.QueryExecModeCacheDescribe

// listed returns the members whose column has one of some digests. The column is one of ours.
func (p *Postgres) listed(ctx context.Context, q querier, id digest.RoundID, column string, of []digest.Digest) ([]Member, error) {
	rows, err := q.Query(ctx, "SELECT member FROM fed_members WHERE round = $1 AND "+column+" = ANY($2)", planned, id[:], digestBytes(of))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Member, err error) {
		var raw []byte
		if err = row.Scan(&raw); err == nil {
			m, err = decodeMember(raw)
		}
		return m, err
	})
}

// postgresRoster is what the list of a round has of some members, read at once, and what is
// to be added to it.
type postgresRoster struct {
	contributions   map[digest.Digest]Member
	agents, uploads map[digest.Digest]bool
	chips           map[digest.Digest]uint32
	n               uint64
	fresh           []Member
}

func (l *postgresRoster) find(d digest.Digest) (Member, bool, error) {
	m, ok := l.contributions[d]
	return m, ok, nil
}
func (l *postgresRoster) taken(m Member) (bool, error) {
	return l.agents[m.Agent] || l.uploads[m.Upload], nil
}
func (l *postgresRoster) ofChip(chip digest.Digest) (uint32, error) { return l.chips[chip], nil }
func (l *postgresRoster) count() uint64                             { return l.n }
func (l *postgresRoster) put(m Member) error {
	l.know(m)
	l.chips[m.Chip]++
	l.n++
	l.fresh = append(l.fresh, m)
	return nil
}

func (l *postgresRoster) know(m Member) {
	l.contributions[m.Contribution], l.agents[m.Agent], l.uploads[m.Upload] = m, true, true
}

// roster reads what the list has of some members, by its indexes.
func (p *Postgres) roster(ctx context.Context, tx pgx.Tx, id digest.RoundID, some []Member) (*postgresRoster, error) {
	l := &postgresRoster{contributions: map[digest.Digest]Member{}, agents: map[digest.Digest]bool{}, uploads: map[digest.Digest]bool{}, chips: map[digest.Digest]uint32{}}
	columns := map[string][]digest.Digest{}
	for _, m := range some {
		for column, d := range map[string]digest.Digest{"contribution": m.Contribution, "agent": m.Agent, "upload": m.Upload, "chip": m.Chip} {
			columns[column] = append(columns[column], d)
		}
	}
	for _, column := range []string{"contribution", "agent", "upload"} {
		list, err := p.listed(ctx, tx, id, column, columns[column])
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			l.know(m)
		}
	}
	rows, err := tx.Query(ctx, "SELECT chip, count(*) FROM fed_members WHERE round = $1 AND chip = ANY($2) GROUP BY chip", planned, id[:], digestBytes(columns["chip"]))
	if err != nil {
		return nil, err
	}
	var chip []byte
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&chip, &n}, func() error {
		if len(chip) != len(digest.Digest{}) {
			return damaged("a processor on the list of round %s", id)
		}
		l.chips[digest.Digest(chip)] = uint32(n)
		return nil
	}); err != nil {
		return nil, err
	}
	// Places are given in order and never again while a round is open: the last is the number.
	err = tx.QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM fed_members WHERE round = $1", planned, id[:]).Scan(&n)
	l.n = uint64(n)
	return l, err
}

// Admit implements Store. The round's row is locked, so that one broker at a time looks and adds.
func (p *Postgres) Admit(ctx context.Context, id digest.RoundID, some []Member, places Places) (refused []error, err error) {
	err = p.db.Write(ctx, func(tx pgx.Tx) error {
		r, err := readRound(tx.QueryRow(ctx, "SELECT record FROM fed_rounds WHERE id = $1 FOR UPDATE", id[:]), id)
		if err != nil {
			return err
		}
		before := len(r.Members)
		list, err := p.roster(ctx, tx, id, some)
		if err != nil {
			return err
		}
		first := list.n
		if refused, err = enlistAll(list, &r, some, places); err != nil {
			return err
		}
		if err := insertMembers(ctx, tx, id, first, list.fresh); err != nil || before == 0 {
			return err
		}
		raw, err := encodeRecord(r)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE fed_rounds SET record = $2 WHERE id = $1", id[:], raw)
		return err
	})
	return refused, err
}

func insertMembers(ctx context.Context, tx pgx.Tx, id digest.RoundID, after uint64, fresh []Member) error {
	var rows [][]any
	for i, m := range fresh {
		raw, err := encodeMember(m)
		if err != nil {
			return err
		}
		rows = append(rows, []any{id[:], int64(after) + int64(i) + 1, m.Contribution[:], m.Agent[:], m.Upload[:], m.Chip[:], raw})
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"fed_members"}, []string{"round", "n", "contribution", "agent", "upload", "chip", "member"}, pgx.CopyFromRows(rows))
	return err
}
