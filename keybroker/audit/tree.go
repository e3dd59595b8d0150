package audit

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// treeName is the file with the tree's hashes: those that tlog.StoredHashes
// returns, 32 bytes each, in its order, so that hash i stands at 32*i. It holds
// what a proof needs when the records themselves were archived. Nothing in it is
// believed before it leads to the root of a signed checkpoint.
const treeName = "tree"

// leafHash hashes one record as a leaf (RFC 6962, section 2.1).
func leafHash(record []byte) digest.Digest { return digest.Digest(tlog.RecordHash(record)) }

// tree is the Merkle tree of the log while it grows. Hashes that are not on
// disk yet wait in memory, at most those since the last checkpoint; of those on
// disk it remembers the ones that growing needs, so that adding a record reads
// nothing. One goroutine at a time owns it.
type tree struct {
	file    journal.File // nil for a tree that is only computed
	size    uint64
	base    int64               // hashes on disk
	pending []tlog.Hash         // those from base on
	edge    map[int64]tlog.Hash // of those on disk, the complete subtrees at the right edge
	scratch [tlog.HashSize]byte
}

// ReadHashes returns stored hashes by their index (tlog.HashReader).
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= t.base {
			if index-t.base >= int64(len(t.pending)) {
				return nil, fmt.Errorf("the tree has no hash %d", index)
			}
			out[i] = t.pending[index-t.base]
			continue
		}
		if h, ok := t.edge[index]; ok {
			out[i] = h
			continue
		}
		if t.file == nil {
			return nil, fmt.Errorf("the tree has no hash %d in memory", index)
		}
		if _, err := t.file.ReadAt(t.scratch[:], index*tlog.HashSize); err != nil {
			return nil, lostHash(index, err)
		}
		out[i] = t.scratch
	}
	return out, nil
}

func lostHash(index int64, err error) error {
	if errors.Is(err, io.EOF) {
		return journal.Tampered("the file %s lacks hash %d", treeName, index)
	}
	return err
}

// add appends a leaf.
func (t *tree) add(leaf digest.Digest) error {
	hashes, err := tlog.StoredHashesForRecordHash(int64(t.size), tlog.Hash(leaf), t)
	if err != nil {
		return err
	}
	t.pending = append(t.pending, hashes...)
	t.size++
	return nil
}

// root is the Merkle tree hash; that of an empty tree is the hash of nothing.
func (t *tree) root() (digest.Digest, error) {
	h, err := tlog.TreeHash(int64(t.size), t)
	return digest.Digest(h), err
}

// edgeOf reads the hashes that a tree of size records needs to grow.
func edgeOf(size uint64, r tlog.HashReader) (map[int64]tlog.Hash, error) {
	var indexes []int64
	for level := 0; size>>level > 0; level++ {
		if n := size >> level; n&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(n-1)))
		}
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	edge := make(map[int64]tlog.Hash, len(indexes))
	for i, index := range indexes {
		edge[index] = hashes[i]
	}
	return edge, nil
}

// treeAt returns the tree of the first size records; r reads the hashes that it
// grows from, and file takes those that it grows by.
func treeAt(size uint64, r tlog.HashReader, file journal.File) (tree, error) {
	edge, err := edgeOf(size, r)
	return tree{file: file, size: size, base: tlog.StoredHashCount(int64(size)), edge: edge}, err
}

// flush writes what waits in memory and returns when it is durable.
func (t *tree) flush() error {
	if len(t.pending) == 0 {
		return nil
	}
	edge, err := edgeOf(t.size, t)
	if err != nil {
		return err
	}
	b := make([]byte, 0, len(t.pending)*tlog.HashSize)
	for _, h := range t.pending {
		b = append(b, h[:]...)
	}
	if _, err := t.file.WriteAt(b, t.base*tlog.HashSize); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	t.base += int64(len(t.pending))
	t.edge, t.pending = edge, t.pending[:0]
	return nil
}

// openTree opens the file of hashes, or makes an empty one.
func openTree(fs journal.FileSystem, dir string) (journal.File, error) {
	name := filepath.Join(dir, treeName)
	present, err := fs.List(dir, treeName)
	if err != nil {
		return nil, err
	}
	for _, p := range present {
		if p == treeName {
			return fs.Open(name, false)
		}
	}
	if err := fs.Remove(name + ".tmp"); err != nil {
		return nil, err
	}
	f, err := fs.Open(name+".tmp", true)
	if err != nil {
		return nil, err
	}
	if err = f.Sync(); err == nil {
		err = fs.Rename(name+".tmp", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stored reads the hashes of a log on disk, for proofs.
type stored struct{ file journal.File }

// ReadHashes returns stored hashes by their index (tlog.HashReader).
func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := s.file.ReadAt(out[i][:], index*tlog.HashSize); err != nil {
			return nil, lostHash(index, err)
		}
	}
	return out, nil
}

// Proof shows that one leaf is in the tree of a checkpoint: the inclusion
// proof of RFC 6962, section 2.1.1.
type Proof struct {
	// Index is the leaf's position.
	Index uint64 `json:"index"`
	// Size is the number of leaves of the tree.
	Size uint64 `json:"size"`
	// Path holds the sibling hashes from the leaf to the root.
	Path []digest.Digest `json:"path"`
}

// ErrProof means that a proof does not lead to the root.
var ErrProof = errors.New("the proof does not lead to the root of the tree")

// Verify checks that leaf stands at p.Index in the tree with the given root.
func (p Proof) Verify(leaf, root digest.Digest) error {
	if p.Size > 1<<62 || len(p.Path) > 64 {
		return ErrProof
	}
	if tlog.CheckRecord(hashesOf(p.Path), int64(p.Size), tlog.Hash(root), int64(p.Index), tlog.Hash(leaf)) != nil {
		return ErrProof
	}
	return nil
}

// Consistency shows that one tree is the beginning of another: the consistency
// proof of RFC 6962, section 2.1.2.
type Consistency struct {
	// From is the size of the smaller tree, Size that of the larger.
	From uint64 `json:"from"`
	Size uint64 `json:"size"`
	// Path holds the hashes that lead to both roots.
	Path []digest.Digest `json:"path"`
}

// Verify checks that the tree with root from is the beginning of the one with
// the given root.
func (p Consistency) Verify(from, root digest.Digest) error {
	if p.Size > 1<<62 || p.From == 0 || p.From > p.Size || len(p.Path) > 128 {
		return ErrProof
	}
	if tlog.CheckTree(tlog.TreeProof(hashesOf(p.Path)), int64(p.Size), tlog.Hash(root), int64(p.From), tlog.Hash(from)) != nil {
		return ErrProof
	}
	return nil
}

func hashesOf(path []digest.Digest) []tlog.Hash {
	out := make([]tlog.Hash, len(path))
	for i, h := range path {
		out[i] = tlog.Hash(h)
	}
	return out
}

func digestsOf(path []tlog.Hash) []digest.Digest {
	out := make([]digest.Digest, len(path))
	for i, h := range path {
		out[i] = digest.Digest(h)
	}
	return out
}

// Prove returns the inclusion proof of record index in the tree of size
// records, a checkpoint's. It needs no records, only the tree's hashes.
func Prove(dir string, index, size uint64) (Proof, error) {
	return prove(journal.ReadOnly{}, dir, index, size)
}

func prove(fs journal.FileSystem, dir string, index, size uint64) (Proof, error) {
	if index >= size {
		return Proof{}, fmt.Errorf("record %d is not among the first %d", index, size)
	}
	p := Proof{Index: index, Size: size}
	err := withTree(fs, dir, func(r tlog.HashReader) error {
		path, err := tlog.ProveRecord(int64(size), int64(index), r)
		p.Path = digestsOf(path)
		return err
	})
	return p, err
}

// ProveConsistency returns the proof that the first from records of the log are
// the beginning of its first size.
func ProveConsistency(dir string, from, size uint64) (Consistency, error) {
	return proveConsistency(journal.ReadOnly{}, dir, from, size)
}

func proveConsistency(fs journal.FileSystem, dir string, from, size uint64) (Consistency, error) {
	if from == 0 || from > size {
		return Consistency{}, fmt.Errorf("a tree of %d records is not a prefix of one of %d", from, size)
	}
	p := Consistency{From: from, Size: size}
	err := withTree(fs, dir, func(r tlog.HashReader) error {
		path, err := tlog.ProveTree(int64(size), int64(from), r)
		p.Path = digestsOf(path)
		return err
	})
	return p, err
}

func withTree(fs journal.FileSystem, dir string, f func(tlog.HashReader) error) error {
	file, err := fs.Open(filepath.Join(dir, treeName), false)
	if err != nil {
		return fmt.Errorf("the tree's hashes: %w", err)
	}
	defer file.Close()
	return f(stored{file})
}
