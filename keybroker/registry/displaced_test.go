package registry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/registry"
)

// parts has the defaults' proportions; sixteen agents have a processor together.
func parts(c *registry.Config) {
	cheap(c)
	c.Waiting, c.WaitingPerAgent, c.WaitingPerGuest = 40, 10, 20
	c.Guest = func(_ context.Context, r registry.Receipt) (digest.Digest, error) {
		return digest.Digest{r.Agent[0] / 16}, nil
	}
}

// waits says whether a receipt can be challenged.
func (s *site) waits(t testing.TB, id digest.ReceiptID) bool {
	t.Helper()
	_, found, err := s.store.Receipt(id)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestAFullPartIsNotOutOfTheAudit: an agent that had filled its part with harmless answers
// knew that nothing it answered later could be announced, or drawn. The eleventh of a part
// of ten waits with the chance 10/11, so each of 40 agents' can be drawn but some 4; 20
// are not with a probability below 1e-9.
func TestAFullPartIsNotOutOfTheAudit(t *testing.T) {
	s := open(t, func(c *registry.Config) { parts(c); c.Waiting, c.Guest = 4000, nil })
	waits := 0
	for agent := range byte(40) {
		s.announceCheap(t, agent, 1, 1, 10) // harmless
		s.announceCheap(t, agent, 1, 0, 1)  // its client announces the forged one
		if s.waits(t, digest.ReceiptID{agent, 1, 0, 0}) {
			waits++
		}
	}
	if waits <= 20 {
		t.Errorf("%d of 40 forged answers can be drawn", waits)
	}
	if st := s.status(t); st.Waiting != 400 || st.Displaced != 40 || st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

// TestAProverCannotFlushWhatItForged: an agent that announced as many answers as it has a part
// made its oldest go, and with them the forged one that its client had announced. Ten more
// than a part of ten leave it with the chance 1/2: of 60 agents' between 2 and 58 stay, but
// with a probability below 1e-14. It is announced again, too, and nobody is told what became of it.
func TestAProverCannotFlushWhatItForged(t *testing.T) {
	s := open(t, func(c *registry.Config) { parts(c); c.Waiting, c.Guest = 4000, nil })
	waits := 0
	for agent := range byte(60) {
		s.announceCheap(t, agent, 1, 0, 20)
		if s.waits(t, digest.ReceiptID{agent, 1, 0, 0}) {
			waits++
		}
		s.announceCheap(t, agent, 1, 0, 1)
	}
	if waits < 2 || waits > 58 {
		t.Errorf("%d of 60 forged answers can be drawn", waits)
	}
}

// TestTwoProcessorsDoNotShutTheRegistry: their guests held all places, and everybody else was
// refused.
func TestTwoProcessorsDoNotShutTheRegistry(t *testing.T) {
	s := open(t, parts)
	for _, agent := range []byte{16, 17, 32, 33} {
		s.announceCheap(t, agent, 1, 0, 10)
	}
	s.announceCheap(t, 48, 1, 0, 10)
	for _, agent := range []byte{16, 17, 32, 33} {
		s.announceCheap(t, agent, 1, 10, 100)
	}
	for i := range byte(10) {
		if !s.waits(t, digest.ReceiptID{48, 1, 0, i}) {
			t.Errorf("receipt %d of an honest agent on a third processor does not wait", i)
		}
	}
	if st := s.status(t); st.Waiting != 40 || st.Displaced != 410 {
		t.Errorf("%+v", st)
	}
}

// TestANeighbourOnTheProcessorIsHeard: two guests that filled their processor's part shut out
// another tenant's there. Of 30 announcements for 20 places each waits with the chance
// 2/3: that none of its ten does has a probability below 1e-6, in three registries, below 1e-18.
func TestANeighbourOnTheProcessorIsHeard(t *testing.T) {
	waits := 0
	for range 3 {
		s := open(t, parts)
		for _, agent := range []byte{16, 17, 18} {
			s.announceCheap(t, agent, 1, 0, 10)
		}
		for i := range byte(10) {
			if s.waits(t, digest.ReceiptID{18, 1, 0, i}) {
				waits++
			}
		}
		if st := s.status(t); st.Waiting != 20 || st.Displaced != 10 {
			t.Errorf("%+v", st)
		}
	}
	if waits == 0 {
		t.Error("nothing of a neighbour waits")
	}
}

// TestManyKeysOfAGuestFlushNobody: a guest has a new key for each exchange, and made the
// receipts of honest agents go. It has its processor's part, whatever its keys.
func TestManyKeysOfAGuestFlushNobody(t *testing.T) {
	s := open(t, parts)
	s.announceCheap(t, 1, 1, 0, 8)
	for k := range byte(16) {
		s.announceCheap(t, 16+k, 1, 0, 10)
	}
	s.announceCheap(t, 1, 1, 8, 2)
	for i := range byte(10) {
		if _, err := s.Audit(t.Context(), digest.ReceiptID{1, 1, 0, i}); err != nil {
			t.Errorf("receipt %d of an honest agent: %v", i, err)
		}
	}
	if st := s.status(t); st.Waiting != 30 || st.Dropped != 0 || st.Displaced != 140 {
		t.Errorf("%+v", st)
	}
}

// What was challenged or proven stays for its time, whatever is announced afterwards.
func TestAChallengedReceiptIsNotDisplaced(t *testing.T) {
	s := open(t, parts)
	s.announceCheap(t, 16, 1, 0, 10)
	if list := s.challenge(t, 10); len(list) != 1 || len(list[0].Challenge.Receipts) != 10 {
		t.Fatalf("%+v", list)
	}
	s.announceCheap(t, 16, 1, 10, 300)
	for i := range byte(10) {
		if !s.waits(t, digest.ReceiptID{16, 1, 0, i}) {
			t.Errorf("receipt %d was challenged, and went", i)
		}
	}
}

// TestWhatTheLogDoesNotTakeIsToldLater: the counts were forgotten before the log had them.
func TestWhatTheLogDoesNotTakeIsToldLater(t *testing.T) {
	s := open(t, parts)
	s.announceCheap(t, 1, 1, 0, 15)
	s.failAudit(errors.New("the disk is full"))
	if err := s.TellDisplaced(t.Context()); err == nil {
		t.Fatal("told")
	}
	s.announceCheap(t, 1, 1, 15, 2)
	s.announceCheap(t, 2, 1, 0, 11)
	s.failAudit(nil)
	if err := s.TellDisplaced(t.Context()); err != nil { // at once, not an hour later
		t.Fatal(err)
	}
	last := s.log[len(s.log)-1]
	for _, want := range []string{"7 of agent " + digest.Digest{1}.String(), "of agent " + digest.Digest{2}.String()} {
		if !strings.Contains(last, want) {
			t.Errorf("%q does not say %q", last, want)
		}
	}
}

// TestStrangersCauseOneRecordOfDisplacedReceipts: each announcement that was over a limit wrote a
// durable record, and who had a receipt too many announced it in a circle.
func TestStrangersCauseOneRecordOfDisplacedReceipts(t *testing.T) {
	s := open(t, func(c *registry.Config) { cheap(c); c.Waiting, c.WaitingPerAgent = 30, 1 })
	tell := func(want int) {
		t.Helper()
		if err := s.TellDisplaced(t.Context()); err != nil || s.recorded("receipts-displaced") != want {
			t.Errorf("%d records, want %d: %v", s.recorded("receipts-displaced"), want, err)
		}
	}
	tell(0)
	for agent := range byte(20) {
		s.announceCheap(t, 1+agent, 1, 0, 1)
	}
	before := len(s.log)
	s.announceCheap(t, 1, 1, 1, 50)
	for agent := range byte(20) {
		s.announceCheap(t, 1+agent, 1, 51, 1)
	}
	if len(s.log) != before {
		t.Errorf("%d records before they are told", len(s.log)-before)
	}
	tell(1)
	last := s.log[len(s.log)-1]
	for _, want := range []string{"51 of agent " + digest.Digest{1}.String(), "4 of other agents"} {
		if !strings.Contains(last, want) {
			t.Errorf("%q does not say %q", last, want)
		}
	}
	s.announceCheap(t, 1, 1, 60, 5)
	s.pass(time.Hour - time.Second)
	tell(1)
	s.pass(time.Second)
	tell(2)
	s.pass(time.Hour)
	tell(2)
	if st := s.status(t); st.Displaced != 75 {
		t.Errorf("%+v", st)
	}
}
