package ledger

import (
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Limits bound the receipts of the file. The zero value allows none.
type Limits struct {
	// Waiting receipts have neither challenge nor proof: so many in all, of one agent, and of
	// the guests of one processor. Beyond them no other is taken.
	Waiting, WaitingPerAgent, WaitingPerGuest int
	// Kept receipts have one: so many in all. Beyond it nothing is accepted.
	Kept int
	// Proven is how many are kept at most when a proof comes that nobody asked for, and
	// ProvenPerAgent how many of its agent: what is between Proven and Kept is for
	// challenges, or an agent could make room for none by proving what it likes.
	Proven, ProvenPerAgent int
}

// tally is how many receipts of an agent wait, and are kept.
type tally struct{ waiting, kept uint64 }

func readTally(tx *bolt.Tx, agent statement.Digest) (t tally, err error) {
	raw := tx.Bucket(bucketAgents).Get(agent[:])
	switch len(raw) {
	case 0:
		return t, nil
	case 16:
		return tally{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])}, nil
	}
	return t, Damaged("the count of agent %s", agent)
}

// count changes an agent's tally, of which nothing is left when both are zero.
func addTally(tx *bolt.Tx, agent statement.Digest, waiting, kept int) error {
	t, err := readTally(tx, agent)
	if err != nil {
		return err
	}
	w, k := int64(t.waiting)+int64(waiting), int64(t.kept)+int64(kept)
	switch {
	case w < 0 || k < 0:
		return Damaged("the count of agent %s would be %d and %d", agent, w, k)
	case w == 0 && k == 0:
		return tx.Bucket(bucketAgents).Delete(agent[:])
	}
	return tx.Bucket(bucketAgents).Put(agent[:], binary.BigEndian.AppendUint64(number(uint64(w)), uint64(k)))
}

// isKept says whether a receipt has a challenge or a proof.
func isKept(tx *bolt.Tx, id []byte) bool {
	return tx.Bucket(bucketChallenged).Get(id) != nil || tx.Bucket(bucketProven).Get(id) != nil
}

// unkept counts those of the receipts that wait still, by agent.
func unkept(tx *bolt.Tx, ids []statement.ID) (n int, of map[statement.Digest]int, err error) {
	of = map[statement.Digest]int{}
	for _, id := range ids {
		if isKept(tx, id[:]) {
			continue
		}
		n++
		raw := tx.Bucket(bucketReceipts).Get(id[:])
		if raw == nil {
			continue // refused elsewhere, by its own reason
		}
		var e ReceiptEntry
		if err := decode(raw, &e); err != nil {
			return n, of, err
		}
		of[e.Receipt.Agent]++
	}
	return n, of, nil
}

// roomFor refuses receipts that would be too many; challenged ones have more room.
func roomFor(tx *bolt.Tx, ids []statement.ID, l Limits, challenge bool) error {
	kept, err := count(tx, metaKept)
	if err != nil {
		return err
	}
	more, of, err := unkept(tx, ids)
	if err != nil {
		return err
	}
	limit := l.Proven
	if challenge {
		limit = l.Kept
	}
	if more > 0 && kept+uint64(more) > uint64(limit) {
		return evidence.Refuse(ReasonFull, "%d receipts with challenges or proofs are kept, %d more do not fit; they go with their age (proofs.kept_days), or raise proofs.kept", kept, more)
	}
	if challenge {
		return nil
	}
	for agent, n := range of {
		held, err := readTally(tx, agent)
		if err != nil {
			return err
		}
		if held.kept+uint64(n) > uint64(l.ProvenPerAgent) {
			return evidence.Refuse(ReasonAgentFull, "%d receipts of agent %s with challenges or proofs are kept, %d more do not fit (proofs.kept_per_agent)", held.kept, agent, n)
		}
	}
	return nil
}

// admit refuses a receipt that was just added if it is over a limit: the newcomer, never one
// that waits, or a prover could announce answers until one that it forged is gone.
func admit(tx *bolt.Tx, e ReceiptEntry, l Limits) error {
	n, err := count(tx, metaWaiting)
	if err != nil {
		return err
	}
	of, err := readTally(tx, e.Receipt.Agent)
	if err != nil {
		return err
	}
	guest, err := readGuest(tx, e.Guest)
	switch {
	case err != nil:
		return err
	case of.waiting > uint64(l.WaitingPerAgent):
		return evidence.Refuse(ReasonAgentFull, "%d receipts of agent %s wait, and %s is one too many; they go with challenges, proofs or their age (proofs.waiting_per_agent)", of.waiting-1, e.Receipt.Agent, e.Receipt.ID)
	case guest > uint64(l.WaitingPerGuest):
		return evidence.Refuse(ReasonAgentFull, "%d receipts wait of guests on the processor of agent %s, and %s is one too many; they go with challenges, proofs or their age (proofs.waiting_per_guest)", guest-1, e.Receipt.Agent, e.Receipt.ID)
	case n > uint64(l.Waiting):
		return evidence.Refuse(ReasonFull, "%d receipts wait, and %s is one too many; they go with challenges, proofs or their age, or raise proofs.waiting", n-1, e.Receipt.ID)
	}
	return nil
}

// readGuest is how many receipts of a processor's guests wait. Who has none is not counted.
func readGuest(tx *bolt.Tx, guest statement.Digest) (uint64, error) {
	switch raw := tx.Bucket(bucketGuests).Get(guest[:]); len(raw) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(raw), nil
	}
	return 0, Damaged("the count of guest %s", guest)
}

// wait counts a receipt that begins to wait, or with -1 one that ends.
func wait(tx *bolt.Tx, e ReceiptEntry, delta int) error {
	if err := add(tx, metaWaiting, delta); err != nil {
		return err
	}
	if e.Guest == (statement.Digest{}) {
		return nil
	}
	n, err := readGuest(tx, e.Guest)
	if err != nil {
		return err
	}
	switch sum := int64(n) + int64(delta); {
	case sum < 0:
		return Damaged("the count of guest %s would be %d", e.Guest, sum)
	case sum == 0:
		return tx.Bucket(bucketGuests).Delete(e.Guest[:])
	default:
		return tx.Bucket(bucketGuests).Put(e.Guest[:], number(uint64(sum)))
	}
}

// forget removes a receipt that waits.
func forget(tx *bolt.Tx, e ReceiptEntry) error {
	if err := tx.Bucket(bucketWaiting).Delete(number(e.Sequence)); err != nil {
		return err
	}
	if err := tx.Bucket(bucketReceipts).Delete(e.Receipt.ID[:]); err != nil {
		return err
	}
	if err := addTally(tx, e.Receipt.Agent, -1, 0); err != nil {
		return err
	}
	return wait(tx, e, -1)
}
