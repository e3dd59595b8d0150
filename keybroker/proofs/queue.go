package proofs

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/proofs/wire"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// waiting is a receipt that has neither a challenge nor a proof.
type waiting struct {
	sequence uint64
	id       statement.ID
	agent    statement.Digest
	model    statement.Digest
}

const waitingBytes = 16 + 32 + 32

func (w waiting) marshal() []byte {
	out := append(make([]byte, 0, waitingBytes), w.id[:]...)
	return append(append(out, w.agent[:]...), w.model[:]...)
}

func parseWaiting(key, raw []byte) (w waiting, err error) {
	if len(key) != 8 || len(raw) != waitingBytes {
		return w, damaged("an entry of the waiting receipts has %d and %d bytes", len(key), len(raw))
	}
	w.sequence = binary.BigEndian.Uint64(key)
	copy(w.id[:], raw)
	copy(w.agent[:], raw[16:])
	copy(w.model[:], raw[48:])
	return w, nil
}

func readWaiting(tx *bolt.Tx) (list []waiting, err error) {
	err = tx.Bucket(bucketWaiting).ForEach(func(k, v []byte) error {
		w, err := parseWaiting(k, v)
		list = append(list, w)
		return err
	})
	return list, err
}

// waiting lists the receipts that wait, the oldest first.
func (s *Store) waiting() (list []waiting, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		list, err = readWaiting(tx)
		return err
	})
	return list, err
}

// announce stores receipts, and drops what is over the limit.
func (s *Store) announce(entries []receiptEntry, limit int) (a Announced, dropped map[statement.Digest]int, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		a = Announced{}
		for _, e := range entries {
			added, err := addReceipt(tx, e)
			if err != nil {
				return err
			}
			if added {
				a.New++
			} else {
				a.Held++
			}
		}
		if err := add(tx, metaWaiting, a.New); err != nil {
			return err
		}
		dropped, err = drop(tx, limit)
		return err
	})
	return a, dropped, err
}

// addReceipt stores a receipt, or finds the same bytes there.
func addReceipt(tx *bolt.Tx, e receiptEntry) (added bool, err error) {
	id := e.Receipt.ID
	if raw := tx.Bucket(bucketReceipts).Get(id[:]); raw != nil {
		var held receiptEntry
		if err := decode(raw, &held); err != nil {
			return false, err
		}
		if !bytes.Equal(held.Raw, e.Raw) {
			return false, evidence.Refuse(ReasonReceipt, "another receipt %s was announced", id)
		}
		return false, nil
	}
	queue := tx.Bucket(bucketWaiting)
	if e.Sequence, err = queue.NextSequence(); err != nil {
		return false, err
	}
	if err := putOnce(tx, bucketReceipts, id[:], e); err != nil {
		return false, err
	}
	w := waiting{e.Sequence, id, e.Receipt.Agent, e.Receipt.Model}
	return true, queue.Put(number(w.sequence), w.marshal())
}

// drop removes the oldest waiting receipt of the agent that has the most, until no more
// than limit wait.
func drop(tx *bolt.Tx, limit int) (map[statement.Digest]int, error) {
	n, err := count(tx, metaWaiting)
	if err != nil || n <= uint64(limit) {
		return nil, err
	}
	list, err := readWaiting(tx)
	if err != nil {
		return nil, err
	}
	of := map[statement.Digest][]waiting{}
	for _, w := range list {
		of[w.agent] = append(of[w.agent], w)
	}
	dropped := map[statement.Digest]int{}
	surplus := len(list) - limit
	for range surplus {
		var most statement.Digest
		for agent, held := range of {
			// A tie goes to the agent whose oldest receipt is older: no order of the map shows.
			if n := len(of[most]); len(held) > n || len(held) == n && n > 0 && held[0].sequence < of[most][0].sequence {
				most = agent
			}
		}
		w := of[most][0]
		of[most] = of[most][1:]
		dropped[most]++
		if err := tx.Bucket(bucketWaiting).Delete(number(w.sequence)); err != nil {
			return nil, err
		}
		if err := tx.Bucket(bucketReceipts).Delete(w.id[:]); err != nil {
			return nil, err
		}
	}
	if err := add(tx, metaWaiting, -surplus); err != nil {
		return nil, err
	}
	return dropped, add(tx, metaDropped, surplus)
}

// unkept counts those of the receipts that wait still.
func unkept(tx *bolt.Tx, ids []statement.ID) (n int) {
	for _, id := range ids {
		if tx.Bucket(bucketChallenged).Get(id[:]) == nil && tx.Bucket(bucketProven).Get(id[:]) == nil {
			n++
		}
	}
	return n
}

func roomFor(tx *bolt.Tx, ids []statement.ID, limit int) error {
	kept, err := count(tx, metaKept)
	if err != nil {
		return err
	}
	if more := unkept(tx, ids); more > 0 && kept+uint64(more) > uint64(limit) {
		return evidence.Refuse(ReasonFull, "%d receipts with challenges or proofs are kept, %d more do not fit", kept, more)
	}
	return nil
}

// room says whether receipts may be kept.
func (s *Store) room(ids []statement.ID, limit int) error {
	return s.db.View(func(tx *bolt.Tx) error { return roomFor(tx, ids, limit) })
}

// keep takes receipts that wait out of the queue, for ever.
func keep(tx *bolt.Tx, ids []statement.ID, limit int) error {
	if err := roomFor(tx, ids, limit); err != nil {
		return err
	}
	moved := 0
	for _, id := range ids {
		raw := tx.Bucket(bucketReceipts).Get(id[:])
		if raw == nil {
			return evidence.Refuse(ReasonNotAnnounced, "receipt %s was dropped meanwhile: announce it again", id)
		}
		if unkept(tx, []statement.ID{id}) == 0 {
			continue
		}
		var e receiptEntry
		if err := decode(raw, &e); err != nil {
			return err
		}
		if err := tx.Bucket(bucketWaiting).Delete(number(e.Sequence)); err != nil {
			return err
		}
		moved++
	}
	if err := add(tx, metaWaiting, -moved); err != nil {
		return err
	}
	return add(tx, metaKept, moved)
}

// openKey is the place of a challenge in the list of those without all proofs.
func openKey(agent statement.Digest, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), agent[:]...), sequence)
}

// openRef is an entry of that list.
type openRef struct {
	digest   statement.Digest
	deadline protocol.Time
}

func (r openRef) marshal() []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), r.digest[:]...), uint64(r.deadline))
}

func parseOpenRef(raw []byte) (r openRef, err error) {
	if len(raw) != 40 {
		return r, damaged("an entry of the open challenges has %d bytes", len(raw))
	}
	copy(r.digest[:], raw)
	r.deadline = protocol.Time(binary.BigEndian.Uint64(raw[32:]))
	return r, nil
}

// putChallenges stores new challenges, all or none.
func (s *Store) putChallenges(list []Issued, limit int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, c := range list {
			n, err := tx.Bucket(bucketChallenges).NextSequence()
			if err != nil {
				return err
			}
			if err := putOnce(tx, bucketChallenges, c.Digest[:], challengeEntry{c.Signed, n}); err != nil {
				return err
			}
			if err := keep(tx, c.Challenge.Receipts, limit); err != nil {
				return err
			}
			for _, id := range c.Challenge.Receipts {
				if tx.Bucket(bucketProven).Get(id[:]) != nil || tx.Bucket(bucketChallenged).Get(id[:]) != nil {
					return damaged("receipt %s did not wait", id)
				}
				if err := tx.Bucket(bucketChallenged).Put(id[:], c.Digest[:]); err != nil {
					return err
				}
			}
			ref := openRef{c.Digest, c.Challenge.Deadline}
			if err := tx.Bucket(bucketOpen).Put(openKey(c.Challenge.Agent, n), ref.marshal()); err != nil {
				return err
			}
		}
		return nil
	})
}

// putProof stores a verified proof of receipts, and closes the challenges that it
// answers.
func (s *Store) putProof(digest statement.Digest, e proofEntry, ids []statement.ID, limit int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := keep(tx, ids, limit); err != nil {
			return err
		}
		if err := putOnce(tx, bucketProofs, digest[:], e); err != nil {
			return err
		}
		proven := tx.Bucket(bucketProven)
		for _, id := range ids {
			if proven.Get(id[:]) != nil {
				return evidence.Refuse(ReasonConflict, "receipt %s was proven meanwhile", id)
			}
			if err := proven.Put(id[:], digest[:]); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if err := closeChallenge(tx, id); err != nil {
				return err
			}
		}
		return add(tx, metaProofs, 1)
	})
}

// closeChallenge takes the challenge of a receipt off the list when nothing of it is
// missing any more.
func closeChallenge(tx *bolt.Tx, id statement.ID) error {
	raw := tx.Bucket(bucketChallenged).Get(id[:])
	if raw == nil {
		return nil
	}
	var digest statement.Digest
	copy(digest[:], raw)
	c, err := readChallenge(tx, digest)
	if err != nil {
		return err
	}
	for _, id := range c.challenge.Receipts {
		if tx.Bucket(bucketProven).Get(id[:]) == nil {
			return nil
		}
	}
	return tx.Bucket(bucketOpen).Delete(openKey(c.challenge.Agent, c.sequence))
}

// unanswered lists the challenges that lack a proof, of one agent or of all, from the
// oldest of each agent.
func (s *Store) unanswered(agent *statement.Digest) (list []openRef, err error) {
	var prefix []byte
	if agent != nil {
		prefix = agent[:]
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketOpen).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			r, err := parseOpenRef(v)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

// progress counts the receipts of a challenge that lack a proof, and finds when the last
// proof was verified.
func (s *Store) progress(c wire.Challenge) (missing int, last protocol.Time, err error) {
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
			var e proofEntry
			if err := decode(tx.Bucket(bucketProofs).Get(digest), &e); err != nil {
				return err
			}
			last = max(last, e.Verified)
		}
		return nil
	})
	return missing, last, err
}

// told says whether the audit log has an overdue challenge, tell that it does.
func (s *Store) told(digest statement.Digest) (told bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		told = tx.Bucket(bucketTold).Get(digest[:]) != nil
		return nil
	})
	return told, err
}

func (s *Store) tell(digest statement.Digest, at protocol.Time) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketTold).Put(digest[:], number(uint64(at))) })
}
