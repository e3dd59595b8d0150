package registry

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
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
	if r, _ := refusal.ReasonOf(err); r != ReasonStore {
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
	wantReason(t, err, ReasonVersion)
	if _, err := OpenStore(filepath.Join(path, "no", "directory")); err == nil {
		t.Error("opened nothing")
	}
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	id, sum := digest.ReceiptID{1}, digest.Digest{2}
	key := openKey(sum, 1)
	for name, tc := range map[string]struct {
		bucket, key, value []byte
		read               func(*Store) error
	}{
		"receipt":         {bucketReceipts, id[:], []byte(`{`), func(s *Store) error { _, _, err := s.Receipt(id); return err }},
		"receipt field":   {bucketReceipts, id[:], []byte(`{"new":1}`), func(s *Store) error { _, _, err := s.Receipt(id); return err }},
		"receipt's id":    {bucketReceipts, id[:], []byte(`{"raw":""}`), func(s *Store) error { _, _, err := s.Receipt(id); return err }},
		"record":          {bucketRecords, sum[:], []byte(`{} {}`), func(s *Store) error { _, _, err := s.Record(sum); return err }},
		"records":         {bucketRecords, sum[:], []byte(`[]`), func(s *Store) error { _, err := s.Records(); return err }},
		"proof":           {bucketProofs, sum[:], nil, func(s *Store) error { _, _, err := s.Proof(sum); return err }},
		"index":           {bucketProven, id[:], []byte{1}, func(s *Store) error { _, _, err := s.ProofOf(id); return err }},
		"challenge":       {bucketChallenges, sum[:], []byte(`{"signed":"AAAA","sequence":1}`), func(s *Store) error { _, err := s.Challenge(sum); return err }},
		"challenge bytes": {bucketChallenges, sum[:], []byte(`1`), func(s *Store) error { _, err := s.Challenge(sum); return err }},
		"waiting":         {bucketWaiting, number(1), []byte{1}, func(s *Store) error { _, err := s.Waiting(); return err }},
		"waiting's key":   {bucketWaiting, []byte{1}, make([]byte, waitingBytes), func(s *Store) error { _, err := s.Waiting(); return err }},
		"open":            {bucketOpen, key, []byte{1}, func(s *Store) error { _, err := s.Unanswered(&sum); return err }},
		"count":           {bucketMeta, metaKept, []byte{1}, func(s *Store) error { _, err := s.Counts(); return err }},
		"count for room":  {bucketMeta, metaKept, []byte{1}, func(s *Store) error { return s.Room([]digest.ReceiptID{id}, room(1)) }},
		"negative count":  {bucketMeta, metaKept, number(0), func(s *Store) error { return s.db.Update(func(tx *bolt.Tx) error { return add(tx, metaKept, -1) }) }},
		"twice": {bucketRecords, sum[:], []byte(`{}`), func(s *Store) error {
			return s.PutRecord(sum, RecordEntry{}, 8)
		}},
	} {
		s, _ := openStore(t)
		put(t, s, tc.bucket, tc.key, tc.value)
		t.Log(name)
		wantDamaged(t, tc.read(s))
	}
}

func FuzzEntries(f *testing.F) {
	e, err := json.Marshal(ReceiptEntry{Raw: []byte{1}, Receipt: Receipt{ID: digest.ReceiptID{1}, Measurement: "00"}, Announced: 1, Sequence: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(number(1), e)
	f.Add(number(1), Waiting{1, digest.ReceiptID{1}, digest.Digest{2}, digest.Digest{3}}.marshal())
	f.Add([]byte{}, Open{digest.Digest{1}, 2}.marshal())
	f.Fuzz(func(t *testing.T, key, raw []byte) {
		if w, err := parseWaiting(key, raw); err == nil && (!bytes.Equal(w.marshal(), raw) || !bytes.Equal(number(w.Sequence), key)) {
			t.Error("a waiting receipt has two encodings")
		}
		if r, err := parseOpen(raw); err == nil && !bytes.Equal(r.marshal(), raw) {
			t.Error("an open challenge has two encodings")
		}
		var e ReceiptEntry
		if decode(raw, &e) == nil {
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCommitmentText(t *testing.T) {
	c := Commitment{47: 0xAB}
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
