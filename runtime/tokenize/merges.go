package tokenize

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

const (
	noRank    = ^uint32(0)
	mergesKey = "tokenizer.ggml.merges"
)

// merges answers which rank a pair of adjacent tokens has: the lower, the
// earlier they merge. Open addressing over arrays of 32-bit numbers.
type merges struct {
	left, right, result []int32  // by rank
	slots               []uint32 // rank+1, 0 for empty; a power of two long
	seed                uint64
}

func loadMerges(f *gguf.File, v *vocabulary) (merges, error) {
	lines, ok := f.Strings(mergesKey)
	if !ok {
		return merges{}, fmt.Errorf("%s is missing", mergesKey)
	}
	n := lines.Len()
	m := merges{
		left: make([]int32, n), right: make([]int32, n), result: make([]int32, n),
		slots: make([]uint32, tableSize(n)),
		seed:  rand.Uint64(), // spreads the table; no secret
	}
	var scratch []byte
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
		m.left[rank] = v.find(scratch[:middle])
		m.right[rank] = v.find(scratch[middle:])
		m.result[rank] = v.find(scratch)
		if m.result[rank] < 0 && string(scratch) == closing {
			continue // ends a turn, and no word contains it
		}
		if m.left[rank] < 0 || m.right[rank] < 0 || m.result[rank] < 0 {
			return merges{}, fmt.Errorf("merge %d (%q) joins tokens that are not in the vocabulary", rank, line)
		}
		if slot := m.slot(m.left[rank], m.right[rank]); m.slots[slot] == 0 { // the first of two wins
			m.slots[slot] = uint32(rank) + 1
		}
	}
	return m, nil
}

func (m *merges) slot(left, right int32) uint64 {
	mask := uint64(len(m.slots) - 1)
	h := (uint64(uint32(left))<<32 | uint64(uint32(right))) ^ m.seed
	h = (h ^ h>>33) * 0xff51afd7ed558ccd // murmur3's finalizer
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	i := (h ^ h>>33) & mask
	for s := m.slots[i]; s != 0 && (m.left[s-1] != left || m.right[s-1] != right); s = m.slots[i] {
		i = (i + 1) & mask
	}
	return i
}

// rank returns the rank of a pair, or noRank.
func (m *merges) rank(left, right int32) uint32 { return m.slots[m.slot(left, right)] - 1 }
