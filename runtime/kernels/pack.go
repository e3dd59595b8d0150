package kernels

import (
	"encoding/binary"
	"fmt"
)

// Pack turns 1 to 16 rows in GGUF's layout (row after row) into one row group.
func Pack(dst, src []byte, t Type, rows, cols int) error {
	size := TileBytes(t, cols)
	if size == 0 || rows < 1 || rows > TileRows || len(dst) != size || len(src) != rows*RowBytes(t, cols) {
		return fmt.Errorf("pack %d rows of %d columns of %s, %d bytes into %d: %w", rows, cols, t, len(src), len(dst), ErrShape)
	}
	clear(dst)
	l, n := t.layout(), t.spans(cols)
	for r := range rows {
		for i := range n {
			packSpan(dst[i*l.tile():(i+1)*l.tile()], src[(r*n+i)*l.row:][:l.row], t, r)
		}
	}
	if t == Q8_0 {
		padOffset(dst, rows, cols)
	}
	return nil
}

// padOffset gives the rows that are missing the byte that means zero.
func padOffset(dst []byte, rows, cols int) {
	l := Q8_0.layout()
	for b := range cols / BlockCols {
		for j := range 8 {
			v := dst[b*l.block+l.bytes+64*j:][:64]
			for i := 4 * rows; i < 64; i++ {
				v[i] = 0x80
			}
		}
	}
}

// packSpan puts one block of GGUF, of one row, into a tile.
func packSpan(tile, src []byte, t Type, r int) {
	half := func(at, from int) { copy(tile[at+2*r:][:2], src[from:]) }
	switch t {
	case F32:
		for c := range BlockCols {
			copy(tile[64*c+4*r:][:4], src[4*c:])
		}
	case F16, BF16:
		for c := range BlockCols {
			copy(tile[32*c+2*r:][:2], src[2*c:])
		}
	case Q4_0, IQ4_NL: // GGUF: scale, then 16 bytes: low nibbles columns 0..15, high 16..31
		half(0, 0)
		t.layout().put(tile, r, nibbles(src[2:]))
	case Q4_1: // GGUF: scale, minimum, the same 16 bytes
		half(0, 0)
		half(32, 2)
		t.layout().put(tile, r, nibbles(src[4:]))
	case MXFP4: // GGUF: exponent, the same 16 bytes
		tile[r] = src[0]
		t.layout().put(tile, r, nibbles(src[1:]))
	case Q5_0: // GGUF: scale, 32 highest bits, the same 16 bytes
		half(0, 0)
		t.layout().put(tile, r, fiveBits(src[6:], src[2:]))
	case Q5_1: // GGUF: scale, minimum, 32 highest bits, the same 16 bytes
		half(0, 0)
		half(32, 2)
		t.layout().put(tile, r, fiveBits(src[8:], src[4:]))
	case Q8_0: // GGUF: scale, then 32 signed bytes
		half(0, 0)
		var q [BlockCols]uint8
		for c := range q {
			q[c] = src[2+c] ^ 0x80
		}
		t.layout().put(tile, r, &q)
	default:
		packSuperBlock(tile, src, t, r)
	}
}

func nibbles(src []byte) *[BlockCols]uint8 {
	var q [BlockCols]uint8
	for c := range 16 {
		q[c], q[16+c] = src[c]&15, src[c]>>4
	}
	return &q
}

func fiveBits(low, high []byte) *[BlockCols]uint8 {
	q, bits := nibbles(low), binary.LittleEndian.Uint32(high)
	for c := range q {
		q[c] |= uint8(bits>>c&1) << 4
	}
	return q
}

// put writes 32 levels of a row into a block that was zero in this row.
func (l *layout) put(block []byte, r int, q *[BlockCols]uint8) {
	at := 4 * r
	switch {
	case l.bytes != 0:
		for c, v := range q {
			block[l.bytes+64*(c/4)+at+c%4] = v
		}
	case l.nibbles != 0:
		for c := range 16 {
			block[l.nibbles+64*(c/4)+at+c%4] = q[c] | q[16+c]<<4
		}
	case l.fives != 0:
		for k := range 4 {
			putFives(block[l.fives+at+k:], q, k)
		}
	case l.sixes != 0:
		for k := range 4 {
			putSixes(block[l.sixes+at+k:], q[k:])
			putSixes(block[l.sixes+192+at+k:], q[16+k:])
		}
	default:
		for c, v := range q {
			j := c / 4
			block[l.pairs+64*(j/4)+at+c%4] |= v & 3 << (j % 4 * 2)
			if l.bits != 0 {
				block[l.bits+at+c%4] |= v >> 2 << j
			}
		}
	}
}

// putFives writes the levels of columns k, 4+k, ... into a byte of 5 vectors each.
func putFives(v []byte, q *[BlockCols]uint8, k int) {
	w5, w6, w7 := q[20+k], q[24+k], q[28+k]
	v[0] = q[k] | w5&7<<5
	v[64] = q[4+k] | w7>>3&1<<5 | w5>>3<<6
	v[128] = q[8+k] | w6&7<<5
	v[192] = q[12+k] | w7>>4<<5 | w6>>3<<6
	v[256] = q[16+k] | w7&7<<5
}

// putSixes writes the first of each 4 of 16 levels into a byte of 3 vectors each.
func putSixes(v []byte, q []uint8) {
	v[0], v[64], v[128] = q[0]|q[12]&3<<6, q[4]|q[12]>>2&3<<6, q[8]|q[12]>>4<<6
}

// packSuperBlock does the same for 256 columns.
func packSuperBlock(tile, src []byte, t Type, r int) {
	var s superBlock
	s.read(src, t)
	l := t.layout()
	binary.LittleEndian.PutUint16(tile[2*r:], s.d)
	if l.head == 64 {
		binary.LittleEndian.PutUint16(tile[32+2*r:], s.dmin)
	}
	for b := range 8 {
		_, at := l.blockAt(b)
		block := tile[at : at+l.block]
		switch t {
		case Q4_K, Q5_K:
			block[r], block[16+r] = s.scales[b], s.minima[b]
		case IQ4_XS:
			block[r] = s.scales[b]
		default: // a scale for each 16 columns
			block[r], block[16+r] = s.scales[2*b], s.scales[2*b+1]
		}
		l.put(block, r, (*[BlockCols]uint8)(s.levels[32*b:]))
	}
}

// superBlock is 256 columns of a row, taken apart.
type superBlock struct {
	d, dmin        uint16 // float16
	scales, minima [16]uint8
	levels         [256]uint8
}

// read takes a block of GGUF apart. The layouts are ggml's (ggml-common.h, and
// dequantize_row_* in ggml-quants.c).
func (s *superBlock) read(src []byte, t Type) {
	switch t {
	case Q4_K, Q5_K:
		s.d, s.dmin = binary.LittleEndian.Uint16(src), binary.LittleEndian.Uint16(src[2:])
		s.sixBitPairs(src[4:16])
		if t == Q4_K {
			s.lowHalves(src[16:], 32)
			break
		}
		s.lowHalves(src[48:], 32)
		s.addBits(src[16:48], 4)
	case Q6_K:
		s.d = binary.LittleEndian.Uint16(src[208:])
		copy(s.scales[:], src[192:208])
		s.lowHalves(src, 64)
		s.addPairs(src[128:192], 4)
	case Q2_K:
		s.d, s.dmin = binary.LittleEndian.Uint16(src[80:]), binary.LittleEndian.Uint16(src[82:])
		copy(s.scales[:], src[:16])
		s.addPairs(src[16:80], 0)
	case Q3_K:
		s.d = binary.LittleEndian.Uint16(src[108:])
		s.sixBitScales(src[96:108])
		s.addPairs(src[32:96], 0)
		s.addBits(src, 2)
	case IQ4_XS:
		s.d = binary.LittleEndian.Uint16(src)
		high := binary.LittleEndian.Uint16(src[2:])
		for b := range 8 {
			s.scales[b] = (src[4+b/2]>>(b%2*4)&15 | uint8(high>>(2*b)&3)<<4) - 32
		}
		s.lowHalves(src[8:], 16)
	}
}

// lowHalves reads nibbles: n bytes hold n columns in their low halves and the
// next n in their high ones.
func (s *superBlock) lowHalves(src []byte, n int) {
	for at := 0; at < len(s.levels); at += 2 * n {
		for i, v := range src[at/2 : at/2+n] {
			s.levels[at+i], s.levels[at+n+i] = v&15, v>>4
		}
	}
}

// addPairs reads 2 bits of each level: 32 bytes hold 128 columns.
func (s *superBlock) addPairs(src []byte, shift int) {
	for at := 0; at < len(s.levels); at += 128 {
		for i, v := range src[at/4 : at/4+32] {
			for j := range 4 {
				s.levels[at+32*j+i] |= v >> (2 * j) & 3 << shift
			}
		}
	}
}

// addBits reads one bit of each level: 32 bytes hold 256 columns.
func (s *superBlock) addBits(src []byte, shift int) {
	for i, v := range src[:32] {
		for j := range 8 {
			s.levels[32*j+i] |= v >> j & 1 << shift
		}
	}
}

// sixBitPairs reads the 8 scales and minima of Q4_K and Q5_K.
func (s *superBlock) sixBitPairs(src []byte) {
	for b := range 4 {
		s.scales[b], s.minima[b] = src[b]&63, src[4+b]&63
		s.scales[4+b] = src[8+b]&15 | src[b]>>6<<4
		s.minima[4+b] = src[8+b]>>4 | src[4+b]>>6<<4
	}
}

// sixBitScales reads the 16 scales of Q3_K, -32 to 31.
func (s *superBlock) sixBitScales(src []byte) {
	for b := range s.scales {
		s.scales[b] = (src[b%8]>>(b/8*4)&15 | src[8+b%4]>>(b/4*2)&3<<4) - 32
	}
}
