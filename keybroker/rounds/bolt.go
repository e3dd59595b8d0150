package rounds

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Bolt is the store of a single broker: one file.
type Bolt struct{ db *bolt.DB }

const (
	bucketRounds  = "rounds"  // sequence -> record
	bucketIndex   = "index"   // round -> sequence
	bucketCharges = "charges" // model -> bucket of sequence -> charge
	bucketCharged = "charged" // round that was charged -> 1
	bucketMembers = "members" // open round -> its list and indexes
)

// OpenBolt opens or makes the file.
func OpenBolt(path string) (*Bolt, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open rounds %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketRounds, bucketIndex, bucketCharges, bucketCharged, bucketMembers} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open rounds %s: %w", path, err)
	}
	return &Bolt{db}, nil
}

// Close closes the file.
func (b *Bolt) Close() error { return b.db.Close() }

func sequence(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Create implements Store.
func (b *Bolt) Create(_ context.Context, r Record) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		index, rounds := tx.Bucket([]byte(bucketIndex)), tx.Bucket([]byte(bucketRounds))
		if index.Get(r.ID[:]) != nil {
			return refusal.New(ReasonConflict, "round %s is there already", r.ID)
		}
		n, err := rounds.NextSequence()
		if err != nil {
			return err
		}
		if err := index.Put(r.ID[:], sequence(n)); err != nil {
			return err
		}
		return putRecord(rounds, sequence(n), r)
	})
}

func putRecord(b *bolt.Bucket, key []byte, r Record) error {
	raw, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// getRecord reads a round with the list that an open one has beside its record.
func getRecord(tx *bolt.Tx, id digest.RoundID) (r Record, key []byte, err error) {
	if r, key, err = getHead(tx, id); err == nil {
		err = addListed(tx, &r)
	}
	return r, key, err
}

func getHead(tx *bolt.Tx, id digest.RoundID) (r Record, key []byte, err error) {
	key = tx.Bucket([]byte(bucketIndex)).Get(id[:])
	if key == nil {
		return r, nil, refusal.New(ReasonUnknown, "no round %s", id)
	}
	r, err = decodeRound(tx.Bucket([]byte(bucketRounds)).Get(key), id)
	return r, key, err
}

// Get implements Store.
func (b *Bolt) Get(_ context.Context, id digest.RoundID) (r Record, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, _, err = getRecord(tx, id)
		return err
	})
	return r, err
}

// Each implements Store.
func (b *Bolt) Each(_ context.Context, visit func(Record) error) error {
	return b.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketRounds)).Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			r, err := decodeRecord(v)
			if err == nil {
				err = addListed(tx, &r)
			}
			if err != nil {
				return err
			}
			if err := visit(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// Update implements Store.
func (b *Bolt) Update(_ context.Context, r Record, charge *Charge) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		held, key, err := getRecord(tx, r.ID)
		if err != nil {
			return err
		}
		if err := errors.Join(r.follows(held, charge), r.listKept(held.listed)); err != nil {
			return err
		}
		if held.listed > 0 { // the record has them all from now on
			if err := tx.Bucket([]byte(bucketMembers)).DeleteBucket(r.ID[:]); err != nil {
				return err
			}
		}
		r.Version = held.Version + 1
		if charge != nil {
			if err := addCharge(tx, r.ledger(), *charge); err != nil {
				return err
			}
		}
		return putRecord(tx.Bucket([]byte(bucketRounds)), bytes.Clone(key), r)
	})
}

// addCharge appends to a model's ledger; a round is charged once in its life.
func addCharge(tx *bolt.Tx, model string, charge Charge) error {
	charged := tx.Bucket([]byte(bucketCharged))
	if charged.Get(charge.Round[:]) != nil {
		return refusal.New(ReasonConflict, "round %s was charged already", charge.Round)
	}
	if err := charged.Put(charge.Round[:], []byte{1}); err != nil {
		return err
	}
	b, err := tx.Bucket([]byte(bucketCharges)).CreateBucketIfNotExists([]byte(model))
	if err != nil {
		return err
	}
	last, err := lastOf(b)
	if err != nil {
		return err
	}
	if charge.Previous != last {
		return refusal.New(ReasonConflict, "the privacy ledger of %q was charged concurrently", model)
	}
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	raw, err := encodeCharge(charge)
	if err != nil {
		return err
	}
	return b.Put(sequence(n), raw)
}

// lastOf is the digest of a ledger's last charge.
func lastOf(ledger *bolt.Bucket) (last digest.Digest, err error) {
	_, v := ledger.Cursor().Last()
	if v == nil {
		return last, nil
	}
	c, err := decodeCharge(v)
	if err != nil {
		return last, err
	}
	return c.digest()
}

// Ledgers implements Store.
func (b *Bolt) Ledgers(context.Context) (heads []Head, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		all := tx.Bucket([]byte(bucketCharges))
		return all.ForEachBucket(func(k []byte) error {
			last, err := lastOf(all.Bucket(k))
			heads = append(heads, Head{string(k), last})
			return err
		})
	})
	return heads, err
}

// Charges implements Store.
func (b *Bolt) Charges(_ context.Context, model string) (list []Charge, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		ledger := tx.Bucket([]byte(bucketCharges)).Bucket([]byte(model))
		if ledger == nil {
			return nil
		}
		if err := ledger.ForEach(func(_, v []byte) error {
			c, err := decodeCharge(v)
			if err != nil {
				return err
			}
			list = append(list, c)
			return nil
		}); err != nil {
			return err
		}
		_, err := complete(model, list, ledger.Sequence())
		return err
	})
	return list, err
}
