package protocol

import (
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// Signer makes signatures of the epoch key: an [identity.Private] one by one, a
// [Batcher] for many at once.
type Signer interface {
	Sign(context string, msg []byte) ([]byte, error)
}

const (
	// BatchWindow is the longest that a batch waits for others to join.
	BatchWindow = 2 * time.Millisecond
	// crowd is the fewest exchanges under way for which a batch waits at all: below,
	// it would nearly always wait in vain.
	crowd = 4
)

// Batcher signs challenges and lease certificates that are due at the same time with
// one signature (docs/protocol.md 3.7). While few exchanges are under way it signs at
// once. While a signature is being made, others gather for the next; while many are
// under way, they do so for up to BatchWindow. Its methods may be called by several
// goroutines.
type Batcher struct {
	key  *identity.Private
	turn chan struct{} // held while signing

	mu    sync.Mutex
	under int    // exchanges under way
	open  *batch // that can be joined; nil for none
}

// batch is what one signature will cover. Whoever opened it signs.
type batch struct {
	context string // of the first message, which is signed as it is if it stays alone
	msg     []byte
	leaves  []Digest
	full    chan struct{} // closed when nobody else is to be waited for
	closed  bool          // full is

	done chan struct{}
	tree batchTree
	root []byte // the signature
	err  error
}

// NewBatcher signs with the epoch key, which stays the caller's.
func NewBatcher(key *identity.Private) *Batcher {
	return &Batcher{key: key, turn: make(chan struct{}, 1)}
}

// Enter says that an exchange is under way which will need signatures; leave says that
// it will not need any more. What is entered and silent costs the others the window.
func (b *Batcher) Enter() (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under++
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.under--
	})
}

// Sign returns the epoch key's signature, in one of its two forms, when it is there.
func (b *Batcher) Sign(context string, msg []byte) ([]byte, error) {
	t, i, wait := b.join(context, msg)
	if i == 0 {
		b.lead(t, wait)
	}
	<-t.done
	return t.signature(i)
}

// join takes a place in the open batch, or opens one. wait says whether others are
// worth waiting for.
func (b *Batcher) join(context string, msg []byte) (t *batch, place int, wait bool) {
	leaf := batchLeaf(context, msg)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		b.open = &batch{context: context, msg: msg, full: make(chan struct{}), done: make(chan struct{})}
	}
	t, place = b.open, len(b.open.leaves)
	t.leaves = append(t.leaves, leaf)
	if !t.closed && len(t.leaves) >= min(b.under, maxBatch) {
		t.closed = true
		close(t.full)
	}
	if len(t.leaves) == maxBatch {
		b.open = nil
	}
	return t, place, b.under >= crowd
}

// lead waits for others, then for its turn, and signs.
func (b *Batcher) lead(t *batch, wait bool) {
	if wait {
		window := time.NewTimer(BatchWindow)
		select {
		case <-t.full:
		case <-window.C:
		}
		window.Stop()
	}
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	if b.open == t {
		b.open = nil
	}
	b.mu.Unlock()
	defer close(t.done)
	t.sign(b.key)
}

// sign is called when nobody can join any more.
func (t *batch) sign(key *identity.Private) {
	if len(t.leaves) == 1 {
		t.root, t.err = key.Sign(t.context, t.msg)
		return
	}
	t.tree = newBatchTree(t.leaves)
	t.root, t.err = key.Sign(contextBatch, batchRoot(t.tree.depth(), t.tree.root()))
}

// signature is message i's, once the batch is signed.
func (t *batch) signature(i int) ([]byte, error) {
	if t.err != nil || t.tree == nil {
		return t.root, t.err
	}
	return t.tree.signature(i, t.root)
}
