package plonkverify_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend/plonk"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/scs"
	"github.com/consensys/gnark/test/unsafekzg"

	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

const items, outputs, inputs = 1, 3, 6

// made is a key, and an envelope of a proof of a statement.
type made struct {
	raw      []byte
	key      *plonkverify.Key
	envelope statement.Envelope
	public   []fr.Element
}

var fixtures = map[bool]func() (*made, error){
	false: sync.OnceValues(func() (*made, error) { return build(false) }),
	true:  sync.OnceValues(func() (*made, error) { return build(true) }),
}

func build(commitment bool) (*made, error) {
	c := zktest.NewCircuit(zktest.Shape{Inputs: inputs, Commitment: commitment})
	cs, err := frontend.Compile(ecc.BN254.ScalarField(), scs.NewBuilder, c)
	if err != nil {
		return nil, err
	}
	canonical, lagrange, err := unsafekzg.NewSRS(cs)
	if err != nil {
		return nil, err
	}
	pk, vk, err := plonk.Setup(cs, canonical, lagrange)
	if err != nil {
		return nil, err
	}
	m := &made{}
	var b bytes.Buffer
	if _, err := vk.WriteTo(&b); err != nil {
		return nil, err
	}
	m.raw = b.Bytes()
	if m.key, err = plonkverify.ParseKey(m.raw); err != nil {
		return nil, err
	}
	s := zktest.Inferences(1, items, outputs)
	s.System = statement.PLONK
	if m.public, err = scalars.Public(&s); err != nil {
		return nil, err
	}
	w, err := c.Witness(m.public)
	if err != nil {
		return nil, err
	}
	proof, err := plonk.Prove(cs, pk, w)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	if _, err := proof.WriteTo(&raw); err != nil {
		return nil, err
	}
	m.envelope = statement.Envelope{Statement: s, Key: m.key.Digest(), Proof: raw.Bytes()}
	return m, nil
}

func fixture(t testing.TB, commitment bool) *made {
	t.Helper()
	m, err := fixtures[commitment]()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestProofsVerify(t *testing.T) {
	for _, commitment := range []bool{false, true} {
		m := fixture(t, commitment)
		if m.key.Inputs() != inputs || len(m.raw) > plonkverify.MaxKeyBytes {
			t.Errorf("%d inputs, %d bytes", m.key.Inputs(), len(m.raw))
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if err := m.key.VerifyEnvelope(t.Context(), &m.envelope); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

func TestChangedProofsAreRefused(t *testing.T) {
	m := fixture(t, true)
	raw := m.envelope.Proof
	number := func(at int, n uint32) []byte {
		out := slices.Clone(raw)
		binary.BigEndian.PutUint32(out[at:], n)
		return out
	}
	// The first claimed value plus the modulus, which is another spelling of it.
	wide := slices.Clone(raw)
	value := wide[8*32+4:][:32]
	sum := new(big.Int).Add(new(big.Int).SetBytes(value), fr.Modulus())
	if sum.BitLen() <= 256 {
		sum.FillBytes(value)
	}
	infinity := slices.Clone(raw)
	clear(infinity[96:128])
	infinity[96] = 0x40
	for name, p := range map[string][]byte{
		"empty": {}, "cut": raw[:len(raw)-1], "more": append(slices.Clone(raw), 0), "wide": wide, "infinity": infinity,
		"values without end": number(8*32, 1<<32-1), "a value less": number(8*32, 6), "no commitments": number(len(raw)-36, 0),
		"commitments without end": number(len(raw)-36, 1<<32-1), "of a key without commitment": fixture(t, false).envelope.Proof,
	} {
		if err := m.key.Verify(t.Context(), p, m.public); !errors.Is(err, plonkverify.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for bit := 0; bit < 8*len(raw); bit += 61 {
		p := slices.Clone(raw)
		p[bit/8] ^= 1 << (bit % 8)
		if m.key.Verify(t.Context(), p, m.public) == nil {
			t.Errorf("verifies with bit %d changed", bit)
		}
	}
}

func TestStatementsAreBound(t *testing.T) {
	m := fixture(t, true)
	for i := range m.public {
		public := slices.Clone(m.public)
		public[i].Double(&public[i])
		if err := m.key.Verify(t.Context(), m.envelope.Proof, public); !errors.Is(err, plonkverify.ErrProof) {
			t.Errorf("input %d: %v", i, err)
		}
	}
	for name, change := range map[string]func(*statement.Envelope){
		"another key": func(e *statement.Envelope) { e.Key[0] ^= 1 },
		"Groth16":     func(e *statement.Envelope) { e.Statement.System = statement.Groth16 },
		"more outputs": func(e *statement.Envelope) {
			e.Statement = zktest.Inferences(1, items, outputs+1)
			e.Statement.System = statement.PLONK
		},
	} {
		e := m.envelope
		change(&e)
		if err := m.key.VerifyEnvelope(t.Context(), &e); !errors.Is(err, plonkverify.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := m.envelope
	e.Proof = nil
	if err := m.key.VerifyEnvelope(t.Context(), &e); !errors.Is(err, statement.ErrMalformed) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.key.VerifyEnvelope(ctx, &m.envelope); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestChangedKeysAreRefused(t *testing.T) {
	m := fixture(t, true)
	at := func(offset int, with ...byte) []byte {
		out := slices.Clone(m.raw)
		copy(out[offset:], with)
		return out
	}
	const list = 24 + 64 + 8 + 32 + 8*32
	kzg := list + 4 + 32
	// A key that is right in all but the reference string's secret, and one with two
	// commitments.
	const lines = 2 * 66 * 4 * 32
	known := at(kzg+32+64, m.raw[kzg+32:kzg+32+64]...)
	copy(known[kzg+32+128+lines:], m.raw[kzg+32+128:kzg+32+128+lines])
	two := slices.Concat(m.raw[:list], []byte{0, 0, 0, 2}, m.raw[list+4:list+36], m.raw[list+4:len(m.raw)-12], []byte{0, 0, 0, 2}, m.raw[len(m.raw)-8:], m.raw[len(m.raw)-8:])
	for name, raw := range map[string][]byte{
		"tau is one, with its lines": known, "two whole commitments": two,
		"empty": nil, "cut": m.raw[:len(m.raw)-1], "more": append(slices.Clone(m.raw), 0), "short": m.raw[:100],
		"legacy": m.raw[16:], "version 2": at(15, 2), "marker": at(0, 1),
		"size not a power": at(23, m.raw[23]|1), "size zero": at(16, make([]byte, 8)...),
		"inverse": at(24, make([]byte, 32)...), "generator": at(24+32, make([]byte, 32)...), "inputs": at(24+64, 0xff), "shift": at(24+64+8, make([]byte, 32)...),
		"shift one":          at(24+64+8, append(make([]byte, 31), 1)...),
		"two commitments":    at(list+3, 2),
		"lists without end":  at(list, 0xff, 0xff, 0xff, 0xff),
		"second list":        at(len(m.raw)-12, 0xff, 0xff, 0xff, 0xff),
		"commitment's row":   at(len(m.raw)-8, 0xff),
		"another G1":         at(kzg+31, m.raw[kzg+31]^1),
		"tau is one":         at(kzg+32+64, m.raw[kzg+32:kzg+32+64]...),
		"tau's sign changed": at(kzg+32+64, m.raw[kzg+32+64]^0x40),
		"tau at infinity":    at(kzg+32+64, append([]byte{0x40}, make([]byte, 63)...)...),
		"lines":              at(kzg+32+128+100, m.raw[kzg+32+128+100]^1),
	} {
		if _, err := plonkverify.ParseKey(raw); !errors.Is(err, plonkverify.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(fixture(f, true).raw)
	f.Add(fixture(f, false).raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := plonkverify.ParseKey(raw); err != nil && !errors.Is(err, plonkverify.ErrKey) {
			t.Fatal(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	m := fixture(f, true)
	f.Add(m.envelope.Proof)
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := m.key.Verify(t.Context(), raw, m.public)
		if err == nil != bytes.Equal(raw, m.envelope.Proof) {
			t.Fatal(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m := fixture(b, true)
	for b.Loop() {
		if err := m.key.VerifyEnvelope(b.Context(), &m.envelope); err != nil {
			b.Fatal(err)
		}
	}
}
