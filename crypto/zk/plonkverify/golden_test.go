package plonkverify_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// TestGolden verifies a key and an envelope that were written once: this version must
// verify them for ever.
func TestGolden(t *testing.T) {
	keyFile, envelopeFile := filepath.Join("testdata", "plonk-1.vk"), filepath.Join("testdata", "plonk-1.proof")
	if _, err := os.Stat(keyFile); errors.Is(err, os.ErrNotExist) {
		m := fixture(t, true)
		raw, err := m.envelope.MarshalBinary()
		if err := errors.Join(err, os.MkdirAll("testdata", 0o755), os.WriteFile(keyFile, m.raw, 0o644), os.WriteFile(envelopeFile, raw, 0o644)); err != nil {
			t.Fatal(err)
		}
		t.Fatal("the vectors were written; run again")
	}
	rawKey, err := os.ReadFile(keyFile)
	rawEnvelope, err2 := os.ReadFile(envelopeFile)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	k, err := plonkverify.ParseKey(rawKey)
	if err != nil {
		t.Fatal(err)
	}
	e, err := statement.Open(rawEnvelope)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.VerifyEnvelope(t.Context(), e); err != nil {
		t.Error(err)
	}
	e.Statement.Inference.Items[0].Outputs[0]++
	if err := k.VerifyEnvelope(t.Context(), e); !errors.Is(err, plonkverify.ErrProof) {
		t.Errorf("with another output: %v", err)
	}
}
