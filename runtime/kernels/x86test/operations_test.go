package x86test

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// program makes a program of bytes in hexadecimal.
func program(t testing.TB, code string) *Program {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return &Program{name: "test", code: raw, decoded: map[int]*instruction{}}
}

// execute runs instructions one after the other, without a return.
func execute(t testing.TB, m *Machine, code string) {
	t.Helper()
	m.program, m.next = program(t, code), 0
	for m.next < len(m.program.code) {
		if err := m.step(); err != nil {
			t.Fatal(err)
		}
	}
}

// register is a register as the manual sees one.
type register [64]byte

func (r *register) vector() (v vector) {
	for i := range v {
		v[i] = binary.LittleEndian.Uint32(r[4*i:])
	}
	return v
}

func (r *register) word(i int) uint16        { return binary.LittleEndian.Uint16(r[2*i:]) }
func (r *register) setWord(i int, v uint16)  { binary.LittleEndian.PutUint16(r[2*i:], v) }
func (r *register) dword(i int) uint32       { return binary.LittleEndian.Uint32(r[4*i:]) }
func (r *register) setDword(i int, v uint32) { binary.LittleEndian.PutUint32(r[4*i:], v) }
func (r *register) float(i int) float64      { return float64(math.Float32frombits(r.dword(i))) }

// setFloat rounds once: float64 holds sums, differences and products of two float32
// numbers such that rounding again gives the same.
func (r *register) setFloat(i int, v float64) { r.setDword(i, math.Float32bits(float32(v))) }

// manual has the instructions of the AVX-512 kernels as "Operation" defines them in Intel's Software
// Developer's Manual, volume 2 (order number 325383), with 512 bits and no mask: zmm1 is d, zmm2 a and zmm3 b.
// GNU as 2.40 made the encodings.
var manual = map[string]struct {
	code string
	do   func(d, a, b *register)
}{
	"VPDPBUSD": {"62 f2 6d 48 50 cb", func(d, a, b *register) {
		for i := range 16 {
			p := int64(int32(d.dword(i)))
			for k := range 4 { // zero extended bytes of a, sign extended ones of b
				p += int64(a[4*i+k]) * int64(int8(b[4*i+k]))
			}
			d.setDword(i, uint32(p))
		}
	}},
	"VPSHUFB": {"62 f2 6d 48 00 cb", func(d, a, b *register) {
		for i := range 64 {
			if d[i] = 0; b[i]&0x80 == 0 {
				d[i] = a[i&0x30|int(b[i]&0x0f)]
			}
		}
	}},
	"VPTERNLOGD E4, which selects":       {"62 f3 6d 48 25 cb e4", func(d, a, b *register) { bitwise(d, a, b, 0xe4) }},
	"VPTERNLOGD 1D, which is asymmetric": {"62 f3 6d 48 25 cb 1d", func(d, a, b *register) { bitwise(d, a, b, 0x1d) }},
	"VPTERNLOGD as the kernels' SELECT":  {"62 f3 6d 48 25 cb e4", func(d, a, b *register) { selected(d, a, b) }},
	"VPMAXUD":                            {"62 f2 6d 48 3f cb", dwords(func(a, b uint32) uint32 { return max(a, b) })},
	"VPADDD":                             {"62 f1 6d 48 fe cb", dwords(func(a, b uint32) uint32 { return a + b })},
	"VPSUBD":                             {"62 f1 6d 48 fa cb", dwords(func(a, b uint32) uint32 { return a - b })},
	"VPANDD":                             {"62 f1 6d 48 db cb", dwords(func(a, b uint32) uint32 { return a & b })},
	"VPORD":                              {"62 f1 6d 48 eb cb", dwords(func(a, b uint32) uint32 { return a | b })},
	"VPXORD":                             {"62 f1 6d 48 ef cb", dwords(func(a, b uint32) uint32 { return a ^ b })},
	"VPSRLD 28":                          {"62 f1 75 48 72 d3 1c", dwords(func(_, b uint32) uint32 { return b / (1 << 28) })},
	"VPSLLD 23":                          {"62 f1 75 48 72 f3 17", dwords(func(_, b uint32) uint32 { return b * (1 << 23) })},
	"VPSRLW 3":                           {"62 f1 75 48 71 d3 03", func(d, _, b *register) { eachWord(d, b, func(v uint16) uint16 { return v / 8 }) }},
	"VPSLLW 2":                           {"62 f1 75 48 71 f3 02", func(d, _, b *register) { eachWord(d, b, func(v uint16) uint16 { return v * 4 }) }},
	"VPMOVZXBD":                          {"62 f2 7d 48 31 cb", func(d, _, b *register) { eachDword(d, func(i int) uint32 { return uint32(b[i]) }) }},
	"VPMOVSXBD":                          {"62 f2 7d 48 21 cb", func(d, _, b *register) { eachDword(d, func(i int) uint32 { return uint32(int32(int8(b[i]))) }) }},
	"VCVTDQ2PS":                          {"62 f1 7c 48 5b cb", func(d, _, b *register) { eachFloat(d, func(i int) float64 { return float64(int32(b.dword(i))) }) }},
	"VCVTPH2PS":                          {"62 f2 7d 48 13 cb", func(d, _, b *register) { eachFloat(d, func(i int) float64 { return half(b.word(i)) }) }},
	"VADDPS":                             {"62 f1 6c 48 58 cb", func(d, a, b *register) { eachFloat(d, func(i int) float64 { return a.float(i) + b.float(i) }) }},
	"VSUBPS":                             {"62 f1 6c 48 5c cb", func(d, a, b *register) { eachFloat(d, func(i int) float64 { return a.float(i) - b.float(i) }) }},
	"VMULPS":                             {"62 f1 6c 48 59 cb", func(d, a, b *register) { eachFloat(d, func(i int) float64 { return a.float(i) * b.float(i) }) }},
	"VFMADD231PS":                        {"62 f2 6d 48 b8 cb", func(d, a, b *register) { eachFused(d, a, b, d, 1) }},
	"VFNMADD231PS":                       {"62 f2 6d 48 bc cb", func(d, a, b *register) { eachFused(d, a, b, d, -1) }},
	"VFMADD213PS":                        {"62 f2 6d 48 a8 cb", func(d, a, b *register) { eachFused(d, a, d, b, 1) }},
	"VMOVDQU32 from memory":              {"62 f1 7e 48 6f 08", func(d, _, b *register) { *d = *b }},
	"VPADDD with memory broadcast":       {"62 f1 6d 58 fe 08", func(d, a, b *register) { eachDword(d, func(i int) uint32 { return a.dword(i) + b.dword(0) }) }},
}

func eachDword(d *register, f func(i int) uint32) {
	for i := range 16 {
		d.setDword(i, f(i))
	}
}

func eachFloat(d *register, f func(i int) float64) {
	for i := range 16 {
		d.setFloat(i, f(i))
	}
}

// eachFused is sign*x*y + z, rounded once.
func eachFused(d, x, y, z *register, sign float64) {
	for i := range 16 {
		product, z := sign*x.float(i)*y.float(i), z.float(i)
		if v := product + z; v == 0 || v-v != 0 { // exact, or not finite
			d.setFloat(i, v)
			continue
		}
		v, _ := new(big.Rat).Add(new(big.Rat).SetFloat64(product), new(big.Rat).SetFloat64(z)).Float32()
		d.setDword(i, math.Float32bits(v))
	}
}

func eachWord(d, b *register, f func(uint16) uint16) {
	for i := range 32 {
		d.setWord(i, f(b.word(i)))
	}
}

func dwords(f func(a, b uint32) uint32) func(d, a, b *register) {
	return func(d, a, b *register) { eachDword(d, func(i int) uint32 { return f(a.dword(i), b.dword(i)) }) }
}

// bitwise looks each bit up in the table that the immediate is.
func bitwise(d, a, b *register, immediate byte) {
	for i := range 64 {
		var v byte
		for n := range 8 {
			index := d[i]>>n&1<<2 | a[i]>>n&1<<1 | b[i]>>n&1
			v |= immediate >> index & 1 << n
		}
		d[i] = v
	}
}

func selected(d, a, b *register) {
	for i := range 64 {
		d[i] = d[i]&b[i] | a[i]&^b[i]
	}
}

// half is the value of a float16 number.
func half(h uint16) float64 {
	sign, exponent, fraction := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction == 0 {
			return math.Inf(int(sign))
		}
		return math.NaN()
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// randomRegister has extreme bytes half of the time.
func randomRegister(rng *rand.Rand) (r register) {
	extreme := [...]byte{0, 1, 0x7f, 0x80, 0xff}
	for i := range r {
		if r[i] = byte(rng.Uint32()); rng.IntN(2) == 0 {
			r[i] = extreme[rng.IntN(len(extreme))]
		}
	}
	return r
}

func TestInstructionsComputeWhatTheManualSays(t *testing.T) {
	const at = 0x1000
	rng := rand.New(rand.NewPCG(1, 2))
	for name, tc := range manual {
		for range 300 {
			d, a, b := randomRegister(rng), randomRegister(rng), randomRegister(rng)
			m := Machine{}
			m.vectors[1], m.vectors[2], m.vectors[3] = d.vector(), a.vector(), b.vector()
			m.general[0] = at
			m.Map(at, b[:], false)
			execute(t, &m, tc.code)
			tc.do(&d, &a, &b)
			for i, want := range d.vector() {
				got := m.vectors[1][i]
				if x, y := math.Float32frombits(got), math.Float32frombits(want); got != want && (x == x || y == y) { // which NaN: TestNaNs
					t.Fatalf("%s: element %d is %#x, want %#x, from %x and %x", name, i, got, want, a, b)
				}
			}
		}
	}
}

// TestNaNs follows SDM volume 1, table 4-7, and section 4.8.3.5 for the encoding.
func TestNaNs(t *testing.T) {
	const infinity, signalling, quiet, other = 0x7f800000, 0x7f800001, 0x7fc00001, 0xffc00002
	add, subtract := "62 f1 6c 48 58 cb", "62 f1 6c 48 5c cb"
	for _, tc := range []struct {
		code       string
		a, b, want uint32
	}{
		{add, signalling, 1, quiet}, {add, 1, signalling, quiet}, {add, quiet, other, quiet}, {add, other, quiet, other},
		{add, quiet, signalling, quiet}, {subtract, infinity, infinity, 0xffc00000}, {subtract, infinity, 0, infinity},
	} {
		m := Machine{}
		m.vectors[2], m.vectors[3] = filled(tc.a), filled(tc.b)
		if execute(t, &m, tc.code); m.vectors[1] != filled(tc.want) {
			t.Errorf("%#x and %#x give %#x, want %#x", tc.a, tc.b, m.vectors[1][0], tc.want)
		}
	}
	for h := range 1 << 16 {
		value, exponent := math.Float32frombits(fromHalf(uint16(h))), h>>10&31
		if nan := exponent == 31 && h&1023 != 0; nan != (value != value) || !nan && float64(value) != half(uint16(h)) {
			t.Errorf("float16 %#x is %v", h, value)
		} else if nan && fromHalf(uint16(h)) != uint32(h>>15)<<31|0x7fc00000|uint32(h&1023)<<13 {
			t.Errorf("float16 %#x is %#x", h, fromHalf(uint16(h)))
		}
	}
}

// TestDotProductsByHand has sums that leave 16 bits, and 32.
func TestDotProductsByHand(t *testing.T) {
	for _, tc := range []struct{ d, a, b, want uint32 }{
		{0, 0xffffffff, 0x80808080, 0xfffe0200},          // 4 * 255 * -128 = -130560
		{1, 0xffffffff, 0x7f7f7f7f, 129541},              // 1 + 4 * 255 * 127
		{0x7fffffff, 0x000000ff, 0x0000007f, 0x80007e80}, // no saturation
		{0, 0x04030201, 0xff02fd05, 1},                   // 1*5 + 2*-3 + 3*2 + 4*-1
	} {
		m := Machine{}
		m.vectors[1], m.vectors[2], m.vectors[3] = filled(tc.d), filled(tc.a), filled(tc.b)
		if execute(t, &m, manual["VPDPBUSD"].code); m.vectors[1] != filled(tc.want) {
			t.Errorf("%#x + %#x * %#x gives %#x, want %#x", tc.d, tc.a, tc.b, m.vectors[1][0], tc.want)
		}
	}
}
