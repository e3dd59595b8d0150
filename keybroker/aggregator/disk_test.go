package aggregator_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// floor is how much of the disk stays free in these tests.
const floor = 1 << 20

// Read fails: nothing of a body that is refused is read.
func (u unread) Read([]byte) (int, error) { return u.ReadAt(nil, 0) }

// floored is an aggregator with that floor and as much room as it likes.
func floored(t *testing.T) *site {
	t.Helper()
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Free = floor })
	s.agg.SetFree(1 << 40)
	return s
}

// TestDiskKeepsItsFloor: what would leave less of the disk free is refused before a byte of it
// is read; what ends a round is taken.
func TestDiskKeepsItsFloor(t *testing.T) {
	s := floored(t)
	r, signed := take(t, s, func(r *federation.Round) { r.PerGuest = 1 })
	for i := range 2 {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, i))
		if _, err := s.send(t, r, m, b); err != nil {
			t.Fatal(err)
		}
	}
	late := s.Agent(t, nil)
	manifest, blocks := late.Contribute(t, r, signed, vector(length, 3))
	begun, err := s.agg.Begin(r.ID, manifest)
	if err != nil {
		t.Fatal(err)
	}
	other := s.Agent(t, nil)
	unbegun, _ := other.Contribute(t, r, signed, vector(length, 4))

	s.agg.SetFree(floor + 3*rlwe.BlockBytes - 1)
	_, err = s.agg.Receive(r.ID, begun.Contribution, 0, unread{t})
	wantReasonOf(t, "blocks", err, aggregator.ReasonDisk)
	_, err = closer(t, s.as(other)).Send(t.Context(), r.ID, unbegun, nil, unread{t}, rlwe.BlockBytes, nil)
	wantReasonOf(t, "a manifest", err, aggregator.ReasonDisk)
	_, err = s.agg.Sum(t.Context(), r.ID, s.cohort(t, r), nil)
	wantReasonOf(t, "a sum", err, aggregator.ReasonDisk)
	s.agg.SetFree(floor + 3*rlwe.BlockBytes)
	if u, err := s.agg.Receive(r.ID, begun.Contribution, 0, bytes.NewReader(blocks)); err != nil || !u.Complete {
		t.Errorf("blocks that just fit: %+v, %v", u, err)
	}
	sum, err := s.admin.MakeSum(t.Context(), r.ID, s.cohort(t, r))
	if err != nil {
		t.Fatal("a sum that just fits: ", err)
	}

	s.agg.SetFree(floor - 1)
	_, another, _ := s.Round(t, length, nil)
	wantReasonOf(t, "a round", s.public.AddRound(t.Context(), another), aggregator.ReasonDisk)
	_, setup := s.Setup(t, 2, s.Agent(t, nil), s.Agent(t, nil))
	wantReasonOf(t, "a set-up", s.public.AddSetup(t.Context(), setup), aggregator.ReasonDisk)
	if u, err := closer(t, s.as(late)).Send(t.Context(), r.ID, manifest, nil, unread{t}, rlwe.BlockBytes, nil); err != nil || !u.Complete {
		t.Errorf("an agent asks for what it sent: %+v, %v", u, err)
	}
	ticket := s.ticket(t, r, signed, sum)
	if err := s.public.SetTicket(t.Context(), r.ID, ticket); err != nil {
		t.Fatal("a ticket: ", err)
	}
	values := make([]byte, 8*length)
	result := s.result(t, s.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, values)
	if err := s.agg.SetResult(r.ID, result); err != nil {
		t.Fatal("a result: ", err)
	}
	wantReasonOf(t, "values", s.agg.SetValues(r.ID, unread{t}), aggregator.ReasonDisk)
	s.agg.SetFree(1 << 40)
	if err := s.agg.SetValues(r.ID, bytes.NewReader(values)); err != nil || s.agg.SpokenFor() != 0 {
		t.Errorf("once there is room again: %v, %d bytes are held for nobody", err, s.agg.SpokenFor())
	}
}

// TestDiskKeepsItsFloorForShares: their manifests and blocks.
func TestDiskKeepsItsFloorForShares(t *testing.T) {
	s := floored(t)
	r, manifest, blocks := sharing(t, s)
	s.agg.SetFree(floor)
	wantReasonOf(t, "a manifest", s.public.SendShare(t.Context(), r.ID, 1, manifest, bytes.NewReader(blocks)), aggregator.ReasonDisk)
	s.agg.SetFree(1 << 40)
	wantReasonOf(t, "half of the blocks", s.public.SendShare(t.Context(), r.ID, 1, manifest, bytes.NewReader(blocks[:1])), aggregator.ReasonShareBytes)
	s.agg.SetFree(floor + int64(len(blocks)) - 1)
	wantReasonOf(t, "blocks", s.public.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)), aggregator.ReasonDisk)
	s.agg.SetFree(floor + int64(len(blocks)))
	if err := s.public.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)); err != nil {
		t.Error("blocks that just fit: ", err)
	}
	s.agg.SetFree(floor)
	if err := s.public.SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)); err != nil {
		t.Error("blocks that are here already: ", err)
	}
}

// TestRoomIsSpokenForOnce: what an upload under way will still write is not free for another, and
// what it wrote is counted once.
func TestRoomIsSpokenForOnce(t *testing.T) {
	s := floored(t)
	r, signed := take(t, s, nil)
	begin := func() (digest.Digest, []byte) {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 1))
		u, err := s.agg.Begin(r.ID, m)
		if err != nil {
			t.Fatal(err)
		}
		return u.Contribution, b
	}
	one, blocks := begin()
	two, _ := begin()
	s.agg.SetFree(floor + 5*rlwe.BlockBytes)
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.agg.Receive(r.ID, one, 0, body)
		done <- err
	}()
	if _, err := sending.Write(blocks[:1]); err != nil { // it is read by Receive alone
		t.Fatal(err)
	}
	_, err := s.agg.Receive(r.ID, two, 0, unread{t})
	wantReasonOf(t, "beside one under way", err, aggregator.ReasonDisk)
	if _, err := sending.Write(blocks[1 : rlwe.BlockBytes+1]); err != nil { // the first block was written, then
		t.Fatal(err)
	}
	if held := s.agg.SpokenFor(); held != 2*rlwe.BlockBytes {
		t.Errorf("%d bytes are held for the last two blocks of %d", held, rlwe.BlockBytes)
	}
	_, err = sending.Write(blocks[rlwe.BlockBytes+1:])
	if err = errors.Join(err, sending.Close(), <-done); err != nil || s.agg.SpokenFor() != 0 {
		t.Errorf("%v, %d bytes are held for nobody", err, s.agg.SpokenFor())
	}
}

// TestUnknownSpaceTakesNothing: a disk that does not say how much is free has none.
func TestUnknownSpaceTakesNothing(t *testing.T) {
	s := floored(t)
	if err := s.agg.LoseDisk(); err == nil {
		t.Error("room on a disk that is not there")
	}
	if _, err := aggregator.New(aggregator.Config{StateDir: t.TempDir(), Roots: s.Roots(), Logger: quiet(), Free: -1}); err == nil {
		t.Error("a floor below nothing")
	}
}
