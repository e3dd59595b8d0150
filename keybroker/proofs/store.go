package proofs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/proofs/wire"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Store keeps the registry in one file. What a call wrote is durable when it returns.
// One process has it open at a time.
type Store struct{ db *bolt.DB }

// The buckets. What is in the first four is written once; receipts are removed only
// while they wait. The others are derived, and change.
var (
	bucketRecords    = []byte("records")    // verifying key -> recordEntry
	bucketReceipts   = []byte("receipts")   // receipt -> receiptEntry
	bucketChallenges = []byte("challenges") // digest -> challengeEntry
	bucketProofs     = []byte("proofs")     // digest -> proofEntry

	bucketChallenged = []byte("challenged") // receipt -> challenge
	bucketProven     = []byte("proven")     // receipt -> proof
	bucketTold       = []byte("told")       // overdue challenge -> when the audit log had it
	bucketWaiting    = []byte("waiting")    // sequence -> receipt, agent, model
	bucketOpen       = []byte("open")       // agent, sequence -> challenge, deadline
	bucketMeta       = []byte("meta")       // name -> format, or a count
)

var (
	metaFormat  = []byte("format")
	metaKept    = []byte("kept")
	metaWaiting = []byte("waiting")
	metaDropped = []byte("dropped")
	metaProofs  = []byte("proofs")
	metaRecords = []byte("records")
)

// storeFormat is the version of all this.
const storeFormat = 1

type recordEntry struct {
	Signed []byte `json:"signed"`
	Key    []byte `json:"key"`
}

type receiptEntry struct {
	Raw       []byte        `json:"raw"`
	Receipt   Receipt       `json:"receipt"`
	Announced protocol.Time `json:"announced"`
	Sequence  uint64        `json:"sequence"` // its place among those that wait
}

type challengeEntry struct {
	Signed   []byte `json:"signed"`
	Sequence uint64 `json:"sequence"`
}

type proofEntry struct {
	Bundle   []byte        `json:"bundle"`
	Verified protocol.Time `json:"verified"`
}

// OpenStore opens or makes the file.
func OpenStore(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open proofs %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketRecords, bucketReceipts, bucketChallenges, bucketProofs, bucketChallenged, bucketProven, bucketTold, bucketWaiting, bucketOpen, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if held := meta.Get(metaFormat); held != nil && !bytes.Equal(held, number(storeFormat)) {
			return damaged("written by another version of the broker")
		}
		return meta.Put(metaFormat, number(storeFormat))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open proofs %s: %w", path, err), db.Close())
	}
	return &Store{db}, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

func damaged(format string, args ...any) error {
	return evidence.Refuse(ReasonStore, format, args...)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func count(tx *bolt.Tx, name []byte) (uint64, error) {
	switch raw := tx.Bucket(bucketMeta).Get(name); len(raw) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(raw), nil
	}
	return 0, damaged("the count %s", name)
}

// add changes a count, which never goes below zero.
func add(tx *bolt.Tx, name []byte, delta int) error {
	n, err := count(tx, name)
	if err != nil {
		return err
	}
	sum := int64(n) + int64(delta)
	if sum < 0 {
		return damaged("the count %s would be %d", name, sum)
	}
	return tx.Bucket(bucketMeta).Put(name, number(uint64(sum)))
}

// decode reads what putOnce wrote.
func decode(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return damaged("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return damaged("something follows an entry")
	}
	return nil
}

// putOnce writes an entry that is not there yet.
func putOnce(tx *bolt.Tx, bucket, key []byte, v any) error {
	b := tx.Bucket(bucket)
	if b.Get(key) != nil {
		return damaged("%s %x is there already", bucket, key)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// get reads an entry outside of any other transaction.
func (s *Store) get(bucket, key []byte, into any) (found bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucket).Get(key)
		if found = raw != nil; !found {
			return nil
		}
		return decode(raw, into)
	})
	return found, err
}

// digest reads a digest that an index has.
func (s *Store) digest(bucket, key []byte) (d statement.Digest, found bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucket).Get(key)
		if found = raw != nil; found && copy(d[:], raw) != len(d) {
			return damaged("%s %x", bucket, key)
		}
		return nil
	})
	return d, found, err
}

func (s *Store) record(key statement.Digest) (e recordEntry, found bool, err error) {
	found, err = s.get(bucketRecords, key[:], &e)
	return e, found, err
}

func (s *Store) records() (list [][]byte, err error) {
	list = [][]byte{}
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRecords).ForEach(func(_, raw []byte) error {
			var e recordEntry
			if err := decode(raw, &e); err != nil {
				return err
			}
			list = append(list, e.Signed)
			return nil
		})
	})
	return list, err
}

func (s *Store) putRecord(key statement.Digest, e recordEntry, limit int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		n, err := count(tx, metaRecords)
		if err != nil {
			return err
		}
		if n >= uint64(limit) {
			return evidence.Refuse(ReasonFull, "%d keys are registered", n)
		}
		if err := putOnce(tx, bucketRecords, key[:], e); err != nil {
			return err
		}
		return add(tx, metaRecords, 1)
	})
}

func (s *Store) receipt(id statement.ID) (e receiptEntry, found bool, err error) {
	found, err = s.get(bucketReceipts, id[:], &e)
	if found && err == nil && e.Receipt.ID != id {
		err = damaged("receipt %s is stored as %s", e.Receipt.ID, id)
	}
	return e, found, err
}

func (s *Store) challengeOf(id statement.ID) (statement.Digest, bool, error) {
	return s.digest(bucketChallenged, id[:])
}

func (s *Store) proofOf(id statement.ID) (statement.Digest, bool, error) {
	return s.digest(bucketProven, id[:])
}

func (s *Store) proof(d statement.Digest) (e proofEntry, found bool, err error) {
	found, err = s.get(bucketProofs, d[:], &e)
	return e, found, err
}

// counts fills the counted part of a status.
func (s *Store) counts() (out Status, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		for name, into := range map[string]*int{string(metaRecords): &out.Records, string(metaWaiting): &out.Waiting, string(metaKept): &out.Kept,
			string(metaProofs): &out.Proofs, string(metaDropped): &out.Dropped} {
			n, err := count(tx, []byte(name))
			if err != nil {
				return err
			}
			*into = int(n)
		}
		return nil
	})
	return out, err
}

// openChallenge is a challenge as it is stored.
type openChallenge struct {
	digest    statement.Digest
	challenge wire.Challenge
	signed    []byte
	sequence  uint64
}

func readChallenge(tx *bolt.Tx, digest statement.Digest) (c openChallenge, err error) {
	raw := tx.Bucket(bucketChallenges).Get(digest[:])
	if raw == nil {
		return c, evidence.Refuse(ReasonNoChallenge, "no challenge %s", digest)
	}
	var e challengeEntry
	if err := decode(raw, &e); err != nil {
		return c, err
	}
	if wire.DigestOf(e.Signed) != digest {
		return c, damaged("challenge %s was changed", digest)
	}
	parsed, err := wire.ParseChallenge(e.Signed)
	if err != nil {
		return c, damaged("challenge %s: %v", digest, err)
	}
	return openChallenge{digest, parsed, e.Signed, e.Sequence}, nil
}

func (s *Store) challenge(digest statement.Digest) (c openChallenge, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		c, err = readChallenge(tx, digest)
		return err
	})
	return c, err
}
