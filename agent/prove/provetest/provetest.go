// Package provetest makes small sealed classifiers, and keys that prove their answers,
// for tests.
//
// It guarantees real ones: files that the sealer wrote and a publisher signed, circuits
// and Groth16 keys by which proofs verify. It trusts its caller to be a test, and refuses
// to start without a testing.TB: whoever makes such keys can forge proofs. Tests of
// package classify, of what proves and of what serves proofs call it.
package provetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/sealer"
)

// Inputs, hidden units and Outputs of every network here.
const (
	Inputs  = 4
	hidden  = 3
	Outputs = 2
)

// Network has random constants.
func Network(seed uint64) *intnet.Network {
	r := rand.New(rand.NewPCG(seed, 4))
	n := &intnet.Network{
		Architecture: intnet.Architecture{Input: intnet.Shape{C: Inputs, H: 1, W: 1},
			Layers: []intnet.Layer{{Kind: intnet.Dense, Out: hidden, ReLU: true}, {Kind: intnet.Dense, Out: Outputs}}},
		Parameters: intnet.Parameters{Layers: []intnet.LayerParameters{
			{Weights: make([]int8, Inputs*hidden), Bias: make([]int32, hidden), Multiplier: make([]uint32, hidden)},
			{Weights: make([]int8, hidden*Outputs), Bias: make([]int32, Outputs)}}},
	}
	for _, l := range n.Parameters.Layers {
		for i := range l.Weights {
			l.Weights[i] = int8(r.IntN(255) - 127)
		}
		for i := range l.Bias {
			l.Bias[i] = int32(r.IntN(2000) - 1000)
		}
		for i := range l.Multiplier {
			l.Multiplier[i] = 1 << 18
		}
	}
	return n
}

// Sealed is a sealed classifier as a configuration names it.
type Sealed struct {
	settings.Classifier
	Network     *intnet.Network
	Description *classifier.Description
	// Secret is the model key, Version that of the sealed file.
	Secret  []byte
	Version uint64
	// Model names it in statements.
	Model statement.Model

	publisher *identity.Private
	made      maker
}

// maker makes a classifier of a seed.
type maker func(t testing.TB, seed uint64) (*intnet.Network, *classifier.Description)

// Seal seals Network(seed) under a fresh key, signed by a fresh publisher. An FP32 input
// is its own quantization.
func Seal(t testing.TB, name string, seed uint64) *Sealed {
	t.Helper()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Wipe)
	return seal(t, name, seed, 3, publisher, exact)
}

// SealONNX is Seal of a classifier that was converted from an ONNX file of two layers, as
// `anchorhold seal FILE.onnx` does it. Its architecture is that of Network, so that its proofs
// need the same keys.
func SealONNX(t testing.TB, name string, seed uint64) *Sealed {
	t.Helper()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Wipe)
	return seal(t, name, seed, 3, publisher, converted)
}

// exact is Network(seed) with a quantizer that keeps what it is given.
func exact(_ testing.TB, seed uint64) (*intnet.Network, *classifier.Description) {
	n := Network(seed)
	return n, &classifier.Description{Architecture: n.Architecture,
		Quantizer: classifier.Quantizer{Features: []classifier.Feature{{Multiplier: 2, Shift: 1}}},
		Scale:     classifier.Scale{Mantissa: 1 << 31, Exponent: -40}, Labels: []string{"no", "yes"}}
}

// Next seals the classifier of another seed as the next version, under a fresh key and at another path, for
// the same configuration.
func (s *Sealed) Next(t testing.TB, seed uint64) *Sealed {
	t.Helper()
	next := seal(t, s.Name, seed, s.Version+1, s.publisher, s.made)
	next.MinimumVersion = s.MinimumVersion
	return next
}

func seal(t testing.TB, name string, seed, version uint64, publisher *identity.Private, made maker) *Sealed {
	t.Helper()
	s := &Sealed{Secret: make([]byte, chunkseal.KeySize), Version: version, publisher: publisher, made: made}
	s.Network, s.Description = made(t, seed)
	for i := range s.Secret {
		s.Secret[i] = byte(rand.Uint32())
	}
	text, err := publisher.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := classifier.Parts(s.Description, s.Network.Parameters)
	if err != nil {
		t.Fatal(err)
	}
	key := s.Key(t)
	s.Classifier = settings.Classifier{Name: name, SealedName: name, Path: filepath.Join(t.TempDir(), name+".sealed"), Resource: "models/" + name,
		Publisher: string(text), MinimumVersion: s.Version}
	done, err := sealer.SealClassifier(t.Context(), sealer.Options{Out: s.Path, Key: key, Name: name, Version: s.Version,
		Sign: func(root []byte) ([]byte, []byte, error) {
			sig, err := publisher.Sign(chunkseal.SignContext, root)
			return publisher.Public().Bytes(), sig, err
		}}, parts)
	if err != nil {
		t.Fatal(err)
	}
	s.Model = statement.Model{Quantization: s.Description.QuantizationDigest(), Chunks: done.Root, Weights: statement.WeightsCommitment(s.Network)}
	if s.Model.Architecture, err = s.Network.Architecture.Digest(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Key is the model key in a buffer of the caller's.
func (s *Sealed) Key(t testing.TB) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Clone(s.Secret))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// Verifiers verify proofs of these keys in the test's own process.
func Verifiers() keyset.Parsers {
	return keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)}
}

// Keys are a circuit of one inference of a network, and a pair of keys.
type Keys struct {
	// Circuit, Proving and Verifying are the files.
	Circuit, Proving, Verifying []byte
	Record                      statement.Record

	circuit *circuits.Circuit
}

// NewKeys sets up a pair of keys: for the same circuit each time, and never the same.
func NewKeys() (*Keys, error) {
	a := Network(0).Architecture
	circuit, err := circuits.CompileInference(circuits.Inference{Architecture: a, Batch: 1})
	if err != nil {
		return nil, err
	}
	proving, verifying, err := circuits.Setup(circuit)
	if err != nil {
		return nil, err
	}
	k := &Keys{circuit: circuit}
	if k.Circuit, err = circuits.Encode(circuit); err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	if _, err := proving.WriteRawTo(&raw); err != nil {
		return nil, err
	}
	k.Proving = raw.Bytes()
	if k.Verifying, err = circuits.Encode(verifying); err != nil {
		return nil, err
	}
	digest, err := a.Digest()
	k.Record = statement.Record{System: statement.Groth16, Circuit: circuit.Digest, Library: circuits.Library, Ceremony: statement.Digest{1},
		Inference: &statement.InferenceCircuit{Architecture: digest, Items: 1, Outputs: Outputs}}
	return k, err
}

var (
	shared = sync.OnceValues(NewKeys)
	other  = sync.OnceValues(NewKeys)
)

// Shared are keys that a test's process sets up once.
func Shared(t testing.TB) *Keys { return must(t, shared) }

// Other are other keys of the same circuit.
func Other(t testing.TB) *Keys { return must(t, other) }

func must(t testing.TB, f func() (*Keys, error)) *Keys {
	t.Helper()
	k, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func bytesOf(data []byte) keyset.Write {
	return func(w io.Writer) error { _, err := w.Write(data); return err }
}

// Save writes the keys to a directory; development says that one party made them.
func (k *Keys) Save(t testing.TB, dir string, development bool) keyset.Set {
	t.Helper()
	r := k.Record
	if development {
		r.Development, r.Ceremony = true, statement.Digest{}
	}
	s, err := keyset.Save(dir, r, bytesOf(k.Circuit), bytesOf(k.Proving), k.Verifying)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// VerifyingDigest names the verifying key.
func (k *Keys) VerifyingDigest() statement.Digest { return sha256.Sum256(k.Verifying) }

// Statement is about one answer of a model.
func (k *Keys) Statement(m statement.Model, id statement.ID, salt statement.Salt, input []int8, outputs []int32) statement.Statement {
	return statement.Statement{System: statement.Groth16, Circuit: k.Record.Circuit, Inference: &statement.Inference{Model: m,
		Items: []statement.Item{{Receipt: id, Input: statement.InputCommitment(salt, input), Outputs: outputs}}}}
}

// Prove proves a statement in this process.
func (k *Keys) Prove(t testing.TB, s statement.Statement, n *intnet.Network, salt statement.Salt, input []int8) []byte {
	t.Helper()
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	key, err := circuits.ReadProvingKey(bytes.NewReader(k.Proving))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := circuits.ProveInference(k.circuit, circuits.Inference{Architecture: n.Architecture, Batch: 1}, key,
		circuits.Assignment{Network: n, Items: []circuits.Item{{Salt: salt, Input: input}}, Statement: statement.DigestElement(d)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}
