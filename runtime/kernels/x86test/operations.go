package x86test

import (
	"math"
	"math/big"
	"math/bits"
)

// vector is a register of 512 bits as 16 elements of 32.
type vector [16]uint32

func (v *vector) byte(i int) byte   { return byte(v[i/4] >> (i % 4 * 8)) }
func (v *vector) word(i int) uint16 { return uint16(v[i/2] >> (i % 2 * 16)) }

// key finds an operation: opcode map, implied prefix, opcode, and the extension in ModRM.reg
// or none.
type key struct {
	space, pp, opcode byte
	extension         int
}

// form says which fields of the encoding are the operands.
type form int

const (
	three form = iota // reg = second op operand
	two               // reg = op operand
	store             // operand = reg
	shift             // second = op operand, ModRM.reg extends the opcode
)

// uses reports whether a form may have this second register: where it has none, the field
// must be 0 (before inversion), or the processor refuses the instruction.
func (f form) uses(second int) bool { return f == three || f == shift || second == 0 }

// operation is what an instruction does to vectors. Operations work on 16 elements; what
// is beyond the width of the instruction is cleared afterwards.
type operation struct {
	// vex and evex are the names with these encodings, empty where there is none that AVX2, or
	// AVX512F, AVX512BW and AVX512_VNNI have.
	vex, evex string
	form      form
	// An operand in memory has part bytes of 64, or fixed bytes whatever the width is.
	part, fixed int
	// elements: EVEX can broadcast one element of 32 bits from memory.
	elements, immediate bool
	// do computes d, which holds the old destination, from the second register a and
	// the operand b.
	do func(d, a, b *vector, immediate byte)
}

// bytes is the size of an operand in memory.
func (o *operation) bytes(width int) int {
	if o.fixed != 0 {
		return o.fixed
	}
	return width * o.part / 64
}

// Opcode maps and implied prefixes.
const (
	map0F, map0F38, map0F3A = 1, 2, 3
	ppNone, pp66, ppF3      = 0, 1, 2
)

var operations = map[key]*operation{
	{map0F, ppF3, 0x6f, none}:   {vex: "VMOVDQU", evex: "VMOVDQU32", form: two, part: 64, do: move},
	{map0F, ppF3, 0x7f, none}:   {vex: "VMOVDQU", evex: "VMOVDQU32", form: store, part: 64, do: move},
	{map0F, ppNone, 0x10, none}: {vex: "VMOVUPS", evex: "VMOVUPS", form: two, part: 64, do: move},
	{map0F, ppNone, 0x11, none}: {vex: "VMOVUPS", evex: "VMOVUPS", form: store, part: 64, do: move},

	{map0F, pp66, 0xfe, none}:   integers("VPADDD", "VPADDD", func(a, b uint32) uint32 { return a + b }),
	{map0F, pp66, 0xfa, none}:   integers("VPSUBD", "VPSUBD", func(a, b uint32) uint32 { return a - b }),
	{map0F, pp66, 0xdb, none}:   integers("VPAND", "VPANDD", func(a, b uint32) uint32 { return a & b }),
	{map0F, pp66, 0xeb, none}:   integers("VPOR", "VPORD", func(a, b uint32) uint32 { return a | b }),
	{map0F, pp66, 0xef, none}:   integers("VPXOR", "VPXORD", func(a, b uint32) uint32 { return a ^ b }),
	{map0F, ppNone, 0x57, none}: integers("VXORPS", "", func(a, b uint32) uint32 { return a ^ b }), // EVEX: AVX512DQ
	{map0F38, pp66, 0x3f, none}: integers("VPMAXUD", "VPMAXUD", func(a, b uint32) uint32 { return max(a, b) }),

	{map0F, ppNone, 0x58, none}: floats("VADDPS", func(a, b float32) float32 { return a + b }),
	{map0F, ppNone, 0x5c, none}: floats("VSUBPS", func(a, b float32) float32 { return a - b }),
	{map0F, ppNone, 0x59, none}: floats("VMULPS", func(a, b float32) float32 { return a * b }),

	{map0F38, pp66, 0xb8, none}: fused("VFMADD231PS", func(d, a, b uint32) (x, y, z uint32) { return a, b, d }, false),
	{map0F38, pp66, 0xbc, none}: fused("VFNMADD231PS", func(d, a, b uint32) (x, y, z uint32) { return a, b, d }, true),
	{map0F38, pp66, 0xa8, none}: fused("VFMADD213PS", func(d, a, b uint32) (x, y, z uint32) { return a, d, b }, false),

	{map0F, pp66, 0xfd, none}: {vex: "VPADDW", part: 64, do: words(func(a, b uint16) uint16 { return a + b })},
	{map0F, pp66, 0xfc, none}: {vex: "VPADDB", part: 64, do: addBytes},
	{map0F, pp66, 0xf5, none}: {vex: "VPMADDWD", part: 64, do: multiplyAddWords},

	{map0F38, pp66, 0x04, none}: {vex: "VPMADDUBSW", part: 64, do: multiplyAddBytes},
	{map0F38, pp66, 0x00, none}: {vex: "VPSHUFB", evex: "VPSHUFB", part: 64, do: shuffleBytes},
	{map0F38, pp66, 0x50, none}: {evex: "VPDPBUSD", part: 64, elements: true, do: dotBytes},
	{map0F3A, pp66, 0x25, none}: {evex: "VPTERNLOGD", part: 64, elements: true, immediate: true, do: ternaryLogic},

	{map0F, pp66, 0x71, 2}: {vex: "VPSRLW", evex: "VPSRLW", form: shift, part: 64, immediate: true, do: shiftWordsRight},
	{map0F, pp66, 0x71, 6}: {vex: "VPSLLW", evex: "VPSLLW", form: shift, part: 64, immediate: true, do: shiftWordsLeft},
	{map0F, pp66, 0x72, 2}: {vex: "VPSRLD", evex: "VPSRLD", form: shift, part: 64, elements: true, immediate: true, do: shiftRight},
	{map0F, pp66, 0x72, 6}: {vex: "VPSLLD", evex: "VPSLLD", form: shift, part: 64, elements: true, immediate: true, do: shiftLeftElements},

	{map0F38, pp66, 0x13, none}: unary("VCVTPH2PS", 32, func(b *vector, i int) uint32 { return fromHalf(b.word(i)) }),
	{map0F38, pp66, 0x31, none}: unary("VPMOVZXBD", 16, func(b *vector, i int) uint32 { return uint32(b.byte(i)) }),
	{map0F38, pp66, 0x21, none}: unary("VPMOVSXBD", 16, func(b *vector, i int) uint32 { return uint32(int8(b.byte(i))) }),
	{map0F38, ppF3, 0x33, none}: {evex: "VPMOVDW", form: store, part: 32, do: lowWords},
	{map0F38, pp66, 0x33, none}: unary("VPMOVZXWD", 32, func(b *vector, i int) uint32 { return uint32(b.word(i)) }),
	{map0F, ppNone, 0x5b, none}: {vex: "VCVTDQ2PS", evex: "VCVTDQ2PS", form: two, part: 64, elements: true, do: each(
		func(b *vector, i int) uint32 { return math.Float32bits(float32(int32(b[i]))) })},

	{map0F38, pp66, 0x58, none}: {vex: "VPBROADCASTD", evex: "VPBROADCASTD", form: two, fixed: 4, do: repeat(1)},
	{map0F38, pp66, 0x18, none}: {vex: "VBROADCASTSS", evex: "VBROADCASTSS", form: two, fixed: 4, do: repeat(1)},
	{map0F38, pp66, 0x5a, none}: {evex: "VBROADCASTI32X4", form: two, fixed: 16, do: repeat(4)}, // VEX: VBROADCASTI128
	{map0F38, pp66, 0x7c, none}: {evex: "VPBROADCASTD", form: two, do: repeat(1)},               // from a general register
}

func move(d, _, b *vector, _ byte) { *d = *b }

// lowWords puts the lower halves of all elements side by side.
func lowWords(d, _, b *vector, _ byte) {
	var packed vector
	for i, v := range b {
		packed[i/2] |= v & 0xffff << (i % 2 * 16)
	}
	*d = packed
}

// integers is an operation on elements of 32 bits.
func integers(vex, evex string, f func(a, b uint32) uint32) *operation {
	return &operation{vex: vex, evex: evex, part: 64, elements: true, do: func(d, a, b *vector, _ byte) {
		for i := range d {
			d[i] = f(a[i], b[i])
		}
	}}
}

// floats is an operation on float32 numbers, rounded to nearest even, with denormal numbers, and
// with what SDM volume 1, table 4-7, says of NaNs: the first source that is one, made quiet.
func floats(name string, f func(a, b float32) float32) *operation {
	const quiet, indefinite = 1 << 22, 0xffc00000
	return integers(name, name, func(a, b uint32) uint32 {
		x, y := math.Float32frombits(a), math.Float32frombits(b)
		r := f(x, y)
		switch {
		case x != x:
			return a | quiet
		case y != y:
			return b | quiet
		case r != r:
			return indefinite
		}
		return math.Float32bits(r)
	})
}

// unary widens elements: part bytes of memory become a register of 64.
func unary(name string, part int, f func(b *vector, i int) uint32) *operation {
	return &operation{vex: name, evex: name, form: two, part: part, do: each(f)}
}

func each(f func(b *vector, i int) uint32) func(d, a, b *vector, _ byte) {
	return func(d, _, b *vector, _ byte) {
		for i := range d {
			d[i] = f(b, i)
		}
	}
}

// repeat repeats the first n elements.
func repeat(n int) func(d, a, b *vector, _ byte) {
	return each(func(b *vector, i int) uint32 { return b[i%n] })
}

func words(f func(a, b uint16) uint16) func(d, a, b *vector, _ byte) {
	return func(d, a, b *vector, _ byte) {
		for i := range d {
			d[i] = uint32(f(a.word(2*i), b.word(2*i))) | uint32(f(a.word(2*i+1), b.word(2*i+1)))<<16
		}
	}
}

func addBytes(d, a, b *vector, _ byte) {
	for i := range d {
		var sum uint32
		for k := range 4 {
			sum |= uint32(a.byte(4*i+k)+b.byte(4*i+k)) << (8 * k)
		}
		d[i] = sum
	}
}

// multiplyAddWords adds two products of signed words.
func multiplyAddWords(d, a, b *vector, _ byte) {
	for i := range d {
		d[i] = uint32(int32(int16(a.word(2*i)))*int32(int16(b.word(2*i))) + int32(int16(a.word(2*i+1)))*int32(int16(b.word(2*i+1))))
	}
}

// multiplyAddBytes adds two products of unsigned bytes of a and signed ones of b, saturated to
// 16 bits.
func multiplyAddBytes(d, a, b *vector, _ byte) {
	pair := func(i int) uint32 {
		sum := int32(a.byte(i))*int32(int8(b.byte(i))) + int32(a.byte(i+1))*int32(int8(b.byte(i+1)))
		return uint32(uint16(max(min(sum, math.MaxInt16), math.MinInt16)))
	}
	for i := range d {
		d[i] = pair(4*i) | pair(4*i+2)<<16
	}
}

// dotBytes adds four products of unsigned bytes of a and signed ones of b to d, without
// saturation.
func dotBytes(d, a, b *vector, _ byte) {
	for i := range d {
		for k := range 4 {
			d[i] += uint32(int32(a.byte(4*i+k)) * int32(int8(b.byte(4*i+k))))
		}
	}
}

// shuffleBytes takes bytes of a where b says, within 128 bits.
func shuffleBytes(d, a, b *vector, _ byte) {
	for i := range d {
		var v uint32
		for k := range 4 {
			if at := b.byte(4*i + k); at < 128 {
				v |= uint32(a.byte(i/4*16+int(at&15))) << (8 * k)
			}
		}
		d[i] = v
	}
}

// ternaryLogic looks each bit up in the immediate: bit 4d + 2a + b.
func ternaryLogic(d, a, b *vector, immediate byte) {
	for i := range d {
		var v uint32
		for at := range 8 {
			if immediate>>at&1 != 0 {
				v |= same(d[i], at>>2) & same(a[i], at>>1&1) & same(b[i], at&1)
			}
		}
		d[i] = v
	}
}

// same has the bits of v that are equal to bit.
func same(v uint32, bit int) uint32 {
	if bit == 0 {
		return ^v
	}
	return v
}

func shiftWordsRight(d, _, b *vector, n byte) {
	words(func(b, _ uint16) uint16 { return b >> n })(d, b, b, 0)
}

func shiftWordsLeft(d, _, b *vector, n byte) {
	words(func(b, _ uint16) uint16 { return b << n })(d, b, b, 0)
}

func shiftRight(d, _, b *vector, n byte) {
	for i := range d {
		d[i] = b[i] >> n
	}
}

func shiftLeftElements(d, _, b *vector, n byte) {
	for i := range d {
		d[i] = b[i] << n
	}
}

// fromHalf widens a float16 number.
func fromHalf(h uint16) uint32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch {
	case exponent == 31 && fraction == 0:
		return sign | 0x7f800000
	case exponent == 31:
		return sign | 0x7fc00000 | fraction<<13
	case exponent != 0:
		return sign | (exponent+112)<<23 | fraction<<13
	case fraction == 0:
		return sign
	}
	top := uint32(bits.Len32(fraction) - 1) // the value is fraction * 2^-24
	return sign | (top+103)<<23 | fraction<<(23-top)&0x7fffff
}

// fused is x*y + z on float32 numbers, rounded once, of the old destination and the two operands as pick orders them. Of
// several NaNs the first one is the result, made quiet.
func fused(name string, pick func(d, a, b uint32) (x, y, z uint32), negative bool) *operation {
	const quiet, indefinite = 1 << 22, 0xffc00000
	return &operation{vex: name, evex: name, part: 64, elements: true, do: func(d, a, b *vector, _ byte) {
		for i := range d {
			x, y, z := pick(d[i], a[i], b[i])
			first := math.Float32frombits(x)
			if negative {
				first = -first
			}
			r := multiplyAdd(first, math.Float32frombits(y), math.Float32frombits(z))
			d[i] = math.Float32bits(r)
			if r == r {
				continue
			}
			d[i] = indefinite
			for _, v := range []uint32{x, y, z} {
				if v&0x7fffffff > 0x7f800000 {
					d[i] = v | quiet
					break
				}
			}
		}
	}}
}

// multiplyAdd is x*y + z, rounded once.
func multiplyAdd(x, y, z float32) float32 {
	product := float64(x) * float64(y) // exact
	if sum := product + float64(z); sum == 0 || math.IsInf(sum, 0) || sum != sum {
		return float32(sum)
	}
	sum, _ := new(big.Float).SetPrec(1024).Add(big.NewFloat(product), big.NewFloat(float64(z))).Float32()
	return sum
}
