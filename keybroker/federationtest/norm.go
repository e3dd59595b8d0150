package federationtest

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// NormKeys are a circuit of the bounds of updates, and a pair of Groth16 keys made by one party:
// proofs by them verify, and whoever made them can forge proofs. Hence they are for tests.
type NormKeys struct {
	Spec circuits.Gradient
	// Files and the record that Save writes.
	Circuit, Proving, Verifying []byte
	Record                      statement.Record

	circuit *circuits.Circuit
}

var (
	mu     sync.Mutex
	shared = map[circuits.Gradient]*NormKeys{}
)

// SharedNormKeys are keys for updates of a length, which a test's process sets up once.
func SharedNormKeys(t testing.TB, length, bits int) *NormKeys {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	spec := circuits.Gradient{Coordinates: length, Bits: bits}
	if shared[spec] == nil {
		shared[spec] = NewNormKeys(t, spec)
	}
	return shared[spec]
}

// NewNormKeys sets up a pair of keys: for the same circuit each time, and never the same.
func NewNormKeys(t testing.TB, spec circuits.Gradient) *NormKeys {
	t.Helper()
	circuit, err := circuits.CompileGradient(spec)
	if err != nil {
		t.Fatal(err)
	}
	proving, verifying, err := circuits.Setup(circuit)
	if err != nil {
		t.Fatal(err)
	}
	k := &NormKeys{Spec: spec, circuit: circuit}
	var raw bytes.Buffer
	if _, err := proving.WriteRawTo(&raw); err != nil {
		t.Fatal(err)
	}
	k.Proving = raw.Bytes()
	if k.Circuit, err = circuits.Encode(circuit); err != nil {
		t.Fatal(err)
	}
	if k.Verifying, err = circuits.Encode(verifying); err != nil {
		t.Fatal(err)
	}
	k.Record = statement.Record{System: statement.Groth16, Circuit: circuit.Digest, Library: circuits.Library, Ceremony: digest.Digest{1},
		Gradient: &statement.GradientCircuit{Coordinates: uint32(spec.Coordinates), Bits: uint8(spec.Bits)}}
	s := k.Save(t, t.TempDir())
	k.Record = s.Record
	return k
}

// Save writes the keys to a directory.
func (k *NormKeys) Save(t testing.TB, dir string) keyset.Set {
	t.Helper()
	data := func(raw []byte) keyset.Write {
		return func(w io.Writer) error { _, err := w.Write(raw); return err }
	}
	s, err := keyset.Save(dir, k.Record, data(k.Circuit), data(k.Proving), k.Verifying)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Ring verifies proofs by the keys; change, if given, alters the record first.
func (k *NormKeys) Ring(t testing.TB, timeout time.Duration, change func(*statement.Record)) *keyset.Ring {
	t.Helper()
	s := k.Save(t, t.TempDir())
	if change != nil {
		g := *s.Record.Gradient
		s.Record.Gradient = &g
		change(&s.Record)
	}
	ring, err := keyset.NewRing([]keyset.Set{s}, true, timeout, keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Demand has a round demand proofs by the keys.
func (k *NormKeys) Demand(r *federation.Round) {
	r.NormProof = true
	r.NormCircuit = &federation.NormCircuit{Circuit: k.Record.Circuit, VerifyingKey: k.Record.VerifyingKey, Bits: k.Record.Gradient.Bits}
}

// Prove commits to coordinates, fills in the contribution's Commitment, and returns the
// encoded envelope of a proof of what the round asks of the contribution. change, if
// given, alters the statement first.
func (k *NormKeys) Prove(t testing.TB, r federation.Round, c *federation.Contribution, coordinates []int16, change func(*statement.Statement)) []byte {
	t.Helper()
	salt, err := statement.NewSalt()
	if err != nil {
		t.Fatal(err)
	}
	c.Commitment = digest.Digest(k.Spec.Commit(salt, coordinates))
	s := r.NormStatement(c)
	s.Circuit = k.Record.Circuit
	if change != nil {
		change(&s)
	}
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	key, err := circuits.ReadProvingKey(bytes.NewReader(k.Proving))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := circuits.ProveGradient(k.circuit, k.Spec, key, circuits.GradientAssignment{Salt: salt, Values: coordinates, LInf: s.Gradient.LInf,
		SquaredL2: s.Gradient.SquaredL2, Statement: statement.DigestElement(d)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := (&statement.Envelope{Statement: s, Key: k.Record.VerifyingKey, Proof: proof}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
