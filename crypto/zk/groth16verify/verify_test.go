package groth16verify_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

const items, outputs, inputs = 1, 10, 13

var shapes = map[string]zktest.Shape{
	"plain":              {Inputs: inputs},
	"commitment":         {Inputs: inputs, Commitment: true},
	"committed to input": {Inputs: inputs, Commitment: true, Public: true},
}

var made sync.Map

// fixture makes keys once for all tests.
func fixture(t testing.TB, shape string) (*zktest.Groth16, *groth16verify.Key) {
	t.Helper()
	once, _ := made.LoadOrStore(shape, sync.OnceValues(func() (*zktest.Groth16, error) { return zktest.NewGroth16(shapes[shape]) }))
	g, err := once.(func() (*zktest.Groth16, error))()
	if err != nil {
		t.Fatal(err)
	}
	k, err := groth16verify.ParseKey(g.Key)
	if err != nil {
		t.Fatal(err)
	}
	return g, k
}

func envelope(t testing.TB, g *zktest.Groth16, seed byte) *statement.Envelope {
	t.Helper()
	e, err := g.Envelope(zktest.Inferences(seed, items, outputs))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, e *statement.Envelope) []fr.Element {
	t.Helper()
	p, err := scalars.Public(&e.Statement)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProofsVerify(t *testing.T) {
	for name := range shapes {
		t.Run(name, func(t *testing.T) {
			g, k := fixture(t, name)
			if k.Digest() != g.Digest || k.Inputs() != inputs {
				t.Fatalf("key %s with %d inputs", k.Digest(), k.Inputs())
			}
			e := envelope(t, g, 1)
			if len(e.Proof) != k.ProofBytes() {
				t.Errorf("a proof of %d bytes, announced are %d", len(e.Proof), k.ProofBytes())
			}
			if err := k.VerifyEnvelope(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAgreesWithGnark tries good and changed proofs on this verifier and on gnark's.
func TestAgreesWithGnark(t *testing.T) {
	seeds := byte(1)
	if longtest.All() {
		seeds = 3
	}
	for name := range shapes {
		g, k := fixture(t, name)
		for seed := range seeds {
			e := envelope(t, g, seed)
			good := public(t, e)
			for i := range good {
				for _, change := range []int64{0, 1, -1} {
					changed := slices.Clone(good)
					var d fr.Element
					changed[i].Add(&changed[i], d.SetInt64(change))
					ours, theirs := k.Verify(t.Context(), e.Proof, changed), g.Verify(e.Proof, changed)
					if (ours == nil) != (theirs == nil) || (ours == nil) != (change == 0) {
						t.Errorf("%s: input %d changed by %d: we say %v, gnark %v", name, i, change, ours, theirs)
					}
				}
			}
		}
	}
}

// parts are the offsets and sizes of a proof's parts.
var parts = map[string][2]int{"a": {0, 32}, "b": {32, 64}, "c": {96, 32}, "commitment": {132, 32}, "knowledge": {164, 32}}

func g1Of(t testing.TB, raw []byte) curve.G1Affine {
	t.Helper()
	var p curve.G1Affine
	if _, err := p.SetBytes(raw); err != nil {
		t.Fatal(err)
	}
	return p
}

// put writes a G1 point over a part of a copy.
func put(raw []byte, part string, p curve.G1Affine) []byte {
	out := slices.Clone(raw)
	b := p.Bytes()
	copy(out[parts[part][0]:], b[:])
	return out
}

// outside is a point of the twist that is not in the subgroup.
func outside(t testing.TB) curve.G2Affine {
	t.Helper()
	for x := uint64(1); x < 100; x++ {
		raw := make([]byte, 64)
		binary.BigEndian.PutUint64(raw[56:], x)
		raw[0] |= 0x80
		var p curve.G2Affine
		d := curve.NewDecoder(slicesReader(raw), curve.NoSubgroupChecks())
		if d.Decode(&p) == nil && p.IsOnCurve() && !p.IsInSubGroup() {
			return p
		}
	}
	t.Fatal("no point outside the subgroup")
	return curve.G2Affine{}
}

// hostile are changes of a good proof, all of which must be refused.
func hostile(t testing.TB, raw []byte) map[string][]byte {
	_, _, one, two := curve.Generators()
	set := map[string][]byte{
		"empty": {}, "one byte short": raw[:len(raw)-1], "one byte more": append(slices.Clone(raw), 0), "half": raw[:len(raw)/2],
		"zeros": make([]byte, len(raw)), "without commitment": raw[:164],
	}
	for name, part := range parts {
		at, size := part[0], part[1]
		infinity := slices.Clone(raw)
		clear(infinity[at : at+size])
		infinity[at] = 0x40
		set[name+" at infinity"] = infinity
		uncompressed := slices.Clone(raw)
		uncompressed[at] &= 0x3f
		set[name+" with the flag of another form"] = uncompressed
		sign := slices.Clone(raw)
		sign[at] ^= 0x40
		set[name+" negated"] = sign
		// x + p is another spelling of x where it fits the bits.
		x := new(big.Int).SetBytes(append([]byte{raw[at] & 0x3f}, raw[at+1:at+32]...))
		if x.Add(x, fp.Modulus()); x.BitLen() <= 254 {
			wide := slices.Clone(raw)
			x.FillBytes(wide[at : at+32])
			wide[at] |= raw[at] & 0xc0
			set[name+" not below the modulus"] = wide
		}
		top := slices.Clone(raw)
		for i := range size {
			top[at+i] |= 0x3f
		}
		set[name+" far above the modulus"] = top
		if size == 32 {
			p := g1Of(t, raw[at:at+size])
			set[name+" plus the generator"] = put(raw, name, *new(curve.G1Affine).Add(&p, &one))
			set[name+" is the generator"] = put(raw, name, one)
			set[name+" doubled"] = put(raw, name, *new(curve.G1Affine).Double(&p))
		}
	}
	for name, p := range map[string]curve.G2Affine{"b outside the subgroup": outside(t), "b is the generator": two} {
		out := slices.Clone(raw)
		b := p.Bytes()
		copy(out[32:], b[:])
		set[name] = out
	}
	var b curve.G2Affine
	if _, err := b.SetBytes(raw[32:96]); err != nil {
		t.Fatal(err)
	}
	// The true b plus a point whose order divides the cofactor: pairings alone need not tell.
	var torsion, sum curve.G2Affine
	wrong := outside(t)
	torsion.ScalarMultiplication(&wrong, fr.Modulus())
	if torsion.IsInfinity() || sum.Add(&b, &torsion).IsInSubGroup() {
		t.Fatal("no torsion")
	}
	mixed := slices.Clone(raw)
	compressed := sum.Bytes()
	copy(mixed[32:], compressed[:])
	set["b with torsion"] = mixed
	for n, value := range map[string]uint32{"no commitments": 0, "two commitments": 2, "four thousand million commitments": 1<<32 - 1} {
		out := slices.Clone(raw)
		binary.BigEndian.PutUint32(out[128:], value)
		set[n] = out
	}
	swapped := slices.Clone(raw)
	copy(swapped[132:164], raw[164:])
	copy(swapped[164:], raw[132:164])
	set["commitment and knowledge swapped"] = swapped
	swapped = slices.Clone(raw)
	copy(swapped[:32], raw[96:128])
	copy(swapped[96:128], raw[:32])
	set["a and c swapped"] = swapped
	return set
}

func TestChangedProofsAreRefused(t *testing.T) {
	for _, shape := range []string{"commitment", "committed to input"} {
		g, k := fixture(t, shape)
		e := envelope(t, g, 1)
		in := public(t, e)
		for name, raw := range hostile(t, e.Proof) {
			if err := k.Verify(t.Context(), raw, in); !errors.Is(err, groth16verify.ErrProof) {
				t.Errorf("%s, %s: %v", shape, name, err)
			}
			if err := k.VerifyBatch(t.Context(), []groth16verify.Claim{{Proof: e.Proof, Public: in}, {Proof: raw, Public: in}}); !errors.Is(err, groth16verify.ErrProof) {
				t.Errorf("%s, %s, in a batch: %v", shape, name, err)
			}
		}
		step := 131
		if longtest.All() {
			step = 13
		}
		for bit := 0; bit < 8*len(e.Proof); bit += step {
			raw := slices.Clone(e.Proof)
			raw[bit/8] ^= 1 << (bit % 8)
			if k.Verify(t.Context(), raw, in) == nil {
				t.Errorf("%s: verifies with bit %d changed", shape, bit)
			}
		}
	}
}

// TestRewrittenProofsVerify pins what is known of Groth16: whoever has a proof can write
// another one of the same statement, so that a proof is not a name.
func TestRewrittenProofsVerify(t *testing.T) {
	g, k := fixture(t, "commitment")
	e := envelope(t, g, 1)
	var b curve.G2Affine
	if _, err := b.SetBytes(e.Proof[32:96]); err != nil {
		t.Fatal(err)
	}
	a := g1Of(t, e.Proof[:32])
	raw := put(e.Proof, "a", *a.Neg(&a))
	compressed := b.Neg(&b).Bytes()
	copy(raw[32:], compressed[:])
	if err := k.Verify(t.Context(), raw, public(t, e)); err != nil {
		t.Errorf("both negated: %v", err)
	}
}

// TestKnowledgeIsChecked makes a proof whose commitment and c are moved so that only the
// proof of knowledge is wrong.
func TestKnowledgeIsChecked(t *testing.T) {
	g, k := fixture(t, "commitment")
	e := envelope(t, g, 1)
	other := envelope(t, g, 2)
	raw := slices.Clone(e.Proof)
	copy(raw[164:], other.Proof[164:])
	if g.Verify(raw, public(t, e)) == nil {
		t.Fatal("gnark accepts it")
	}
	if err := k.Verify(t.Context(), raw, public(t, e)); !errors.Is(err, groth16verify.ErrProof) {
		t.Errorf("a foreign proof of knowledge: %v", err)
	}
	// The main equation does not see the proof of knowledge at all.
	if err := k.VerifyBatch(t.Context(), []groth16verify.Claim{{Proof: raw, Public: public(t, e)}}); !errors.Is(err, groth16verify.ErrProof) {
		t.Errorf("a foreign proof of knowledge in a batch: %v", err)
	}
}

func TestWrongInputsAreRefused(t *testing.T) {
	g, k := fixture(t, "commitment")
	e := envelope(t, g, 1)
	in := public(t, e)
	for name, list := range map[string][]fr.Element{"none": nil, "one less": in[:len(in)-1], "one more": append(slices.Clone(in), fr.Element{})} {
		if err := k.Verify(t.Context(), e.Proof, list); !errors.Is(err, groth16verify.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	swapped := slices.Clone(in)
	swapped[2], swapped[3] = swapped[3], swapped[2]
	if err := k.Verify(t.Context(), e.Proof, swapped); !errors.Is(err, groth16verify.ErrProof) {
		t.Errorf("two outputs swapped: %v", err)
	}
}

// TestStatementsAreBound changes one field at a time of what was proven.
func TestStatementsAreBound(t *testing.T) {
	g, k := fixture(t, "commitment")
	for name, change := range map[string]func(*statement.Statement){
		"circuit":      func(s *statement.Statement) { s.Circuit[0]++ },
		"architecture": func(s *statement.Statement) { s.Inference.Model.Architecture[31] ^= 1 },
		"quantization": func(s *statement.Statement) { s.Inference.Model.Quantization[0] ^= 1 },
		"chunks":       func(s *statement.Statement) { s.Inference.Model.Chunks[0] ^= 1 },
		"weights":      func(s *statement.Statement) { s.Inference.Model.Weights[31] ^= 1 },
		"receipt":      func(s *statement.Statement) { s.Inference.Items[0].Receipt[15] ^= 1 },
		"input":        func(s *statement.Statement) { s.Inference.Items[0].Input[31] ^= 1 },
		"output":       func(s *statement.Statement) { s.Inference.Items[0].Outputs[9]++ },
		"outputs swapped": func(s *statement.Statement) {
			o := s.Inference.Items[0].Outputs
			o[0], o[1] = o[1], o[0]
		},
		"digests swapped": func(s *statement.Statement) {
			m := &s.Inference.Model
			m.Quantization, m.Chunks = m.Chunks, m.Quantization
		},
	} {
		e := envelope(t, g, 1)
		change(&e.Statement)
		if err := k.VerifyEnvelope(t.Context(), e); !errors.Is(err, groth16verify.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := envelope(t, g, 1)
	e.Key[0] ^= 1
	if err := k.VerifyEnvelope(t.Context(), e); !errors.Is(err, groth16verify.ErrMismatch) {
		t.Errorf("another key's envelope: %v", err)
	}
	e = envelope(t, g, 1)
	e.Statement.System = statement.PLONK
	if err := k.VerifyEnvelope(t.Context(), e); !errors.Is(err, groth16verify.ErrMismatch) {
		t.Errorf("another system's envelope: %v", err)
	}
	e = envelope(t, g, 1)
	e.Statement.Inference = nil
	if err := k.VerifyEnvelope(t.Context(), e); !errors.Is(err, statement.ErrMalformed) {
		t.Errorf("a statement of nothing: %v", err)
	}
}

func TestKeysOfAnotherSetupRefuse(t *testing.T) {
	g, _ := fixture(t, "commitment")
	again, err := zktest.NewGroth16(shapes["commitment"])
	if err != nil {
		t.Fatal(err)
	}
	k, err := groth16verify.ParseKey(again.Key)
	if err != nil {
		t.Fatal(err)
	}
	e := envelope(t, g, 1)
	if err := k.Verify(t.Context(), e.Proof, public(t, e)); !errors.Is(err, groth16verify.ErrProof) {
		t.Error(err)
	}
}

func TestBatchNamesTheBad(t *testing.T) {
	for name := range shapes {
		g, k := fixture(t, name)
		var list []*statement.Envelope
		for seed := range byte(9) {
			list = append(list, envelope(t, g, seed))
		}
		if err := k.VerifyEnvelopes(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		list[2].Statement.Inference.Items[0].Receipt[0] ^= 1 // does not hold
		list[5].Proof = list[5].Proof[1:]                    // cannot be read
		list[7].Key[0] ^= 1                                  // another key's
		list[8].Proof = list[4].Proof                        // of another statement
		err := k.VerifyEnvelopes(t.Context(), list)
		bad, ok := errors.AsType[*groth16verify.BatchError](err)
		if !ok {
			t.Fatal(err)
		}
		var got []int
		for _, f := range bad.Failed {
			got = append(got, f.Index)
		}
		if !slices.Equal(got, []int{2, 5, 7, 8}) || !errors.Is(err, groth16verify.ErrProof) || !errors.Is(err, groth16verify.ErrMismatch) {
			t.Errorf("%s: %v: %v", name, got, err)
		}
	}
}

// TestErrorsInABatchDoNotCancel swaps parts of two proofs: their sum without weights is
// what it was.
func TestErrorsInABatchDoNotCancel(t *testing.T) {
	g, k := fixture(t, "commitment")
	one, two := envelope(t, g, 1), envelope(t, g, 2)
	for name, part := range parts {
		if name == "a" || name == "b" {
			continue
		}
		a, b := slices.Clone(one.Proof), slices.Clone(two.Proof)
		at, end := part[0], part[0]+part[1]
		copy(a[at:end], two.Proof[at:end])
		copy(b[at:end], one.Proof[at:end])
		err := k.VerifyBatch(t.Context(), []groth16verify.Claim{{a, public(t, one)}, {b, public(t, two)}})
		if bad, ok := errors.AsType[*groth16verify.BatchError](err); !ok || len(bad.Failed) != 2 {
			t.Errorf("%s exchanged: %v", name, err)
		}
	}
	if err := k.VerifyBatch(t.Context(), nil); err != nil {
		t.Errorf("nothing to verify: %v", err)
	}
	if k.VerifyBatch(t.Context(), make([]groth16verify.Claim, groth16verify.MaxBatch+1)) == nil {
		t.Error("a batch over the limit")
	}
}

func TestTimeIsLimited(t *testing.T) {
	g, k := fixture(t, "commitment")
	e := envelope(t, g, 1)
	over, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := k.VerifyEnvelope(over, e); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one: %v", err)
	}
	if err := k.VerifyEnvelopes(over, []*statement.Envelope{e}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a batch: %v", err)
	}
	// Wherever the time ends, the answer is that it ended.
	for looks := range 12 {
		ctx := &countdown{Context: t.Context(), left: looks}
		err := k.VerifyEnvelopes(ctx, []*statement.Envelope{e, e})
		if ctx.left < 0 && !errors.Is(err, context.Canceled) || ctx.left >= 0 && err != nil {
			t.Errorf("after %d looks: %v", looks, err)
		}
		ctx = &countdown{Context: t.Context(), left: looks}
		if err = k.VerifyEnvelope(ctx, e); ctx.left < 0 && !errors.Is(err, context.Canceled) || ctx.left >= 0 && err != nil {
			t.Errorf("one, after %d looks: %v", looks, err)
		}
	}
}

// countdown is a context that ends after some looks at it.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestOneKeyServesManyGoroutines(t *testing.T) {
	g, k := fixture(t, "commitment")
	e := envelope(t, g, 1)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 3 {
				if err := k.VerifyEnvelope(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
