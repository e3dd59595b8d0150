package ckks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func seedOf(tb testing.TB, b byte) *keybuf.Buffer {
	tb.Helper()
	seed, err := keybuf.Take(bytes.Repeat([]byte{b}, SeedSize))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(seed.Wipe)
	return seed
}

func keyPair(tb testing.TB, p Params, b byte) (*keybuf.Buffer, []byte) {
	tb.Helper()
	secret, public, err := GenerateKey(p, seedOf(tb, b))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(secret.Wipe)
	return secret, public
}

// A broker stores the seed alone: these digests never change.
func TestASeedIsItsKeyForEver(t *testing.T) {
	secret, public := keyPair(t, Template(), 7)
	if len(public) != Template().PublicKeyBytes() || len(public) != 65+16384*200/8 || secret.Len() != 4096 {
		t.Errorf("%d and %d bytes", len(public), secret.Len())
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"secret": {secret.Bytes(), "ddee2eacdf07ee17ae11c31f316aac898da6f373470b70a22bdc336d72fbac55"},
		"public": {public, "82fbd9324dafe1985ccf76c9d97eb162f5a0338aabcf5866bc4a1afb8f84309e"},
	} {
		sum := sha256.Sum256(c.data)
		if got := hex.EncodeToString(sum[:]); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, again := keyPair(t, Template(), 7); !bytes.Equal(again, public) {
		t.Error("the same seed made another key")
	}
	if _, other := keyPair(t, Template(), 8); bytes.Equal(other[33:], public[33:]) {
		t.Error("another seed made the same key")
	}
}

func TestSecretsAreUniformTernary(t *testing.T) {
	const n = 1 << 18
	small := make([]int8, n)
	ternary(small, stream("test", [32]byte{}, nil))
	count := map[int8]int{}
	for _, v := range small {
		count[v]++
	}
	// Five standard deviations of a count with probability 1/3.
	limit := 5 * math.Sqrt(n*2.0/9)
	for _, v := range []int8{-1, 0, 1} {
		if math.Abs(float64(count[v])-n/3.0) > limit {
			t.Errorf("%d: %d of %d", v, count[v], n)
		}
	}
	if len(count) != 3 {
		t.Errorf("%v", count)
	}
	packed, again := make([]byte, secretBytes(n)), make([]int8, n)
	packSecret(packed, small)
	if !unpackSecret(again, packed) {
		t.Error("refused")
	}
	for i := range small {
		if small[i] != again[i] {
			t.Fatalf("coefficient %d", i)
		}
	}
}

func TestErrorsHaveTheirVariance(t *testing.T) {
	const n = 1 << 18
	small := make([]int8, n)
	centred(small, stream("test", [32]byte{}, nil))
	var sum, squares float64
	for _, v := range small {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	if mean := sum / n; math.Abs(mean) > 5*math.Sqrt(10.5/n) {
		t.Errorf("mean %g", mean)
	}
	if v := squares / n; math.Abs(v-10.5) > 5*10.5*math.Sqrt(2.0/n) || v < sigma*sigma {
		t.Errorf("variance %g", v)
	}
}

func TestUniformResiduesStayBelowTheirPrimes(t *testing.T) {
	p := Template()
	a := newPoly(p.N(), len(p.Q))
	uniform(a, p.Q, stream("test", [32]byte{}, nil))
	for i, q := range p.Q {
		var mean float64
		for _, v := range a[i] {
			if v >= q {
				t.Fatalf("%d is not below %d", v, q)
			}
			mean += float64(v) / float64(q) / float64(p.N())
		}
		if math.Abs(mean-0.5) > 5*math.Sqrt(1.0/12/float64(p.N())) {
			t.Errorf("prime %d: mean %g", q, mean)
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	p := small()
	_, public := keyPair(t, p, 1)
	other := p
	other.LogScale++
	_, stranger := keyPair(t, other, 1)
	high := bytes.Clone(public)
	for i := range 8 {
		high[keyHeader+i] = 255 // a residue of 55 ones is not below its prime
	}
	for name, bad := range map[string][]byte{
		"none": nil, "cut": public[:len(public)-1], "longer": append(bytes.Clone(public), 0),
		"version 2": append([]byte{2}, public[1:]...), "another set": stranger, "not reduced": high,
	} {
		if _, err := NewEncryptor(p, bad, Real); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short, err := keybuf.New(SeedSize - 1)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Wipe()
	if _, _, err := GenerateKey(p, short); !errors.Is(err, ErrKey) {
		t.Errorf("short seed: %v", err)
	}
	if _, err := NewDecryptor(p, short, Real, 1); !errors.Is(err, ErrKey) {
		t.Errorf("short secret: %v", err)
	}
	wrong, err := keybuf.New(secretBytes(p.N()))
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Wipe()
	wrong.Bytes()[9] = 3 << 2
	if _, err := NewDecryptor(p, wrong, Real, 1); !errors.Is(err, ErrKey) {
		t.Errorf("a coefficient of 3: %v", err)
	}
}

// The library must see the public key that the format describes: b + a*s is small.
func TestThePublicKeyIsAnEncryptionOfZero(t *testing.T) {
	p := small()
	secret, public := keyPair(t, p, 3)
	s, err := newScheme(p)
	if err != nil {
		t.Fatal(err)
	}
	common, b, err := s.parseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.spread(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer key.wipe()
	a := newPoly(s.N(), len(s.primes()))
	uniform(a, s.primes(), stream("fedagg a", s.digest, common[:]))
	ringQP, x := s.lib.RingQP(), s.qp(a)
	ringQP.NTT(x, x)
	ringQP.MulCoeffsMontgomery(x, s.qp(key.coeffs), x)
	ringQP.INTT(x, x)
	ringQP.Add(x, s.qp(b), x)
	for i, q := range s.primes() {
		for k, v := range a[i] {
			if v > 21 && q-v > 21 {
				t.Fatalf("prime %d, coefficient %d: error %d", q, k, v)
			}
		}
	}
}
