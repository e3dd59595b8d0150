package prove

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// verification verifies proofs in the worker that ships.
func verification(t testing.TB) provetask.Verification {
	t.Helper()
	pool, err := worker.NewPool(workertest.Runner(t), 1, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return provetask.Verification{Pool: pool, Memory: 128 << 20, Time: time.Minute}
}

// An answer is proven with the keys of a universal string, and verified in another worker
// before it is published.
func TestPLONKEndToEnd(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of PLONK and proves with them")
	w, b := newWorld(t), newBroker(t)
	set := provetest.SavePLONK(t, t.TempDir())
	var err error
	if w.ring, err = keyset.NewRing([]keyset.Set{set}, false, time.Minute, verification(t).Parsers()); err != nil {
		t.Fatal(err)
	}
	b.keys[set.Record.VerifyingKey] = true
	g := w.start(t, All, with(b))
	id := g.answer(t, 5)
	g.done(t, id)
	bundle := g.proven(t, 5, id)
	if bundle.Proof.Statement.System != statement.PLONK || len(bundle.Proof.Proof) < 400 {
		t.Errorf("%s, %d bytes", bundle.Proof.Statement.System, len(bundle.Proof.Proof))
	}
	poll(t, func() bool { return b.has(id) })

	// The library's verifier says what the worker says, of this proof and of others.
	local, err := keyset.NewRing([]keyset.Set{set}, false, time.Minute, keyset.Parsers{statement.PLONK: keyset.By(plonkverify.ParseKey)})
	if err != nil {
		t.Fatal(err)
	}
	keys := provetest.Shared(t)
	groth16 := ringOf(t, keys.Save(t, t.TempDir(), false))
	n, salt, input := classifytest.Network(1), statement.Salt{1}, make([]int8, classifytest.Inputs)
	outputs, err := n.Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	other := statement.Envelope{Statement: keys.Statement(classifytest.Seal(t, "tiny", 1).Model, digest.ReceiptID{1}, salt, input, outputs), Key: keys.VerifyingDigest()}
	other.Proof = keys.Prove(t, other.Statement, n, salt, input)
	if _, err := groth16.Verify(t.Context(), &other); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*statement.Envelope){
		"as it is":                         func(*statement.Envelope) {},
		"another output":                   func(e *statement.Envelope) { e.Statement.Inference.Items[0].Outputs[0]++ },
		"another receipt":                  func(e *statement.Envelope) { e.Statement.Inference.Items[0].Receipt[0]++ },
		"one byte":                         func(e *statement.Envelope) { e.Proof[len(e.Proof)/2] ^= 1 },
		"cut short":                        func(e *statement.Envelope) { e.Proof = e.Proof[:len(e.Proof)-1] },
		"one byte more":                    func(e *statement.Envelope) { e.Proof = append(e.Proof, 0) },
		"another system":                   func(e *statement.Envelope) { e.Statement.System = statement.Groth16 },
		"another circuit":                  func(e *statement.Envelope) { e.Statement.Circuit[0]++ },
		"a Groth16 key":                    func(e *statement.Envelope) { e.Key = keys.VerifyingDigest() },
		"a Groth16 proof":                  func(e *statement.Envelope) { e.Proof = other.Proof },
		"Groth16's under the key of PLONK": func(e *statement.Envelope) { key := e.Key; *e = clone(t, other); e.Key = key },
		"Groth16's but for key and system": func(e *statement.Envelope) {
			s := e.Statement
			e.Statement, e.Proof = clone(t, other).Statement, other.Proof
			e.Statement.System, e.Statement.Circuit = s.System, s.Circuit
		},
		"PLONK's as if of Groth16": func(e *statement.Envelope) {
			e.Key, e.Statement.System, e.Statement.Circuit = keys.VerifyingDigest(), statement.Groth16, keys.Record.Circuit
		},
	} {
		e := clone(t, bundle.Proof)
		change(&e)
		_, here := local.Verify(t.Context(), &e)
		_, there := w.ring.Verify(t.Context(), &e)
		if name == "as it is" {
			if err := errors.Join(here, there); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if here == nil || there == nil {
			t.Errorf("%s: here %v, in a worker %v", name, here, there)
		}
		if _, err := groth16.Verify(t.Context(), &e); err == nil {
			t.Errorf("%s: verified by a Groth16 key", name)
		}
	}
	if _, err := keyset.NewRing([]keyset.Set{set}, false, time.Minute, provetest.Verifiers()); !errors.Is(err, keyset.ErrSystem) {
		t.Errorf("a program without PLONK's verifier: %v", err)
	}
}

// clone copies an envelope.
func clone(t testing.TB, e statement.Envelope) statement.Envelope {
	t.Helper()
	raw, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	c, err := statement.ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	return *c
}

// A key that no worker can use, and a worker that does not come back, verify nothing.
func TestPLONKWithoutAVerdict(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of PLONK")
	set := provetest.SavePLONK(t, t.TempDir())
	raw, err := set.VerifyingKey()
	if err != nil {
		t.Fatal(err)
	}
	v := verification(t)
	parse := func(raw []byte) (keyset.Verifier, error) { return v.Parsers().Parse(statement.PLONK, raw) }
	for _, bad := range [][]byte{nil, make([]byte, 1<<20)} {
		if _, err := parse(bad); err == nil {
			t.Errorf("a key of %d bytes", len(bad))
		}
	}
	e := statement.Envelope{Key: set.Record.VerifyingKey, Proof: []byte{1}, Statement: statement.Statement{System: statement.PLONK, Circuit: set.Record.Circuit,
		Inference: &statement.Inference{Items: []statement.Item{{Outputs: []int32{1, 2}}}}}}
	raw[len(raw)/2] ^= 1
	broken, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.VerifyEnvelope(t.Context(), &e); !errors.Is(err, provetask.ErrProof) {
		t.Errorf("a broken key: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := broken.VerifyEnvelope(over, &e); !errors.Is(err, provetask.ErrNoVerdict) || errors.Is(err, provetask.ErrProof) {
		t.Errorf("the time was over: %v", err)
	}
	v.Memory = 1 << 20
	starved, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := starved.VerifyEnvelope(t.Context(), &e); !errors.Is(err, provetask.ErrNoVerdict) || errors.Is(err, provetask.ErrProof) {
		t.Errorf("a worker without memory: %v", err)
	}
}
