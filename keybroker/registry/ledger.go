package registry

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Reasons of this package.
const (
	// ReasonStore: an entry is not as it was written.
	ReasonStore refusal.Reason = "proof-store-damaged"
	// ReasonFull: a limit was reached.
	ReasonFull refusal.Reason = "proofs-full"
	// ReasonAgentFull: an agent's part of a limit was reached.
	ReasonAgentFull refusal.Reason = "proofs-agent-full"
	// ReasonVersion: the file is of a version that this broker does not know.
	ReasonVersion refusal.Reason = "proof-store-version"
	// ReasonNotAnnounced: there is no such receipt.
	ReasonNotAnnounced refusal.Reason = "receipt-not-announced"
	// ReasonReceipt: there is another receipt of this id.
	ReasonReceipt refusal.Reason = "receipt-conflict"
	// ReasonNoChallenge: there is no such challenge.
	ReasonNoChallenge refusal.Reason = "challenge-unknown"
	// ReasonConflict: a receipt has another proof.
	ReasonConflict refusal.Reason = "proof-conflict"
)

// Store is an open file. One process has it open at a time; its methods may be called
// from any goroutine.
type Store struct{ db *bolt.DB }

// The buckets. What is in the first four is written once, and removed when its time is
// over. The others are derived, and change.
var (
	bucketRecords    = []byte("records")    // verifying key -> RecordEntry
	bucketReceipts   = []byte("receipts")   // receipt -> ReceiptEntry
	bucketChallenges = []byte("challenges") // digest -> challengeEntry
	bucketProofs     = []byte("proofs")     // digest -> ProofEntry

	bucketChallenged = []byte("challenged") // receipt -> challenge
	bucketProven     = []byte("proven")     // receipt -> proof
	bucketTold       = []byte("told")       // overdue challenge -> when the audit log had it
	bucketWaiting    = []byte("waiting")    // sequence -> receipt, agent, model
	bucketOpen       = []byte("open")       // agent, sequence -> challenge, deadline
	bucketAgents     = []byte("agents")     // agent -> receipts that wait, receipts that are kept
	bucketAges       = []byte("ages")       // kept receipt -> when its age begins
	bucketAging      = []byte("aging")      // when an age begins, kept receipt -> nothing
	bucketGuests     = []byte("guests")     // processor -> receipts of its guests that wait
	bucketAgentLots  = []byte("agent-lots") // agent, lot, waiting receipt -> nothing
	bucketGuestLots  = []byte("guest-lots") // processor or zero, lot, waiting receipt -> nothing
	bucketCovers     = []byte("covers")     // proof -> number of its receipts
	bucketMeta       = []byte("meta")       // name -> format, or a count
)

var (
	metaFormat    = []byte("format")
	metaKept      = []byte("kept")
	metaWaiting   = []byte("waiting")
	metaDropped   = []byte("dropped")
	metaDisplaced = []byte("displaced")
	metaProofs    = []byte("proofs")
	metaRecords   = []byte("records")
)

// storeFormat is the version of all this.
const storeFormat = 4

// RecordEntry is a registered key.
type RecordEntry struct {
	Signed []byte `json:"signed"` // record
	Key    []byte `json:"key"`    // verifying key
}

// ReceiptEntry is an announced receipt.
type ReceiptEntry struct {
	Raw       []byte        `json:"raw"`
	Receipt   Receipt       `json:"receipt"`
	Announced protocol.Time `json:"announced"`
	// Guest is the processor of the guest that signed it, and counts it among others; zero
	// if it is not known.
	Guest    digest.Digest `json:"guest"`
	Sequence uint64        `json:"sequence"` // its place among those that wait
	// AgentLot and GuestLot say who goes first, and are nobody's business; see [Store.Announce].
	AgentLot uint64 `json:"agent_lot"`
	GuestLot uint64 `json:"guest_lot"`
}

type challengeEntry struct {
	Signed   []byte `json:"signed"`
	Sequence uint64 `json:"sequence"`
}

// ProofEntry is a verified proof.
type ProofEntry struct {
	Bundle   []byte        `json:"bundle"` // as wire.Bundle has it
	Verified protocol.Time `json:"verified"`
}

// OpenStore opens or makes the file.
func OpenStore(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open proofs %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketRecords, bucketReceipts, bucketChallenges, bucketProofs, bucketChallenged, bucketProven, bucketTold, bucketWaiting, bucketOpen, bucketAgents, bucketGuests, bucketAgentLots, bucketGuestLots, bucketAges, bucketAging, bucketCovers, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		switch held := meta.Get(metaFormat); {
		case held == nil || bytes.Equal(held, number(storeFormat)):
		case bytes.Equal(held, number(3)), bytes.Equal(held, number(2)): // the second's receipts are of no processor's
			if err := drawLots(tx); err != nil {
				return err
			}
		case bytes.Equal(held, number(1)):
			if err := errors.Join(upgrade(tx), drawLots(tx)); err != nil {
				return err
			}
		default:
			return refusal.New(ReasonVersion, "written by another version of the broker")
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

// Damaged refuses an entry that is not as it was written.
func Damaged(format string, args ...any) error {
	return refusal.New(ReasonStore, format, args...)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func count(tx *bolt.Tx, name []byte) (uint64, error) {
	switch raw := tx.Bucket(bucketMeta).Get(name); len(raw) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(raw), nil
	}
	return 0, Damaged("the count %s", name)
}

// add changes a count, which never goes below zero.
func add(tx *bolt.Tx, name []byte, delta int) error {
	n, err := count(tx, name)
	if err != nil {
		return err
	}
	sum := int64(n) + int64(delta)
	if sum < 0 {
		return Damaged("the count %s would be %d", name, sum)
	}
	return tx.Bucket(bucketMeta).Put(name, number(uint64(sum)))
}

// decode reads what putOnce wrote.
func decode(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return Damaged("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Damaged("something follows an entry")
	}
	return nil
}

// putOnce writes an entry that is not there yet.
func putOnce(tx *bolt.Tx, bucket, key []byte, v any) error {
	b := tx.Bucket(bucket)
	if b.Get(key) != nil {
		return Damaged("%s %x is there already", bucket, key)
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
func (s *Store) digest(bucket, key []byte) (d digest.Digest, found bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucket).Get(key)
		if found = raw != nil; found && copy(d[:], raw) != len(d) {
			return Damaged("%s %x", bucket, key)
		}
		return nil
	})
	return d, found, err
}

// Record finds the entry of a verifying key.
func (s *Store) Record(key digest.Digest) (e RecordEntry, found bool, err error) {
	found, err = s.get(bucketRecords, key[:], &e)
	return e, found, err
}

// Records lists the signed records, ordered by verifying key.
func (s *Store) Records() (list [][]byte, err error) {
	list = [][]byte{}
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRecords).ForEach(func(_, raw []byte) error {
			var e RecordEntry
			if err := decode(raw, &e); err != nil {
				return err
			}
			list = append(list, e.Signed)
			return nil
		})
	})
	return list, err
}

// PutRecord stores a record whose key has none, up to limit of them.
func (s *Store) PutRecord(key digest.Digest, e RecordEntry, limit int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		n, err := count(tx, metaRecords)
		if err != nil {
			return err
		}
		if n >= uint64(limit) {
			return refusal.New(ReasonFull, "%d keys are registered", n)
		}
		if err := putOnce(tx, bucketRecords, key[:], e); err != nil {
			return err
		}
		return add(tx, metaRecords, 1)
	})
}

// ReplaceRecord puts another record in the place of a key's.
func (s *Store) ReplaceRecord(key digest.Digest, e RecordEntry) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		if b.Get(key[:]) == nil {
			return Damaged("key %s has no record to replace", key)
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return b.Put(key[:], raw)
	})
}

// Receipt finds an announced receipt.
func (s *Store) Receipt(id digest.ReceiptID) (e ReceiptEntry, found bool, err error) {
	found, err = s.get(bucketReceipts, id[:], &e)
	if found && err == nil && e.Receipt.ID != id {
		err = Damaged("receipt %s is stored as %s", e.Receipt.ID, id)
	}
	return e, found, err
}

// ChallengeOf names the challenge of a receipt.
func (s *Store) ChallengeOf(id digest.ReceiptID) (digest.Digest, bool, error) {
	return s.digest(bucketChallenged, id[:])
}

// ProofOf names the proof of a receipt.
func (s *Store) ProofOf(id digest.ReceiptID) (digest.Digest, bool, error) {
	return s.digest(bucketProven, id[:])
}

// Proof finds a proof by the digest of its envelope.
func (s *Store) Proof(d digest.Digest) (e ProofEntry, found bool, err error) {
	found, err = s.get(bucketProofs, d[:], &e)
	return e, found, err
}

// Counts says how much there is.
type Counts struct {
	Records int `json:"records"`
	Waiting int `json:"waiting"` // receipts without challenge or proof
	Kept    int `json:"kept"`    // receipts with one
	Proofs  int `json:"proofs"`
	// Dropped counts the receipts that went unchallenged, with their age.
	Dropped int `json:"dropped"`
	// Displaced counts the announcements for which a draw removed a receipt, or left out
	// theirs.
	Displaced int `json:"displaced"`
}

// Counts says how much there is.
func (s *Store) Counts() (out Counts, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		for name, into := range map[string]*int{string(metaRecords): &out.Records, string(metaWaiting): &out.Waiting, string(metaKept): &out.Kept,
			string(metaProofs): &out.Proofs, string(metaDropped): &out.Dropped, string(metaDisplaced): &out.Displaced} {
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

// Issued is a challenge as it was signed.
type Issued struct {
	Digest    digest.Digest  `json:"digest"` // of Signed
	Challenge wire.Challenge `json:"challenge"`
	Signed    []byte         `json:"signed"`
}

// stored is a challenge with its place among its agent's.
type stored struct {
	Issued
	sequence uint64
}

func readChallenge(tx *bolt.Tx, sum digest.Digest) (c stored, err error) {
	raw := tx.Bucket(bucketChallenges).Get(sum[:])
	if raw == nil {
		return c, refusal.New(ReasonNoChallenge, "no challenge %s", sum)
	}
	var e challengeEntry
	if err := decode(raw, &e); err != nil {
		return c, err
	}
	if digest.Of(e.Signed) != sum {
		return c, Damaged("challenge %s was changed", sum)
	}
	parsed, err := wire.ParseChallenge(e.Signed)
	if err != nil {
		return c, Damaged("challenge %s: %v", sum, err)
	}
	return stored{Issued{sum, parsed, e.Signed}, e.Sequence}, nil
}

// Challenge finds a challenge.
func (s *Store) Challenge(sum digest.Digest) (c Issued, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		held, err := readChallenge(tx, sum)
		c = held.Issued
		return err
	})
	return c, err
}
