package ckks

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/he/params"
)

func TestTemplatePrimesAreThoseOfSEAL(t *testing.T) {
	all := primesOf(14, 60, 40, 40, 60)
	q, p := all[:3], all[3:]
	if threshold := Threshold(); !slices.Equal(primesOf(14, 60, 60, 60), append(threshold.Q, threshold.P...)) || !slices.Equal(all, Template().primes()) {
		t.Error("other primes than the rule's")
	}
	if !slices.Equal(q, []uint64{1152921504606683137, 1099508121601, 1099510054913}) || !slices.Equal(p, []uint64{1152921504606748673}) {
		t.Errorf("Q %d, P %d", q, p)
	}
}

func TestTheTemplateIsTheNamedSet(t *testing.T) {
	set, err := params.Lookup(params.Template)
	if err != nil {
		t.Fatal(err)
	}
	p := Template()
	if p.LogN != set.LogN || p.LogScale != set.LogScale || !slices.Equal(p.Q, set.Q) || !slices.Equal(p.P, set.P) {
		t.Errorf("%+v is not %+v", p, set)
	}
	if p.CiphertextBytes() != set.BlockBytes() || p.Values(Real) != set.ValuesPerBlock() {
		t.Errorf("blocks of %d bytes for %d values, not %d for %d", p.CiphertextBytes(), p.Values(Real), set.BlockBytes(), set.ValuesPerBlock())
	}
}

// Digests are in keys that exist: they never change.
func TestSetsNeverChange(t *testing.T) {
	for want, p := range map[string]Params{
		"06d3251f539acffe85ea1559efae5d94fd88159967e44e06d0d3f71d4e884e56": Template(),
		"34fa465b3e03a2da3f2e4331842a103ddf9466551ad10e4e5a632b1526a49ebb": Threshold(),
	} {
		d := p.Digest()
		if got := hex.EncodeToString(d[:]); got != want {
			t.Errorf("digest %s of\n%s", got, p.Text())
		}
		if _, err := p.library(); err != nil {
			t.Error(err)
		}
	}
}

// Each case is an accepted set with one number changed.
func TestChecksOfParamsBite(t *testing.T) {
	base := small()
	if err := base.Check(); err != nil {
		t.Fatal(err)
	}
	wide := primesOf(15, 60, 60, 60)
	narrow := primesOf(11, 46, 46)
	for want, change := range map[string]func(p *Params){
		"2^9 is outside":                func(p *Params) { p.LogN = 9 },
		"2^16 is outside":               func(p *Params) { p.LogN = 16 },
		"0 ciphertext":                  func(p *Params) { p.Q = nil },
		"0 special":                     func(p *Params) { p.P = nil },
		"at most 8":                     func(p *Params) { p.LogN, p.Q = 15, primesOf(15, 40, 40, 40, 40, 40, 40, 40, 40) },
		"twice":                         func(p *Params) { p.P = p.Q },
		"12289 must have 20 to 60":      func(p *Params) { p.Q = []uint64{12289} },
		"is not 1 modulo":               func(p *Params) { p.Q = []uint64{1099511627689} },
		"is not prime":                  func(p *Params) { p.Q = []uint64{8193 * 40961} },
		"92.0 bits at ring degree 2048": func(p *Params) { p.LogN, p.Q, p.P, p.LogScale = 11, narrow[:1], narrow[1:], 30 },
		"scale 2^0 does not fit":        func(p *Params) { p.LogScale = 0 },
		"scale 2^48 does not fit":       func(p *Params) { p.LogScale = 48 },
		"scale 2^120 does not fit":      func(p *Params) { p.LogN, p.Q, p.P, p.LogScale = 15, wide[:2], wide[2:], 120 },
		"scale 2^114 does not fit":      func(p *Params) { p.LogN, p.Q, p.P, p.LogScale = 15, wide[:2], wide[2:], 114 },
	} {
		p := small()
		change(&p)
		if err := p.Check(); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if _, err := p.library(); !errors.Is(err, ErrParams) {
			t.Errorf("%s: the library's parameters were made: %v", want, err)
		}
	}
}

// small is a set for fast tests: one prime of 55 bits.
func small() Params {
	return Params{LogN: 12, Q: primesOf(12, 55), P: primesOf(12, 45), LogScale: 40}
}

// smallThreshold is Threshold in half its degree.
func smallThreshold() Params {
	all := primesOf(13, 60, 60, 60)
	return Params{LogN: 13, Q: all[:2], P: all[2:], LogScale: 100}
}

// primesOf applies the rule that Template describes.
func primesOf(logN int, sizes ...int) []uint64 {
	found := map[int][]uint64{} // largest first
	for _, b := range sizes {
		step := uint64(2) << logN
		next := uint64(1)<<b - step + 1
		if have := found[b]; len(have) > 0 {
			next = have[len(have)-1] - step
		}
		for !prime(next) {
			next -= step
		}
		found[b] = append(found[b], next)
	}
	list := make([]uint64, len(sizes))
	for i, b := range sizes {
		have := found[b]
		list[i], found[b] = have[len(have)-1], have[:len(have)-1]
	}
	return list
}
