package aggregator_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// on makes an agent of a processor: another agent key, attested for itself.
func (s *site) on(t *testing.T, processor protocol.Processor) *federationtest.Agent {
	t.Helper()
	return s.Agent(t, func(c *protocol.LeaseCertificate) { c.Processor = processor })
}

// unread are blocks that nobody may ask for.
type unread struct{ t *testing.T }

func (u unread) ReadAt([]byte, int64) (int, error) {
	u.t.Error("a block was read for a contribution that is refused")
	return 0, errors.New("not to be read")
}

// TestOneProcessorFillsNoRound: a guest with as many agent keys as the round takes uploads a
// whole contribution under each. It gets its processor's part, also after a restart of the
// aggregator; others contribute, and the round closes.
func TestOneProcessorFillsNoRound(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, nil)
	r, signed, _ := s.Round(t, length, func(r *federation.Round) { r.Minimum, r.Maximum, r.PerGuest = 3, 4, 2 })
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	greedy := protocol.Processor{7}
	attempt := func(want refusal.Reason) {
		t.Helper()
		a := s.on(t, greedy)
		m, _ := a.Contribute(t, r, signed, vector(length, 1))
		_, err := closer(t, s.as(a)).Send(t.Context(), r.ID, m, nil, unread{t}, rlwe.BlockBytes, nil)
		wantReasonOf(t, "of the greedy processor", err, want)
	}
	for range 2 {
		a := s.on(t, greedy)
		m, b := a.Contribute(t, r, signed, vector(length, 1))
		c := closer(t, s.as(a))
		for range 2 { // the same again is no other
			if u, err := c.Send(t.Context(), r.ID, m, nil, bytes.NewReader(b), rlwe.BlockBytes, nil); err != nil || !u.Complete {
				t.Fatalf("%+v, %v", u, err)
			}
		}
	}
	attempt(aggregator.ReasonGuest)
	s.stop()
	s = open(t, w, dir, nil)
	for range 3 {
		attempt(aggregator.ReasonGuest)
	}
	if kept, err := filepath.Glob(filepath.Join(dir, "rounds", r.ID.String(), "uploads", "*")); err != nil || len(kept) != 2 {
		t.Errorf("on the disk: %q, %v", kept, err)
	}
	for range 2 {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 1))
		if _, err := s.send(t, r, m, b); err != nil {
			t.Fatal("another processor's: ", err)
		}
	}
	sum, err := s.admin.MakeSum(t.Context(), r.ID, s.cohort(t, r))
	if err == nil {
		err = s.public.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, sum))
	}
	if err != nil || sum.Count != 4 {
		t.Errorf("it closes over %d: %v", sum.Count, err)
	}
}

// TestUnknownProcessorsHaveOnePart: certificates that name no processor are of one, as the
// broker counts them.
func TestUnknownProcessorsHaveOnePart(t *testing.T) {
	s := newRoomy(t, 4)
	for i, want := range []refusal.Reason{"", aggregator.ReasonGuest} {
		m, b := s.on(t, protocol.Processor{}).Contribute(t, s.r, s.signed, vector(rlwe.BlockValues+1, i))
		_, err := s.send(t, s.r, m, b)
		wantReasonOf(t, "of nobody knows which", err, want)
	}
}

// TestAProcessorsUnfinishedUploadGivesWay: a guest that restarted, and has another key, is not
// kept out by what it left unfinished; what is under way stays, and nobody else's gives way.
func TestAProcessorsUnfinishedUploadGivesWay(t *testing.T) {
	s := newRoomy(t, 4)
	begin := func(p protocol.Processor) (digest.Digest, error) {
		m, b := s.on(t, p).Contribute(t, s.r, s.signed, vector(rlwe.BlockValues+1, 1))
		u, err := s.agg.BeginFrom("one for all", s.r.ID, m)
		s.blocks[u.Contribution] = b
		return u.Contribution, err
	}
	own, other := protocol.Processor{1}, protocol.Processor{2}
	theirs, err := begin(other)
	if err != nil {
		t.Fatal(err)
	}
	left, err := begin(own)
	if err != nil {
		t.Fatal(err)
	}
	again, err := begin(own)
	if err != nil {
		t.Fatal("kept out by its own: ", err)
	}
	wantReasonOf(t, "what it left", s.receive(left, 2), aggregator.ReasonUnknown)
	if _, err := os.Stat(filepath.Join(s.dir, "rounds", s.r.ID.String(), "uploads", left.String())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it left is on the disk: %v", err)
	}
	if err := s.receive(again, 1); err != nil {
		t.Fatal(err)
	}
	end := s.underway(t, again)
	_, err = begin(own)
	wantReasonOf(t, "while its upload is under way", err, aggregator.ReasonBusy)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	_, err = begin(own)
	wantReasonOf(t, "when it is complete", err, aggregator.ReasonGuest)
	if err := s.receive(theirs, 2); err != nil {
		t.Error("another processor's: ", err)
	}
}
