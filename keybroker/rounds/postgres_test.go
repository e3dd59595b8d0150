package rounds

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// TestPostgres runs a real server: what every store must do, and what only this one
// can do wrong.
func TestPostgres(t *testing.T) {
	s := &server{databasetest.New(t)}
	conform(t, s.place)
	t.Run("BrokersMigrateTogether", func(t *testing.T) { migrateTogether(t, s) })
	t.Run("NewerSchemaIsRefused", func(t *testing.T) { newerSchema(t, s) })
	t.Run("DatabaseKeepsCharges", func(t *testing.T) { databaseKeeps(t, s) })
	t.Run("RoleThatMayNotAlter", func(t *testing.T) { lesserRole(t, s) })
	t.Run("AdmissionReadsByIndex", func(t *testing.T) {
		longtest.Run(t, "it admits four hundred contributions one by one")
		readsByIndex(t, s)
	})
	t.Run("LossIsNoticed", func(t *testing.T) { lossIsNoticed(t, s) })
	t.Run("CommitsAreDurable", func(t *testing.T) { commitsAreDurable(t, s) })
	t.Run("LocksEnd", func(t *testing.T) { locksEnd(t, s) })
	t.Run("PutBack", func(t *testing.T) { putBack(t, s) })
	t.Run("ServerCrashes", func(t *testing.T) {
		longtest.Run(t, "it kills the server twice under two brokers; that of one file is killed in every run")
		serverCrashes(t, s)
	})
	t.Run("ServerIsAway", func(t *testing.T) { serverIsAway(t, s) })
	t.Run("ForgetfulServerIsRefused", func(t *testing.T) { forgetfulServer(t, s) })
}

func migrateTogether(t *testing.T, s *server) {
	schema := s.Schema(t)
	if err := together(6, func(int) error {
		p, err := OpenPostgres(t.Context(), s.DSN(schema)+"&pool_max_conns=2")
		if err != nil {
			return err
		}
		return p.Close()
	}); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.Connect(t, schema).QueryRow(t.Context(), "SELECT count(*) FROM fed_schema").Scan(&n); err != nil || n != len(tables().Steps) {
		t.Errorf("%d versions, %v", n, err)
	}
}

func newerSchema(t *testing.T, s *server) {
	schema := s.Schema(t)
	if err := s.open(t, schema).Close(); err != nil {
		t.Fatal(err)
	}
	c := s.Connect(t, schema)
	if _, err := c.Exec(t.Context(), "INSERT INTO fed_schema (version) VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPostgres(t.Context(), s.DSN(schema))
	wantReason(t, "a schema to come", err, ReasonStore)
}

// A broker that starts while its database is away serves all else, and rounds once it answers:
// a new schema is made, and a newer one refused, then.
func serverIsAway(t *testing.T, s *server) {
	fresh, newer := s.Schema(t), s.Schema(t)
	if err := s.open(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Connect(t, newer).Exec(t.Context(), "INSERT INTO fed_schema (version) VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	s.Stop(t, syscall.SIGQUIT)
	var stores []Store
	for _, schema := range []string{fresh, newer} {
		p, err := OpenPostgres(t.Context(), s.DSN(schema))
		if p == nil || !errors.Is(err, database.ErrUnreachable) {
			t.Fatalf("opened while the server is away: %v, %v", p, err)
		}
		defer p.Close()
		if err := p.Create(t.Context(), record(1)); err == nil {
			t.Error("a server that is away created a round")
		}
		stores = append(stores, p)
	}
	s.Start(t)
	if err := stores[0].Create(t.Context(), record(1)); err != nil {
		t.Errorf("once it answers: %v", err)
	}
	wantReason(t, "a schema to come", stores[1].Create(t.Context(), record(1)), ReasonStore)
}

// chargedStore has two rounds that were charged.
func chargedStore(t *testing.T, s *server) (Store, *pgx.Conn) {
	schema := s.Schema(t)
	store := used(t, place{open: func(t testing.TB) Store { return s.open(t, schema) }})
	for i := range byte(2) {
		create(t, store, record(i))
		if err := appendCharge(t.Context(), store, digest.RoundID{i}); err != nil {
			t.Fatal(err)
		}
	}
	return store, s.Connect(t, schema)
}

// Even an administrator at the database has to take the protection away first.
func databaseKeeps(t *testing.T, s *server) {
	store, c := chargedStore(t, s)
	for _, q := range []string{"DELETE FROM fed_charges", "UPDATE fed_charges SET n = n + 1", "TRUNCATE fed_charges", "DELETE FROM fed_ledgers", "DELETE FROM fed_rounds",
		"TRUNCATE fed_rounds CASCADE", "TRUNCATE fed_ledgers CASCADE"} {
		if _, err := c.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "never removed or rewritten") {
			t.Errorf("%s: %v", q, err)
		}
	}
	if _, err := c.Exec(t.Context(), "INSERT INTO fed_charges (model, n, round, charge) SELECT model, 9, round, charge FROM fed_charges WHERE n = 1"); err == nil {
		t.Error("a round was charged twice")
	}
	if list, err := store.Charges(t.Context(), "test"); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// One connection that admits a whole cohort, one contribution after the other, reads what it
// asks for and not the list: also where its statements were planned while the list was empty, and no
// statistics were gathered since. The server counts the rows.
func readsByIndex(t *testing.T, s *server) {
	const cohort = 400
	schema := s.Schema(t)
	c := s.Connect(t, schema)
	store, err := OpenPostgres(t.Context(), s.DSN(schema)+"&pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "ALTER TABLE fed_members SET (autovacuum_enabled = off)"); err != nil {
		t.Fatal(err)
	}
	create(t, store, record(1))
	for i := range cohort {
		if got, err := store.Admit(t.Context(), record(1).ID, []Member{member(i)}, Places{PerGuest: 1, Maximum: cohort}); err != nil || got[0] != nil {
			t.Fatal(got, err)
		}
	}
	if err := store.Close(); err != nil { // a connection that ends has told what it read
		t.Fatal(err)
	}
	var added, read int64
	for added < cohort { // it ends a moment after its client
		if err := c.QueryRow(t.Context(), `SELECT seq_tup_read + (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes i WHERE i.relid = t.relid), n_tup_ins
			FROM pg_stat_user_tables t WHERE schemaname = $1 AND relname = 'fed_members'`, schema).Scan(&read, &added); err != nil {
			t.Fatal(err)
		}
	}
	if read > 32*cohort {
		t.Errorf("%d rows of the list and its indexes were read for %d contributions", read, cohort)
	}
}

// A broker needs no right to alter the schema, and without it cannot take the
// protection of the charges away.
func lesserRole(t *testing.T, s *server) {
	store, c := chargedStore(t, s)
	var schema string
	if err := c.QueryRow(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "CREATE ROLE broker LOGIN; GRANT USAGE ON SCHEMA "+schema+" TO broker; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA "+schema+" TO broker"); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPostgres(t.Context(), strings.Replace(s.DSN(schema), "user=test", "user=broker", 1))
	if err != nil {
		t.Fatal(err)
	}
	create(t, p, record(8))
	if err := appendCharge(t.Context(), p, digest.RoundID{8}); err != nil {
		t.Error(err)
	}
	for _, q := range []string{"ALTER TABLE fed_charges DISABLE TRIGGER keep", "DELETE FROM fed_charges", "DROP TABLE fed_charges", "SET session_replication_role = replica"} {
		if _, err := p.db.Exec(t.Context(), q); err == nil {
			t.Errorf("%s: allowed", q)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if list, err := store.Charges(t.Context(), "test"); err != nil || len(list) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
}

// What somebody did who took the protection away is noticed when it is read.
func lossIsNoticed(t *testing.T, s *server) {
	const unprotect = "ALTER TABLE fed_charges DISABLE TRIGGER keep; "
	for name, q := range map[string]string{
		"the last charge": unprotect + "DELETE FROM fed_charges WHERE n = 2",
		"the first":       unprotect + "DELETE FROM fed_charges WHERE n = 1",
		"all":             unprotect + "DELETE FROM fed_charges",
		"a changed one":   unprotect + `UPDATE fed_charges SET charge = replace(convert_from(charge, 'UTF8'), '1.1', '9.9')::bytea WHERE n = 2`,
		"a broken one":    unprotect + "UPDATE fed_charges SET charge = '{}' WHERE n = 2",
	} {
		store, c := chargedStore(t, s)
		if _, err := c.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := store.Charges(t.Context(), "test")
		wantReason(t, name, err, ReasonStore)
	}
	store, c := chargedStore(t, s)
	if _, err := c.Exec(t.Context(), "UPDATE fed_rounds r SET record = o.record FROM fed_rounds o WHERE r.id <> o.id"); err != nil {
		t.Fatal(err)
	}
	_, err := store.Get(t.Context(), digest.RoundID{1})
	wantReason(t, "a round in another's place", err, ReasonStore)
	if _, err := c.Exec(t.Context(), "UPDATE fed_rounds SET record = 'x'"); err != nil {
		t.Fatal(err)
	}
	_, err = listOf(t.Context(), store)
	wantReason(t, "no record", err, ReasonStore)
}

// A server whose default is to acknowledge before it writes is told otherwise, and
// a stricter default stays.
func commitsAreDurable(t *testing.T, s *server) {
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply", "local": "local"} {
		p, err := OpenPostgres(t.Context(), s.DSN(s.Schema(t))+"&synchronous_commit="+set)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := p.db.Write(t.Context(), func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got)
		}); err != nil || got != want {
			t.Errorf("%s: %q, want %q, %v", set, got, want, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A change that waits for another's lock waits until the other ends, and then sees
// what it did.
func locksEnd(t *testing.T, s *server) {
	store, c := chargedStore(t, s)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT * FROM fed_ledgers FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	create(t, store, record(7))
	done := make(chan error, 1)
	go func() { done <- appendCharge(t.Context(), store, digest.RoundID{7}) }()
	watch := s.Connect(t, "public")
	for waiting := 0; waiting == 0; {
		if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := consistent(t.Context(), store, nil); err != nil {
		t.Error(err)
	}
}

// The server ends at once, without a checkpoint, while two brokers close rounds.
// What they were told is there when it runs again, on the same connections' pools.
func serverCrashes(t *testing.T, s *server) {
	schema := s.Schema(t)
	p := place{open: func(t testing.TB) Store { return s.open(t, schema) }, fleet: true}
	m, stores := newMachine(t), brokers(t, p, 2)
	var ledger map[string][]Charge
	for range 2 {
		var mu sync.Mutex
		tickets := map[string]string{}
		var n atomic.Int32
		enough, end := make(chan struct{}), sync.Once{}
		var crashed sync.WaitGroup
		crashed.Go(func() { <-enough; s.Stop(t, syscall.SIGQUIT) })
		err := together(2, func(i int) error {
			service := m.service(t, stores[i], func(c *Config) { c.Privacy.MaxEpsilon = 1e9 })
			for {
				signed, r, err := service.Open(t.Context(), plain)
				if err != nil {
					return err
				}
				list, err := service.Admit(t.Context(), r.ID, [][]byte{contribute(t, m.guest(t, nil), r, signed, nil), contribute(t, m.guest(t, nil), r, signed, nil)})
				if err != nil {
					return err
				}
				ticket, err := service.Close(t.Context(), r.ID, Closing{Cohort: []digest.Digest{list[0].Contribution, list[1].Contribution}})
				if err != nil {
					return err
				}
				mu.Lock()
				tickets[r.ID.String()] = digest.Of(ticket).String()
				mu.Unlock()
				if n.Add(1) == 8 {
					end.Do(func() { close(enough) })
				}
			}
		})
		end.Do(func() { close(enough) })
		crashed.Wait()
		if n.Load() < 8 {
			t.Fatalf("they ended before the server did: %v", err)
		}
		s.Start(t)
		if ledger, err = consistent(t.Context(), stores[0], ledger); err != nil || len(ledger[ledgerOf(federation.BrokerAccount)]) < 8 {
			t.Errorf("%d charges, %v", len(ledger[ledgerOf(federation.BrokerAccount)]), err)
		}
		acknowledged(t, stores[1], tickets)
	}
}

// A server without fsync would acknowledge charges and forget them.
func forgetfulServer(t *testing.T, s *server) {
	schema := s.Schema(t)
	for _, option := range []string{"fsync=off", "full_page_writes=off"} {
		s.Stop(t, syscall.SIGINT)
		s.Start(t, "-c", option)
		_, err := OpenPostgres(t.Context(), s.DSN(schema))
		wantReason(t, option, err, ReasonDatabase)
	}
	s.Stop(t, syscall.SIGINT)
	s.Start(t)
	if err := s.open(t, schema).Close(); err != nil {
		t.Error(err)
	}
}
