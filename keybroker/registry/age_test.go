package registry

import (
	"errors"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// deadline is that of the challenges here.
var deadline = federationtest.Begin.Add(time.Hour)

func expire(t *testing.T, s *Store, waiting, kept protocol.Time, want Expired) {
	t.Helper()
	got, err := s.Expire(waiting, kept, 100)
	if err != nil || got != want {
		t.Errorf("expired %+v, want %+v: %v", got, want, err)
	}
	invariants(t, s)
}

func there(t *testing.T, s *Store, id digest.ReceiptID, want bool) {
	t.Helper()
	if _, found, err := s.Receipt(id); found != want || err != nil {
		t.Errorf("receipt %s: found %t, %v", id, found, err)
	}
}

// TestAFullRegistryTakesReceiptsAgain: it kept what had a challenge or a proof for ever, and
// refused everything once it was full.
func TestAFullRegistryTakesReceiptsAgain(t *testing.T) {
	s, _ := openStore(t)
	prove := func(agent, n byte) error {
		return s.PutProof(digest.Digest{agent, n}, ProofEntry{Verified: 10}, []digest.ReceiptID{{agent, n}}, room(2))
	}
	announce(t, s, 1, 1, 2, 3)
	for n := range byte(2) {
		if err := prove(1, n+1); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, prove(1, 3), ReasonFull)
	expire(t, s, 0, 10, Expired{}) // inside their retention
	wantReason(t, prove(1, 3), ReasonFull)
	expire(t, s, 0, 11, Expired{Kept: 2, Proofs: 2})
	if err := prove(1, 3); err != nil {
		t.Error(err)
	}
	invariants(t, s)
}

func TestWaitingReceiptsGoWithTheirAge(t *testing.T) {
	s, _ := openStore(t)
	for n := range byte(4) {
		e := entry(1, n)
		e.Announced = protocol.Time(n) + 1
		if _, _, err := s.Announce([]ReceiptEntry{e}, room(9)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: 1}, []digest.ReceiptID{{1, 0}}, room(9)); err != nil {
		t.Fatal(err)
	}
	expire(t, s, 3, 0, Expired{Waiting: 1})
	there(t, s, digest.ReceiptID{1, 0}, true) // proven
	there(t, s, digest.ReceiptID{1, 1}, false)
	there(t, s, digest.ReceiptID{1, 2}, true)
	if c, err := s.Counts(); err != nil || c.Dropped != 1 {
		t.Errorf("%+v %v", c, err)
	}
}

// A challenge goes when all its receipts do: until then it is answered as it stands.
func TestAChallengeGoesWhole(t *testing.T) {
	s, _ := openStore(t)
	w := federationtest.New(t)
	announce(t, s, 1, 1, 2, 3)
	c := challenge(t, w, 1, 1, 2)
	if err := s.PutChallenges([]Issued{c}, room(9)); err != nil {
		t.Fatal(err)
	}
	late := deadline.Add(time.Hour)
	// One proof of a challenged receipt and of one that waits, after the deadline.
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: late}, []digest.ReceiptID{{1, 1}, {1, 3}}, room(9)); err != nil {
		t.Fatal(err)
	}
	if err := s.Tell(c.Digest, late); err != nil {
		t.Fatal(err)
	}
	expire(t, s, 0, deadline+1, Expired{}) // receipt 2 is old enough, 1 is not
	expire(t, s, 0, late, Expired{})
	there(t, s, digest.ReceiptID{1, 2}, true)
	if missing, _, err := s.Progress(c.Challenge); missing != 1 || err != nil {
		t.Error(missing, err)
	}
	expire(t, s, 0, late+1, Expired{Kept: 3, Challenges: 1, Proofs: 1})
	_, err := s.Challenge(c.Digest)
	wantReason(t, err, ReasonNoChallenge)
	if told, err := s.Told(c.Digest); told || err != nil {
		t.Error("a mark of a challenge that is gone:", err)
	}
	if list, err := s.Unanswered(nil); len(list) != 0 || err != nil {
		t.Error(list, err)
	}
}

// A proof goes with the last of its receipts.
func TestAProofGoesWithItsLastReceipt(t *testing.T) {
	s, _ := openStore(t)
	announce(t, s, 1, 1, 2)
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: 5}, []digest.ReceiptID{{1, 1}, {1, 2}}, room(9)); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Update(func(tx *bolt.Tx) error { return setAge(tx, []byte{1, 2, 15: 0}, 7) }); err != nil {
		t.Fatal(err)
	}
	expire(t, s, 0, 6, Expired{Kept: 1})
	if _, found, err := s.Proof(digest.Digest{1}); !found || err != nil {
		t.Error("the proof of a receipt that is kept is gone:", err)
	}
	expire(t, s, 0, 8, Expired{Kept: 1, Proofs: 1})
}

// What goes at a time is bounded, and all goes at last.
func TestExpiryIsDoneInParts(t *testing.T) {
	s, _ := openStore(t)
	announce(t, s, 1, 1, 2, 3, 4, 5)
	gone := 0
	for range 3 {
		out, err := s.Expire(2, 0, 2)
		if err != nil || out.Waiting > 2 {
			t.Fatal(out, err)
		}
		gone += out.Waiting
		invariants(t, s)
	}
	if gone != 5 {
		t.Error(gone)
	}
}

// One agent has its part of what waits, and of what is kept without a challenge, and
// challenges have room that proofs cannot take.
func TestAnAgentHasItsPartAlone(t *testing.T) {
	s, _ := openStore(t)
	w := federationtest.New(t)
	l := Limits{Waiting: 100, WaitingPerAgent: 3, WaitingPerGuest: 100, Kept: 4, Proven: 3, ProvenPerAgent: 2}
	put := func(agent byte, numbers ...byte) error {
		t.Helper()
		var list []ReceiptEntry
		for _, n := range numbers {
			list = append(list, entry(agent, n))
		}
		_, _, err := s.Announce(list, l)
		invariants(t, s)
		return err
	}
	if err := errors.Join(put(2, 1, 2, 3), put(1, 3, 4, 5)); err != nil {
		t.Fatal(err)
	}
	prove := func(agent byte, n byte) error {
		return s.PutProof(digest.Digest{agent, n}, ProofEntry{Verified: 1}, []digest.ReceiptID{{agent, n}}, l)
	}
	for _, n := range []byte{3, 4} {
		if err := prove(1, n); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, prove(1, 5), ReasonAgentFull)
	wantReason(t, s.Room([]digest.ReceiptID{{1, 5}}, l), ReasonAgentFull)
	if err := prove(2, 1); err != nil {
		t.Fatal(err)
	}
	wantReason(t, prove(2, 2), ReasonFull) // the last place is for a challenge
	if err := s.PutChallenges([]Issued{challenge(t, w, 1, 5)}, l); err != nil {
		t.Error("an agent that proved all that it may cannot be challenged:", err)
	}
	if err := prove(1, 5); err != nil {
		t.Error("a challenge cannot be answered:", err)
	}
	invariants(t, s)
}

// A file of the second version has no guests and no lots; what waits in it is nobody's.
func TestAFileOfTheSecondVersionIsTakenOver(t *testing.T) {
	s, path := openStore(t)
	announce(t, s, 1, 1)
	raw := []byte(`{"raw":"AQE=","receipt":{},"announced":1,"sequence":1}`)
	if err := s.db.Update(func(tx *bolt.Tx) error {
		var e ReceiptEntry
		if err := decode(raw, &e); err != nil || e.Guest != (digest.Digest{}) {
			t.Errorf("%+v, %v", e, err)
		}
		if err := errors.Join(tx.DeleteBucket(bucketGuests), tx.DeleteBucket(bucketAgentLots), tx.DeleteBucket(bucketGuestLots)); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(metaFormat, number(2))
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	invariants(t, s)
	announce(t, s, 1, 2)
	expire(t, s, 2, 0, Expired{Waiting: 2})
}

// A file of the first version has no counts and ages; they are derived.
func TestAFileOfTheFirstVersionIsTakenOver(t *testing.T) {
	s, path := openStore(t)
	w := federationtest.New(t)
	announce(t, s, 1, 1, 2, 3)
	announce(t, s, 2, 1)
	if err := s.PutChallenges([]Issued{challenge(t, w, 1, 1)}, room(9)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: 5}, []digest.ReceiptID{{1, 1}, {1, 2}}, room(9)); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketAgents, bucketAgentLots, bucketGuestLots, bucketAges, bucketAging, bucketCovers} {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(metaFormat, number(1))
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	invariants(t, s)
	expire(t, s, 0, 6, Expired{Kept: 1})
	expire(t, s, 0, deadline+1, Expired{Kept: 1, Challenges: 1, Proofs: 1})
}
