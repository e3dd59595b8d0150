package proofs

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func openStore(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proofs")
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func put(t testing.TB, s *Store, bucket, key, value []byte) {
	t.Helper()
	if err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key, value) }); err != nil {
		t.Fatal(err)
	}
}

func wantDamaged(t testing.TB, err error) {
	t.Helper()
	if r, _ := evidence.ReasonOf(err); r != ReasonStore {
		t.Errorf("got %v, want the reason %s", err, ReasonStore)
	}
}

func TestStoreOfAnotherVersionIsNotOpened(t *testing.T) {
	s, path := openStore(t)
	put(t, s, bucketMeta, metaFormat, number(storeFormat+1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := OpenStore(path)
	wantDamaged(t, err)
	if _, err := OpenStore(filepath.Join(path, "no", "directory")); err == nil {
		t.Error("opened nothing")
	}
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	id, digest := statement.ID{1}, statement.Digest{2}
	key := openKey(digest, 1)
	for name, tc := range map[string]struct {
		bucket, key, value []byte
		read               func(*Store) error
	}{
		"receipt":         {bucketReceipts, id[:], []byte(`{`), func(s *Store) error { _, _, err := s.receipt(id); return err }},
		"receipt field":   {bucketReceipts, id[:], []byte(`{"new":1}`), func(s *Store) error { _, _, err := s.receipt(id); return err }},
		"receipt's id":    {bucketReceipts, id[:], []byte(`{"raw":""}`), func(s *Store) error { _, _, err := s.receipt(id); return err }},
		"record":          {bucketRecords, digest[:], []byte(`{} {}`), func(s *Store) error { _, _, err := s.record(digest); return err }},
		"records":         {bucketRecords, digest[:], []byte(`[]`), func(s *Store) error { _, err := s.records(); return err }},
		"proof":           {bucketProofs, digest[:], nil, func(s *Store) error { _, _, err := s.proof(digest); return err }},
		"index":           {bucketProven, id[:], []byte{1}, func(s *Store) error { _, _, err := s.proofOf(id); return err }},
		"challenge":       {bucketChallenges, digest[:], []byte(`{"signed":"AAAA","sequence":1}`), func(s *Store) error { _, err := s.challenge(digest); return err }},
		"challenge bytes": {bucketChallenges, digest[:], []byte(`1`), func(s *Store) error { _, err := s.challenge(digest); return err }},
		"waiting":         {bucketWaiting, number(1), []byte{1}, func(s *Store) error { _, err := s.waiting(); return err }},
		"waiting's key":   {bucketWaiting, []byte{1}, make([]byte, waitingBytes), func(s *Store) error { _, err := s.waiting(); return err }},
		"open":            {bucketOpen, key, []byte{1}, func(s *Store) error { _, err := s.unanswered(&digest); return err }},
		"count":           {bucketMeta, metaKept, []byte{1}, func(s *Store) error { _, err := s.counts(); return err }},
		"count for room":  {bucketMeta, metaKept, []byte{1}, func(s *Store) error { return s.room([]statement.ID{id}, 1) }},
		"negative count":  {bucketMeta, metaKept, number(0), func(s *Store) error { return s.db.Update(func(tx *bolt.Tx) error { return add(tx, metaKept, -1) }) }},
		"twice": {bucketRecords, digest[:], []byte(`{}`), func(s *Store) error {
			return s.putRecord(digest, recordEntry{}, 8)
		}},
	} {
		s, _ := openStore(t)
		put(t, s, tc.bucket, tc.key, tc.value)
		t.Log(name)
		wantDamaged(t, tc.read(s))
	}
}

// Each receipt is drawn about as often as any other, and never twice at once.
func TestDrawIsEven(t *testing.T) {
	const of, k, rounds = 10, 3, 4000
	seen := [of]int{}
	for range rounds {
		list := make([]waiting, of)
		for i := range list {
			list[i].sequence = uint64(i)
		}
		got, err := draw(list, k, 0)
		if err != nil || len(got) != k {
			t.Fatal(err)
		}
		once := map[uint64]bool{}
		for _, w := range got {
			if once[w.sequence] {
				t.Fatal("drawn twice")
			}
			once[w.sequence] = true
			seen[w.sequence]++
		}
	}
	// Mean 1200, standard deviation 29; eight of them are not reached but by a fault.
	for i, n := range seen {
		if n < 1200-8*29 || n > 1200+8*29 {
			t.Errorf("%d was drawn %d times of %d", i, n, rounds)
		}
	}
	n := 0
	for range rounds {
		got, err := draw(make([]waiting, of), 0, 0.25)
		if err != nil {
			t.Fatal(err)
		}
		n += len(got)
	}
	if n < 10000-8*87 || n > 10000+8*87 {
		t.Errorf("a rate of 0.25 drew %d of %d", n, of*rounds)
	}
}

func FuzzEntries(f *testing.F) {
	e, err := json.Marshal(receiptEntry{Raw: []byte{1}, Receipt: Receipt{ID: statement.ID{1}, Measurement: "00"}, Announced: 1, Sequence: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(number(1), e)
	f.Add(number(1), waiting{1, statement.ID{1}, statement.Digest{2}, statement.Digest{3}}.marshal())
	f.Add([]byte{}, openRef{statement.Digest{1}, 2}.marshal())
	f.Fuzz(func(t *testing.T, key, raw []byte) {
		if w, err := parseWaiting(key, raw); err == nil && (!bytes.Equal(w.marshal(), raw) || !bytes.Equal(number(w.sequence), key)) {
			t.Error("a waiting receipt has two encodings")
		}
		if r, err := parseOpenRef(raw); err == nil && !bytes.Equal(r.marshal(), raw) {
			t.Error("an open challenge has two encodings")
		}
		var e receiptEntry
		if decode(raw, &e) == nil {
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCommitmentText(t *testing.T) {
	c := Provable(statement.Commitment{31: 7})
	text, _ := c.MarshalText()
	var again Commitment
	if err := again.UnmarshalText(text); err != nil || again != c {
		t.Error(err)
	}
	for _, bad := range []string{"", string(text[:94]), string(text) + "00", string(bytes.ToUpper(text)), string(text[:95]) + "g"} {
		if again.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
