package infer

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// prefixes are the tokens whose keys and values each slot of the cache holds: of the sequence at
// work there, or of its owner's last one. They let a conversation's next turn, or another request
// that begins alike, go on behind what they share.
//
// Only requests of one owner share. What another's requests contain therefore changes neither what
// is computed for a request nor how long that takes. How many slots others use may show, as it does in the line for
// the processors: an owner with more of them than others loses its own first, so one with a single conversation
// loses it only where there are more owners than slots.
//
// Where layers have a window, the cache has of a long sequence only the last positions for them. A sequence then goes on
// behind the whole of what a slot holds, or as far back as a pass is long; one that parts from it earlier is computed from
// its first token on.
type prefixes struct {
	region *arena.Region
	slots  []prefix
	clock  uint64 // counts uses
}

// prefix is what one slot holds.
type prefix struct {
	owner  string // empty: shared with nobody
	tokens []byte // in the arena, four bytes each
	length int    // tokens whose keys and values are in the cache
	used   uint64 // clock of the last use
}

// tokenBytes is the size of a token in a prefix.
const tokenBytes = 4

func newPrefixes(budget *arena.Budget, slots, context int) (*prefixes, error) {
	region, err := budget.Map("tokens of prefixes", prefixBytes(slots, context))
	if err != nil {
		return nil, err
	}
	p := &prefixes{region: region, slots: make([]prefix, slots)}
	for i := range p.slots {
		size := context * tokenBytes
		p.slots[i].tokens = region.Bytes()[i*size : (i+1)*size : (i+1)*size]
	}
	return p, nil
}

func prefixBytes(slots, context int) int64 {
	return int64(slots) * int64(context) * tokenBytes
}

// put notes a token whose keys and values are in the cache from now on.
func (p *prefixes) put(slot, position int, token int32) {
	s := &p.slots[slot]
	binary.LittleEndian.PutUint32(s.tokens[position*tokenBytes:], uint32(token))
	s.length = position + 1
}

// text is the tokens of a slot, four bytes each.
func (p *prefixes) text(slot int) []byte {
	s := &p.slots[slot]
	return s.tokens[:s.length*tokenBytes]
}

// cut forgets the tokens from a position on: guesses that did not come true.
func (p *prefixes) cut(slot, position int) {
	s := &p.slots[slot]
	clear(s.tokens[position*tokenBytes : min(len(s.tokens), (position+maxDrafts)*tokenBytes)])
	s.length = position
}

// common is how many tokens at the beginning of a prompt a slot holds for an owner.
func (p *prefixes) common(slot int, owner string, prompt []int32) int {
	s := &p.slots[slot]
	if owner == "" || s.owner != owner {
		return 0
	}
	n := 0
	for n < min(s.length, len(prompt)) && binary.LittleEndian.Uint32(s.tokens[n*tokenBytes:]) == uint32(prompt[n]) {
		n++
	}
	return n
}

// longest finds the slot that holds most of a prompt's beginning for its owner, of those where the cache resumes behind it.
func (p *prefixes) longest(owner string, prompt []int32, resumes func(slot, position int) bool) (slot, shared int) {
	for i := range p.slots {
		if n := p.common(i, owner, prompt); n > shared && resumes(i, n) {
			slot, shared = i, n
		}
	}
	return slot, shared
}

// room returns the free slot for a sequence that shares so many tokens with the slot source. It is
// source itself if that loses little of what source holds; else an empty one, or one of the owner that has the most, which the
// sequence's own counts to; of those the least recently used.
func (p *prefixes) room(owner string, free func(slot int) bool, source, shared int) int {
	if shared > 0 && free(source) && 2*shared >= p.slots[source].length {
		return source
	}
	best, most := -1, 0
	for i := range p.slots {
		if !free(i) {
			continue
		}
		n := p.count(p.slots[i].owner, owner)
		if best < 0 || n > most || n == most && p.slots[i].used < p.slots[best].used {
			best, most = i, n
		}
	}
	return best
}

// count is how many slots an owner has once next has one more. Empty ones come before all.
func (p *prefixes) count(owner, next string) (n int) {
	if owner == "" {
		return len(p.slots) + 1
	}
	for i := range p.slots {
		if p.slots[i].owner == owner {
			n++
		}
	}
	if owner == next {
		n++
	}
	return n
}

// take gives a slot to an owner's sequence that goes on behind the first tokens of source.
func (p *prefixes) take(slot int, owner string, source, shared int) {
	p.clock++
	s := &p.slots[slot]
	if slot != source || shared == 0 {
		clear(s.tokens)
		copy(s.tokens[:shared*tokenBytes], p.slots[source].tokens)
	} else {
		clear(s.tokens[shared*tokenBytes:])
	}
	s.owner, s.length, s.used = owner, shared, p.clock
	p.slots[source].used = p.clock
}

// leave ends the use of a slot. It says whether the slot keeps what it holds.
func (p *prefixes) leave(slot int) (keeps bool) {
	p.clock++
	p.slots[slot].used = p.clock
	return p.slots[slot].owner != ""
}

// forget clears a slot's tokens.
func (p *prefixes) forget(slot int) {
	s := &p.slots[slot]
	clear(s.tokens)
	s.owner, s.length, s.used = "", 0, 0
}

// begin places a new sequence into a free slot. Nothing of another sequence is left there: the
// whole slot is cleared each time, so that the time does not tell how long another's was, or
// whether there was one. Other sequences' passes go on meanwhile.
func (e *Engine) begin(s *sequence) {
	// The prompt's last token is computed in any case: its outputs are what the answer begins with.
	source, shared := e.prefixes.longest(s.owner, s.pending[:len(s.pending)-max(len(s.given), 1)], e.cache.Resumes)
	slot := e.prefixes.room(s.owner, func(i int) bool { return e.slots[i] == nil }, source, shared)
	keeps := 0
	if slot == source {
		keeps = shared
	}
	if keeps != shared {
		if from := e.slots[source]; from != nil {
			from.settle() // the tile in which its own beginning ends is being cleared
		}
		e.cache.Copy(slot, source, shared)
	}
	e.apart(s, func() { e.cache.Wipe(slot, shared, e.context) })
	e.prefixes.take(slot, s.owner, source, shared)
	s.pending, s.position = s.pending[shared:], shared
	s.reused = shared
	e.slots[slot] = s
}
