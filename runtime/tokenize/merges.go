package tokenize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

const (
	noRank    = ^uint32(0)
	mergesKey = "tokenizer.ggml.merges"
	maxMerges = 1<<23 - 1
	idBits    = 20 // of a token's number: maxVocabulary
)

// merges answers which rank a pair of adjacent tokens has: the lower, the earlier they merge. It takes 8.75
// bytes for each: five are the pair, and four its place in a hash table four fifths full.
type merges struct {
	pairs []byte // by rank: 40 bits of left<<20 | right, and room to read 64
	// slots are 24 bits each: rank+1 in the lower ones, 0 for empty, and bits of the pair's hash above,
	// which tell most other pairs apart without a look at pairs.
	slots     []byte
	size      uint64  // number of slots
	ranks     uint32  // the bits of a slot that hold the rank
	first     int32   // the token that the pair of rank 0 becomes; others follow in the order of ranks,
	elsewhere []int32 // or, if they do not, by rank
	seed      uint64
}

func loadMerges(f *gguf.File, v *vocabulary) (merges, error) {
	lines, ok := f.Strings(mergesKey)
	if !ok {
		return merges{}, fmt.Errorf("%s is missing", mergesKey)
	}
	n := lines.Len()
	if n > maxMerges {
		return merges{}, fmt.Errorf("got %d merges, the limit is %d", n, maxMerges)
	}
	m := merges{
		pairs: make([]byte, 5*n+3), elsewhere: make([]int32, n), size: uint64(n+n/4) + 1, ranks: 1<<bits.Len(uint(n)) - 1,
		seed: rand.Uint64(), // spreads the table; no secret
	}
	m.slots = make([]byte, 3*m.size+1)
	var scratch []byte
	inOrder := true
	for rank := range n {
		line := lines.At(rank)
		cut := -1
		if len(line) > 1 {
			cut = 1 + bytes.IndexByte(line[1:], ' ')
		}
		if cut <= 0 || len(line) > 2*maxTokenBytes {
			return merges{}, fmt.Errorf("merge %d does not consist of two tokens", rank)
		}
		scratch = appendBytes(scratch[:0], line[:cut])
		middle := len(scratch)
		scratch = appendBytes(scratch, line[cut+1:])
		left, right, result := v.find(scratch[:middle]), v.find(scratch[middle:]), v.find(scratch)
		m.elsewhere[rank] = result
		if result < 0 && string(scratch) == closing {
			inOrder = inOrder && rank > 0
			continue // ends a turn, and no word contains it
		}
		if left < 0 || right < 0 || result < 0 {
			return merges{}, fmt.Errorf("merge %d (%.100q) joins tokens that are not in the vocabulary", rank, line)
		}
		inOrder = inOrder && result == m.elsewhere[0]+int32(rank)
		m.enter(pairOf(left, right), uint32(rank))
	}
	if n > 0 && inOrder {
		m.first, m.elsewhere = m.elsewhere[0], nil
	}
	return m, nil
}

func pairOf(left, right int32) uint64 { return uint64(left)<<idBits | uint64(right) }

// hash returns where to look for a pair first, and the bits of its slot above the rank.
func (m *merges) hash(pair uint64) (slot uint64, mark uint32) {
	h := pair ^ m.seed
	h = (h ^ h>>33) * 0xff51afd7ed558ccd // murmur3's finalizer
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	slot, _ = bits.Mul64(h, m.size)
	return slot, uint32(h) & (1<<24 - 1) &^ m.ranks
}

// enter enters a pair, of two that are equal the first.
func (m *merges) enter(pair uint64, rank uint32) {
	if m.rank(pair) != noRank {
		return
	}
	for i := range 5 {
		m.pairs[5*int(rank)+i] = byte(pair >> (8 * i))
	}
	i, mark := m.hash(pair)
	for load24(m.slots, i) != 0 {
		if i++; i == m.size {
			i = 0
		}
	}
	store24(m.slots, i, mark|(rank+1))
}

// rank returns the rank of a pair, or noRank.
func (m *merges) rank(pair uint64) uint32 {
	i, mark := m.hash(pair)
	for {
		s := load24(m.slots, i)
		if s == 0 {
			return noRank
		}
		if (s^mark)&^m.ranks == 0 {
			rank := s&m.ranks - 1
			if binary.LittleEndian.Uint64(m.pairs[5*uint64(rank):])&(1<<(2*idBits)-1) == pair {
				return rank
			}
		}
		if i++; i == m.size {
			i = 0
		}
	}
}

// result is the token that the pair of a rank becomes.
func (m *merges) result(rank uint32) int32 {
	if m.elsewhere == nil {
		return m.first + int32(rank)
	}
	return m.elsewhere[rank]
}

// load24 and store24 read and write 24 bits of a list that has a byte more.
func load24(list []byte, i uint64) uint32 {
	return binary.LittleEndian.Uint32(list[3*i:]) & (1<<24 - 1)
}

func store24(list []byte, i uint64, value uint32) {
	list[3*i], list[3*i+1], list[3*i+2] = byte(value), byte(value>>8), byte(value>>16)
}
