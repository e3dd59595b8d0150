package infer

import (
	"encoding/binary"
	"math"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// prefixes are the tokens whose keys and values each slot of the cache holds: of the sequence at
// work there, or of its owner's last one. They let a conversation's next turn, or another request
// that begins alike, go on behind what they share.
//
// Only requests of one owner share. What another's requests contain therefore changes neither what
// is computed for a request nor how long that takes. How many slots others use may show, as it does in the line for
// the processors: an owner with more of them than others loses its own first, so one with a single conversation
// loses it only where there are more owners than slots. Likewise how many pages others have; of those, prefixes give up their last ones.
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
	return p.first(owner, 1, free, func(int) int { return 1 })
}

// first finds the slot of candidates that goes first once an owner has so much more: an empty one, or one of the owner that has the
// most, which that counts to; of those the least recently used. It is -1 if there is none.
func (p *prefixes) first(owner string, more int, candidate func(slot int) bool, weight func(slot int) int) int {
	best, most := -1, 0
	for i := range p.slots {
		if !candidate(i) {
			continue
		}
		n := p.has(p.slots[i].owner, weight)
		if p.slots[i].owner == owner {
			n += more
		}
		if p.slots[i].owner == "" {
			n = math.MaxInt
		}
		if best < 0 || n > most || n == most && p.slots[i].used < p.slots[best].used {
			best, most = i, n
		}
	}
	return best
}

// has is what an owner has in all slots.
func (p *prefixes) has(owner string, weight func(slot int) int) (n int) {
	for i := range p.slots {
		if p.slots[i].owner == owner {
			n += weight(i)
		}
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
	return p.slots[slot].owner != "" && p.slots[slot].length > 0
}

// shorten leaves a slot the first tokens, if it has more.
func (p *prefixes) shorten(slot, positions int) {
	s := &p.slots[slot]
	if positions == 0 {
		p.forget(slot)
	} else if positions < s.length {
		clear(s.tokens[positions*tokenBytes : s.length*tokenBytes])
		s.length = positions
	}
}

// forget clears a slot's tokens.
func (p *prefixes) forget(slot int) {
	s := &p.slots[slot]
	clear(s.tokens)
	s.owner, s.length, s.used = "", 0, 0
}

// begin places a new sequence into a free slot, with pages for all that it may become, so that none is ever missing. It
// changes nothing and returns false if they are not to be had yet. Nothing of another sequence is left in the place: all
// of it is cleared each time, so that the time does not tell how long another's was, or
// whether there was one. Other sequences' passes go on meanwhile.
func (e *Engine) begin(s *sequence) bool {
	// The prompt's last token is computed in any case: its outputs are what the answer begins with.
	source, shared := e.prefixes.longest(s.owner, s.pending[:len(s.pending)-max(len(s.given), 1)], e.cache.Resumes)
	slot := e.prefixes.room(s.owner, e.idling, source, shared)
	keep := -1
	if shared > 0 {
		keep = source
	}
	if !e.obtain(slot, s, keep) {
		if shared == 0 || !e.idling(source) || !e.obtain(source, s, -1) {
			return false
		}
		slot = source // at the price of what the prompt does not share
	}
	if slot != source && shared > 0 {
		if from := e.slots[source]; from != nil {
			from.settle() // the tile in which its own beginning ends is being cleared
		}
		e.cache.Copy(slot, source, shared)
	}
	clear := e.cache.Shed(slot, s.most)
	e.apart(s, func() { e.cache.Wipe(slot, shared, e.context) })
	if clear != nil { // which the sequence does not wait for
		e.beside.Go(func() { clear(); e.wake() })
	}
	e.prefixes.take(slot, s.owner, source, shared)
	s.pending, s.position = s.pending[shared:], shared
	s.reused = shared
	e.slots[slot] = s
	s.begin()
	return true
}

// idling says whether no sequence is at work in a slot.
func (e *Engine) idling(slot int) bool { return e.slots[slot] == nil }

// obtain gives a slot the pages that a sequence needs: free ones, and then the last ones of prefixes, but for one slot's. It takes none if
// there are not enough. What pages of prefixes hold is still there.
func (e *Engine) obtain(slot int, s *sequence, keep int) bool {
	has := func(i int) bool { return i != slot && i != keep && e.idling(i) && e.cache.Held(i) > 0 }
	need := e.cache.Pages(s.most) - e.cache.Held(slot)
	free := e.cache.Free()
	short, kept := need-free, 0
	for i := range e.slots {
		if has(i) {
			kept += e.cache.Held(i)
		}
	}
	if short > kept {
		return false
	}
	if need > 0 {
		e.cache.Take(slot, min(need, free))
	}
	for short > 0 {
		from := e.prefixes.first(s.owner, e.cache.Pages(s.most), has, e.cache.Held)
		n := min(short, e.cache.Held(from))
		e.cache.Move(slot, from, n)
		e.prefixes.shorten(from, e.cache.Positions(from))
		if e.cache.Held(from) == 0 { // nobody can go on behind what layers with a window have of it
			e.cache.Wipe(from, 0, e.context)
		}
		short -= n
	}
	return true
}
