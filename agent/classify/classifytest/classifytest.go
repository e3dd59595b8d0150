// Package classifytest makes small sealed classifiers for tests.
//
// They are real: files that the sealer wrote and a publisher signed, of a network with random
// constants or one that was converted from ONNX. All have the same architecture, so that one
// pair of keys proves the answers of each; package provetest makes those keys.
package classifytest

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
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
