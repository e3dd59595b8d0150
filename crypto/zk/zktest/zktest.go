// Package zktest makes keys and proofs of a small circuit, for tests of the packages that verify
// or carry proofs.
//
// The proofs verify for any public inputs, so any statement has one within milliseconds. They
// prove nothing, and the keys come from a setup by one party. Only tests import it.
package zktest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/logger"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Shape of a circuit.
type Shape struct {
	Inputs int
	// Commitment makes the circuit draw a challenge from a commitment to witnesses; Public makes
	// the first public input take part in it.
	Commitment, Public bool
}

// Circuit has a witness that is the sum of the squares of the public inputs.
type Circuit struct {
	Inputs []frontend.Variable `gnark:",public"`
	Sum    frontend.Variable
	shape  Shape
}

// NewCircuit allocates a circuit without values.
func NewCircuit(s Shape) *Circuit {
	return &Circuit{Inputs: make([]frontend.Variable, s.Inputs), shape: s}
}

// Define is called by gnark's compiler.
func (c *Circuit) Define(api frontend.API) error {
	sum := frontend.Variable(0)
	for _, v := range c.Inputs {
		sum = api.Add(sum, api.Mul(v, v))
	}
	api.AssertIsEqual(sum, c.Sum)
	if !c.shape.Commitment {
		return nil
	}
	committer, ok := api.Compiler().(frontend.Committer)
	if !ok {
		return errors.New("zktest: this builder does not support commitments")
	}
	wires := []frontend.Variable{c.Sum}
	if c.shape.Public {
		wires = append(wires, c.Inputs[0])
	}
	challenge, err := committer.Commit(wires...)
	if err != nil {
		return err
	}
	api.Inverse(api.Sub(challenge, c.Sum))
	return nil
}

// Witness has values for every wire.
func (c *Circuit) Witness(public []fr.Element) (witness.Witness, error) {
	if len(public) != c.shape.Inputs {
		return nil, fmt.Errorf("zktest: got %d public inputs, want %d", len(public), c.shape.Inputs)
	}
	w := NewCircuit(c.shape)
	var sum, square fr.Element
	for i := range public {
		w.Inputs[i] = public[i]
		sum.Add(&sum, square.Square(&public[i]))
	}
	w.Sum = sum
	return frontend.NewWitness(w, ecc.BN254.ScalarField())
}

// Groth16 is a pair of keys.
type Groth16 struct {
	Key     []byte        // canonical bytes of the verifying key
	Digest  digest.Digest // of Key
	circuit *Circuit
	system  constraint.ConstraintSystem
	proving groth16.ProvingKey
	verify  groth16.VerifyingKey
}

// NewGroth16 compiles a circuit and makes its keys.
func NewGroth16(s Shape) (*Groth16, error) {
	logger.Disable()
	g := &Groth16{circuit: NewCircuit(s)}
	var err error
	if g.system, err = frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, g.circuit); err != nil {
		return nil, err
	}
	if g.proving, g.verify, err = groth16.Setup(g.system); err != nil {
		return nil, err
	}
	var key bytes.Buffer
	if _, err := g.verify.WriteTo(&key); err != nil {
		return nil, err
	}
	g.Key, g.Digest = key.Bytes(), sha256.Sum256(key.Bytes())
	return g, nil
}

// Prove makes a proof for public inputs.
func (g *Groth16) Prove(public []fr.Element) ([]byte, error) {
	w, err := g.circuit.Witness(public)
	if err != nil {
		return nil, err
	}
	proof, err := groth16.Prove(g.system, g.proving, w)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	_, err = proof.WriteTo(&raw)
	return raw.Bytes(), err
}

// WriteRaw writes the verifying key in its other, uncompressed form.
func (g *Groth16) WriteRaw(w io.Writer) (int64, error) { return g.verify.WriteRawTo(w) }

// Verify is gnark's own verifier, to compare others with.
func (g *Groth16) Verify(raw []byte, public []fr.Element) error {
	proof := groth16.NewProof(ecc.BN254)
	if _, err := proof.ReadFrom(bytes.NewReader(raw)); err != nil {
		return err
	}
	full, err := g.circuit.Witness(public)
	if err != nil {
		return err
	}
	w, err := full.Public()
	if err != nil {
		return err
	}
	return groth16.Verify(proof, g.verify, w)
}

// Envelope proves a statement of as many public inputs as the circuit has.
func (g *Groth16) Envelope(s statement.Statement) (*statement.Envelope, error) {
	public, err := scalars.Public(&s)
	if err != nil {
		return nil, err
	}
	proof, err := g.Prove(public)
	return &statement.Envelope{Statement: s, Key: g.Digest, Proof: proof}, err
}

// Inferences is a statement of a number of inferences, each with a number of outputs. Every part
// of it is derived from the seed.
func Inferences(seed byte, items, outputs int) statement.Statement {
	sum := func(label string) digest.Digest { return sha256.Sum256(append([]byte(label), seed)) }
	commitment := func(label string) statement.Commitment {
		e := statement.DigestElement(sum(label))
		return e.Bytes()
	}
	f := &statement.Inference{Model: statement.Model{
		Architecture: sha256.Sum256([]byte("architecture")), Quantization: sum("quantization"), Chunks: sum("chunks"), Weights: commitment("weights"),
	}}
	for i := range items {
		d := sum(fmt.Sprint("receipt", i))
		item := statement.Item{Receipt: digest.ReceiptID(d[:16]), Input: commitment(fmt.Sprint("input", i))}
		for k := range outputs {
			d := sum(fmt.Sprint("output", i, k))
			item.Outputs = append(item.Outputs, int32(d[0])<<8-int32(d[1])<<7)
		}
		f.Items = append(f.Items, item)
	}
	return statement.Statement{System: statement.Groth16, Circuit: sha256.Sum256([]byte("circuit")), Inference: f}
}

// Record is a record of the keys for the statements of Inferences.
func (g *Groth16) Record(items, outputs int) *statement.Record {
	return &statement.Record{
		System: statement.Groth16, Circuit: sha256.Sum256([]byte("circuit")), VerifyingKey: g.Digest, ProvingKey: sha256.Sum256([]byte("proving key")),
		Library: "a test", Ceremony: sha256.Sum256([]byte("ceremony")),
		Inference: &statement.InferenceCircuit{Architecture: sha256.Sum256([]byte("architecture")), Items: uint16(items), Outputs: uint16(outputs)},
	}
}
