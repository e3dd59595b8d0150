package ledger

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Limits bound the receipts of the file. The zero value allows none.
type Limits struct {
	// Waiting receipts have neither challenge nor proof: so many in all, and of one agent.
	// Beyond them the oldest are dropped.
	Waiting, WaitingPerAgent int
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

// drop removes the oldest waiting receipts of the agents that have more than their part,
// then the oldest of whoever has the most, until no more than the limit wait.
func drop(tx *bolt.Tx, l Limits, agents []statement.Digest) (map[statement.Digest]int, error) {
	n, err := count(tx, metaWaiting)
	if err != nil {
		return nil, err
	}
	over := n > uint64(l.Waiting)
	for _, agent := range agents {
		held, err := readTally(tx, agent)
		if err != nil {
			return nil, err
		}
		over = over || held.waiting > uint64(l.WaitingPerAgent)
	}
	if !over {
		return nil, nil
	}
	list, err := readWaiting(tx)
	if err != nil {
		return nil, err
	}
	of := map[statement.Digest][]Waiting{}
	for _, w := range list {
		of[w.Agent] = append(of[w.Agent], w)
	}
	dropped := map[statement.Digest]int{}
	first := func(agent statement.Digest) error {
		w := of[agent][0]
		of[agent] = of[agent][1:]
		dropped[agent]++
		return forget(tx, w)
	}
	left := len(list)
	for agent := range of {
		for len(of[agent]) > l.WaitingPerAgent {
			if err := first(agent); err != nil {
				return nil, err
			}
			left--
		}
	}
	for ; left > l.Waiting; left-- {
		if err := first(most(of)); err != nil {
			return nil, err
		}
	}
	return dropped, add(tx, metaDropped, len(list)-left)
}

// most is the agent with the most waiting receipts. A tie goes to the one whose oldest is
// older: no order of the map shows.
func most(of map[statement.Digest][]Waiting) (agent statement.Digest) {
	for other, held := range of {
		if n := len(of[agent]); len(held) > n || len(held) == n && n > 0 && held[0].Sequence < of[agent][0].Sequence {
			agent = other
		}
	}
	return agent
}

// forget removes a receipt that waits.
func forget(tx *bolt.Tx, w Waiting) error {
	if err := tx.Bucket(bucketWaiting).Delete(number(w.Sequence)); err != nil {
		return err
	}
	if err := tx.Bucket(bucketReceipts).Delete(w.ID[:]); err != nil {
		return err
	}
	if err := addTally(tx, w.Agent, -1, 0); err != nil {
		return err
	}
	return add(tx, metaWaiting, -1)
}

// agentsOf are the agents of receipts, each once.
func agentsOf(entries []ReceiptEntry) (list []statement.Digest) {
	for _, e := range entries {
		a := e.Receipt.Agent
		if len(list) == 0 || !bytes.Equal(list[len(list)-1][:], a[:]) {
			list = append(list, a)
		}
	}
	return list
}
