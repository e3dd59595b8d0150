package volumes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func openPostgres(t testing.TB, s *databasetest.Server, schema string) *Postgres {
	t.Helper()
	p, err := OpenPostgres(t.Context(), s.DSN(schema)+"&pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPostgres runs a real server: what every store must do, and what only this one can do wrong.
func TestPostgres(t *testing.T) {
	s := databasetest.New(t)
	conform(t, func(t *testing.T) func() Store {
		schema := s.Schema(t)
		return func() Store { return openPostgres(t, s, schema) }
	}, func(p Store, most int) { p.(*Postgres).most = most })
	for name, test := range map[string]func(*testing.T, *databasetest.Server){
		"OneOfManyWins": oneOfManyWins, "NumberIsExact": numberIsExact, "NewerSchemaIsRefused": newerSchema, "DatabaseKeepsVolumes": databaseKeeps,
		"RoleThatMayNotAlter": lesserRole, "OtherRowsAreRefused": otherRows, "ServerIsAway": serverIsAway, "PutBack": putBack,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
	t.Run("ServerCrashes", func(t *testing.T) {
		longtest.Run(t, "it kills a server under many changes; brokers and guests crash in every run")
		serverCrashes(t, s)
	})
}

// together runs n at once, and returns how each ended.
func together(n int, f func(int) error) []error {
	ends := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { ends[i] = f(i) })
	}
	all.Wait()
	return ends
}

// oneOfManyWins: brokers that begin with the same entry, over connections of their own, do not both replace it.
func oneOfManyWins(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	var stores []*Postgres
	for range 3 {
		p := openPostgres(t, s, schema)
		defer p.Close()
		stores = append(stores, p)
	}
	for version := range uint64(20) {
		won := 0
		for i, err := range together(len(stores), func(i int) error {
			return stores[i].Put(t.Context(), Entry{Volume: "volumes/a", Version: version, State: state(version+1, byte(i))})
		}) {
			if err == nil {
				won++
				continue
			}
			refusaltest.Want(t, string(rune('a'+i)), err, ReasonConflict)
		}
		if won != 1 {
			t.Fatalf("%d of three changes of version %d were made, want one", won, version)
		}
	}
}

func numberIsExact(t *testing.T, s *databasetest.Server) {
	p := openPostgres(t, s, s.Schema(t))
	defer p.Close()
	p.most = 3
	added := 0
	for _, err := range together(8, func(i int) error { return p.Put(t.Context(), Entry{Volume: "volumes/" + string(rune('a'+i))}) }) {
		if err == nil {
			added++
		} else {
			refusaltest.Want(t, "one more", err, ReasonFull)
		}
	}
	if added != 3 {
		t.Errorf("%d volumes were added, want 3", added)
	}
}

func newerSchema(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	if err := openPostgres(t, s, schema).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Connect(t, schema).Exec(t.Context(), "INSERT INTO vol_schema (version) VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPostgres(t.Context(), s.DSN(schema))
	refusaltest.Want(t, "a schema to come", err, ReasonStore)
	_, err = OpenPostgres(t.Context(), "postgres://u:secret@db.example/x")
	refusaltest.Want(t, "without TLS", err, ReasonDatabase)
}

// filled is a store with one volume in generation 5.
func filled(t *testing.T, s *databasetest.Server, schema string) *Postgres {
	t.Helper()
	p := openPostgres(t, s, schema)
	if err := p.Put(t.Context(), Entry{Volume: "volumes/a", State: state(5, 5)}); err != nil {
		t.Fatal(err)
	}
	return p
}

// Even an administrator at the database has to take the protection away first.
func databaseKeeps(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	p := filled(t, s, schema)
	defer p.Close()
	c := s.Connect(t, schema)
	for q, why := range map[string]string{"DELETE FROM vol_volumes": "never removed", "TRUNCATE vol_volumes": "never removed",
		"UPDATE vol_volumes SET version = 2, generation = 4": "does not go back", "UPDATE vol_volumes SET generation = 6": "does not go back",
		"UPDATE vol_volumes SET version = 3": "does not go back", "UPDATE vol_volumes SET version = 2, volume = 'volumes/b'": "does not go back"} {
		if _, err := c.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", q, err)
		}
	}
	if err := p.Put(t.Context(), Entry{Volume: "volumes/a", Version: 1, State: state(4, 4)}); err == nil {
		t.Error("a store went back")
	}
}

// A broker needs no right to alter the schema, and without it cannot take the protection away.
func lesserRole(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	defer filled(t, s, schema).Close()
	if _, err := s.Connect(t, schema).Exec(t.Context(), "CREATE ROLE volumes LOGIN; GRANT USAGE ON SCHEMA "+schema+" TO volumes; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA "+schema+" TO volumes"); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPostgres(t.Context(), strings.Replace(s.DSN(schema), "user=test", "user=volumes", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	refusaltest.Want(t, "a change", p.Put(t.Context(), Entry{Volume: "volumes/a", Version: 1, State: state(6, 6)}), "")
	refusaltest.Want(t, "a new one", p.Put(t.Context(), Entry{Volume: "volumes/b"}), "")
	for _, q := range []string{"ALTER TABLE vol_volumes DISABLE TRIGGER forward", "DELETE FROM vol_volumes", "DROP TABLE vol_volumes", "SET session_replication_role = replica"} {
		if _, err := p.db.Exec(t.Context(), q); err == nil {
			t.Errorf("%s: allowed", q)
		}
	}
}

// What somebody wrote who took the protection away is noticed when it is read.
func otherRows(t *testing.T, s *databasetest.Server) {
	for name, q := range map[string]string{
		"no entry":             "UPDATE vol_volumes SET entry = '{}'",
		"no text":              `UPDATE vol_volumes SET entry = '\xff'`,
		"another's":            `UPDATE vol_volumes SET entry = replace(convert_from(entry, 'UTF8'), 'volumes/a', 'volumes/b')::bytea`,
		"another version":      "UPDATE vol_volumes SET version = 2",
		"another generation":   "UPDATE vol_volumes SET generation = 4",
		"another generation's": `UPDATE vol_volumes SET entry = replace(convert_from(entry, 'UTF8'), '"generation":5', '"generation":4')::bytea`,
		"more than an entry":   `UPDATE vol_volumes SET entry = entry || convert_to(repeat(' ', 40000), 'UTF8')`,
	} {
		schema := s.Schema(t)
		p := filled(t, s, schema)
		defer p.Close()
		if _, err := s.Connect(t, schema).Exec(t.Context(), "ALTER TABLE vol_volumes DISABLE TRIGGER forward; "+q); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := p.Get(t.Context(), "volumes/a")
		refusaltest.Want(t, name, err, ReasonStore)
		refusaltest.Want(t, name, p.Each(t.Context(), func(Entry) error { return nil }), ReasonStore)
		refusaltest.Want(t, name, p.Put(t.Context(), Entry{Volume: "volumes/a", Version: 1, State: state(6, 6)}), ReasonStore)
		refusaltest.Want(t, name, p.Put(t.Context(), Entry{Volume: "volumes/a"}), ReasonStore)
	}
	for _, other := range []string{"models/a", "volumes/\\u001b[2J"} {
		schema := s.Schema(t)
		p := filled(t, s, schema)
		defer p.Close()
		q := fmt.Sprintf(`ALTER TABLE vol_volumes DISABLE TRIGGER forward; UPDATE vol_volumes SET volume = E'%[1]s', entry = convert_to(replace(convert_from(entry, 'UTF8'), 'volumes/a', '%[1]s'), 'UTF8')`, other)
		if _, err := s.Connect(t, schema).Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		refusaltest.Want(t, other, p.Each(t.Context(), func(Entry) error { return nil }), ReasonStore)
	}
	p := filled(t, s, s.Schema(t))
	defer p.Close()
	if err := p.Put(t.Context(), Entry{Volume: "volumes/b"}); err != nil {
		t.Fatal(err)
	}
	p.most = 1
	n := 0
	refusaltest.Want(t, "more volumes than there may be", p.Each(t.Context(), func(Entry) error { n++; return nil }), ReasonStore)
	if n > 1 {
		t.Errorf("%d volumes were visited, want at most 1", n)
	}
}

// The server ends at once, without a checkpoint, while brokers change a volume. What they were told is there.
func serverCrashes(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	p := openPostgres(t, s, schema)
	defer p.Close()
	told := make(chan uint64, 1)
	enough := make(chan struct{})
	go func() {
		n := uint64(0)
		for p.Put(t.Context(), Entry{Volume: "volumes/a", Version: n, State: state(n+1, 1)}) == nil {
			if n++; n == 10 {
				close(enough)
			}
		}
		told <- n
	}()
	select {
	case <-enough:
	case n := <-told:
		t.Fatalf("%d changes were made before the server ended", n)
	}
	s.Stop(t, syscall.SIGQUIT)
	last := <-told
	s.Start(t)
	e, err := p.Get(t.Context(), "volumes/a")
	if err != nil || e.Version < last || e.Version > last+1 {
		t.Errorf("version %d was acknowledged, and there is %d, %v", last, e.Version, err)
	}
}

// A broker that starts while its database is away serves all else, and volumes once it answers.
func serverIsAway(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	s.Stop(t, syscall.SIGINT)
	p, err := OpenPostgres(t.Context(), s.DSN(schema))
	if p == nil || !errors.Is(err, database.ErrUnreachable) {
		t.Fatalf("opened while the server is away: %v, %v", p, err)
	}
	defer p.Close()
	if err := p.Put(t.Context(), Entry{Volume: "volumes/a"}); err == nil {
		t.Error("a server that is away changed a volume")
	}
	s.Start(t)
	refusaltest.Want(t, "once it answers", p.Put(t.Context(), Entry{Volume: "volumes/a"}), "")
}

// putBack: an operator dumps the database and restores it later, with the tool's own words. The brokers' services
// then find the older state, and what they make of it is tested without a server (TestFleet).
func putBack(t *testing.T, s *databasetest.Server) {
	schema := s.Schema(t)
	p := filled(t, s, schema)
	defer p.Close()
	file := filepath.Join(s.Dir, schema+".dump")
	at := []string{"-h", s.Dir, "-U", "test", "-d", "postgres"}
	s.Run(t, filepath.Join(databasetest.Binaries, "pg_dump"), append(at, "-Fc", "-n", schema, "-f", file)...)
	later := Entry{Volume: "volumes/a", Version: 1, State: state(6, 6)}
	refusaltest.Want(t, "later", p.Put(t.Context(), later), "")
	s.Run(t, filepath.Join(databasetest.Binaries, "pg_restore"), append(at, "--clean", "--single-transaction", "--exit-on-error", file)...)
	e, err := p.Get(context.WithoutCancel(t.Context()), "volumes/a")
	if err != nil || e.State.Generation != 5 {
		t.Fatalf("%+v, %v", e, err)
	}
	if !e.learn(digest.Digest{1}, later) || e.State != later.State {
		t.Errorf("%+v", e)
	}
	refusaltest.Want(t, "brought up to date", p.Put(t.Context(), e), "")
}
