// Package provetest makes keys that prove answers of the classifiers of package classifytest,
// and proofs with them, for tests.
//
// The keys are real: circuits and Groth16 or PLONK keys by which proofs verify. Whoever makes
// such keys can forge proofs, so nothing but a test may import this package.
package provetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

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
	a := classifytest.Network(0).Architecture
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
	sum, err := a.Digest()
	k.Record = statement.Record{System: statement.Groth16, Circuit: circuit.Digest, Library: circuits.Library, Ceremony: digest.Digest{1},
		Inference: &statement.InferenceCircuit{Architecture: sum, Items: 1, Outputs: classifytest.Outputs}}
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
		r.Development, r.Ceremony = true, digest.Digest{}
	}
	s, err := keyset.Save(dir, r, bytesOf(k.Circuit), bytesOf(k.Proving), k.Verifying)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// VerifyingDigest names the verifying key.
func (k *Keys) VerifyingDigest() digest.Digest { return sha256.Sum256(k.Verifying) }

// Statement is about one answer of a model.
func (k *Keys) Statement(m statement.Model, id digest.ReceiptID, salt statement.Salt, input []int8, outputs []int32) statement.Statement {
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
