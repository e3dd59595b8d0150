package registry

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits bound the receipts of the file. The zero value allows none.
type Limits struct {
	// Waiting receipts have neither challenge nor proof: so many in all, of one agent, and of
	// the guests of one processor. Beyond them one that is drawn goes for each that comes.
	Waiting, WaitingPerAgent, WaitingPerGuest int
	// Kept receipts have one: so many in all. Beyond it nothing is accepted.
	Kept int
	// Proven is how many are kept at most when a proof comes that nobody asked for, and
	// ProvenPerAgent how many of its agent: what is between Proven and Kept is for
	// challenges, or an agent could make room for none by proving what it likes.
	Proven, ProvenPerAgent int
}

// tally is how many receipts of an agent wait, and are kept.
type agentTally struct{ waiting, kept uint64 }

func readTally(tx *bolt.Tx, agent digest.Digest) (t agentTally, err error) {
	raw := tx.Bucket(bucketAgents).Get(agent[:])
	switch len(raw) {
	case 0:
		return t, nil
	case 16:
		return agentTally{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])}, nil
	}
	return t, Damaged("the count of agent %s", agent)
}

// count changes an agent's tally, of which nothing is left when both are zero.
func addTally(tx *bolt.Tx, agent digest.Digest, waiting, kept int) error {
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
func unkept(tx *bolt.Tx, ids []digest.ReceiptID) (n int, of map[digest.Digest]int, err error) {
	of = map[digest.Digest]int{}
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
func roomFor(tx *bolt.Tx, ids []digest.ReceiptID, l Limits, challenge bool) error {
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
		return refusal.New(ReasonFull, "%d receipts with challenges or proofs are kept and %d more do not fit; wait until old ones expire (proofs.kept_days), or raise proofs.kept", kept, more)
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
			return refusal.New(ReasonAgentFull, "%d receipts of agent %s with challenges or proofs are kept and %d more do not fit (proofs.kept_per_agent)", held.kept, agent, n)
		}
	}
	return nil
}

// Every receipt that waits has two lots, drawn when it is announced: one among those of its
// agent, one among those of its processor's guests. Where there are too many, the lowest lot
// goes, the newcomer's or another's. So the i-th receipt that is announced for a part stays
// with the chance part/i, and the one that gives way for it is any of the part's. Whoever
// announces more can neither fill the part nor have a certain receipt go: it makes each rarer.
// The lots differ, or an agent that announced much would have the highest of its processor.

// lot draws one. It must be nothing that a prover could foresee.
func lot() uint64 {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	return binary.BigEndian.Uint64(raw[:])
}

const lotBytes = 32 + 8 + 16

// lotKey is the place of a receipt among those of an agent, or of a processor's guests.
func lotKey(of digest.Digest, lot uint64, id digest.ReceiptID) []byte {
	return append(binary.BigEndian.AppendUint64(append(make([]byte, 0, lotBytes), of[:]...), lot), id[:]...)
}

// putLots makes a receipt one of those that can be displaced.
func putLots(tx *bolt.Tx, e ReceiptEntry) error {
	if err := tx.Bucket(bucketAgentLots).Put(lotKey(e.Receipt.Agent, e.AgentLot, e.Receipt.ID), []byte{}); err != nil {
		return err
	}
	return tx.Bucket(bucketGuestLots).Put(lotKey(e.Guest, e.GuestLot, e.Receipt.ID), []byte{})
}

func dropLots(tx *bolt.Tx, e ReceiptEntry) error {
	if err := tx.Bucket(bucketAgentLots).Delete(lotKey(e.Receipt.Agent, e.AgentLot, e.Receipt.ID)); err != nil {
		return err
	}
	return tx.Bucket(bucketGuestLots).Delete(lotKey(e.Guest, e.GuestLot, e.Receipt.ID))
}

// lowest removes the receipt with the lowest lot of an agent, or of a processor's guests.
func lowest(tx *bolt.Tx, bucket []byte, of digest.Digest) (e ReceiptEntry, err error) {
	k, _ := tx.Bucket(bucket).Cursor().Seek(of[:])
	if len(k) != lotBytes || !bytes.HasPrefix(k, of[:]) {
		return e, Damaged("%s has no receipt of %s", bucket, of)
	}
	if err := decode(tx.Bucket(bucketReceipts).Get(k[32+8:]), &e); err != nil {
		return e, err
	}
	return e, forget(tx, e)
}

// maxDisplaced is how many go at most for one newcomer: one, unless a limit was lowered.
const maxDisplaced = 64

// displace removes what is too much now that e was added. Of an agent over its part one of
// its own goes, of a processor one of its guests', and when all are too many one of the
// processor that has most.
func displace(tx *bolt.Tx, e ReceiptEntry, l Limits) (gone []ReceiptEntry, err error) {
	for range maxDisplaced {
		bucket, of, err := crowded(tx, e, l)
		if bucket == nil || err != nil {
			return gone, err
		}
		out, err := lowest(tx, bucket, of)
		if err != nil {
			return gone, err
		}
		if err := add(tx, metaDisplaced, 1); err != nil {
			return gone, err
		}
		gone = append(gone, out)
	}
	return gone, nil
}

// crowded finds where there are too many since e was added; nil is nowhere.
func crowded(tx *bolt.Tx, e ReceiptEntry, l Limits) (bucket []byte, of digest.Digest, err error) {
	n, err := count(tx, metaWaiting)
	if err != nil {
		return nil, of, err
	}
	own, err := readTally(tx, e.Receipt.Agent)
	if err != nil {
		return nil, of, err
	}
	guest, err := readGuest(tx, e.Guest)
	switch {
	case err != nil:
		return nil, of, err
	case own.waiting > uint64(max(l.WaitingPerAgent, 0)):
		return bucketAgentLots, e.Receipt.Agent, nil
	case guest > uint64(max(l.WaitingPerGuest, 0)):
		return bucketGuestLots, e.Guest, nil
	case n > uint64(max(l.Waiting, 0)):
		of, err = largest(tx, e.Guest, n)
		return bucketGuestLots, of, err
	}
	return nil, of, nil
}

// largest finds the processor whose guests have most of all receipts that wait. All that
// nobody knows are one. Among equals the newcomer's gives way.
func largest(tx *bolt.Tx, newcomer digest.Digest, all uint64) (of digest.Digest, err error) {
	counts := map[digest.Digest]uint64{}
	err = tx.Bucket(bucketGuests).ForEach(func(k, v []byte) error {
		if len(k) != len(of) || len(v) != 8 || binary.BigEndian.Uint64(v) > all {
			return Damaged("the count of guest %x", k)
		}
		counts[digest.Digest(k)] = binary.BigEndian.Uint64(v)
		all -= counts[digest.Digest(k)]
		return nil
	})
	counts[digest.Digest{}] = all
	of = newcomer
	for guest, n := range counts {
		if n > counts[of] {
			of = guest
		}
	}
	return of, err
}

// readGuest is how many receipts of a processor's guests wait. Who has none is not counted.
func readGuest(tx *bolt.Tx, guest digest.Digest) (uint64, error) {
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
	if e.Guest == (digest.Digest{}) {
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
	if err := dropLots(tx, e); err != nil {
		return err
	}
	if err := addTally(tx, e.Receipt.Agent, -1, 0); err != nil {
		return err
	}
	return wait(tx, e, -1)
}
