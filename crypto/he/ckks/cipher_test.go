package ckks

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func encryptor(tb testing.TB, p Params, public []byte, l Layout) *Encryptor {
	tb.Helper()
	e, err := NewEncryptor(p, public, l)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(e.Wipe)
	return e
}

func encrypt(tb testing.TB, e *Encryptor, values []float64) []byte {
	tb.Helper()
	ct := make([]byte, e.CiphertextBytes())
	if err := e.Encrypt(ct, values); err != nil {
		tb.Fatal(err)
	}
	return ct
}

func updates(n int, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 9))
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64() * 0.05
	}
	return x
}

func largestError(got, want []float64) (worst float64) {
	for i := range want {
		worst = math.Max(worst, math.Abs(got[i]-want[i]))
	}
	return worst
}

func TestSumOf64KeepsSixDigits(t *testing.T) {
	longtest.Arithmetic(t, "it encrypts 128 vectors")
	p := Template()
	secret, public := keyPair(t, p, 1)
	for _, l := range []Layout{Real, Pairs} {
		e := encryptor(t, p, public, l)
		sum, ct := NewResidues(p), NewResidues(p)
		want := make([]float64, p.Values(l))
		for k := range 64 {
			x := updates(len(want), uint64(k))
			for i, v := range x {
				want[i] += v
			}
			if err := ct.Unmarshal(encrypt(t, e, x)); err != nil {
				t.Fatal(err)
			}
			AddInto(sum, ct)
		}
		d, err := NewDecryptor(p, secret, l, 64)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float64, len(want))
		if err := d.Decrypt(got, marshal(t, p, sum)); err != nil {
			t.Fatal(err)
		}
		worst := largestError(got, want)
		t.Logf("layout %d: largest error %.2g", l, worst)
		if worst > 1e-6 {
			t.Errorf("layout %d: error %g", l, worst)
		}
		d.Wipe()
		if err := d.Decrypt(got, marshal(t, p, sum)); !errors.Is(err, ErrKey) {
			t.Errorf("after Wipe: %v", err)
		}
	}
}

// A scale beyond a float64's digits goes another way, in both directions.
func TestLargeScaleKeepsTwelveDigits(t *testing.T) {
	p := smallThreshold()
	secret, public := keyPair(t, p, 2)
	e := encryptor(t, p, public, Pairs)
	want := updates(p.Values(Pairs)-5, 1)
	d, err := NewDecryptor(p, secret, Pairs, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	got := make([]float64, p.Values(Pairs))
	if err := d.Decrypt(got, encrypt(t, e, want)); err != nil {
		t.Fatal(err)
	}
	if worst := largestError(got, want); worst > 1e-9 {
		t.Errorf("error %g", worst)
	}
	if worst := largestError(got[len(want):], make([]float64, 5)); worst > 1e-9 {
		t.Errorf("the rest is not zero: %g", worst)
	}
}

func TestAnotherKeyIsNoticed(t *testing.T) {
	p := Template()
	_, public := keyPair(t, p, 1)
	secret, _ := keyPair(t, p, 2)
	ct := encrypt(t, encryptor(t, p, public, Real), updates(p.Values(Real), 1))
	// Even under the widest limit there is.
	d, err := NewDecryptor(p, secret, Real, p.MaxValue())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	got := make([]float64, p.Values(Real))
	if err := d.Decrypt(got, ct); !errors.Is(err, ErrRange) {
		t.Fatalf("another key: %v", err)
	}
	if largestError(got, make([]float64, len(got))) != 0 {
		t.Error("the refused result was given out")
	}
}

func TestSumsBeyondTheLimitAreRefused(t *testing.T) {
	p := small()
	secret, public := keyPair(t, p, 1)
	e := encryptor(t, p, public, Real)
	d, err := NewDecryptor(p, secret, Real, 1.5)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	got := make([]float64, 3)
	if err := d.Decrypt(got, encrypt(t, e, []float64{0, 1.49, -1.49})); err != nil {
		t.Error(err)
	}
	for _, v := range []float64{1.51, -1.51} {
		if err := d.Decrypt(got, encrypt(t, e, []float64{1, v})); !errors.Is(err, ErrRange) {
			t.Errorf("%g: %v", v, err)
		}
		if got[0] != 0 {
			t.Error("a part of the refused result was given out")
		}
	}
}

// The library would make numbers of these without a word.
func TestValuesThatCannotBeCarriedAreRefused(t *testing.T) {
	p := small()
	secret, public := keyPair(t, p, 1)
	e := encryptor(t, p, public, Real)
	ct := make([]byte, p.CiphertextBytes())
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 2 * p.MaxValue(), -2 * p.MaxValue()} {
		if err := e.Encrypt(ct, []float64{0, v}); !errors.Is(err, ErrRange) {
			t.Errorf("%g: %v", v, err)
		}
	}
	if err := e.Encrypt(ct, make([]float64, p.Values(Real)+1)); !errors.Is(err, ErrRange) {
		t.Errorf("too many: %v", err)
	}
	if err := e.Encrypt(ct[1:], nil); !errors.Is(err, ErrRange) {
		t.Errorf("little room: %v", err)
	}
	full := make([]float64, p.Values(Real))
	for i := range full {
		full[i] = p.MaxValue()
	}
	d, err := NewDecryptor(p, secret, Real, p.MaxValue())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	if err := d.Decrypt(make([]float64, p.Values(Real)+1), encrypt(t, e, full)); !errors.Is(err, ErrRange) {
		t.Errorf("too many: %v", err)
	}
	for i := range full {
		full[i] -= 0.5
	}
	if err := d.Decrypt(make([]float64, 9), encrypt(t, e, full)); err != nil {
		t.Errorf("the largest values: %v", err)
	}
	for _, limit := range []float64{0, -1, math.NaN(), 2 * p.MaxValue()} {
		if _, err := NewDecryptor(p, secret, Real, limit); !errors.Is(err, ErrRange) {
			t.Errorf("limit %g: %v", limit, err)
		}
	}
	for _, l := range []Layout{0, 3} {
		_, first := NewEncryptor(p, public, l)
		_, second := NewDecryptor(p, secret, l, 1)
		if !errors.Is(first, ErrParams) || !errors.Is(second, ErrParams) {
			t.Errorf("layout %d: %v, %v", l, first, second)
		}
	}
}

// Each ciphertext has new randomness, and every residue of it is reduced: the
// library's own errors are not.
func TestCiphertextsAreFreshAndCanonical(t *testing.T) {
	p := small()
	_, public := keyPair(t, p, 1)
	e := encryptor(t, p, public, Real)
	seen := map[string]bool{}
	for range 50 {
		ct := encrypt(t, e, nil)
		if seen[string(ct[:64])] {
			t.Fatal("a ciphertext came twice")
		}
		seen[string(ct[:64])] = true
		if err := NewResidues(p).Unmarshal(ct); err != nil {
			t.Fatal(err)
		}
	}
}

// Memory of a block must not grow with the number of blocks.
func TestEncryptionAllocatesLittle(t *testing.T) {
	if !pooled {
		t.Skip("the race detector's build drops what pools keep")
	}
	p := Template()
	secret, public := keyPair(t, p, 1)
	e := encryptor(t, p, public, Real)
	x, ct := updates(p.Values(Real), 1), make([]byte, p.CiphertextBytes())
	bytesEach := func(f func()) int64 {
		f()
		const runs = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			f()
		}
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc-before.TotalAlloc) / runs
	}
	if n := bytesEach(func() { _ = e.Encrypt(ct, x) }); n > 200<<10 {
		t.Errorf("%d bytes for each ciphertext", n)
	}
	d, err := NewDecryptor(p, secret, Real, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	if n := bytesEach(func() { _ = d.Decrypt(x, ct) }); n > 32<<10 {
		t.Errorf("%d bytes for each decryption", n)
	}
}
