package rounds

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Bolt is the store of a single broker: one file.
type Bolt struct{ db *bolt.DB }

const (
	bucketRounds  = "rounds"  // sequence -> record
	bucketIndex   = "index"   // round -> sequence
	bucketCharges = "charges" // model -> bucket of sequence -> charge
)

// OpenBolt opens or makes the file.
func OpenBolt(path string) (*Bolt, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open rounds %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketRounds, bucketIndex, bucketCharges} {
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
			return evidence.Refuse(ReasonConflict, "round %s is there already", r.ID)
		}
		n, err := rounds.NextSequence()
		if err != nil {
			return err
		}
		if err := index.Put(r.ID[:], sequence(n)); err != nil {
			return err
		}
		return putJSON(rounds, sequence(n), r)
	})
}

func putJSON(b *bolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

func getRecord(tx *bolt.Tx, id federation.ID) (r Record, key []byte, err error) {
	key = tx.Bucket([]byte(bucketIndex)).Get(id[:])
	if key == nil {
		return r, nil, evidence.Refuse(ReasonUnknown, "no round %s", id)
	}
	return r, key, json.Unmarshal(tx.Bucket([]byte(bucketRounds)).Get(key), &r)
}

// Get implements Store.
func (b *Bolt) Get(_ context.Context, id federation.ID) (r Record, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, _, err = getRecord(tx, id)
		return err
	})
	return r, err
}

// List implements Store.
func (b *Bolt) List(context.Context) (list []Record, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketRounds)).Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			var r Record
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

// Update implements Store.
func (b *Bolt) Update(_ context.Context, r Record, charge *Charge) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		held, key, err := getRecord(tx, r.ID)
		if err != nil {
			return err
		}
		if held.Version != r.Version {
			return evidence.Refuse(ReasonConflict, "round %s was changed meanwhile", r.ID)
		}
		r.Version++
		if charge != nil {
			if err := addCharge(tx, r.Model, *charge); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket([]byte(bucketRounds)), bytes.Clone(key), r)
	})
}

func addCharge(tx *bolt.Tx, model string, charge Charge) error {
	b, err := tx.Bucket([]byte(bucketCharges)).CreateBucketIfNotExists([]byte(model))
	if err != nil {
		return err
	}
	var last federation.Digest
	if _, v := b.Cursor().Last(); v != nil {
		var c Charge
		if err := json.Unmarshal(v, &c); err != nil {
			return err
		}
		if last, err = c.digest(); err != nil {
			return err
		}
	}
	if charge.Previous != last {
		return evidence.Refuse(ReasonConflict, "the privacy ledger of %q was charged meanwhile", model)
	}
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return putJSON(b, sequence(n), charge)
}

// Charges implements Store.
func (b *Bolt) Charges(_ context.Context, model string) (list []Charge, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		ledger := tx.Bucket([]byte(bucketCharges)).Bucket([]byte(model))
		if ledger == nil {
			return nil
		}
		return ledger.ForEach(func(_, v []byte) error {
			var c Charge
			if err := json.Unmarshal(v, &c); err != nil {
				return err
			}
			list = append(list, c)
			return nil
		})
	})
	return list, err
}
