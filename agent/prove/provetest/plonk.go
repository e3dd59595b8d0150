package provetest

import (
	"bytes"
	"math/bits"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkprove"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// plonk is the circuit for PLONK and the bytes of a powers-of-tau file that is large enough.
type plonk struct {
	circuit *circuits.Circuit
	powers  []byte
}

var plonkOnce = sync.OnceValues(func() (p plonk, err error) {
	if p.circuit, err = circuits.CompileInferencePLONK(circuits.Inference{Architecture: classifytest.Network(0).Architecture, Batch: 1}); err != nil {
		return p, err
	}
	domain, err := plonkprove.Domain(p.circuit.System)
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
func SavePLONK(t testing.TB, dir string) keyset.Set {
	t.Helper()
	p, err := plonkOnce()
	if err != nil {
		t.Fatal(err)
	}
	file, err := ptau.Open(bytes.NewReader(p.powers), int64(len(p.powers)))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := plonkprove.Setup(t.Context(), p.circuit.System, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	digests, err := file.Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	architecture, err := classifytest.Network(0).Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r := statement.Record{System: statement.PLONK, Circuit: p.circuit.Digest, Library: circuits.Library, Ceremony: digests.SHA256,
		Inference: &statement.InferenceCircuit{Architecture: architecture, Items: 1, Outputs: classifytest.Outputs}}
	encoded, err := circuits.Encode(p.circuit)
	if err != nil {
		t.Fatal(err)
	}
	set, err := keyset.Save(dir, r, bytesOf(encoded), keys.WriteProving, keys.Verifying())
	if err != nil {
		t.Fatal(err)
	}
	return set
}
