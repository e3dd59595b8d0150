package statement

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
)

// Limits on statements.
const (
	MaxItems      = 64      // inferences of one statement
	MaxOutputs    = 4096    // of one inference
	maxAllOutputs = 1 << 14 // of one statement
	// What the circuits of gradients can prove: so many coordinates of 16 bits.
	MaxCoordinates = 1 << 16
	MaxLInf        = 1<<15 - 1
	MaxSquaredL2   = MaxCoordinates * MaxLInf * MaxLInf
	// MaxPublicInputs is the largest number of public inputs of any statement.
	MaxPublicInputs = maxAllOutputs + MaxItems + 2
)

// Model is everything that makes one version of a classifier.
type Model struct {
	Architecture digest.Digest // of intnet.Architecture
	Quantization digest.Digest // of the input's quantizer and the outputs' scale
	Chunks       digest.Digest // root over the chunks of the sealed container
	Weights      Commitment    // WeightsCommitment
}

const modelLabel = "anchorhold/model/1\n"

// ID names the model: SHA-256 of a label and the four fields, in their order.
func (m Model) ID() digest.Digest {
	raw := []byte(modelLabel)
	for _, part := range [][]byte{m.Architecture[:], m.Quantization[:], m.Chunks[:], m.Weights[:]} {
		raw = append(raw, part...)
	}
	return sha256.Sum256(raw)
}

// ModelOf identifies a network with its quantization and the root of its sealed file. A network
// that is not well-formed is an error.
func ModelOf(n *intnet.Network, quantization, chunks digest.Digest) (Model, error) {
	architecture, err := n.Architecture.Digest()
	if err != nil {
		return Model{}, err
	}
	return Model{Architecture: architecture, Quantization: quantization, Chunks: chunks, Weights: WeightsCommitment(n)}, nil
}

type modelJSON struct {
	ID           digest.Digest `json:"id"`
	Architecture digest.Digest `json:"architecture"`
	Quantization digest.Digest `json:"quantization"`
	Chunks       digest.Digest `json:"chunks"`
	Weights      Commitment    `json:"weights"`
}

// MarshalJSON writes the fields and the ID.
func (m Model) MarshalJSON() ([]byte, error) {
	return json.Marshal(modelJSON{m.ID(), m.Architecture, m.Quantization, m.Chunks, m.Weights})
}

// UnmarshalJSON reads the result of MarshalJSON. It returns ErrMismatch for an ID that does not
// match the fields.
func (m *Model) UnmarshalJSON(raw []byte) error {
	var j modelJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	v := Model{j.Architecture, j.Quantization, j.Chunks, j.Weights}
	if v.ID() != j.ID {
		return mismatch("the model's id %s does not match its parts, whose id is %s", j.ID, v.ID())
	}
	*m = v
	return nil
}

// Statement is the subject of a proof: for one system and circuit, either inferences or a
// gradient. The other one is nil.
type Statement struct {
	System    System        `json:"system"`
	Circuit   digest.Digest `json:"circuit"` // of the constraint system and its library's version
	Inference *Inference    `json:"inference,omitempty"`
	Gradient  *Gradient     `json:"gradient,omitempty"`
}

// Inference says: the model gives these outputs for the inputs behind the commitments.
type Inference struct {
	Model Model  `json:"model"`
	Items []Item `json:"items"`
}

// Item is one inference. All items of a statement have the same number of outputs.
type Item struct {
	Receipt digest.ReceiptID `json:"receipt"`
	Input   Commitment       `json:"input"`
	Outputs []int32          `json:"outputs"` // accumulators of the last layer
}

// Gradient says: the coordinates behind the commitment are inside both bounds, which are
// in units of the quantized coordinates.
type Gradient struct {
	Round       digest.Digest `json:"round"`       // names the round
	Participant digest.Digest `json:"participant"` // names who contributes
	Ciphertext  digest.Digest `json:"ciphertext"`  // of the encrypted contribution
	Commitment  Commitment    `json:"commitment"`
	Coordinates uint32        `json:"coordinates"`
	LInf        uint32        `json:"linf"`       // no coordinate's amount is larger
	SquaredL2   uint64        `json:"squared_l2"` // the sum of squares is not larger
}

// Check compares the statement with the limits.
func (s *Statement) Check() error {
	if err := s.System.check(); err != nil {
		return err
	}
	switch {
	case s.Inference != nil && s.Gradient == nil:
		return s.Inference.check()
	case s.Gradient != nil && s.Inference == nil:
		return s.Gradient.check()
	}
	return malformed("a statement must be about either inferences or a gradient")
}

func (f *Inference) check() error {
	if err := f.Model.Weights.check(); err != nil {
		return err
	}
	if len(f.Items) < 1 || len(f.Items) > MaxItems {
		return malformed("got %d inferences, want 1 to %d", len(f.Items), MaxItems)
	}
	outputs := len(f.Items[0].Outputs)
	if outputs < 1 || outputs > MaxOutputs || outputs*len(f.Items) > maxAllOutputs {
		return malformed("%d outputs for each of %d inferences are out of range", outputs, len(f.Items))
	}
	for _, item := range f.Items {
		if len(item.Outputs) != outputs {
			return malformed("inferences have different numbers of outputs, %d and %d", outputs, len(item.Outputs))
		}
		if err := item.Input.check(); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gradient) check() error {
	if err := g.Commitment.check(); err != nil {
		return err
	}
	if g.Coordinates < 1 || g.Coordinates > MaxCoordinates || g.LInf < 1 || g.LInf > MaxLInf || g.SquaredL2 < 1 || g.SquaredL2 > MaxSquaredL2 {
		return malformed("%d coordinates with bounds %d and %d are out of range", g.Coordinates, g.LInf, g.SquaredL2)
	}
	return nil
}

// Digest is the SHA-256 of the binary form.
func (s *Statement) Digest() (digest.Digest, error) {
	raw, err := s.MarshalBinary()
	if err != nil {
		return digest.Digest{}, err
	}
	return sha256.Sum256(raw), nil
}

// DigestElement is the digest as a field element: its top three bits are cleared, the
// rest is a big-endian number.
func DigestElement(d digest.Digest) poseidon2.Element { return poseidon2.LowBits(d) }

// PublicInputs are the circuit's public inputs, in order.
//
// Of inferences: the weights' commitment; of each item the input's commitment and the
// outputs, where a negative number is the modulus minus its amount; the statement's
// digest. Of a gradient: the commitment, the bound on every coordinate, the bound on the
// sum of squares, the statement's digest.
func (s *Statement) PublicInputs() ([]poseidon2.Element, error) {
	d, err := s.Digest() // checks the statement
	if err != nil {
		return nil, err
	}
	var list []poseidon2.Element
	commit := func(c Commitment) error {
		e, err := c.Element()
		list = append(list, e)
		return err
	}
	if f := s.Inference; f != nil {
		if err := commit(f.Model.Weights); err != nil {
			return nil, err
		}
		for _, item := range f.Items {
			if err := commit(item.Input); err != nil {
				return nil, err
			}
			for _, y := range item.Outputs {
				list = append(list, poseidon2.FromInt64(int64(y)))
			}
		}
	} else {
		g := s.Gradient
		if err := commit(g.Commitment); err != nil {
			return nil, err
		}
		list = append(list, poseidon2.FromUint64(uint64(g.LInf)), poseidon2.FromUint64(g.SquaredL2))
	}
	return append(list, DigestElement(d)), nil
}
