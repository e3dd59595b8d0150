package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if r, _ := refusal.ReasonOf(err); r != want {
		t.Errorf("got %v, want the reason %s", err, want)
	}
}

func entry(agent, n byte) ReceiptEntry {
	return ReceiptEntry{Raw: []byte{agent, n}, Receipt: Receipt{ID: digest.ReceiptID{agent, n}, Agent: digest.Digest{agent}, Model: digest.Digest{9}}, Announced: 1}
}

// room is for so many of everything.
func room(n int) Limits {
	return Limits{Waiting: n, WaitingPerAgent: n, WaitingPerGuest: n, Kept: n, Proven: n, ProvenPerAgent: n}
}

func announce(t *testing.T, s *Store, agent byte, numbers ...byte) {
	t.Helper()
	var list []ReceiptEntry
	for _, n := range numbers {
		list = append(list, entry(agent, n))
	}
	if _, _, err := s.Announce(list, room(100)); err != nil {
		t.Fatal(err)
	}
}

func challenge(t *testing.T, w *federationtest.World, agent byte, numbers ...byte) Issued {
	t.Helper()
	c := wire.Challenge{Broker: w.Epoch.Broker, Epoch: 1, Agent: digest.Digest{agent}, Time: federationtest.Begin, Deadline: federationtest.Begin.Add(time.Hour)}
	for _, n := range numbers {
		c.Receipts = append(c.Receipts, digest.ReceiptID{agent, n})
	}
	signed, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
	if err != nil {
		t.Fatal(err)
	}
	return Issued{digest.Of(signed), c, signed}
}

// invariants are what holds after every step: each receipt either waits, or is kept for
// a challenge or a proof; the counts are right; a challenge is open until its receipts
// are proven.
func invariants(t *testing.T, s *Store) {
	t.Helper()
	counts, err := s.Counts()
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	waits := map[digest.ReceiptID]bool{}
	for i, w := range list {
		waits[w.ID] = true
		if i > 0 && list[i-1].Sequence >= w.Sequence {
			t.Error("the queue does not ascend")
		}
	}
	kept, receipts, open := 0, 0, 0
	err = s.db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(bucketReceipts).ForEach(func(k, v []byte) error {
			receipts++
			isKept := tx.Bucket(bucketChallenged).Get(k) != nil || tx.Bucket(bucketProven).Get(k) != nil
			if isKept {
				kept++
			}
			if isKept == waits[digest.ReceiptID(k)] {
				t.Errorf("receipt %x: kept %t, and waits the same", k, isKept)
			}
			return nil
		})
		return errors.Join(err, tx.Bucket(bucketChallenges).ForEach(func(k, _ []byte) error {
			c, err := readChallenge(tx, digest.Digest(k))
			if err != nil {
				return err
			}
			missing := 0
			for _, id := range c.Challenge.Receipts {
				if tx.Bucket(bucketProven).Get(id[:]) == nil {
					missing++
				}
			}
			listed := tx.Bucket(bucketOpen).Get(openKey(c.Challenge.Agent, c.sequence)) != nil
			if listed != (missing > 0) {
				t.Errorf("a challenge lacks %d proofs, and open is %t", missing, listed)
			}
			if listed {
				open++
			}
			return nil
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	derived(t, s)
	refs, err := s.Unanswered(nil)
	if err != nil || len(refs) != open {
		t.Errorf("%d open challenges are listed, %d are, %v", len(refs), open, err)
	}
	if counts.Waiting != len(list) || counts.Kept != kept || receipts != kept+len(list) {
		t.Errorf("%+v, but %d receipts, %d kept, %d waiting", counts, receipts, kept, len(list))
	}
}

// derived checks the counts of agents, the ages, and the receipts of proofs against what
// they are derived from.
func derived(t *testing.T, s *Store) {
	t.Helper()
	agents, guests, covers, ages := map[digest.Digest]agentTally{}, map[digest.Digest]uint64{}, map[string]uint64{}, 0
	lots := 0
	err := s.db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(bucketReceipts).ForEach(func(k, v []byte) error {
			var e ReceiptEntry
			if err := decode(v, &e); err != nil {
				return err
			}
			c := agents[e.Receipt.Agent]
			if isKept(tx, k) {
				c.kept++
				ages++
				at, err := age(tx, k)
				if err != nil || tx.Bucket(bucketAging).Get(append(number(uint64(at)), k...)) == nil {
					t.Errorf("receipt %x has no age: %v", k, err)
				}
			} else {
				c.waiting++
				if tx.Bucket(bucketAgentLots).Get(lotKey(e.Receipt.Agent, e.AgentLot, e.Receipt.ID)) == nil || tx.Bucket(bucketGuestLots).Get(lotKey(e.Guest, e.GuestLot, e.Receipt.ID)) == nil {
					t.Errorf("receipt %x has no lots", k)
				}
				lots++
				if e.Guest != (digest.Digest{}) {
					guests[e.Guest]++
				}
			}
			agents[e.Receipt.Agent] = c
			if d := tx.Bucket(bucketProven).Get(k); d != nil {
				covers[string(d)]++
			}
			return nil
		})
		for agent, want := range agents {
			if got, err := readTally(tx, agent); got != want || err != nil {
				t.Errorf("agent %s: %+v, want %+v: %v", agent, got, want, err)
			}
		}
		for guest, want := range guests {
			if got, err := readGuest(tx, guest); got != want || err != nil {
				t.Errorf("guest %s: %d, want %d: %v", guest, got, want, err)
			}
		}
		for d, want := range covers {
			if raw := tx.Bucket(bucketCovers).Get([]byte(d)); !bytes.Equal(raw, number(want)) || tx.Bucket(bucketProofs).Get([]byte(d)) == nil {
				t.Errorf("proof %x of %d receipts: %x", d, want, raw)
			}
		}
		for name, want := range map[string]int{string(bucketAgents): len(agents), string(bucketGuests): len(guests), string(bucketAges): ages, string(bucketAgentLots): lots, string(bucketGuestLots): lots, string(bucketAging): ages, string(bucketCovers): len(covers), string(bucketProofs): len(covers)} {
			if n := tx.Bucket([]byte(name)).Stats().KeyN; n != want {
				t.Errorf("%s has %d entries, want %d", name, n, want)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLedgerKeepsItsInvariants(t *testing.T) {
	s, _ := openStore(t)
	w := federationtest.New(t)
	steps := []struct {
		name string
		do   func() error
		want refusal.Reason
	}{
		{"announce", func() error { announce(t, s, 1, 1, 2, 3); announce(t, s, 2, 1); return nil }, ""},
		{"other bytes", func() error {
			e := entry(1, 1)
			e.Raw = []byte{0}
			_, _, err := s.Announce([]ReceiptEntry{entry(1, 9), e}, room(100))
			return err
		}, ReasonReceipt},
		{"challenge", func() error { return s.PutChallenges([]Issued{challenge(t, w, 1, 1, 2)}, room(4)) }, ""},
		{"challenge again", func() error { return s.PutChallenges([]Issued{challenge(t, w, 1, 1, 3)}, room(4)) }, ReasonStore},
		{"unknown receipt", func() error { return s.PutChallenges([]Issued{challenge(t, w, 1, 8)}, room(4)) }, ReasonNotAnnounced},
		{"no room", func() error {
			return s.PutChallenges([]Issued{challenge(t, w, 1, 3), challenge(t, w, 2, 1)}, room(3))
		}, ReasonFull},
		{"half a proof", func() error {
			return s.PutProof(digest.Digest{1}, ProofEntry{Verified: 5}, []digest.ReceiptID{{1, 1}}, room(4))
		}, ""},
		{"same proof", func() error { return s.PutProof(digest.Digest{1}, ProofEntry{}, []digest.ReceiptID{{1, 2}}, room(4)) }, ReasonStore},
		{"another proof", func() error {
			return s.PutProof(digest.Digest{2}, ProofEntry{}, []digest.ReceiptID{{1, 2}, {1, 1}}, room(4))
		}, ReasonConflict},
		{"unknown", func() error { return s.PutProof(digest.Digest{3}, ProofEntry{}, []digest.ReceiptID{{7}}, room(4)) }, ReasonNotAnnounced},
		{"the other half, and one that waits", func() error {
			return s.PutProof(digest.Digest{4}, ProofEntry{Verified: 7}, []digest.ReceiptID{{1, 2}, {1, 3}}, room(4))
		}, ""},
		{"one more fits", func() error { return s.Room([]digest.ReceiptID{{2, 1}}, room(4)) }, ""},
		{"and no other", func() error { return s.Room([]digest.ReceiptID{{2, 1}, {2, 2}}, room(4)) }, ReasonFull},
	}
	for _, step := range steps {
		err := step.do()
		if r, _ := refusal.ReasonOf(err); r != step.want || err != nil && step.want == "" {
			t.Errorf("%s: got %v, want the reason %q", step.name, err, step.want)
		}
		invariants(t, s)
	}
	if d, found, err := s.ProofOf(digest.ReceiptID{1, 3}); !found || err != nil || d != (digest.Digest{4}) {
		t.Errorf("%s, %t, %v", d, found, err)
	}
	if _, found, err := s.ChallengeOf(digest.ReceiptID{1, 3}); found || err != nil {
		t.Errorf("a challenge of what was never challenged: %v", err)
	}
}

func TestProgress(t *testing.T) {
	s, _ := openStore(t)
	w := federationtest.New(t)
	announce(t, s, 1, 1, 2, 3)
	c := challenge(t, w, 1, 1, 2, 3)
	if err := s.PutChallenges([]Issued{c}, room(9)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: 8}, []digest.ReceiptID{{1, 1}, {1, 3}}, room(9)); err != nil {
		t.Fatal(err)
	}
	if missing, last, err := s.Progress(c.Challenge); missing != 1 || last != 8 || err != nil {
		t.Errorf("%d missing, last %d, %v", missing, last, err)
	}
	if told, err := s.Told(c.Digest); told || err != nil {
		t.Errorf("%t, %v", told, err)
	}
	if err := s.Tell(c.Digest, 3); err != nil {
		t.Fatal(err)
	}
	if told, err := s.Told(c.Digest); !told || err != nil {
		t.Errorf("%t, %v", told, err)
	}
	held, err := s.Challenge(c.Digest)
	if err != nil || held.Challenge.Deadline != c.Challenge.Deadline {
		t.Errorf("%+v, %v", held, err)
	}
	_, err = s.Challenge(digest.Digest{})
	wantReason(t, err, ReasonNoChallenge)
	one, other := digest.Digest{1}, digest.Digest{2}
	if list, err := s.Unanswered(&one); len(list) != 1 || err != nil || list[0] != (Open{c.Digest, c.Challenge.Deadline}) {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := s.Unanswered(&other); len(list) != 0 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestRecordsAreWrittenOnceUpToTheLimit(t *testing.T) {
	s, _ := openStore(t)
	if list, err := s.Records(); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.PutRecord(digest.Digest{1}, RecordEntry{Signed: []byte{1}, Key: []byte{2}}, 1); err != nil {
		t.Fatal(err)
	}
	wantReason(t, s.PutRecord(digest.Digest{2}, RecordEntry{}, 1), ReasonFull)
	wantReason(t, s.PutRecord(digest.Digest{1}, RecordEntry{}, 2), ReasonStore)
	if e, found, err := s.Record(digest.Digest{1}); !found || err != nil || e.Key[0] != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if list, err := s.Records(); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// Entries that a step reads on its way stop it if they are damaged, and nothing of it
// is written.
func TestDamageStopsAWrite(t *testing.T) {
	w := federationtest.New(t)
	id := digest.ReceiptID{1, 1}
	c := challenge(t, w, 1, 1)
	bad, err := json.Marshal(challengeEntry{Signed: []byte("signed")})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		bucket, key, value []byte
		do                 func(*Store) error
	}{
		"receipt, announced": {bucketReceipts, id[:], []byte("{"), func(s *Store) error { _, _, err := s.Announce([]ReceiptEntry{entry(1, 1)}, room(9)); return err }},
		"receipt, proven": {bucketReceipts, id[:], []byte("{"), func(s *Store) error {
			return s.PutProof(digest.Digest{1}, ProofEntry{}, []digest.ReceiptID{id}, room(9))
		}},
		"kept": {bucketMeta, metaKept, []byte{1}, func(s *Store) error {
			return s.PutProof(digest.Digest{1}, ProofEntry{}, []digest.ReceiptID{id}, room(9))
		}},
		"kept, challenged": {bucketMeta, metaKept, []byte{1}, func(s *Store) error { return s.PutChallenges([]Issued{c}, room(9)) }},
		"waiting count":    {bucketMeta, metaWaiting, []byte{1}, func(s *Store) error { _, _, err := s.Announce([]ReceiptEntry{entry(1, 2)}, room(9)); return err }},
		"waiting too few":  {bucketMeta, metaWaiting, number(0), func(s *Store) error { return s.PutChallenges([]Issued{c}, room(9)) }},
		"lot": {bucketAgentLots, append([]byte{1}, make([]byte, lotBytes)...), nil, func(s *Store) error {
			_, _, err := s.Announce([]ReceiptEntry{entry(1, 2)}, room(1))
			return err
		}},
		"guest's entry": {bucketGuests, []byte{1}, number(1), func(s *Store) error {
			_, _, err := s.Announce([]ReceiptEntry{entry(2, 2)}, Limits{Waiting: 1, WaitingPerAgent: 9, WaitingPerGuest: 9})
			return err
		}},
		"guest's count": {bucketGuests, make([]byte, 32), []byte{1}, func(s *Store) error { _, _, err := s.Announce([]ReceiptEntry{entry(1, 2)}, room(9)); return err }},
		"waiting entry": {bucketWaiting, number(0), []byte{1}, func(s *Store) error { _, err := s.Expire(9, 0, 9); return err }},
		"records":       {bucketMeta, metaRecords, []byte{1}, func(s *Store) error { return s.PutRecord(digest.Digest{1}, RecordEntry{}, 9) }},
		"challenged":    {bucketChallenged, id[:], []byte{1}, func(s *Store) error { _, _, err := s.ChallengeOf(id); return err }},
		"proof":         {bucketProven, id[:], make([]byte, 32), func(s *Store) error { _, _, err := s.Progress(c.Challenge); return err }},
	} {
		s, _ := openStore(t)
		announce(t, s, 1, 1)
		put(t, s, tc.bucket, tc.key, tc.value)
		t.Log(name)
		wantDamaged(t, tc.do(s))
		if _, found, _ := s.Proof(digest.Digest{1}); found {
			t.Error("half a step was written")
		}
	}
	s, _ := openStore(t)
	announce(t, s, 1, 1)
	if err := s.PutChallenges([]Issued{c}, room(9)); err != nil {
		t.Fatal(err)
	}
	other, err := json.Marshal(challengeEntry{Signed: challenge(t, w, 1, 2).Signed})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, bucketChallenges, c.Digest[:], other)
	_, err = s.Challenge(c.Digest)
	wantDamaged(t, err)
	put(t, s, bucketChallenges, c.Digest[:], bad)
	wantDamaged(t, s.PutProof(digest.Digest{1}, ProofEntry{}, []digest.ReceiptID{id}, room(9)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := s.Counts(); return err }, func() error { _, err := s.Waiting(); return err }, func() error { return s.Tell(c.Digest, 1) },
		func() error { _, _, err := s.Receipt(id); return err },
	} {
		if do() == nil {
			t.Error("a closed store answers")
		}
	}
}
