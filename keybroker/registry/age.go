package registry

import (
	"encoding/binary"
	"encoding/json"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// A kept receipt's age counts from the last of its challenge's deadline and its proof. It
// goes when that is long enough ago, and with it its challenge when all receipts of that
// go, and its proof when the last receipt of that goes. What is asked of a challenge is so
// never answered from a part of it.

// setAge notes when the age of a kept receipt begins, which only moves on.
func setAge(tx *bolt.Tx, id []byte, at protocol.Time) error {
	ages, aging := tx.Bucket(bucketAges), tx.Bucket(bucketAging)
	if held := ages.Get(id); held != nil {
		if len(held) != 8 {
			return Damaged("the age of receipt %x", id)
		}
		if protocol.Time(binary.BigEndian.Uint64(held)) >= at {
			return nil
		}
		if err := aging.Delete(append(append([]byte(nil), held...), id...)); err != nil {
			return err
		}
	}
	if err := ages.Put(id, number(uint64(at))); err != nil {
		return err
	}
	return aging.Put(append(number(uint64(at)), id...), []byte{})
}

// age is when the age of a kept receipt begins.
func age(tx *bolt.Tx, id []byte) (protocol.Time, error) {
	raw := tx.Bucket(bucketAges).Get(id)
	if len(raw) != 8 {
		return 0, Damaged("the age of receipt %x", id)
	}
	return protocol.Time(binary.BigEndian.Uint64(raw)), nil
}

// Expired counts what went with its age.
type Expired struct {
	Waiting    int // receipts that waited
	Kept       int // receipts with a challenge or a proof
	Challenges int
	Proofs     int
}

// None says that nothing went.
func (e Expired) None() bool { return e == Expired{} }

// Expire removes the receipts that were announced before waiting and still wait, and those
// that are kept and whose age began before kept. It goes through most of each at a time.
func (s *Store) Expire(waiting, kept protocol.Time, most int) (out Expired, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		out = Expired{}
		if err := expireWaiting(tx, waiting, most, &out); err != nil {
			return err
		}
		return expireKept(tx, kept, most, &out)
	})
	return out, err
}

func expireWaiting(tx *bolt.Tx, before protocol.Time, most int, out *Expired) error {
	var list []ReceiptEntry
	c := tx.Bucket(bucketWaiting).Cursor()
	for k, v := c.First(); k != nil && len(list) < most; k, v = c.Next() {
		w, err := parseWaiting(k, v)
		if err != nil {
			return err
		}
		var e ReceiptEntry
		if err := decode(tx.Bucket(bucketReceipts).Get(w.ID[:]), &e); err != nil {
			return err
		}
		if e.Announced >= before {
			break // they stand in the order of their announcement
		}
		list = append(list, e)
	}
	for _, e := range list {
		if err := forget(tx, e); err != nil {
			return err
		}
	}
	out.Waiting = len(list)
	return add(tx, metaDropped, len(list))
}

func expireKept(tx *bolt.Tx, before protocol.Time, most int, out *Expired) error {
	var list [][]byte
	c := tx.Bucket(bucketAging).Cursor()
	for k, _ := c.First(); k != nil && len(list) < most; k, _ = c.Next() {
		if len(k) != 8+len(digest.ReceiptID{}) {
			return Damaged("an entry of the ages has %d bytes", len(k))
		}
		if protocol.Time(binary.BigEndian.Uint64(k)) >= before {
			break
		}
		list = append(list, append([]byte(nil), k[8:]...))
	}
	for _, id := range list {
		if tx.Bucket(bucketAges).Get(id) == nil {
			continue // it went with another of its challenge
		}
		if err := expireOne(tx, id, before, out); err != nil {
			return err
		}
	}
	return nil
}

// expireOne removes a kept receipt, with all others of its challenge. If one of them is
// too young, this one is as young.
func expireOne(tx *bolt.Tx, id []byte, before protocol.Time, out *Expired) error {
	sum := tx.Bucket(bucketChallenged).Get(id)
	if sum == nil {
		return remove(tx, id, out)
	}
	c, err := readChallenge(tx, digest.Digest(sum))
	if err != nil {
		return err
	}
	for _, other := range c.Challenge.Receipts {
		at, err := age(tx, other[:])
		if err != nil {
			return err
		}
		if at >= before {
			return setAge(tx, id, at)
		}
	}
	for _, other := range c.Challenge.Receipts {
		if err := remove(tx, other[:], out); err != nil {
			return err
		}
	}
	for bucket, key := range map[*bolt.Bucket][]byte{tx.Bucket(bucketChallenges): c.Digest[:], tx.Bucket(bucketTold): c.Digest[:], tx.Bucket(bucketOpen): openKey(c.Challenge.Agent, c.sequence)} {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	out.Challenges++
	return nil
}

// remove removes a kept receipt, and its proof if it is the last of that.
func remove(tx *bolt.Tx, id []byte, out *Expired) error {
	var e ReceiptEntry
	if err := decode(tx.Bucket(bucketReceipts).Get(id), &e); err != nil {
		return err
	}
	at, err := age(tx, id)
	if err != nil {
		return err
	}
	if digest := tx.Bucket(bucketProven).Get(id); digest != nil {
		if err := uncover(tx, append([]byte(nil), digest...), out); err != nil {
			return err
		}
	}
	for bucket, key := range map[*bolt.Bucket][]byte{tx.Bucket(bucketReceipts): id, tx.Bucket(bucketChallenged): id, tx.Bucket(bucketProven): id, tx.Bucket(bucketAges): id,
		tx.Bucket(bucketAging): append(number(uint64(at)), id...)} {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	out.Kept++
	if err := addTally(tx, e.Receipt.Agent, 0, -1); err != nil {
		return err
	}
	return add(tx, metaKept, -1)
}

// uncover takes a receipt off a proof.
func uncover(tx *bolt.Tx, digest []byte, out *Expired) error {
	covers := tx.Bucket(bucketCovers)
	raw := covers.Get(digest)
	if len(raw) != 8 || binary.BigEndian.Uint64(raw) == 0 {
		return Damaged("the receipts of proof %x", digest)
	}
	if n := binary.BigEndian.Uint64(raw) - 1; n > 0 {
		return covers.Put(digest, number(n))
	}
	out.Proofs++
	if err := covers.Delete(digest); err != nil {
		return err
	}
	if err := tx.Bucket(bucketProofs).Delete(digest); err != nil {
		return err
	}
	return add(tx, metaProofs, -1)
}

// upgrade derives from a file of the first version what the second has besides: the
// agents' counts, the ages, and how many receipts a proof is of.
func upgrade(tx *bolt.Tx) error {
	covers := map[string]uint64{}
	if err := tx.Bucket(bucketProven).ForEach(func(_, sum []byte) error { covers[string(sum)]++; return nil }); err != nil {
		return err
	}
	for sum, n := range covers {
		if err := tx.Bucket(bucketCovers).Put([]byte(sum), number(n)); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketReceipts).ForEach(func(id, raw []byte) error {
		var e ReceiptEntry
		if err := decode(raw, &e); err != nil {
			return err
		}
		if !isKept(tx, id) {
			return addTally(tx, e.Receipt.Agent, 1, 0)
		}
		at := e.Announced
		if sum := tx.Bucket(bucketChallenged).Get(id); sum != nil {
			c, err := readChallenge(tx, digest.Digest(sum))
			if err != nil {
				return err
			}
			at = max(at, c.Challenge.Deadline)
		}
		if sum := tx.Bucket(bucketProven).Get(id); sum != nil {
			var p ProofEntry
			if err := decode(tx.Bucket(bucketProofs).Get(sum), &p); err != nil {
				return err
			}
			at = max(at, p.Verified)
		}
		if err := setAge(tx, append([]byte(nil), id...), at); err != nil {
			return err
		}
		return addTally(tx, e.Receipt.Agent, 0, 1)
	})
}

// drawLots gives what waits in a file of an earlier version its lots.
func drawLots(tx *bolt.Tx) error {
	list, err := readWaiting(tx)
	if err != nil {
		return err
	}
	for _, w := range list {
		var e ReceiptEntry
		if err := decode(tx.Bucket(bucketReceipts).Get(w.ID[:]), &e); err != nil {
			return err
		}
		e.AgentLot, e.GuestLot = lot(), lot()
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if err := tx.Bucket(bucketReceipts).Put(w.ID[:], raw); err != nil {
			return err
		}
		if err := putLots(tx, e); err != nil {
			return err
		}
	}
	return nil
}
