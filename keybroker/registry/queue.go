package registry

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Waiting is a receipt that has neither a challenge nor a proof.
type Waiting struct {
	Sequence uint64 // ascends with the time of the announcement
	ID       digest.ReceiptID
	Agent    digest.Digest
	Model    digest.Digest
}

const waitingBytes = 16 + 32 + 32

func (w Waiting) marshal() []byte {
	out := append(make([]byte, 0, waitingBytes), w.ID[:]...)
	return append(append(out, w.Agent[:]...), w.Model[:]...)
}

func parseWaiting(key, raw []byte) (w Waiting, err error) {
	if len(key) != 8 || len(raw) != waitingBytes {
		return w, Damaged("an entry of the waiting receipts has %d and %d bytes", len(key), len(raw))
	}
	w.Sequence = binary.BigEndian.Uint64(key)
	copy(w.ID[:], raw)
	copy(w.Agent[:], raw[16:])
	copy(w.Model[:], raw[48:])
	return w, nil
}

func readWaiting(tx *bolt.Tx) (list []Waiting, err error) {
	err = tx.Bucket(bucketWaiting).ForEach(func(k, v []byte) error {
		w, err := parseWaiting(k, v)
		list = append(list, w)
		return err
	})
	return list, err
}

// Waiting lists the receipts that wait, the oldest first.
func (s *Store) Waiting() (list []Waiting, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		list, err = readWaiting(tx)
		return err
	})
	return list, err
}

// Announced says what became of an announcement.
type Announced struct {
	New  int `json:"new"`
	Held int `json:"held"` // were there before
}

// Announce stores receipts, all or none of them, and names those that went because there
// were too many: of these, or that waited before. Both are done with.
func (s *Store) Announce(entries []ReceiptEntry, l Limits) (a Announced, displaced []ReceiptEntry, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		a, displaced = Announced{}, nil
		for _, e := range entries {
			added, gone, err := addReceipt(tx, e, l)
			if err != nil {
				return err
			}
			if added {
				a.New++
			} else {
				a.Held++
			}
			displaced = append(displaced, gone...)
		}
		return nil
	})
	if err != nil {
		return Announced{}, nil, err
	}
	return a, displaced, nil
}

// addReceipt stores a receipt, or finds the same bytes there.
func addReceipt(tx *bolt.Tx, e ReceiptEntry, l Limits) (added bool, gone []ReceiptEntry, err error) {
	id := e.Receipt.ID
	if raw := tx.Bucket(bucketReceipts).Get(id[:]); raw != nil {
		var held ReceiptEntry
		if err := decode(raw, &held); err != nil {
			return false, nil, err
		}
		if !bytes.Equal(held.Raw, e.Raw) {
			return false, nil, refusal.New(ReasonReceipt, "another receipt %s was announced", id)
		}
		return false, nil, nil
	}
	queue := tx.Bucket(bucketWaiting)
	if e.Sequence, err = queue.NextSequence(); err != nil {
		return false, nil, err
	}
	e.AgentLot, e.GuestLot = lot(), lot()
	if err := putOnce(tx, bucketReceipts, id[:], e); err != nil {
		return false, nil, err
	}
	w := Waiting{e.Sequence, id, e.Receipt.Agent, e.Receipt.Model}
	if err := addTally(tx, w.Agent, 1, 0); err != nil {
		return false, nil, err
	}
	if err := wait(tx, e, 1); err != nil {
		return false, nil, err
	}
	if err := putLots(tx, e); err != nil {
		return false, nil, err
	}
	if err := queue.Put(number(w.Sequence), w.marshal()); err != nil {
		return false, nil, err
	}
	gone, err = displace(tx, e, l)
	return true, gone, err
}

// Room says whether a proof of receipts may be kept.
func (s *Store) Room(ids []digest.ReceiptID, l Limits) error {
	return s.db.View(func(tx *bolt.Tx) error { return roomFor(tx, ids, l, false) })
}

// keep takes receipts that wait out of the queue. Their age begins at a time.
func keep(tx *bolt.Tx, ids []digest.ReceiptID, at protocol.Time) error {
	moved := 0
	for _, id := range ids {
		raw := tx.Bucket(bucketReceipts).Get(id[:])
		if raw == nil {
			return refusal.New(ReasonNotAnnounced, "receipt %s has since been displaced or has expired: announce it again", id)
		}
		if err := setAge(tx, id[:], at); err != nil {
			return err
		}
		if isKept(tx, id[:]) {
			continue
		}
		var e ReceiptEntry
		if err := decode(raw, &e); err != nil {
			return err
		}
		if err := tx.Bucket(bucketWaiting).Delete(number(e.Sequence)); err != nil {
			return err
		}
		if err := dropLots(tx, e); err != nil {
			return err
		}
		if err := addTally(tx, e.Receipt.Agent, -1, 1); err != nil {
			return err
		}
		if err := wait(tx, e, -1); err != nil {
			return err
		}
		moved++
	}
	return add(tx, metaKept, moved)
}

// openKey is the place of a challenge in the list of those without all proofs.
func openKey(agent digest.Digest, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), agent[:]...), sequence)
}

// Open is a challenge that lacks a proof.
type Open struct {
	Digest   digest.Digest
	Deadline protocol.Time
}

func (r Open) marshal() []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), r.Digest[:]...), uint64(r.Deadline))
}

func parseOpen(raw []byte) (r Open, err error) {
	if len(raw) != 40 {
		return r, Damaged("an entry of the open challenges has %d bytes", len(raw))
	}
	copy(r.Digest[:], raw)
	r.Deadline = protocol.Time(binary.BigEndian.Uint64(raw[32:]))
	return r, nil
}

// PutChallenges stores new challenges, all or none.
func (s *Store) PutChallenges(list []Issued, l Limits) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, c := range list {
			n, err := tx.Bucket(bucketChallenges).NextSequence()
			if err != nil {
				return err
			}
			if err := putOnce(tx, bucketChallenges, c.Digest[:], challengeEntry{c.Signed, n}); err != nil {
				return err
			}
			if err := roomFor(tx, c.Challenge.Receipts, l, true); err != nil {
				return err
			}
			if err := keep(tx, c.Challenge.Receipts, c.Challenge.Deadline); err != nil {
				return err
			}
			for _, id := range c.Challenge.Receipts {
				if tx.Bucket(bucketProven).Get(id[:]) != nil || tx.Bucket(bucketChallenged).Get(id[:]) != nil {
					return Damaged("receipt %s did not wait", id)
				}
				if err := tx.Bucket(bucketChallenged).Put(id[:], c.Digest[:]); err != nil {
					return err
				}
			}
			ref := Open{c.Digest, c.Challenge.Deadline}
			if err := tx.Bucket(bucketOpen).Put(openKey(c.Challenge.Agent, n), ref.marshal()); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutProof stores a verified proof of receipts, and closes the challenges that it
// answers.
func (s *Store) PutProof(sum digest.Digest, e ProofEntry, ids []digest.ReceiptID, l Limits) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := roomFor(tx, ids, l, false); err != nil {
			return err
		}
		if err := keep(tx, ids, e.Verified); err != nil {
			return err
		}
		if err := putOnce(tx, bucketProofs, sum[:], e); err != nil {
			return err
		}
		proven := tx.Bucket(bucketProven)
		for _, id := range ids {
			if proven.Get(id[:]) != nil {
				return refusal.New(ReasonConflict, "receipt %s was proven meanwhile", id)
			}
			if err := proven.Put(id[:], sum[:]); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if err := closeChallenge(tx, id); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketCovers).Put(sum[:], number(uint64(len(ids)))); err != nil {
			return err
		}
		return add(tx, metaProofs, 1)
	})
}

// closeChallenge takes the challenge of a receipt off the list when nothing of it is
// missing any more.
func closeChallenge(tx *bolt.Tx, id digest.ReceiptID) error {
	raw := tx.Bucket(bucketChallenged).Get(id[:])
	if raw == nil {
		return nil
	}
	var sum digest.Digest
	copy(sum[:], raw)
	c, err := readChallenge(tx, sum)
	if err != nil {
		return err
	}
	for _, id := range c.Challenge.Receipts {
		if tx.Bucket(bucketProven).Get(id[:]) == nil {
			return nil
		}
	}
	return tx.Bucket(bucketOpen).Delete(openKey(c.Challenge.Agent, c.sequence))
}

// Unanswered lists the challenges that lack a proof, of one agent or of all, from the
// oldest of each agent.
func (s *Store) Unanswered(agent *digest.Digest) (list []Open, err error) {
	var prefix []byte
	if agent != nil {
		prefix = agent[:]
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketOpen).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			r, err := parseOpen(v)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

// Progress counts the receipts of a challenge that lack a proof, and finds when the last
// proof was verified.
func (s *Store) Progress(c wire.Challenge) (missing int, last protocol.Time, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		seen := map[string]bool{}
		for _, id := range c.Receipts {
			digest := tx.Bucket(bucketProven).Get(id[:])
			if digest == nil {
				missing++
				continue
			}
			if seen[string(digest)] {
				continue
			}
			seen[string(digest)] = true
			var e ProofEntry
			if err := decode(tx.Bucket(bucketProofs).Get(digest), &e); err != nil {
				return err
			}
			last = max(last, e.Verified)
		}
		return nil
	})
	return missing, last, err
}

// Told says whether the audit log has an overdue challenge.
func (s *Store) Told(sum digest.Digest) (told bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		told = tx.Bucket(bucketTold).Get(sum[:]) != nil
		return nil
	})
	return told, err
}

// Tell notes that it has.
func (s *Store) Tell(sum digest.Digest, at protocol.Time) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketTold).Put(sum[:], number(uint64(at))) })
}
