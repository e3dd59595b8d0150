package protocol

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// batchOf signs n messages together; each is signed under one of two contexts.
func batchOf(t testing.TB, key *identity.Private, n int) (messages, signatures [][]byte) {
	t.Helper()
	b := &batch{}
	for i := range n {
		messages = append(messages, fmt.Appendf(nil, "message %d", i))
		b.leaves = append(b.leaves, batchLeaf(contextOf(i), messages[i]))
	}
	b.context, b.msg = contextOf(0), messages[0]
	if b.sign(key); b.err != nil {
		t.Fatal(b.err)
	}
	for i := range n {
		signatures = append(signatures, must[[]byte](t)(b.signature(i)))
	}
	return messages, signatures
}

func contextOf(i int) string { return []string{contextChallenge, contextRelease}[i%2] }

// TestBatchSignaturesVerifyAlone signs batches of every shape: each signature
// verifies by itself, for its own message and context and no other.
func TestBatchSignaturesVerifyAlone(t *testing.T) {
	key := generate(t, identity.LevelEpoch)
	for _, n := range []int{1, 2, 3, 4, 5, 16, 17, 255, maxBatch} {
		messages, signatures := batchOf(t, key, n)
		for i := range n {
			if err := verifyEpochKey(key.Public(), contextOf(i), messages[i], signatures[i]); err != nil {
				t.Fatalf("%d of %d: %v", i, n, err)
			}
			if len(signatures[i]) > maxSignatureBytes {
				t.Fatalf("%d of %d has %d bytes", i, n, len(signatures[i]))
			}
		}
		last := n - 1
		for name, err := range map[string]error{
			"another context":      verifyEpochKey(key.Public(), contextOf(last+1), messages[last], signatures[last]),
			"another message":      verifyEpochKey(key.Public(), contextOf(last), []byte("no message"), signatures[last]),
			"another key":          verifyEpochKey(generate(t, identity.LevelEpoch).Public(), contextOf(last), messages[last], signatures[last]),
			"no signature":         verifyEpochKey(key.Public(), contextOf(last), messages[last], nil),
			"an empty batch":       verifyEpochKey(key.Public(), contextOf(last), messages[last], []byte{batchForm}),
			"the context of roots": verifyEpochKey(key.Public(), contextBatch, messages[last], signatures[last]),
		} {
			if !errors.Is(err, identity.ErrSignature) {
				t.Errorf("%s of %d: %v", name, n, err)
			}
		}
	}
}

// batchParts is a signature taken apart.
type batchParts struct {
	index int
	path  []Digest
	root  []byte
}

func partsOf(sig []byte) (p batchParts) {
	p.index = int(binary.BigEndian.Uint16(sig[1:]))
	n := int(binary.BigEndian.Uint16(sig[3:])) / sha512.Size
	for i := range n {
		p.path = append(p.path, Digest(sig[5+sha512.Size*i:]))
	}
	p.root = sig[5+sha512.Size*n+2:]
	return p
}

func (p batchParts) bytes() []byte {
	b := binary.BigEndian.AppendUint16([]byte{batchForm}, uint16(p.index))
	b = binary.BigEndian.AppendUint16(b, uint16(sha512.Size*len(p.path)))
	for _, d := range p.path {
		b = append(b, d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.root)))
	return append(b, p.root...)
}

// TestBatchPathsLeadFromOneLeafOnly moves, shortens, lengthens and mixes paths. Whoever
// holds some signatures of a batch gains none for another message by it.
func TestBatchPathsLeadFromOneLeafOnly(t *testing.T) {
	key := generate(t, identity.LevelEpoch)
	messages, signatures := batchOf(t, key, 4)
	_, others := batchOf(t, key, 8)
	verify := func(context string, msg []byte, p batchParts) error {
		return verifyEpochKey(key.Public(), context, msg, p.bytes())
	}
	if err := verify(contextOf(1), messages[1], partsOf(signatures[1])); err != nil {
		t.Fatal(err) // else this test changes nothing but an invalid signature
	}
	left := batchLeaf(contextOf(0), messages[0])
	right := batchLeaf(contextOf(1), messages[1])
	refuse := func(name string, change func(*batchParts)) {
		t.Helper()
		p := partsOf(signatures[1])
		change(&p)
		if err := verify(contextOf(1), messages[1], p); !errors.Is(err, identity.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refuse("another leaf's path", func(p *batchParts) { *p = partsOf(signatures[3]) })
	refuse("another leaf's index", func(p *batchParts) { p.index = 0 })
	refuse("an index outside the tree", func(p *batchParts) { p.index += 4 })
	refuse("a longer path", func(p *batchParts) { p.path = append(p.path, Digest{}) })
	refuse("a shorter path", func(p *batchParts) { p.path = p.path[:1] })
	refuse("no path", func(p *batchParts) { p.path, p.index = nil, 0 })
	refuse("another batch's root", func(p *batchParts) { p.root = partsOf(others[1]).root })
	refuse("a path that is too long", func(p *batchParts) { p.path = make([]Digest, maxBatchDepth+1) })
	refuse("a root signed in a batch", func(p *batchParts) { p.root = signatures[1] })

	// A node's bytes in the place of a message, with what is left of the path.
	p := partsOf(signatures[1])
	node := Join(labelBatchNode, left[:], right[:])
	p.index, p.path = 0, p.path[1:]
	for name, msg := range map[string][]byte{"node": node, "children": append(left[:], right[:]...)} {
		for _, context := range []string{contextChallenge, contextRelease, labelBatchNode} {
			if err := verify(context, msg, p); !errors.Is(err, identity.ErrSignature) {
				t.Errorf("a %s passed for a message: %v", name, err)
			}
		}
	}
	// A root's signature verifies as a root's only.
	if err := key.Public().Verify(contextChallenge, messages[1], p.root); err == nil {
		t.Error("the signature of a root is one of a message")
	}
	// What is missing in a tree of three is zeros, and no message.
	three, signed := batchOf(t, key, 3)
	q := partsOf(signed[2])
	if q.path[0] != (Digest{}) {
		t.Fatalf("the fourth of three leaves is %x", q.path[0])
	}
	q.index, q.path[0] = 3, batchLeaf(contextOf(2), three[2])
	if err := verify(contextOf(3), nil, q); !errors.Is(err, identity.ErrSignature) {
		t.Errorf("a missing leaf verifies: %v", err)
	}
}

// TestVersion1HasNoBatches puts a batch's signature on a certificate of version 1.
func TestVersion1HasNoBatches(t *testing.T) {
	p := newParties(t)
	st := sampleEpoch(p)
	body, _, err := parseSigned(readVectors(t, filepath.Join("testdata", "exchange-1.json")).Lease, maxSignedLeaseBytes, &leaseCertificate1{})
	if err != nil {
		t.Fatal(err)
	}
	tree := newBatchTree([]Digest{batchLeaf(contextRelease1, body), {1}})
	root := must[[]byte](t)(p.epoch.Sign(contextBatch, batchRoot(tree.depth(), tree.root())))
	sig := must[[]byte](t)(tree.signature(0, root))
	if err := verifyEpochKey(st.Key, contextRelease1, body, sig); err != nil {
		t.Fatal(err) // the signature is right, and still refused:
	}
	var c leaseCertificate1
	if _, _, err := parseSigned(readVectors(t, filepath.Join("testdata", "exchange-1.json")).Lease, maxSignedLeaseBytes, &c); err != nil {
		t.Fatal(err)
	}
	encoded := must[[]byte](t)(bodyOf(&c))
	_, err = verifyLease1(must[[]byte](t)(assemble(contextRelease1, encoded, sig)), st)
	wantReason(t, err, ReasonBrokerSignature)
}

// TestBatchedExchangeVerifies signs a challenge and a certificate in one batch with
// strangers, and both verify where they are used.
func TestBatchedExchangeVerifies(t *testing.T) {
	longtest.WithoutRace(t, "it verifies a batch with each of its parts damaged")
	v := readBatchVectors(t)
	epoch := must[identity.Public](t)(identity.ParsePublic(v.EpochKey))
	var m2 Challenge
	if err := Parse(v.M2, &m2); err != nil {
		t.Fatal(err)
	}
	if err := m2.Verify(epoch, [48]byte(v.Exporter), Digest(v.HashM1)); err != nil {
		t.Error(err)
	}
	wantReason(t, m2.Verify(epoch, [48]byte{}, Digest(v.HashM1)), ReasonBrokerSignature)
	st, err := VerifyEpoch(m2.Epoch, []identity.Public{must[identity.Public](t)(identity.ParsePublic(v.Root))})
	if err != nil {
		t.Fatal(err)
	}
	c, err := VerifyLease(v.Lease, st)
	if err != nil || c.Epoch != st.Epoch {
		t.Errorf("epoch %d: %v", c.Epoch, err)
	}
	for i := range v.Lease {
		if i > 64 && i < len(v.Lease)-4000 {
			continue // the body's bytes have tests of their own
		}
		bad := bytes.Clone(v.Lease)
		bad[i] ^= 1
		if _, err := VerifyLease(bad, st); err == nil {
			t.Fatalf("verifies with byte %d of %d changed", i, len(bad))
		}
	}
}

// TestLargestLeaseFitsInAFullBatch makes every field of a certificate as long as it may
// be: what a broker may grant, it can also sign under load.
func TestLargestLeaseFitsInAFullBatch(t *testing.T) {
	p := newParties(t)
	c := sampleLease(p)
	c.ImageID, c.Tenant, c.PolicyID = strings.Repeat("i", maxImageIDBytes), strings.Repeat("t", maxTenantBytes), strings.Repeat("p", maxPolicyIDBytes)
	c.Registers, c.Grants = nil, nil
	for i := range evidence.MaxRegisters {
		c.Registers = append(c.Registers, evidence.Register{Name: fmt.Sprintf("%032d", i), Value: make([]byte, evidence.MaxRegisterBytes)})
	}
	for i := range MaxResources {
		name := fmt.Sprintf("%02d/", i)
		c.Grants = append(c.Grants, Granted{Resource: name + strings.Repeat("r", MaxResourceBytes-len(name)), Version: 1})
	}
	c.Image = must[evidence.ImageDigest](t)(evidence.ImageOf(c.Kind, c.Registers))
	s := &scribe{signatures: [][]byte{{1}}}
	must[[]byte](t)(SignLease(s, c))
	leaves := append(s.leaves, make([]Digest, maxBatch-1)...)
	tree := newBatchTree(leaves)
	s.leaves = nil
	s.signatures[0] = must[[]byte](t)(tree.signature(0, must[[]byte](t)(p.epoch.Sign(contextBatch, batchRoot(tree.depth(), tree.root())))))
	lease := must[[]byte](t)(SignLease(s, c))
	if _, err := VerifyLease(lease, sampleEpoch(p)); err != nil {
		t.Errorf("a certificate of %d bytes: %v", len(lease), err)
	}
	if m6 := (&Release{Lease: lease, Items: []Item{{Resource: "a/b", Version: 1, Enc: []byte{1}, Ciphertext: []byte{1}}}}); !m6.valid() {
		t.Error("no M6 carries it")
	}
}

// batchVectors are M2 and the certificate of exchange-2.json's kind, signed together
// with three other messages.
type batchVectors struct {
	Exporter hexBytes   `json:"exporter"`
	Root     hexBytes   `json:"root_public"`
	EpochKey hexBytes   `json:"epoch_public"`
	HashM1   hexBytes   `json:"hash_m1"`
	Leaves   []hexBytes `json:"leaves"`
	TreeRoot hexBytes   `json:"tree_root"`
	M2       hexBytes   `json:"m2"`
	Lease    hexBytes   `json:"lease_certificate"`
}

var batchVectorFile = filepath.Join("testdata", "batch-2.json")

// readBatchVectors writes the file if it is not there, as TestWriteVectors does.
func readBatchVectors(t testing.TB) (v batchVectors) {
	t.Helper()
	raw, err := os.ReadFile(batchVectorFile)
	if errors.Is(err, os.ErrNotExist) {
		b := must[[]byte](t)(json.MarshalIndent(newBatchVectors(t), "", "  "))
		if err := os.WriteFile(batchVectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("wrote %s: commit it", batchVectorFile)
	}
	if err := errors.Join(err, json.Unmarshal(raw, &v)); err != nil {
		t.Fatal(err)
	}
	return v
}

// scribe collects what would be signed, and then hands out what was.
type scribe struct {
	leaves     []Digest
	signatures [][]byte
}

func (s *scribe) Sign(context string, msg []byte) ([]byte, error) {
	s.leaves = append(s.leaves, batchLeaf(context, msg))
	if len(s.signatures) == 0 {
		return []byte{0}, nil
	}
	return s.signatures[len(s.leaves)-1], nil
}

func newBatchVectors(t testing.TB) batchVectors {
	t.Helper()
	p := newParties(t)
	r := newRun(t, p)
	var m2 Challenge
	if err := Parse(r.frames[1], &m2); err != nil {
		t.Fatal(err)
	}
	hashM1 := HashMessage(r.frames[0])
	lease := sampleLease(p)
	s := &scribe{}
	write := func() (signed []byte) {
		s.leaves = nil
		if err := m2.Sign(s, r.ekm, hashM1); err != nil {
			t.Fatal(err)
		}
		return must[[]byte](t)(SignLease(s, lease))
	}
	write()
	leaves := append(s.leaves, batchLeaf(contextChallenge, []byte("a")), batchLeaf(contextRelease, []byte("b")), batchLeaf(contextRelease, []byte("c")))
	tree := newBatchTree(leaves)
	root := must[[]byte](t)(p.epoch.Sign(contextBatch, batchRoot(tree.depth(), tree.root())))
	s.signatures = [][]byte{must[[]byte](t)(tree.signature(0, root)), must[[]byte](t)(tree.signature(1, root))}
	v := batchVectors{Exporter: r.ekm[:], Root: p.root.Public().Bytes(), EpochKey: p.epoch.Public().Bytes(), HashM1: hashM1[:], Lease: write()}
	v.M2 = must[[]byte](t)(Marshal(&m2))
	for _, l := range leaves {
		v.Leaves = append(v.Leaves, bytes.Clone(l[:]))
	}
	top := tree.root()
	v.TreeRoot = top[:]
	return v
}

// TestBatchTreeOfTheVectors computes the stored tree again.
func TestBatchTreeOfTheVectors(t *testing.T) {
	v := readBatchVectors(t)
	var leaves []Digest
	for _, l := range v.Leaves {
		leaves = append(leaves, Digest(l))
	}
	if root := newBatchTree(leaves).root(); !bytes.Equal(root[:], v.TreeRoot) {
		t.Errorf("the root of the stored leaves is %x", root)
	}
}

// TestBatcherSignsAtOnceWhenFewAreUnderWay, in a bubble whose clock moves only if
// somebody waits.
func TestBatcherSignsAtOnceWhenFewAreUnderWay(t *testing.T) {
	key := generate(t, identity.LevelEpoch)
	synctest.Test(t, func(t *testing.T) {
		b := NewBatcher(key)
		for range crowd - 1 {
			b.Enter()
		}
		begin := time.Now()
		sig, err := b.Sign(contextChallenge, []byte("m"))
		if err != nil || sig[0] == batchForm {
			t.Errorf("signed alone in form %d: %v", sig[0], err)
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("waited %s", waited)
		}
	})
}

// TestBatcherGathersWhileManyAreUnderWay: one signature for all who come within the
// window, and nobody waits longer for those who stay silent.
func TestBatcherGathersWhileManyAreUnderWay(t *testing.T) {
	key := generate(t, identity.LevelEpoch)
	synctest.Test(t, func(t *testing.T) {
		b := NewBatcher(key)
		var leave []func()
		for range 40 {
			leave = append(leave, b.Enter())
		}
		sign := func(n int) (roots map[string]int, waited time.Duration) {
			roots = map[string]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			begin := time.Now()
			for i := range n {
				wg.Go(func() {
					msg := fmt.Appendf(nil, "m%d", i)
					sig, err := b.Sign(contextOf(i), msg)
					if err == nil {
						err = verifyEpochKey(key.Public(), contextOf(i), msg, sig)
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if sig[0] != batchForm { // who comes alone is signed alone
						roots[string(sig)]++
						return
					}
					roots[string(partsOf(sig).root)]++
				})
			}
			wg.Wait()
			return roots, time.Since(begin)
		}
		if roots, waited := sign(30); len(roots) != 1 || waited != BatchWindow {
			t.Errorf("30 of 40: %d signatures after %s", len(roots), waited)
		}
		for _, l := range leave[30:] {
			l()
			l() // once counts
		}
		if roots, waited := sign(30); len(roots) != 1 || waited != 0 {
			t.Errorf("all of 30: %d signatures after %s", len(roots), waited)
		}
		if roots, _ := sign(maxBatch + 10); len(roots) < 2 {
			t.Errorf("%d messages in %d batches", maxBatch+10, len(roots))
		}
	})
}

// TestBatcherReportsToAll signs with a key that was wiped.
func TestBatcherReportsToAll(t *testing.T) {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
	b := NewBatcher(key)
	for range crowd {
		b.Enter()
	}
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			if sig, err := b.Sign(contextChallenge, []byte("m")); err == nil {
				t.Errorf("signed %x", sig)
			}
		})
	}
	wg.Wait()
}

// FuzzBatchSignature: what verifies has one encoding, and nothing panics.
func FuzzBatchSignature(f *testing.F) {
	key := generate(f, identity.LevelEpoch)
	messages, signatures := batchOf(f, key, 5)
	for _, s := range signatures {
		f.Add(s)
	}
	f.Add([]byte{batchForm})
	f.Fuzz(func(t *testing.T, sig []byte) {
		for i, msg := range messages {
			if verifyEpochKey(key.Public(), contextOf(i), msg, sig) == nil && !bytes.Equal(sig, signatures[i]) {
				t.Fatalf("another signature of message %d verifies", i)
			}
		}
	})
}
