package statement

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	reference "github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
)

// The shape of the sponge, as circuits know it.
const (
	Width         = poseidon2.Width
	Rate          = poseidon2.Rate
	FullRounds    = poseidon2.FullRounds
	PartialRounds = poseidon2.PartialRounds
)

// theirs is an element as gnark-crypto has it.
func theirs(t testing.TB, e poseidon2.Element) (o fr.Element) {
	t.Helper()
	b := e.Bytes()
	if err := o.SetBytesCanonical(b[:]); err != nil {
		t.Fatal(err)
	}
	return o
}

// ours is an element of gnark-crypto.
func ours(t testing.TB, e fr.Element) poseidon2.Element {
	t.Helper()
	o, err := poseidon2.Parse(e.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// plainPermutation is Poseidon2 (ePrint 2023/323) written down matrix by matrix, with
// gnark-crypto's constants.
func plainPermutation(state []fr.Element) []fr.Element {
	p := reference.NewParameters(Width, FullRounds, PartialRounds)
	m4 := [4][4]uint64{{5, 7, 1, 3}, {4, 6, 1, 1}, {1, 3, 5, 7}, {1, 1, 4, 6}}
	apply := func(s []fr.Element, at func(i, j int) fr.Element) []fr.Element {
		out := make([]fr.Element, Width)
		for i := range out {
			for j := range s {
				m := at(i, j)
				out[i].Add(&out[i], m.Mul(&m, &s[j]))
			}
		}
		return out
	}
	external := func(s []fr.Element) []fr.Element {
		return apply(s, func(i, j int) fr.Element {
			m := m4[i%4][j%4]
			if i/4 == j/4 {
				m *= 2
			}
			return fr.NewElement(m)
		})
	}
	internal := func(s []fr.Element) []fr.Element {
		return apply(s, func(i, j int) fr.Element {
			m := fr.One()
			if i == j {
				m.Add(&m, &p.DiagM1[i])
			}
			return m
		})
	}
	fifth := func(e fr.Element) fr.Element {
		var power fr.Element
		power.Square(&e).Square(&power).Mul(&power, &e)
		return power
	}
	state = external(state)
	for round, keys := range p.RoundKeys {
		for i := range keys {
			state[i].Add(&state[i], &keys[i])
		}
		if round < FullRounds/2 || round >= FullRounds/2+PartialRounds {
			for i := range state {
				state[i] = fifth(state[i])
			}
			state = external(state)
		} else {
			state[0] = fifth(state[0])
			state = internal(state)
		}
	}
	return state
}

// plainHash is the sponge, written down again.
func plainHash(t testing.TB, d Domain, elements []poseidon2.Element) poseidon2.Element {
	state := make([]fr.Element, Width)
	state[Width-1].SetString("18446744073709551616") // 2^64
	domain, n := fr.NewElement(uint64(d)), fr.NewElement(uint64(len(elements)))
	state[Width-1].Mul(&state[Width-1], &domain).Add(&state[Width-1], &n)
	blocks := max(1, (len(elements)+Width-2)/(Width-1))
	for b := range blocks {
		for i := range Width - 1 {
			if at := b*(Width-1) + i; at < len(elements) {
				e := theirs(t, elements[at])
				state[i].Add(&state[i], &e)
			}
		}
		state = plainPermutation(state)
	}
	return ours(t, state[0])
}

func TestSpongeIsWhatIsWritten(t *testing.T) {
	for _, n := range []int{0, 1, 2, 14, 15, 16, 29, 30, 31, 46} {
		elements := make([]poseidon2.Element, n)
		for i := range elements {
			var e fr.Element
			elements[i] = ours(t, *e.MustSetRandom())
		}
		before := slices.Clone(elements)
		got, want := Hash(DomainInput, elements), plainHash(t, DomainInput, elements)
		if got != want {
			t.Errorf("%d elements", n)
		}
		if !slices.Equal(before, elements) {
			t.Error("the elements are changed")
		}
	}
}

func TestSpongeTellsApart(t *testing.T) {
	one := poseidon2.FromUint64(1)
	seen := map[poseidon2.Element]string{}
	for name, h := range map[string]poseidon2.Element{
		"nothing": Hash(DomainInput, nil), "a zero": Hash(DomainInput, make([]poseidon2.Element, 1)), "two zeros": Hash(DomainInput, make([]poseidon2.Element, 2)),
		"a block": Hash(DomainInput, make([]poseidon2.Element, Rate)), "a block and a zero": Hash(DomainInput, make([]poseidon2.Element, Rate+1)),
		"one": Hash(DomainInput, []poseidon2.Element{one}), "one of another domain": Hash(DomainWeights, []poseidon2.Element{one}), "of a third": Hash(DomainGradient, []poseidon2.Element{one}),
		"of a fourth": Hash(DomainGradient8, []poseidon2.Element{one}),
	} {
		if other, double := seen[h]; double {
			t.Errorf("%s and %s", name, other)
		}
		seen[h] = name
	}
}

func TestPacking(t *testing.T) {
	element := func(s string) poseidon2.Element {
		var e fr.Element
		if _, err := e.SetString(s); err != nil {
			t.Fatal(err)
		}
		return ours(t, e)
	}
	bytes := make([]int8, 32)
	for i := range bytes {
		bytes[i] = -128
	}
	bytes[0], bytes[1], bytes[30], bytes[31] = -127, 127, 127, -126
	if got := PackInt8(nil, bytes); len(got) != 2 || got[0] != element("0xff"+strings.Repeat("00", 28)+"ff01") || got[1] != element("2") {
		t.Errorf("bytes: %v", got)
	}
	if got := PackInt16(nil, []int16{math.MinInt16, math.MaxInt16, 0}); len(got) != 1 || got[0] != element("0x8000ffff0000") {
		t.Errorf("int16: %v", got)
	}
	if got := packInt32(nil, []int32{math.MinInt32, math.MaxInt32, 0, 0, 0, 0, 0, -1}); len(got) != 2 || got[0] != element("0x8000000080000000800000008000000080000000ffffffff00000000") || got[1] != element("0x7fffffff") {
		t.Errorf("int32: %v", got)
	}
	if got := PackUint32(nil, []uint32{1, 2}); len(got) != 1 || got[0] != element("0x0000000200000001") {
		t.Errorf("uint32: %v", got)
	}
	if PackInt8(nil, nil) != nil {
		t.Error("nothing is packed into something")
	}
}

func network(t testing.TB) *intnet.Network {
	t.Helper()
	n := &intnet.Network{
		Architecture: intnet.Architecture{Input: intnet.Shape{C: 3, H: 1, W: 1}, Layers: []intnet.Layer{
			{Kind: intnet.Dense, Out: 2, ReLU: true}, {Kind: intnet.Dense, Out: 2}}},
		Parameters: intnet.Parameters{Layers: []intnet.LayerParameters{
			{Weights: []int8{1, -2, 3, -4, 5, -6}, Bias: []int32{-100, 100}, Multiplier: []uint32{1 << 20, 3 << 20}},
			{Weights: []int8{127, -127, 0, 9}, Bias: []int32{7, math.MaxInt16}},
		}},
	}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryConstantIsCommittedTo(t *testing.T) {
	want := WeightsCommitment(network(t))
	for layer := range 2 {
		for name, change := range map[string]func(*intnet.LayerParameters){
			"weight": func(p *intnet.LayerParameters) { p.Weights[len(p.Weights)-1]++ },
			"bias":   func(p *intnet.LayerParameters) { p.Bias[0]-- },
			"multiplier": func(p *intnet.LayerParameters) {
				if p.Multiplier == nil {
					p.Bias[1]++
				} else {
					p.Multiplier[1]++
				}
			},
			"weights swapped": func(p *intnet.LayerParameters) { p.Weights[0], p.Weights[1] = p.Weights[1], p.Weights[0] },
		} {
			n := network(t)
			change(&n.Parameters.Layers[layer])
			if WeightsCommitment(n) == want {
				t.Errorf("layer %d: %s", layer, name)
			}
		}
	}
	a, b := InputCommitment(Salt{1}, []int8{1}), InputCommitment(Salt{2}, []int8{1})
	if a == b || a == InputCommitment(Salt{1}, []int8{2}) || a == InputCommitment(Salt{1}, make([]int8, 32)) {
		t.Error("an input or its salt is not committed to")
	}
	// The length is the statement's to say.
	if a != InputCommitment(Salt{1}, []int8{1, -128}) {
		t.Error("padding is not what it was")
	}
	if GradientCommitment(Salt{}, []int16{1}) == GradientCommitment8(Salt{}, []int8{1}) {
		t.Error("widths of coordinates are not told apart")
	}
	s1, err1 := NewSalt()
	s2, err2 := NewSalt()
	if err1 != nil || err2 != nil || s1 == s2 || s1 == (Salt{}) {
		t.Error("salts are not random")
	}
}

func BenchmarkWeightsCommitment(b *testing.B) {
	n := &intnet.Network{Parameters: intnet.Parameters{Layers: []intnet.LayerParameters{{Weights: make([]int8, 100_000)}}}}
	for b.Loop() {
		WeightsCommitment(n)
	}
}

func BenchmarkInputCommitment(b *testing.B) {
	in := make([]int8, 784)
	for b.Loop() {
		InputCommitment(Salt{1}, in)
	}
}
