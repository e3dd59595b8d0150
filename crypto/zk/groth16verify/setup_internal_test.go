package groth16verify

import (
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
)

// secrets are a set-up whose secrets are known.
type secrets struct{ alpha, beta, gamma, delta, betaOne, deltaOne, sigma int64 }

// key writes the key of one public input and a commitment.
func (s secrets) key() []byte {
	_, _, one, two := curve.Generators()
	g1 := func(out []byte, n int64) []byte {
		b := new(curve.G1Affine).ScalarMultiplication(&one, big.NewInt(n)).Bytes()
		return append(out, b[:]...)
	}
	g2 := func(out []byte, n int64) []byte {
		b := new(curve.G2Affine).ScalarMultiplication(&two, big.NewInt(n)).Bytes()
		return append(out, b[:]...)
	}
	raw := g2(g2(g1(g1(nil, s.alpha), s.betaOne), s.beta), s.gamma)
	raw = g2(g1(raw, s.deltaOne), s.delta)
	raw = g1(g1(g1(binary.BigEndian.AppendUint32(raw, 3), 101), 102), 103)
	for _, n := range []uint32{1, 0, 1} { // one list of no inputs, one key
		raw = binary.BigEndian.AppendUint32(raw, n)
	}
	return g2(g2(raw, 11), 11*s.sigma)
}

// TestUnfinishedSetupsAreRefused makes keys in which only one thing is wrong.
func TestUnfinishedSetupsAreRefused(t *testing.T) {
	good := secrets{alpha: 2, beta: 3, gamma: 1, delta: 5, betaOne: 3, deltaOne: 5, sigma: -7}
	if _, err := ParseKey(good.key()); err != nil {
		t.Fatalf("gamma may be the generator: %v", err)
	}
	for name, change := range map[string]func(*secrets){
		"alpha is one":          func(s *secrets) { s.alpha = 1 },
		"beta is one":           func(s *secrets) { s.beta, s.betaOne = 1, 1 },
		"delta is one":          func(s *secrets) { s.delta, s.deltaOne, s.gamma = 1, 1, 4 },
		"delta is gamma":        func(s *secrets) { s.gamma = s.delta },
		"beta's halves differ":  func(s *secrets) { s.betaOne = 4 },
		"delta's halves differ": func(s *secrets) { s.deltaOne = 4 },
		"sigma is one":          func(s *secrets) { s.sigma = 1 },
		"sigma is minus one":    func(s *secrets) { s.sigma = -1 },
		"gamma is none":         func(s *secrets) { s.gamma = 0 },
	} {
		s := good
		change(&s)
		if _, err := ParseKey(s.key()); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgeryWithKnownDelta is why untouched refuses keys: with delta equal to gamma
// anybody proves anything, without any secret. The equation itself holds.
func TestForgeryWithKnownDelta(t *testing.T) {
	s := secrets{alpha: 2, beta: 3, gamma: 5, delta: 5, betaOne: 3, deltaOne: 5, sigma: -7}
	raw := s.key()
	_, _, one, two := curve.Generators()
	point := func(n int64) curve.G1Affine { return *new(curve.G1Affine).ScalarMultiplication(&one, big.NewInt(n)) }
	// a = alpha, b = beta, and c cancels the inputs' sum, whatever it is.
	beta := *new(curve.G2Affine).ScalarMultiplication(&two, big.NewInt(s.beta))
	gamma := *new(curve.G2Affine).ScalarMultiplication(&two, big.NewInt(-s.gamma))
	holds, err := curve.PairingCheck([]curve.G1Affine{point(s.alpha), point(777), point(-777), point(-s.alpha)}, []curve.G2Affine{beta, gamma, gamma, beta})
	if err != nil || !holds {
		t.Fatal("the forgery does not work", err)
	}
	if _, err := ParseKey(raw); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}
