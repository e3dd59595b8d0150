package prove

import (
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// An agent that starts anew has another key. Challenges name the key of the answer.
func TestChallengesOfAnswersBeforeARestartAreSeen(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, OnDemand, with(b))
	first := g.answer(t, 5)
	poll(t, func() bool { return b.is(func() bool { return b.announced[first] > 0 }) })
	g.stop()

	old := digest.Digest(w.agent.Key.Public().ID())
	b.with(func() { b.wanted = []digest.ReceiptID{first} })
	g = w.start(t, OnDemand, with(b))
	poll(t, func() bool { return b.has(first) })
	g.proven(t, 5, first)
	poll(t, func() bool { return len(g.registry.former()) == 0 }) // nothing of that key is left to prove
	second := g.answer(t, 5)
	if got := g.registry.former(); !slices.Equal(got, []digest.Digest{old}) {
		t.Errorf("former keys %v, want %s", got, old)
	}
	if err := g.store.removeWitness(second); err != nil || len(g.registry.former()) != 0 {
		t.Errorf("the witness is gone: %v %v", g.registry.former(), err)
	}
}

// Whoever restarts often still asks for every key, and for few at a time.
func TestFormerKeysTakeTurns(t *testing.T) {
	st := &store{agents: map[digest.ReceiptID]digest.Digest{}}
	reg := &registry{store: st}
	const keys = 2*maxFormer + 3
	for i := range 3 * keys {
		st.agents[digest.ReceiptID{byte(i)}] = digest.Digest{byte(i % keys)}
	}
	seen := map[digest.Digest]int{}
	for range 3 {
		list := reg.former()
		if len(list) != maxFormer {
			t.Errorf("%d keys at a time", len(list))
		}
		for _, d := range list {
			seen[d]++
		}
	}
	if len(seen) != keys {
		t.Errorf("%d of %d keys were asked for", len(seen), keys)
	}
	st.agents = map[digest.ReceiptID]digest.Digest{{1}: {1}, {2}: {1}}
	if list := reg.former(); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

func TestAReceiptWithoutAnAgentIsNotNoted(t *testing.T) {
	w := newWorld(t)
	r := w.classify(t).Receipt.Receipt
	g := w.make(t, OnDemand, nil)
	g.store.note(witness{Issued: receipt.Issued{Receipt: r}})
	if g.store.agents[r.Body.ID] != w.agent.Key.Public().ID() {
		t.Errorf("%v", g.store.agents)
	}
	r.LeaseChain = r.LeaseChain[:len(r.LeaseChain)-1]
	clear(g.store.agents)
	g.store.note(witness{Issued: receipt.Issued{Receipt: r}})
	if len(g.store.agents) != 0 {
		t.Error("a receipt without an agent is noted")
	}
}
