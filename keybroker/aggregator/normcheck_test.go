package aggregator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// proven is a round, a contribution to it, and its proof.
func proven(t testing.TB, keys *federationtest.NormKeys) (federation.Round, federation.Contribution, []byte) {
	t.Helper()
	r, signed, _ := federationtest.New(t).Round(t, 3, keys.Demand)
	c := federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed), Agent: digest.Digest{2}, Upload: digest.Digest{3}, Weight: 1, Blocks: 1}
	proof := keys.Prove(t, r, &c, []int16{1, -2, 127}, nil)
	c.ProofDigest = sha256.Sum256(proof)
	return r, c, proof
}

// The tests of package aggregator refuse every other proof; here is what never comes as far
// as there.
func TestAProofIsTakenOrItsReasonIsKnown(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, 3, 8)
	r, c, proof := proven(t, keys)
	check := aggregator.NormChecker{Ring: keys.Ring(t, 0, nil)}
	if err := check.Verify(t.Context(), r, c, proof); err != nil {
		t.Fatal(err)
	}
	if err := (aggregator.NormChecker{}).Round(federation.Round{}); err != nil {
		t.Errorf("a round without proofs: %v", err)
	}
	for name, err := range map[string]error{
		"no keys":    aggregator.NormChecker{}.Verify(t.Context(), r, c, proof),
		"other keys": aggregator.NormChecker{Ring: federationtest.NewNormKeys(t, keys.Spec).Ring(t, 0, nil)}.Verify(t.Context(), r, c, proof),
	} {
		if got, _ := refusal.ReasonOf(err); got != aggregator.ReasonNormKey {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := check.Verify(t.Context(), federation.Round{}, c, proof)
	if got, _ := refusal.ReasonOf(err); got != aggregator.ReasonNormInvalid {
		t.Errorf("a round that wants none: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := check.Verify(cancelled, r, c, proof); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	slow := aggregator.NormChecker{Ring: keys.Ring(t, time.Nanosecond, nil)}
	if err := slow.Verify(t.Context(), r, c, proof); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no time: %v", err)
	}
}

// Nothing but the proof verifies, even where the agent signed its digest, and nothing makes
// the parser panic: neither foreign bytes nor the proof with some of its own changed. Each
// process of a fuzzing run has keys of its own.
func FuzzVerify(f *testing.F) {
	keys := federationtest.SharedNormKeys(f, 3, 8)
	r, c, proof := proven(f, keys)
	check := aggregator.NormChecker{Ring: keys.Ring(f, 0, nil)}
	f.Add(proof, uint16(0), []byte{})
	f.Add([]byte{}, uint16(len(proof)-100), []byte{1})
	f.Add([]byte{}, uint16(10), []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte, at uint16, change []byte) {
		if len(data) == 0 {
			data = bytes.Clone(proof)
		}
		for i, x := range change {
			data[(int(at)+i)%len(data)] ^= x
		}
		d := c
		d.ProofDigest = sha256.Sum256(data)
		err := check.Verify(context.Background(), r, d, data)
		if got, _ := refusal.ReasonOf(err); (err == nil) != bytes.Equal(data, proof) || err != nil && got != aggregator.ReasonNormInvalid {
			t.Errorf("%v", err)
		}
	})
}
