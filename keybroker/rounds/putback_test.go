package rounds

import (
	"bytes"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// backups are the ways in which an operator takes a copy of the database. Each returns how
// it is put back.
var backups = map[string]func(*testing.T, *server, string) func(){
	"dump": func(t *testing.T, s *server, schema string) func() {
		file := filepath.Join(s.Dir, schema+".dump")
		at := []string{"-h", s.Dir, "-U", "test", "-d", "postgres"}
		s.Run(t, filepath.Join(databasetest.Binaries, "pg_dump"), append(at, "-Fc", "-n", schema, "-f", file)...)
		return func() {
			s.Run(t, filepath.Join(databasetest.Binaries, "pg_restore"), append(at, "--clean", "--single-transaction", "--exit-on-error", file)...)
		}
	},
	"copy of the data directory": func(t *testing.T, s *server, schema string) func() {
		held := filepath.Join(s.Dir, schema+".copy")
		s.Stop(t, syscall.SIGINT)
		s.Run(t, "cp", "-a", s.Data(), held)
		s.Start(t)
		return func() {
			s.Stop(t, syscall.SIGINT)
			s.Run(t, "rm", "-rf", s.Data())
			s.Run(t, "mv", held, s.Data())
			s.Start(t)
		}
	},
}

// A database that an operator put back closes nothing over another cohort, publishes nothing
// anew and forgets no budget: at the broker that opened the rounds and at another.
func putBack(t *testing.T, s *server) {
	for name, backup := range backups {
		t.Run(name, func(t *testing.T) {
			if name != "dump" {
				longtest.Run(t, "it restarts the server with a copy of its directory")
			}
			putBackFrom(t, s, backup)
		})
	}
}

func putBackFrom(t *testing.T, s *server, backup func(*testing.T, *server, string) func()) {
	ctx, schema := t.Context(), s.Schema(t)
	var stores []Store // one for each broker; closed while the server is stopped
	open := func() (a, b Store) {
		stores = []Store{s.open(t, schema), s.open(t, schema)}
		return stores[0], stores[1]
	}
	end := func() {
		for _, store := range stores {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	defer end()
	budget := func(c *Config) { c.Privacy.MaxEpsilon = 1.5 } // one round
	m, n := fleet(t)
	here, there := open()
	a, b := m.service(t, here, budget), n.service(t, there, budget)
	first, firstSigned := opened(t, a, nil)
	given, givenSigned := opened(t, a, nil)
	spare, spareSigned := opened(t, a, nil)
	others, othersSigned := opened(t, b, nil)
	cohort := admitted(t, m, a, first, firstSigned, 4)
	givenCohort, spareCohort := admitted(t, m, a, given, givenSigned, 2), admitted(t, m, a, spare, spareSigned, 2)
	othersCohort := admitted(t, n, b, others, othersSigned, 2)
	end()
	restore := backup(t, s, schema)

	here, there = open()
	a, b = m.service(t, here, budget), n.service(t, there, budget)
	closing := Closing{Cohort: cohort[:3], Sum: digest.Digest{5}}
	ticket, err := a.Close(ctx, first.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	guest := m.decryptor(t, first, firstSigned, nil)
	result := published(t, guest, first, firstSigned, ticket, nil)
	if _, err := a.Finish(ctx, first.ID, result); err != nil {
		t.Fatal(err)
	}
	if err := a.Abandon(ctx, given.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.Remember(ctx); err != nil {
		t.Fatal(err)
	}
	end()
	restore()

	here, there = open()
	if rec, err := here.Get(ctx, first.ID); err != nil || rec.State != Open {
		t.Fatalf("the database was not put back: %s, %v", rec.State, err)
	}
	if charges, err := here.Charges(ctx, ledgerOf(federation.BrokerAccount)); err != nil || len(charges) != 0 {
		t.Fatalf("the database was not put back: %d charges, %v", len(charges), err)
	}
	a, b = m.service(t, here, budget), n.service(t, there, budget)
	closes := func(s *Service, what string, id digest.RoundID, c Closing, want refusal.Reason) {
		t.Helper()
		_, err := s.Close(ctx, id, c)
		wantReason(t, what, err, want)
	}
	closes(a, "another cohort", first.ID, Closing{Cohort: cohort[1:], Sum: closing.Sum}, ReasonClosed)
	closes(a, "another sum", first.ID, Closing{Cohort: closing.Cohort, Sum: digest.Digest{6}}, ReasonClosed)
	closes(a, "one that was abandoned", given.ID, Closing{Cohort: givenCohort}, ReasonAbandoned)
	closes(a, "a budget that was spent here", spare.ID, Closing{Cohort: spareCohort}, ReasonBudget)
	closes(b, "at the other broker", first.ID, closing, ReasonElsewhere)
	closes(b, "a budget that was spent elsewhere", others.ID, Closing{Cohort: othersCohort}, ReasonLedger)
	wantReason(t, "abandon what closed", a.Abandon(ctx, first.ID), ReasonClosed)
	wantReason(t, "the key of what is open again", mayRelease(ctx, a, first.Resource()), ReasonNotClosed)

	same, err := a.Close(ctx, first.ID, closing)
	if err != nil || !bytes.Equal(same, ticket) {
		t.Fatalf("the ticket is another: %v", err)
	}
	wantReason(t, "the key of what was published", mayRelease(ctx, a, first.Resource()), ReasonClosed)
	_, err = a.Finish(ctx, first.ID, published(t, guest, first, firstSigned, ticket, func(res *federation.Result) { res.Values = digest.Digest{9} }))
	wantReason(t, "other values", err, ReasonClosed)
	if _, err := a.Finish(ctx, first.ID, result); err != nil {
		t.Errorf("the values that were published: %v", err)
	}
	publications, err := m.Find(ctx, actionPublish, first.Resource())
	if err != nil || len(publications) != 1 {
		t.Errorf("published %d times, %v", len(publications), err)
	}
	closes(a, "the budget, afterwards", spare.ID, Closing{Cohort: spareCohort}, ReasonBudget)
	closes(b, "the budget, afterwards and elsewhere", others.ID, Closing{Cohort: othersCohort}, ReasonBudget)
	if _, err := consistent(ctx, here, nil); err != nil {
		t.Error(err)
	}
}
