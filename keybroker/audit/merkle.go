package audit

import (
	"crypto/sha256"
	"errors"
	"math/bits"
)

// leafHash hashes one record as a leaf (RFC 6962, section 2.1).
func leafHash(record []byte) Digest {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(record)
	return Digest(h.Sum(nil))
}

// nodeHash joins two subtrees (RFC 6962, section 2.1).
func nodeHash(left, right Digest) Digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// tree is the right edge of a Merkle tree: one hash for each complete subtree,
// largest first. It grows by a leaf in constant amortised time and needs
// memory logarithmic in its size.
type tree struct {
	size uint64
	edge []Digest
}

func (t *tree) add(leaf Digest) {
	for n := t.size; n&1 == 1; n >>= 1 {
		leaf = nodeHash(t.edge[len(t.edge)-1], leaf)
		t.edge = t.edge[:len(t.edge)-1]
	}
	t.edge = append(t.edge, leaf)
	t.size++
}

// root is the Merkle tree hash; that of an empty tree is the hash of nothing.
func (t *tree) root() Digest {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = nodeHash(t.edge[i], h)
	}
	return h
}

func (t *tree) clone() tree {
	return tree{size: t.size, edge: append([]Digest(nil), t.edge...)}
}

// Proof shows that one leaf is in the tree of a checkpoint: the inclusion
// proof of RFC 6962, section 2.1.1.
type Proof struct {
	// Index is the leaf's position.
	Index uint64 `json:"index"`
	// Size is the number of leaves of the tree.
	Size uint64 `json:"size"`
	// Path holds the sibling hashes from the leaf to the root.
	Path []Digest `json:"path"`
}

// ErrProof means that a proof does not lead to the root.
var ErrProof = errors.New("the inclusion proof does not lead to the tree's root")

// Verify checks that leaf stands at p.Index in the tree with the given root
// (RFC 9162, section 2.1.3.2).
func (p Proof) Verify(leaf, root Digest) error {
	if p.Index >= p.Size || len(p.Path) > 64 {
		return ErrProof
	}
	index, last, h := p.Index, p.Size-1, leaf
	for _, sibling := range p.Path {
		if last == 0 {
			return ErrProof
		}
		if index&1 == 1 || index == last {
			h = nodeHash(sibling, h)
			for index&1 == 0 && index != 0 {
				index, last = index>>1, last>>1
			}
		} else {
			h = nodeHash(h, sibling)
		}
		index, last = index>>1, last>>1
	}
	if last != 0 || h != root {
		return ErrProof
	}
	return nil
}

// span is one subtree of an inclusion path while its leaves stream past.
type span struct {
	end  uint64
	tree tree
}

// prover collects an inclusion path in one pass over the leaves, holding only
// the right edges of the subtrees beside the path.
type prover struct {
	index, size uint64
	before      []span // left siblings, in order of their leaves
	after       []span // right siblings, in order of their leaves
	sides       []bool // from the root down: true when the sibling is on the left
	next        uint64
}

func newProver(index, size uint64) *prover {
	p := &prover{index: index, size: size}
	lo, hi := uint64(0), size
	for hi-lo > 1 {
		mid := lo + splitPoint(hi-lo)
		if index >= mid {
			p.before = append(p.before, span{end: mid})
			p.sides = append(p.sides, true)
			lo = mid
		} else {
			p.after = append([]span{{end: hi}}, p.after...)
			p.sides = append(p.sides, false)
			hi = mid
		}
	}
	return p
}

// splitPoint is the largest power of two smaller than n.
func splitPoint(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

func (p *prover) add(leaf Digest) {
	i := p.next
	p.next++
	side := p.before
	if i > p.index {
		side = p.after
	}
	if i == p.index || i >= p.size {
		return
	}
	for k := range side {
		if i < side[k].end {
			side[k].tree.add(leaf)
			return
		}
	}
}

func (p *prover) proof() (Proof, error) {
	if p.next < p.size {
		return Proof{}, errors.New("the log is shorter than the tree of the proof")
	}
	out := Proof{Index: p.index, Size: p.size}
	left, right := len(p.before)-1, 0
	for i := len(p.sides) - 1; i >= 0; i-- {
		if p.sides[i] {
			out.Path = append(out.Path, p.before[left].tree.root())
			left--
		} else {
			out.Path = append(out.Path, p.after[right].tree.root())
			right++
		}
	}
	return out, nil
}
