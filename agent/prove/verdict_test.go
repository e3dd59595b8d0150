package prove

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// groth16Proof is a proof of an answer.
func groth16Proof(t testing.TB, keys *provetest.Keys) statement.Envelope {
	t.Helper()
	n, salt, input := classifytest.Network(1), statement.Salt{1}, make([]int8, classifytest.Inputs)
	outputs, err := n.Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := n.Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m := statement.Model{Architecture: sum, Quantization: digest.Digest{1}, Chunks: digest.Digest{2}, Weights: statement.WeightsCommitment(n)}
	e := statement.Envelope{Statement: keys.Statement(m, digest.ReceiptID{1}, salt, input, outputs), Key: keys.VerifyingDigest()}
	e.Proof = keys.Prove(t, e.Statement, n, salt, input)
	return e
}

// The worker that ships says of proofs of Groth16 what the verifier says here.
func TestGroth16IsVerifiedInAWorker(t *testing.T) {
	keys := provetest.Shared(t)
	set := keys.Save(t, t.TempDir(), false)
	here := ringOf(t, set)
	there, err := keyset.NewRing([]keyset.Set{set}, false, 0, verification(t).Parsers())
	if err != nil {
		t.Fatal(err)
	}
	good := groth16Proof(t, keys)
	for name, change := range map[string]func(*statement.Envelope){
		"as it is":        func(*statement.Envelope) {},
		"another output":  func(e *statement.Envelope) { e.Statement.Inference.Items[0].Outputs[0]++ },
		"another receipt": func(e *statement.Envelope) { e.Statement.Inference.Items[0].Receipt[0]++ },
		"another model":   func(e *statement.Envelope) { e.Statement.Inference.Model.Chunks[0]++ },
		"one byte":        func(e *statement.Envelope) { e.Proof[len(e.Proof)/2] ^= 1 },
		"cut short":       func(e *statement.Envelope) { e.Proof = e.Proof[:len(e.Proof)-1] },
		"one byte more":   func(e *statement.Envelope) { e.Proof = append(e.Proof, 0) },
		"another system":  func(e *statement.Envelope) { e.Statement.System = statement.PLONK },
		"another circuit": func(e *statement.Envelope) { e.Statement.Circuit[0]++ },
		"another key":     func(e *statement.Envelope) { e.Key[0]++ },
	} {
		e := clone(t, good)
		change(&e)
		_, want := here.Verify(t.Context(), &e)
		if _, got := there.Verify(t.Context(), &e); (got == nil) != (want == nil) || errors.Is(got, provetask.ErrNoVerdict) {
			t.Errorf("%s: here %v, in a worker %v", name, want, got)
		}
		if (want == nil) != (name == "as it is") {
			t.Errorf("%s: %v", name, want)
		}
	}

	// The worker holds the key against the envelope, whatever the ring has done.
	other, err := verification(t).Parsers().Parse(statement.Groth16, provetest.Other(t).Verifying)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.VerifyEnvelope(t.Context(), &good); !errors.Is(err, provetask.ErrProof) {
		t.Errorf("with another key's bytes: %v", err)
	}
}

// dies is a verifier that comes to no verdict as often as it is told to.
type dies struct {
	left atomic.Int32
	how  error
	keyset.Verifier
}

func (d *dies) VerifyEnvelope(ctx context.Context, e *statement.Envelope) error {
	if d.left.Add(-1) >= 0 {
		return d.how
	}
	return d.Verifier.VerifyEnvelope(ctx, e)
}

func TestAProofWithoutAVerdictIsTriedAgain(t *testing.T) {
	longtest.Run(t, "it proves three answers")
	for _, c := range []struct {
		how  error
		exit jobs.Exit
	}{
		{fmt.Errorf("%w: %w", provetask.ErrNoVerdict, &worker.Failure{Exit: worker.Crash}), jobs.Crash},
		{fmt.Errorf("verification took longer than it may: %w", context.DeadlineExceeded), jobs.TimeOut},
	} {
		t.Run(string(c.exit), func(t *testing.T) {
			proofWithoutVerdict(t, c.how, c.exit)
		})
	}
}

func proofWithoutVerdict(t *testing.T, how error, exit jobs.Exit) {
	w := newWorld(t)
	d := &dies{how: how}
	d.left.Store(1)
	var err error
	w.ring, err = keyset.NewRing([]keyset.Set{provetest.Shared(t).Save(t, t.TempDir(), false)}, false, 0, keyset.Parsers{statement.Groth16: func(raw []byte) (keyset.Verifier, error) {
		key, err := groth16verify.ParseKey(raw)
		d.Verifier = key
		return d, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	g := w.start(t, All, nil)
	id := g.answer(t, 5)
	if info := g.job(t, id); info.State != jobs.Queued || info.Exit != exit || info.Reason != "" || exists(t, g.store.files.path(proofFolder, id)) {
		t.Errorf("after the first try: %+v, published: %v", info, exists(t, g.store.files.path(proofFolder, id)))
	}
	poll(t, func() bool { info := g.job(t, id); return info.Final() })
	if info := g.done(t, id); info.Tries != 2 || d.left.Load() != -1 || !exists(t, g.store.files.path(proofFolder, id)) {
		t.Errorf("%+v, %d verifications are left", info, d.left.Load())
	}
}

func BenchmarkVerification(b *testing.B) {
	keys := provetest.Shared(b)
	set := keys.Save(b, b.TempDir(), false)
	e := groth16Proof(b, keys)
	for name, parsers := range map[string]keyset.Parsers{"here": provetest.Verifiers(), "worker": verification(b).Parsers()} {
		ring, err := keyset.NewRing([]keyset.Set{set}, false, 0, parsers)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := ring.Verify(b.Context(), &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
