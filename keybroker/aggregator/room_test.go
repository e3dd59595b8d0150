package aggregator_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// roomy is a round of two blocks for so many contributions, and begins them.
type roomy struct {
	*site
	r      federation.Round
	signed []byte
	blocks map[digest.Digest][]byte
}

func newRoomy(t *testing.T, maximum uint32) *roomy {
	t.Helper()
	s := &roomy{site: open(t, federationtest.New(t), t.TempDir(), nil), blocks: map[digest.Digest][]byte{}}
	s.r, s.signed, _ = s.Round(t, rlwe.BlockValues+1, func(r *federation.Round) { r.Maximum, r.PerGuest = maximum, 1 })
	if _, err := s.agg.AddRound(s.signed); err != nil {
		t.Fatal(err)
	}
	return s
}

// begin sends a manifest of another agent key.
func (s *roomy) begin(t *testing.T, source string) (digest.Digest, error) {
	t.Helper()
	m, b := s.Agent(t, nil).Contribute(t, s.r, s.signed, vector(rlwe.BlockValues+1, 1))
	u, err := s.agg.BeginFrom(source, s.r.ID, m)
	s.blocks[u.Contribution] = b
	return u.Contribution, err
}

// receive sends so many blocks.
func (s *roomy) receive(u digest.Digest, count int) error {
	_, err := s.agg.Receive(s.r.ID, u, 0, bytes.NewReader(s.blocks[u][:count*rlwe.BlockBytes]))
	return err
}

// TestManifestsAloneShutNoRound: one guest with as many agent keys as the round takes sends
// manifests and no blocks; everybody else contributes nevertheless.
func TestManifestsAloneShutNoRound(t *testing.T) {
	s := newRoomy(t, 4)
	var first digest.Digest
	for i := range 4 {
		u, err := s.begin(t, "guest")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = u
		}
	}
	for range 3 {
		u, err := s.begin(t, "elsewhere")
		if err == nil {
			err = s.receive(u, 2)
		}
		if err != nil {
			t.Fatal("shut out: ", err)
		}
	}
	wantReasonOf(t, "the oldest", s.receive(first, 2), aggregator.ReasonUnknown)
	if _, err := s.begin(t, "guest"); err != nil {
		t.Errorf("its own give way to its own: %v", err)
	}
	u, err := s.begin(t, "elsewhere")
	if err == nil {
		err = s.receive(u, 2)
	}
	if err != nil {
		t.Error("the last place: ", err)
	}
	_, err = s.begin(t, "third")
	wantReasonOf(t, "when all are complete", err, aggregator.ReasonFull)
	kept, err := filepath.Glob(filepath.Join(s.dir, "rounds", s.r.ID.String(), "uploads", "*"))
	if err != nil || len(kept) != 4 {
		t.Errorf("on the disk: %q, %v", kept, err)
	}
}

// TestARestartDoesNotMakeAllUploadsOneSource: before their agents come back, uploads that had
// begun count by processor; afterwards by where they come from. One source takes none of them.
func TestARestartDoesNotMakeAllUploadsOneSource(t *testing.T) {
	s := newRoomy(t, 6)
	var manifests [][]byte
	var held []digest.Digest
	sources := []string{"a", "b", "c", "d", "d"}
	for _, source := range sources {
		m, b := s.Agent(t, nil).Contribute(t, s.r, s.signed, vector(rlwe.BlockValues+1, 1))
		u, err := s.agg.BeginFrom(source, s.r.ID, m)
		if err != nil {
			t.Fatal(err)
		}
		s.blocks[u.Contribution] = b
		if err := s.receive(u.Contribution, 1); err != nil {
			t.Fatal(err)
		}
		manifests, held = append(manifests, m), append(held, u.Contribution)
	}
	s.stop()
	s.site = open(t, s.World, s.dir, nil)
	for range 3 { // one place is free, and its own give way to its own
		if _, err := s.begin(t, "guest"); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range manifests { // they come back
		if u, err := s.agg.BeginFrom(sources[i], s.r.ID, m); err != nil || u.Next != 1 {
			t.Errorf("upload %d, of %s, gave way: %+v, %v", i, sources[i], u, err)
		}
	}
	// Which source has most is known again, and one of its two gives way.
	if _, err := s.begin(t, "guest"); err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, u := range held[3:] {
		if _, err := s.agg.Receive(s.r.ID, u, 1, bytes.NewReader(nil)); err != nil {
			gone++
		}
	}
	if gone != 1 {
		t.Errorf("%d of the two of the source that has most gave way", gone)
	}
}

// TestWhichUploadsGiveWay: those of the source that has most, of these the ones without
// blocks, of these the oldest; never one under way, and none of a source that has fewer than
// the newcomer's.
func TestWhichUploadsGiveWay(t *testing.T) {
	s := newRoomy(t, 4)
	var held []digest.Digest
	for _, source := range []string{"few", "many", "many", "many"} {
		u, err := s.begin(t, source)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, u)
	}
	if err := s.receive(held[1], 1); err != nil { // it has a block from now on
		t.Fatal(err)
	}
	for _, gone := range []int{2, 3, 2} { // the last is newer than the one with a block
		u, err := s.begin(t, "many")
		if err != nil {
			t.Fatal(err)
		}
		wantReasonOf(t, "that gave way", s.receive(held[gone], 2), aggregator.ReasonUnknown)
		held[gone] = u
	}
	if err := errors.Join(s.receive(held[2], 1), s.receive(held[3], 1)); err != nil {
		t.Fatal(err)
	}
	if t.Failed() { // what is gone would not be read
		t.FailNow()
	}
	var end []func() error
	for _, u := range held[1:] {
		end = append(end, s.underway(t, u))
	}
	_, err := s.begin(t, "many")
	wantReasonOf(t, "all of the source are under way", err, aggregator.ReasonBusy)
	for _, end := range end {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if err := s.receive(held[0], 2); err != nil {
		t.Errorf("of the source with few: %v", err)
	}
}

// underway has an upload's second block begin, and returns how to end it.
func (s *roomy) underway(t *testing.T, u digest.Digest) (end func() error) {
	t.Helper()
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.agg.Receive(s.r.ID, u, 1, body)
		done <- err
	}()
	block := s.blocks[u][rlwe.BlockBytes:]
	if _, err := sending.Write(block[:1]); err != nil { // it is read by Receive alone
		t.Fatal(err)
	}
	return func() error {
		_, err := sending.Write(block[1:])
		return errors.Join(err, sending.Close(), <-done)
	}
}

// TestListingWaitsForNoUpload: one under way holds neither the list nor other uploads.
func TestListingWaitsForNoUpload(t *testing.T) {
	s := newRoomy(t, 4)
	u, err := s.begin(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.receive(u, 1); err != nil {
		t.Fatal(err)
	}
	end := s.underway(t, u)
	if list, err := s.agg.Complete(s.r.ID); err != nil || len(list) != 0 {
		t.Errorf("%d, %v", len(list), err)
	}
	if list := s.agg.Rounds(); len(list) != 1 || list[0].Incomplete != 1 {
		t.Errorf("%+v", list)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// TestBeginningAgainWaitsForNoUpload: a second connection of an agent is told where its first
// one is, and holds no place until that ends.
func TestBeginningAgainWaitsForNoUpload(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, rlwe.BlockValues+1, nil)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(rlwe.BlockValues+1, 1))
	u, err := s.agg.Begin(r.ID, m)
	if err != nil {
		t.Fatal(err)
	}
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.agg.Receive(r.ID, u.Contribution, 0, body)
		done <- err
	}()
	if _, err := sending.Write(b[:rlwe.BlockBytes+1]); err != nil { // the first block was taken, then
		t.Fatal(err)
	}
	again := make(chan aggregator.UploadStatus, 1)
	go func() {
		st, _ := s.agg.Begin(r.ID, m)
		again <- st
	}()
	select {
	case st := <-again:
		if st.Next != 1 || st.Complete {
			t.Errorf("%+v", st)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the other connection")
	}
	_, err = sending.Write(b[rlwe.BlockBytes+1:])
	if err = errors.Join(err, sending.Close(), <-done); err != nil {
		t.Error(err)
	}
}

// TestAnUploadEndsWithItsRound: one that began in time brings nothing after the round's end,
// however long it takes.
func TestAnUploadEndsWithItsRound(t *testing.T) {
	var late atomic.Bool
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) {
		c.Now = func() time.Time {
			if late.Load() {
				return federationtest.Begin.Add(10 * time.Minute).Time()
			}
			return federationtest.Begin.Add(time.Minute).Time()
		}
	})
	r, signed, _ := s.Round(t, rlwe.BlockValues+1, nil)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(rlwe.BlockValues+1, 1))
	u, err := s.agg.Begin(r.ID, m)
	if err != nil {
		t.Fatal(err)
	}
	body, sending := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.agg.Receive(r.ID, u.Contribution, 0, body)
		done <- errors.Join(err, body.Close())
	}()
	if _, err := sending.Write(b[:rlwe.BlockBytes+1]); err != nil {
		t.Fatal(err)
	}
	late.Store(true)
	_, _ = sending.Write(b[rlwe.BlockBytes+1:]) // which ends when the other side does
	if err := sending.Close(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, <-done, aggregator.ReasonRoundOver)
}

// TestUploadWithoutManifestIsSwept: a crash while one began or gave way leaves blocks that
// are nobody's.
func TestUploadWithoutManifestIsSwept(t *testing.T) {
	s := newRoomy(t, 4)
	s.stop()
	left := filepath.Join(s.dir, "rounds", s.r.ID.String(), "uploads", digest.Digest{1}.String())
	if err := errors.Join(os.Mkdir(left, 0o700), os.WriteFile(filepath.Join(left, "blocks"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	open(t, s.World, s.dir, nil)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
}
