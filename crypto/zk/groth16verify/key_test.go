package groth16verify_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
)

func slicesReader(raw []byte) io.Reader { return bytes.NewReader(raw) }

// Offsets in a verifying key of inputs public inputs.
const (
	alphaAt, betaOneAt, betaAt, gammaAt, deltaOneAt, deltaAt = 0, 32, 64, 128, 192, 224
	countAt                                                  = 288
	pointsAt                                                 = 292
	listAt                                                   = pointsAt + 32*(inputs+2) // of the key with a commitment
)

func TestChangedKeysAreRefused(t *testing.T) {
	g, _ := fixture(t, "commitment")
	_, _, one, two := curve.Generators()
	oneRaw, twoRaw := one.Bytes(), two.Bytes()
	wrong := outside(t)
	wrongRaw := wrong.Bytes()
	infinity := make([]byte, 64)
	infinity[0] = 0x40
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	at := func(offset int, with []byte) []byte {
		out := slices.Clone(g.Key)
		copy(out[offset:], with)
		return out
	}
	baseAt := len(g.Key) - 128
	var base curve.G2Affine
	if _, err := base.SetBytes(g.Key[baseAt : baseAt+64]); err != nil {
		t.Fatal(err)
	}
	negated := base.Neg(&base).Bytes()
	for name, raw := range map[string][]byte{
		"empty": nil, "short": g.Key[:200], "cut": g.Key[:len(g.Key)-1], "more": append(slices.Clone(g.Key), 0),
		"too large":              make([]byte, groth16verify.MaxKeyBytes+1),
		"alpha at infinity":      at(alphaAt, infinity[:32]),
		"alpha is the generator": at(alphaAt, oneRaw[:]),
		"beta at infinity":       at(betaAt, infinity),
		"beta outside":           at(betaAt, wrongRaw[:]),
		"beta is the generator":  at(betaAt, twoRaw[:]),
		"beta's halves differ":   at(betaOneAt, g.Key[alphaAt:alphaAt+32]),
		"gamma at infinity":      at(gammaAt, infinity),
		"gamma outside":          at(gammaAt, wrongRaw[:]),
		"delta is the generator": at(deltaAt, twoRaw[:]),
		"delta is gamma":         at(deltaAt, g.Key[gammaAt:gammaAt+64]),
		"delta outside":          at(deltaAt, wrongRaw[:]),
		"delta's halves differ":  at(deltaOneAt, g.Key[alphaAt:alphaAt+32]),
		"no points":              at(countAt, number(0)),
		"a point too few":        at(countAt, number(inputs+1)),
		"a point too many":       at(countAt, number(inputs+3)),
		"points without end":     at(countAt, number(1<<32-1)),
		"a free input":           at(pointsAt+5*32, infinity[:32]),
		"a free constant":        at(pointsAt, infinity[:32]),
		"a free challenge":       at(listAt-32, infinity[:32]),
		"two lists":              at(listAt, number(2)),
		"no list, but a key":     slices.Delete(at(listAt, number(0)), listAt+4, listAt+8),
		"list without end":       at(listAt+4, number(1<<32-1)),
		"list longer than it is": at(listAt+4, number(1)),
		"no commitment's key":    at(listAt+8, number(0)),
		"two commitment's keys":  at(listAt+8, number(2)),
		"base at infinity":       at(baseAt, infinity),
		"base outside":           at(baseAt, wrongRaw[:]),
		"sigma is one":           at(baseAt+64, g.Key[baseAt:baseAt+64]),
		"sigma is minus one":     at(baseAt+64, negated[:]),
		"uncompressed alpha":     at(alphaAt, []byte{g.Key[0] & 0x3f}),
	} {
		if _, err := groth16verify.ParseKey(raw); !errors.Is(err, groth16verify.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var b bytes.Buffer
	if _, err := g.WriteRaw(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := groth16verify.ParseKey(b.Bytes()); !errors.Is(err, groth16verify.ErrKey) {
		t.Errorf("the key in its other form: %v", err)
	}
}

func TestCommittedInputsAreInOrder(t *testing.T) {
	g, _ := fixture(t, "committed to input")
	for _, index := range []uint64{0, inputs + 1, 1 << 63} {
		raw := slices.Clone(g.Key)
		if binary.BigEndian.Uint64(raw[listAt+8:]) != 1 {
			t.Fatal("the first input is not the one committed to")
		}
		binary.BigEndian.PutUint64(raw[listAt+8:], index)
		if _, err := groth16verify.ParseKey(raw); !errors.Is(err, groth16verify.ErrKey) {
			t.Errorf("input %d: %v", index, err)
		}
	}
	// A key that names another input is another key: the proof's challenge is not its.
	raw := slices.Clone(g.Key)
	binary.BigEndian.PutUint64(raw[listAt+8:], 2)
	k, err := groth16verify.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := envelope(t, g, 1)
	if err := k.Verify(t.Context(), e.Proof, public(t, e)); !errors.Is(err, groth16verify.ErrProof) {
		t.Error(err)
	}
}

func FuzzParseKey(f *testing.F) {
	for name := range shapes {
		g, _ := fixture(f, name)
		f.Add(g.Key)
		f.Add(g.Key[:countAt])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := groth16verify.ParseKey(raw)
		if err != nil {
			if !errors.Is(err, groth16verify.ErrKey) || k != nil {
				t.Fatal(err)
			}
			return
		}
		if len(raw) > groth16verify.MaxKeyBytes || k.Inputs() < 0 {
			t.Fatal("over a limit")
		}
	})
}

func FuzzVerify(f *testing.F) {
	g, k := fixture(f, "commitment")
	e := envelope(f, g, 1)
	in := public(f, e)
	f.Add(e.Proof)
	for _, raw := range hostile(f, e.Proof) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := k.Verify(t.Context(), raw, in)
		if err == nil && g.Verify(raw, in) != nil {
			t.Fatal("we accept what gnark refuses")
		}
		if err != nil && !errors.Is(err, groth16verify.ErrProof) {
			t.Fatal(err)
		}
	})
}
