package protocol

import (
	"crypto/sha512"
	"math/bits"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// A signature of the epoch key on a challenge or a lease certificate has one of two
// forms (docs/protocol.md 3.7), told apart by the first byte. One is the signature of
// crypto/identity, whose first byte is its level. The other signs the root of a tree of
// what was due at the same time, and leads from one leaf to it: it verifies alone,
// without the others.
const (
	batchForm     = 'B'
	maxBatchDepth = 8
	maxBatch      = 1 << maxBatchDepth
)

const (
	contextBatch   = Name + "/batch"
	labelBatchLeaf = Name + "/batch/leaf"
	labelBatchNode = Name + "/batch/node"
)

// batchLeaf is the leaf of a message that would be signed under context if it were
// signed alone.
func batchLeaf(context string, msg []byte) Digest {
	return hashJoined(labelBatchLeaf, []byte(context), msg)
}

func batchNode(left, right Digest) Digest {
	return hashJoined(labelBatchNode, left[:], right[:])
}

// batchRoot is what the epoch key signs under contextBatch. The depth is part of it,
// so that a signature says how long each path is.
func batchRoot(depth int, root Digest) []byte {
	return Join(contextBatch, []byte{byte(depth)}, root[:])
}

// batchTree has the leaves in its first row and one root in its last. It is complete:
// leaves that are missing are zeros, of which nobody knows a message.
type batchTree [][]Digest

func newBatchTree(leaves []Digest) batchTree {
	depth := bits.Len(uint(len(leaves) - 1))
	tree := batchTree{append(make([]Digest, 0, 1<<depth), leaves...)[:1<<depth]}
	for range depth {
		below := tree[len(tree)-1]
		row := make([]Digest, len(below)/2)
		for i := range row {
			row[i] = batchNode(below[2*i], below[2*i+1])
		}
		tree = append(tree, row)
	}
	return tree
}

func (t batchTree) depth() int { return len(t) - 1 }

func (t batchTree) root() Digest { return t[len(t)-1][0] }

// signature encodes the form of leaf i.
func (t batchTree) signature(i int, root []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 8+sha512.Size*t.depth()+len(root)))
	b.AddUint8(batchForm)
	b.AddUint16(uint16(i))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, row := range t[:t.depth()] {
			b.AddBytes(row[i^1][:])
			i /= 2
		}
	})
	addBytes16(b, root)
	return b.Bytes()
}

// verifyEpochKey checks a signature of the epoch key in either form.
func verifyEpochKey(key identity.Public, context string, msg, sig []byte) error {
	if len(sig) == 0 || sig[0] != batchForm {
		return key.Verify(context, msg, sig)
	}
	s := cryptobyte.String(sig[1:])
	var index uint16
	var path cryptobyte.String
	var root []byte
	if !s.ReadUint16(&index) || !s.ReadUint16LengthPrefixed(&path) || !readBytes16(&s, &root) || !s.Empty() {
		return identity.ErrSignature
	}
	depth := len(path) / sha512.Size
	if depth == 0 || depth > maxBatchDepth || len(path)%sha512.Size != 0 || int(index)>>depth != 0 {
		return identity.ErrSignature
	}
	at := batchLeaf(context, msg)
	for place := index; !path.Empty(); place /= 2 {
		var other Digest
		path.CopyBytes(other[:])
		if place&1 == 0 {
			at = batchNode(at, other)
		} else {
			at = batchNode(other, at)
		}
	}
	return key.Verify(contextBatch, batchRoot(depth, at), root)
}
