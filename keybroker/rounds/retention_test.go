package rounds

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestOpenRoundsAreBounded in all and by model; what is closed or abandoned makes room.
func TestOpenRoundsAreBounded(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) { c.Limits = Limits{Open: 3, OpenPerModel: 2} })
	open := func(model string) (federation.Round, error) {
		spec := plain
		spec.Model = model
		_, r, err := s.Open(ctx, spec)
		return r, err
	}
	first, err := open("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("test"); err != nil {
		t.Fatal(err)
	}
	_, err = open("test")
	wantReason(t, "a third of one model", err, ReasonOpen)
	if _, err := open("other"); err != nil {
		t.Fatal(err)
	}
	_, err = open("third")
	wantReason(t, "a fourth in all", err, ReasonOpen)
	if err := s.Abandon(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := open("test"); err != nil {
		t.Error("an abandoned round takes a place:", err)
	}
}

// TestContributorsGoWithTheirAgeAndNothingElse: a round stays closed, and its charge stays.
func TestContributorsGoWithTheirAgeAndNothingElse(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, func(c *Config) { c.Limits.KeptDays = 30 })
	r, signed := opened(t, s, nil)
	cohort := admitted(t, m, s, r, signed, 2)
	closing := Closing{Cohort: cohort, Sum: digest.Digest{5}}
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	abandoned, signedToo := opened(t, s, nil)
	admitted(t, m, s, abandoned, signedToo, 2)
	if err := s.Abandon(ctx, abandoned.ID); err != nil {
		t.Fatal(err)
	}
	forget := func(want int) {
		t.Helper()
		if n, err := s.Forget(ctx); n != want || err != nil {
			t.Errorf("the contributors of %d rounds went, want %d: %v", n, want, err)
		}
	}
	forget(0)
	res := published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)
	if _, err := s.Finish(ctx, r.ID, res); err != nil {
		t.Fatal(err)
	}
	unfinished, signedThird := opened(t, s, nil)
	admitted(t, m, s, unfinished, signedThird, 2)
	before, err := s.Ledger(ctx, federation.BrokerAccount)
	if err != nil {
		t.Fatal(err)
	}
	m.advance(29 * 24 * time.Hour)
	forget(0)
	m.advance(2 * 24 * time.Hour)
	m.fail["round-forget"] = errors.New("broken")
	if n, err := s.Forget(ctx); n != 0 || !errors.Is(err, m.fail["round-forget"]) {
		t.Errorf("forgotten without a record: %d, %v", n, err)
	}
	delete(m.fail, "round-forget")
	forget(2)
	forget(0)
	for id, want := range map[digest.RoundID]int{r.ID: 0, abandoned.ID: 0, unfinished.ID: 2} {
		rec, err := store.Get(ctx, id)
		if err != nil || len(rec.Members) != want {
			t.Errorf("round %s has %d contributors, want %d: %v", id, len(rec.Members), want, err)
		}
	}
	// Closing it again gives the same ticket, and over another cohort it is refused.
	if again, err := s.Close(ctx, r.ID, closing); err != nil || !bytes.Equal(again, ticket) {
		t.Errorf("the ticket changed: %v", err)
	}
	_, err = s.Close(ctx, r.ID, Closing{Cohort: cohort[:1], Sum: digest.Digest{6}})
	wantReason(t, "another cohort", err, ReasonClosed)
	_, err = s.Admit(ctx, r.ID, nil)
	wantReason(t, "admit", err, ReasonClosed)
	if after, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || after.Epsilon != before.Epsilon || len(after.Charges) != 1 {
		t.Errorf("%+v, %v", after, err)
	}
	if st, err := s.Status(ctx, r.ID); err != nil || st.State != Published || !bytes.Equal(st.Result, res) || !bytes.Equal(st.Ticket, ticket) {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestLimitsOfRoundsAreChecked(t *testing.T) {
	for _, bad := range []Limits{{Open: -1}, {Open: 1<<16 + 1}, {Open: 10, OpenPerModel: 257}, {KeptDays: -1}} {
		c := newMachine(t).config(bolted(t))
		c.Limits = bad
		if _, err := New(c); err == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
}

// TestOldRoundsAreVisitedOneAtATime: a broker that has had many large rounds starts, opens and
// lists in the memory of one of them.
func TestOldRoundsAreVisitedOneAtATime(t *testing.T) {
	b, err := OpenBolt(filepath.Join(t.TempDir(), "rounds.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const rounds, size = 24, 1 << 20
	for i := range rounds {
		if err := b.Create(t.Context(), Record{ID: digest.RoundID{1, byte(i)}, Model: "m", State: Abandoned, Signed: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most, seen := held(), int64(0), 0 // other tests of this process hold something too
	err = b.Each(t.Context(), func(Record) error {
		most, seen = max(most, held()-before), seen+1
		return nil
	})
	if err != nil || seen != rounds {
		t.Fatalf("%d of %d rounds: %v", seen, rounds, err)
	}
	if most > rounds/2*size {
		t.Errorf("%d MiB are held while %d rounds of 1 MiB are visited", most>>20, rounds)
	}
}

// TestOpensAtOnceDoNotPassTheLimit: what is open was counted by all of them before one was.
func TestOpensAtOnceDoNotPassTheLimit(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) { c.Limits.Open = 1 })
	var all sync.WaitGroup
	var openings atomic.Int32
	for range 8 {
		all.Go(func() {
			_, _, err := s.Open(t.Context(), plain)
			switch reason, _ := refusal.ReasonOf(err); {
			case err == nil:
				openings.Add(1)
			case reason != ReasonOpen:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := openings.Load(); n != 1 {
		t.Errorf("%d rounds were opened where 1 may be open", n)
	}
	s.opening <- struct{}{} // one that does not come back
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Open(ctx, plain)
	wantReason(t, "behind one that hangs", err, ReasonOpening)
}

// TestARecordThatDoesNotVerifyStopsNoOther: it is listed by its names, it can be given up,
// and others forget their contributors.
func TestARecordThatDoesNotVerifyStopsNoOther(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	other := newMachine(t) // of another root, which the store was begun under
	former := other.service(t, store, nil)
	foreign, signed := opened(t, former, nil)
	admitted(t, other, former, foreign, signed, 2)
	good, signed := opened(t, s, nil)
	admitted(t, m, s, good, signed, 2)
	list, err := s.List(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d rounds are listed: %v", len(list), err)
	}
	for _, st := range list {
		if want := st.Round.ID == foreign.ID; want != (st.Unverified != "") || want != (st.Round.Length == 0) || st.Round.Model != "test" {
			t.Errorf("%+v", st)
		}
	}
	for _, id := range []digest.RoundID{foreign.ID, good.ID} {
		if err := s.Abandon(ctx, id); err != nil || m.readable(id) {
			t.Errorf("it is not abandoned: %v", err)
		}
	}
	m.advance(200 * 24 * time.Hour)
	if n, err := s.Forget(ctx); n != 1 || err == nil || !strings.Contains(err.Error(), foreign.ID.String()) {
		t.Errorf("%d rounds forgot their contributors: %v", n, err)
	}
}

// TestWhoGetsNoKeyHasNoCheckpointWritten elsewhere: that may take seconds, one at a time.
func TestWhoGetsNoKeyHasNoCheckpointWritten(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	if _, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{5}}); err != nil {
		t.Fatal(err)
	}
	m.fail["keep"] = errors.New("a checkpoint was written")
	stranger := &protocol.LeaseCertificate{Tenant: "another", Grants: []protocol.Granted{{Resource: r.Resource(), Roles: protocol.RoleDecrypt}}}
	if _, refused := refusal.ReasonOf(s.MayRelease(ctx, r.Resource(), stranger)); !refused {
		t.Error("a guest that the round does not name has a checkpoint written")
	}
	if err := mayRelease(ctx, s, r.Resource()); !errors.Is(err, m.fail["keep"]) {
		t.Errorf("a key would leave before the checkpoint covers its ticket: %v", err)
	}
}
