package circuits

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// keys are a circuit's, of a set-up in the test.
type keys struct {
	circuit *Circuit
	proving groth16.ProvingKey
	gnark   groth16.VerifyingKey
	ours    *groth16verify.Key
}

func setup(t testing.TB, c *Circuit, err error) keys {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	pk, vk, err := Setup(c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := marshal(vk)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := groth16verify.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return keys{c, pk, vk, ours}
}

// both verifies with our verifier and with the library's, which must agree.
func (k keys) both(t testing.TB, proof []byte, public []fr.Element) error {
	t.Helper()
	ours := k.ours.Verify(context.Background(), proof, public)
	theirs := libraryVerify(k.gnark, proof, public)
	if (ours == nil) != (theirs == nil) {
		t.Errorf("our verifier says %v, the library's %v", ours, theirs)
	}
	return ours
}

// libraryVerify is gnark's verifier.
func libraryVerify(vk groth16.VerifyingKey, proof []byte, public []fr.Element) error {
	p := groth16.NewProof(ecc.BN254)
	if n, err := p.ReadFrom(bytes.NewReader(proof)); err != nil || int(n) != len(proof) {
		return errors.Join(errors.New("no proof"), err)
	}
	w, err := witness.New(modulus)
	if err != nil {
		return err
	}
	values := make(chan any, len(public))
	for _, v := range public {
		values <- v
	}
	close(values)
	if err := w.Fill(len(public), 0, values); err != nil {
		return err
	}
	return groth16.Verify(p, vk, w)
}

func inferenceStatement(t testing.TB, c *Circuit, n *intnet.Network, items []Item) *statement.Statement {
	t.Helper()
	s := &statement.Statement{System: statement.Groth16, Circuit: c.Digest, Inference: &statement.Inference{}}
	sum, err := n.Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.Inference.Model = statement.Model{Architecture: sum, Quantization: digest.Digest{1}, Chunks: digest.Digest{2}, Weights: statement.WeightsCommitment(n)}
	for i, item := range items {
		outputs, err := n.Forward(item.Input)
		if err != nil {
			t.Fatal(err)
		}
		s.Inference.Items = append(s.Inference.Items, statement.Item{Receipt: digest.ReceiptID{byte(i)}, Input: statement.InputCommitment(item.Salt, item.Input), Outputs: outputs})
	}
	return s
}

func publicInputs(t testing.TB, s *statement.Statement) []fr.Element {
	t.Helper()
	list, err := scalars.Public(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func statementElement(t testing.TB, s *statement.Statement) poseidon2.Element {
	t.Helper()
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return statement.DigestElement(d)
}

// A proof is for one statement, under one key. Whatever is changed is refused, by our
// verifier and by the library's.
func TestProofsOfInferences(t *testing.T) {
	spec := Inference{mlp(4, 3, 2), 2}
	circuit, err := CompileInference(spec)
	k := setup(t, circuit, err)
	n, items := randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 2, 1)
	s := inferenceStatement(t, k.circuit, n, items)

	// Circuit and key as a worker has them: from a file.
	var file, key bytes.Buffer
	if _, err := k.circuit.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	read, err := ReadCircuit(&file)
	if err != nil || read.Digest != k.circuit.Digest || read.Constraints() != k.circuit.Constraints() {
		t.Fatalf("another circuit was read: %v", err)
	}
	if _, err := k.proving.WriteRawTo(&key); err != nil {
		t.Fatal(err)
	}
	proving, err := ReadProvingKey(&key)
	if err != nil {
		t.Fatal(err)
	}
	var phases []Phase
	a := Assignment{Network: n, Items: items, Statement: statementElement(t, s)}
	proof, err := ProveInference(read, spec, proving, a, func(p Phase) { phases = append(phases, p) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []Phase{PhaseWitness, PhaseProve, PhaseCheck}; !slices.Equal(phases, want) {
		t.Errorf("phases %v", phases)
	}
	if err := k.both(t, proof, publicInputs(t, s)); err != nil {
		t.Fatal(err)
	}
	if len(proof) != 196 {
		t.Errorf("a proof of %d bytes", len(proof))
	}
	for name, change := range map[string]func(f *statement.Inference){
		"another output":    func(f *statement.Inference) { f.Items[1].Outputs[0]++ },
		"exchanged answers": func(f *statement.Inference) { f.Items[0], f.Items[1] = f.Items[1], f.Items[0] },
		"another receipt":   func(f *statement.Inference) { f.Items[0].Receipt[3]++ },
		"stale model": func(f *statement.Inference) {
			f.Model.Weights = statement.WeightsCommitment(randomNetwork(t, spec.Architecture, 2))
		},
		"another container": func(f *statement.Inference) { f.Model.Chunks[0]++ },
		"another input": func(f *statement.Inference) {
			f.Items[0].Input = statement.InputCommitment(items[0].Salt, items[1].Input)
		},
		"another salt": func(f *statement.Inference) {
			f.Items[0].Input = statement.InputCommitment(items[1].Salt, items[0].Input)
		},
	} {
		changed := inferenceStatement(t, k.circuit, n, items)
		change(changed.Inference)
		if k.both(t, proof, publicInputs(t, changed)) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for cut := range proof {
		if k.ours.Verify(context.Background(), proof[:cut], publicInputs(t, s)) == nil {
			t.Errorf("cut at %d: accepted", cut)
		}
	}
	if k.ours.Verify(context.Background(), append(slices.Clone(proof), 0), publicInputs(t, s)) == nil {
		t.Error("a byte more was accepted")
	}
	other := setup(t, k.circuit, nil)
	if other.both(t, proof, publicInputs(t, s)) == nil {
		t.Error("accepted under a key of another set-up")
	}
	// Proving with that key is possible and of no use.
	foreign, err := ProveInference(k.circuit, spec, other.proving, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if k.both(t, foreign, publicInputs(t, s)) == nil {
		t.Error("a proof by a key of another set-up was accepted")
	}
}

// A commitment that is not below the modulus names no element, though its residue would.
func TestCommitmentsAreCanonical(t *testing.T) {
	spec := Inference{mlp(2, 1), 1}
	n, items := randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 1, 1)
	s := inferenceStatement(t, &Circuit{}, n, items)
	for name, c := range map[string]*statement.Commitment{"weights": &s.Inference.Model.Weights, "input": &s.Inference.Items[0].Input} {
		was := *c
		value := new(big.Int).SetBytes(c[:])
		if value.Add(value, modulus); value.BitLen() > 256 {
			t.Fatal("no room for another spelling")
		}
		value.FillBytes(c[:])
		if _, err := s.PublicInputs(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		*c = was
	}
}

// The public inputs of the circuits are those that statements have.
func TestPublicInputsAreTheStatements(t *testing.T) {
	same := func(c frontend.Circuit, s *statement.Statement) {
		t.Helper()
		got, ok := publicOf(t, c).Vector().(fr.Vector)
		if want := publicInputs(t, s); !ok || !slices.Equal([]fr.Element(got), want) {
			t.Errorf("%v, not %v", got, want)
		}
	}
	spec := Inference{mlp(4, 3, 2), 3}
	n, items := randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 3, 1)
	s := inferenceStatement(t, &Circuit{}, n, items)
	w, err := spec.assign(Assignment{n, items, statementElement(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	same(w, s)
	g, a := gradientStatement(t, Gradient{5, 16}, &Circuit{})
	c, err := Gradient{5, 16}.assign(a)
	if err != nil {
		t.Fatal(err)
	}
	same(c, g)
}

func gradientStatement(t testing.TB, spec Gradient, c *Circuit) (*statement.Statement, GradientAssignment) {
	t.Helper()
	a := gradientAssignment(3, 120, make([]int16, spec.Coordinates)...)
	for i := range a.Values {
		a.Values[i] = int16(i*37%241 - 120)
		a.SquaredL2 += uint64(int64(a.Values[i]) * int64(a.Values[i]))
	}
	s := &statement.Statement{System: statement.Groth16, Circuit: c.Digest, Gradient: &statement.Gradient{Round: digest.Digest{1}, Participant: digest.Digest{2}, Ciphertext: digest.Digest{3},
		Commitment: spec.Commit(a.Salt, a.Values), Coordinates: uint32(spec.Coordinates), LInf: a.LInf, SquaredL2: a.SquaredL2}}
	a.Statement = statementElement(t, s)
	return s, a
}

func TestProofsOfGradients(t *testing.T) {
	spec := Gradient{20, 8}
	circuit, err := CompileGradient(spec)
	k := setup(t, circuit, err)
	s, a := gradientStatement(t, spec, k.circuit)
	proof, err := ProveGradient(k.circuit, spec, k.proving, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.both(t, proof, publicInputs(t, s)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(g *statement.Gradient){
		"smaller squares":     func(g *statement.Gradient) { g.SquaredL2-- },
		"larger squares":      func(g *statement.Gradient) { g.SquaredL2++ },
		"a smaller bound":     func(g *statement.Gradient) { g.LInf-- },
		"a larger bound":      func(g *statement.Gradient) { g.LInf++ },
		"another ciphertext":  func(g *statement.Gradient) { g.Ciphertext[0]++ },
		"another round":       func(g *statement.Gradient) { g.Round[0]++ },
		"another participant": func(g *statement.Gradient) { g.Participant[0]++ },
		"another commitment": func(g *statement.Gradient) {
			g.Commitment = spec.Commit(statement.Salt{9}, a.Values)
		},
	} {
		changed, _ := gradientStatement(t, spec, k.circuit)
		change(changed.Gradient)
		if k.both(t, proof, publicInputs(t, changed)) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a.LInf = 119
	if _, err := ProveGradient(k.circuit, spec, k.proving, a, nil); !errors.Is(err, ErrWitness) {
		t.Errorf("outside the bound: %v", err)
	}
}

// The statement's digest is in one constraint, which nothing else needs. Without it a
// finished proof would verify for any other statement with the same numbers.
func TestAProofIsBoundToItsStatement(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of four circuits")
	for name, circuit := range map[string]func(skip func(string) bool) (frontend.Circuit, frontend.Circuit){
		"inference": func(skip func(string) bool) (frontend.Circuit, frontend.Circuit) {
			spec := Inference{mlp(1, 1), 1}
			c := newInferenceCircuit(spec)
			c.skip = skip
			return c, forge(t, spec, randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 1, 1)).inferenceCircuit
		},
		"gradient": func(skip func(string) bool) (frontend.Circuit, frontend.Circuit) {
			c := newGradientCircuit(Gradient{7, 8})
			c.skip = skip
			return c, forgeGradient(t, Gradient{7, 8}).gradientCircuit
		},
	} {
		for _, left := range []bool{false, true} {
			skip := without("statement")
			if !left {
				skip = nil
			}
			c, w := circuit(skip)
			built := &Circuit{System: compileWithout(t, c)}
			pk, vk, err := Setup(built)
			if err != nil {
				t.Fatal(err)
			}
			proof, err := prove(built, pk, w, nil)
			if err != nil {
				t.Fatal(err)
			}
			public, ok := publicOf(t, w).Vector().(fr.Vector)
			if !ok || libraryVerify(vk, proof, public) != nil {
				t.Fatalf("%s: the proof is not accepted", name)
			}
			public[len(public)-1].SetUint64(77)
			if accepted := libraryVerify(vk, proof, public) == nil; accepted != left {
				t.Errorf("%s: for another statement accepted is %t, without the assertion is %t", name, accepted, left)
			}
			// Our verifier refuses such a key as a whole.
			raw, err := marshal(vk)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := groth16verify.ParseKey(raw); (err != nil) != left {
				t.Errorf("%s: our verifier says of the key: %v", name, err)
			}
		}
	}
}

func TestWhatIsNotSoIsNotProven(t *testing.T) {
	spec := Inference{mlp(2, 1), 1}
	circuit, err := CompileInference(spec)
	k := setup(t, circuit, err)
	n, items := randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 1, 1)
	f := forge(t, spec, n, items)
	f.Items[0].Outputs[0] = 1
	if _, err := prove(k.circuit, k.proving, f.inferenceCircuit, nil); !errors.Is(err, ErrWitness) {
		t.Errorf("another output: %v", err)
	}
	for name, a := range map[string]Assignment{
		"no inference":         {Network: n},
		"another architecture": {Network: randomNetwork(t, mlp(2, 2), 1), Items: items},
		"a short input":        {Network: n, Items: []Item{{Input: []int8{1}}}},
	} {
		if _, err := ProveInference(k.circuit, spec, k.proving, a, nil); err == nil {
			t.Errorf("%s: proven", name)
		}
	}
	for _, bad := range []Inference{{spec.Architecture, 0}, {spec.Architecture, MaxBatch + 1}, {intnet.Architecture{}, 1}} {
		if _, err := CompileInference(bad); err == nil {
			t.Errorf("%+v was compiled", bad)
		}
		if _, err := CompileInferencePLONK(bad); err == nil {
			t.Errorf("%+v was compiled for PLONK", bad)
		}
	}
	if _, err := CompileGradient(Gradient{1, 9}); err == nil {
		t.Error("coordinates of nine bits")
	}
}

// The constraint system for PLONK is solved by the same witness, and by no other output.
func TestPLONKTakesTheSameWitness(t *testing.T) {
	spec := Inference{mlp(3, 2, 2), 1}
	circuit, err := CompileInferencePLONK(spec)
	if err != nil {
		t.Fatal(err)
	}
	f := forge(t, spec, randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, 1, 1))
	if err := solve(t, circuit.System, f.inferenceCircuit); err != nil {
		t.Error(err)
	}
	f.Items[0].Outputs[0] = add(number(f.Items[0].Outputs[0]), 1)
	if solve(t, circuit.System, f.inferenceCircuit) == nil {
		t.Error("another output was accepted")
	}
}

func TestKeysAndCircuitsThatAreNone(t *testing.T) {
	longtest.Arithmetic(t, "it damages a circuit at each 97th byte")
	circuit, err := CompileInference(Inference{mlp(1, 1), 1})
	k := setup(t, circuit, err)
	var raw, file bytes.Buffer
	if _, err := k.proving.WriteRawTo(&raw); err != nil {
		t.Fatal(err)
	}
	if _, err := circuit.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 1, 100, raw.Len() / 2, raw.Len() - 1} {
		if _, err := ReadProvingKey(bytes.NewReader(raw.Bytes()[:cut])); !errors.Is(err, ErrKey) {
			t.Errorf("a key cut at %d: %v", cut, err)
		}
	}
	for at := 0; at < file.Len(); at += 97 {
		changed := bytes.Clone(file.Bytes())
		changed[at] ^= 4
		for name, data := range map[string][]byte{"changed": changed, "cut": file.Bytes()[:at], "longer": append(bytes.Clone(file.Bytes()), 0)} {
			if _, err := OpenCircuit(bytes.NewReader(data), circuit.Digest); !errors.Is(err, ErrCircuit) {
				t.Errorf("a circuit %s at %d: %v", name, at, err)
			}
		}
	}
	if c, err := OpenCircuit(&file, circuit.Digest); err != nil || c.Digest != circuit.Digest {
		t.Error(err)
	}
}
