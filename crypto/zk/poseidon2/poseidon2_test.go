package poseidon2

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	theirs "github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
)

// toTheirs is an element as gnark-crypto has it.
func toTheirs(t testing.TB, e Element) (o fr.Element) {
	t.Helper()
	b := e.Bytes()
	if err := o.SetBytesCanonical(b[:]); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return o
}

func parse(t testing.TB, digits string) Element {
	t.Helper()
	var b [Bytes]byte
	if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
		t.Fatal(err)
	}
	e, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// edges are the numbers at which carries and reductions differ.
func edges(t testing.TB) []Element {
	return []Element{{}, FromUint64(1), FromUint64(2), FromInt64(-1), FromInt64(-2), FromUint64(1<<64 - 1), FromInt64(-1 << 63),
		parse(t, "183227397098d014dc2822db40c0ac2e9419f4243cdcb848a1f0fac9f8000000"), // (q-1)/2
		{limbs{1}}, {limbs{0, 0, 0, 1 << 60}}, {sub1(modulus)}, // of the Montgomery form itself
		{limbs{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, q3 - 1}},
	}
}

func sub1(n limbs) limbs { d, _ := sub(n, limbs{1}); return d }

func TestConstantsAreThoseOfCircuits(t *testing.T) {
	want := theirs.NewParameters(Width, FullRounds, PartialRounds)
	c := derive()
	same := func(got limbs, want fr.Element, at ...any) {
		t.Helper()
		if toTheirs(t, Element{got}) != want {
			t.Errorf("%v: got %x, want %x", at, got, want)
		}
	}
	for i, e := range want.DiagM1 {
		same(c.diagonal[i], e, "diagonal", i)
	}
	for r, keys := range want.RoundKeys {
		var ours [Width]limbs // all but the first are 0 in partial rounds
		switch at := r - FullRounds/2; {
		case at < 0:
			ours = c.full[r]
		case at < PartialRounds:
			ours[0] = c.partial[at]
		default:
			ours = c.full[r-PartialRounds]
		}
		for i, e := range keys {
			same(ours[i], e, "round", r, i)
		}
	}
}

// The permutation of 0, 1, ... 15 as other implementations publish it: npm's
// @zkpassport/poseidon2 for this width, whose constants are the authors' script's, too.
func TestPublishedPermutation(t *testing.T) {
	var s [Width]Element
	for i := range s {
		s[i] = FromUint64(uint64(i))
	}
	Permute(&s)
	for i, want := range map[int]string{
		0:         "0fc2e6b758f493969e1d860f9a44ee3bdffdf796f382aa4ffb16fa4e9bcc333f",
		Width - 1: "0e2ceb1f8fde5f80be1f41bd239fabdc2f6133a6a98920a55c42891c3a925152",
	} {
		if got := s[i].Bytes(); hex.EncodeToString(got[:]) != want {
			t.Errorf("element %d: got %x, want %s", i, got, want)
		}
	}
}

// checkPermutation holds a permutation against gnark-crypto's.
func checkPermutation(t *testing.T, s [Width]Element) {
	t.Helper()
	want := make([]fr.Element, Width)
	for i := range s {
		want[i] = toTheirs(t, s[i])
	}
	got := s
	Permute(&got)
	if err := theirs.NewPermutation(Width, FullRounds, PartialRounds).Permutation(want); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if toTheirs(t, got[i]) != want[i] {
			t.Fatalf("of %x: element %d: got %x, want %x", s, i, got[i].Bytes(), want[i].Bytes())
		}
	}
}

func TestPermutationOfEdges(t *testing.T) {
	list := edges(t)
	for i, a := range list {
		for k := range list {
			var s [Width]Element
			for at := range s {
				s[at] = a
				if at%(k+1) == 0 {
					s[at] = list[(i+k)%len(list)]
				}
			}
			checkPermutation(t, s)
		}
	}
}

func FuzzPermutation(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, n uint64) {
		var s [Width]Element
		for i := range s {
			var b [Bytes]byte
			raw = raw[copy(b[:], raw):]
			s[i] = LowBits(b)
		}
		s[n%Width] = FromInt64(int64(n))
		checkPermutation(t, s)
	})
}

// plainHash is the sponge of gnark-crypto's permutation.
func plainHash(t *testing.T, capacity Element, elements []Element) fr.Element {
	state := make([]fr.Element, Width)
	state[Rate] = toTheirs(t, capacity)
	p := theirs.NewPermutation(Width, FullRounds, PartialRounds)
	for first := true; first || len(elements) > 0; first = false {
		n := min(Rate, len(elements))
		for i := range n {
			e := toTheirs(t, elements[i])
			state[i].Add(&state[i], &e)
		}
		elements = elements[n:]
		if err := p.Permutation(state); err != nil {
			t.Fatal(err)
		}
	}
	return state[0]
}

func TestHash(t *testing.T) {
	list := edges(t)
	for n := range 3*Rate + 2 {
		elements := make([]Element, n)
		for i := range elements {
			elements[i] = list[(i*i+n)%len(list)]
		}
		for _, capacity := range list {
			if got, want := toTheirs(t, Hash(capacity, elements)), plainHash(t, capacity, elements); got != want {
				t.Fatalf("%d elements: got %s, want %s", n, got.String(), want.String())
			}
		}
	}
}

func TestHashAllocatesNothing(t *testing.T) {
	elements := make([]Element, 31)
	if n := testing.AllocsPerRun(10, func() { Hash(Element{}, elements) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNumbersNotBelowTheModulusAreRefused(t *testing.T) {
	const q = "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001"
	for _, digits := range []string{q, q[:63] + "2", "30644e72e131a02a" + q[16:], q[:16] + "ffffffffffffffff" + q[32:], "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"} {
		var b [Bytes]byte
		if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("%s: %v", digits, err)
		}
	}
	if e := parse(t, q[:63]+"0"); e != FromInt64(-1) {
		t.Errorf("q-1 is %x", e.Bytes())
	}
}

func TestNumbers(t *testing.T) {
	for _, e := range edges(t) {
		if again, err := Parse(e.Bytes()); err != nil || again != e {
			t.Errorf("%x: %v", e.Bytes(), err)
		}
	}
	for _, n := range []int64{0, 1, -1, 1<<63 - 1, -1 << 63, -1<<63 + 1, 1 << 32, -1 << 32} {
		var want fr.Element
		if want.SetInt64(n); toTheirs(t, FromInt64(n)) != want {
			t.Errorf("%d", n)
		}
	}
	for _, n := range []uint64{0, 1, 1<<64 - 1, 1 << 63} {
		if want := fr.NewElement(n); toTheirs(t, FromUint64(n)) != want {
			t.Errorf("%d", n)
		}
	}
	var b [Bytes]byte
	for i := range b {
		b[i] = 0xff
	}
	want := b
	want[0] = 0x1f
	if got := LowBits(b).Bytes(); got != want {
		t.Errorf("lowest bits: got %x, want %x", got, want)
	}
}

func BenchmarkPermutation(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		var s [Width]Element
		Permute(&s)
		for b.Loop() {
			Permute(&s)
		}
	})
	b.Run("gnark-crypto", func(b *testing.B) {
		p := theirs.NewPermutation(Width, FullRounds, PartialRounds)
		s := make([]fr.Element, Width)
		for b.Loop() {
			if err := p.Permutation(s); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkConstants(b *testing.B) {
	for b.Loop() {
		derive()
	}
}
