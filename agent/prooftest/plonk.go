package prooftest

import (
	"bytes"
	"math/bits"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/proofkeys"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkproof"
	"github.com/anchorhold/anchorhold/crypto/zkproof/ptau"
	"github.com/anchorhold/anchorhold/crypto/zkproof/ptau/ptautest"
	"github.com/anchorhold/anchorhold/crypto/zkproof/universal"
)

// plonk is the circuit for PLONK and the bytes of a powers-of-tau file that is large enough.
type plonk struct {
	circuit *zkproof.Circuit
	powers  []byte
}

var plonkOnce = sync.OnceValues(func() (p plonk, err error) {
	if p.circuit, err = zkproof.CompileInferencePLONK(zkproof.Inference{Architecture: Network(0).Architecture, Batch: 1}); err != nil {
		return p, err
	}
	domain, err := universal.Domain(p.circuit.System)
	if err != nil {
		return p, err
	}
	p.powers = ptautest.File(ptautest.Quick(bits.TrailingZeros64(domain)))
	return p, nil
})

// Powers is a powers-of-tau file that is large enough for the networks here.
func Powers(t testing.TB) []byte {
	t.Helper()
	p, err := plonkOnce()
	if err != nil {
		t.Fatal(err)
	}
	return p.powers
}

// SavePLONK writes keys of PLONK for the circuit into a directory.
func SavePLONK(t testing.TB, dir string) proofkeys.Set {
	t.Helper()
	p, err := plonkOnce()
	if err != nil {
		t.Fatal(err)
	}
	file, err := ptau.Open(bytes.NewReader(p.powers), int64(len(p.powers)))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := universal.Setup(t.Context(), p.circuit.System, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	digests, err := file.Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	architecture, err := Network(0).Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r := statement.Record{System: statement.PLONK, Circuit: p.circuit.Digest, Library: zkproof.Library, Ceremony: digests.SHA256,
		Inference: &statement.InferenceCircuit{Architecture: architecture, Items: 1, Outputs: Outputs}}
	encoded, err := zkproof.Encode(p.circuit)
	if err != nil {
		t.Fatal(err)
	}
	set, err := proofkeys.Save(dir, r, bytesOf(encoded), keys.WriteProving, keys.Verifying())
	if err != nil {
		t.Fatal(err)
	}
	return set
}
