package circuits

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark/backend/groth16"
	groth16bn254 "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/constraint"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// The tests of this file are named for advisories of the library. Each fails on a version
// that the advisory is about, or if our use became what it is about. The table in package
// layout says where the others are.

// Several commitments in a Groth16 circuit made it unsound. Ours have one each, whatever
// the shape, and the verifier has no key of more.
func TestCVE_2024_45039_OneCommitment(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of a circuit")
	for what, compile := range map[string]func() (*Circuit, error){
		"inference":    func() (*Circuit, error) { return CompileInference(Inference{mlp(4, 3, 2), 1}) },
		"three layers": func() (*Circuit, error) { return CompileInference(Inference{mlp(4, 3, 3, 2), 1}) },
		"batch":        func() (*Circuit, error) { return CompileInference(Inference{mlp(4, 3, 2), 3}) },
		"PLONK":        func() (*Circuit, error) { return CompileInferencePLONK(Inference{mlp(4, 3, 2), 2}) },
		"gradient":     func() (*Circuit, error) { return CompileGradient(Gradient{5, 8}) },
		"16 bits":      func() (*Circuit, error) { return CompileGradient(Gradient{5, 16}) },
	} {
		c, err := compile()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(commitments(c.System)); n != 1 {
			t.Errorf("%s: %d commitments", what, n)
		}
	}
	circuit, err := CompileInference(Inference{mlp(4, 3, 2), 1})
	k := setup(t, circuit, err)
	raw, err := marshal(k.gnark)
	if err != nil {
		t.Fatal(err)
	}
	// How many lists of committed inputs there are, and how many keys of commitments.
	points := int(binary.BigEndian.Uint32(raw[keyHead:]))
	for _, at := range []int{keyHead + 4 + points*curve.SizeOfG1AffineCompressed, len(raw) - 2*curve.SizeOfG2AffineCompressed - 4} {
		two := bytes.Clone(raw)
		if two[at+3] != 1 {
			t.Fatal("the library's encoding changed")
		}
		two[at+3] = 2
		if _, err := groth16verify.ParseKey(two); !errors.Is(err, groth16verify.ErrKey) {
			t.Errorf("a key of two commitments: %v", err)
		}
	}
}

// keyHead is the length of a verifying key before its list of points.
const keyHead = 3*curve.SizeOfG1AffineCompressed + 3*curve.SizeOfG2AffineCompressed

func commitments(s constraint.ConstraintSystem) []int {
	type lister interface{ GetCommitments() constraint.Commitments }
	l, ok := s.(lister)
	if !ok {
		return nil
	}
	return l.GetCommitments().CommitmentIndexes()
}

// A commitment that the witness alone decides lets whoever guesses the witness test the
// guess. Two proofs of one witness share no part.
func TestCVE_2024_45040_CommitmentsHide(t *testing.T) {
	spec := Inference{mlp(4, 3, 2), 1}
	circuit, err := CompileInference(spec)
	k := setup(t, circuit, err)
	n, items := randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 1, 1)
	a := Assignment{Network: n, Items: items, Statement: statementElement(t, inferenceStatement(t, k.circuit, n, items))}
	var proofs [2]*groth16bn254.Proof
	for i := range proofs {
		raw, err := ProveInference(k.circuit, spec, k.proving, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := groth16.NewProof(ecc.BN254)
		if _, err := p.ReadFrom(bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		proofs[i] = p.(*groth16bn254.Proof)
		if len(proofs[i].Commitments) != 1 {
			t.Fatalf("%d commitments in a proof", len(proofs[i].Commitments))
		}
	}
	p, q := proofs[0], proofs[1]
	if p.Commitments[0].Equal(&q.Commitments[0]) || p.CommitmentPok.Equal(&q.CommitmentPok) || p.Ar.Equal(&q.Ar) || p.Bs.Equal(&q.Bs) || p.Krs.Equal(&q.Krs) {
		t.Error("two proofs of one witness have a part in common")
	}
}

// A length in foreign bytes made the library allocate it. Keys and proofs are refused
// before; a circuit is looked at only when its digest is right.
func TestCVE_2024_50354_LengthsAreNotBelieved(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of a circuit")
	circuit, err := CompileInference(Inference{mlp(4, 3, 2), 1})
	k := setup(t, circuit, err)
	huge, err := marshal(k.gnark)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(huge[keyHead:], 1<<31)
	if n := allocated(func() {
		if _, err := groth16verify.ParseKey(huge); !errors.Is(err, groth16verify.ErrKey) {
			t.Errorf("a key of 2^31 points: %v", err)
		}
	}); n > 1<<20 {
		t.Errorf("a key of 2^31 points: %d bytes were allocated", n)
	}
	var file bytes.Buffer
	if _, err := k.circuit.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < min(file.Len(), 256); at++ {
		bad := bytes.Clone(file.Bytes())
		bad[at] ^= 0xff
		if n := allocated(func() {
			if _, err := OpenCircuit(bytes.NewReader(bad), k.circuit.Digest); !errors.Is(err, ErrCircuit) {
				t.Errorf("a circuit with byte %d changed: %v", at, err)
			}
		}); n > 16*uint64(len(bad))+1<<20 {
			t.Fatalf("byte %d changed: %d bytes were allocated for a file of %d", at, n, len(bad))
		}
	}
}

// allocated is what f allocates; nothing else runs.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
