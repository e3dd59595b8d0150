package rlwe

import "encoding/binary"

// Residues are packed in groups of 32 rows: lane by lane, 32 residues of 27 bits
// fill 27 words, lowest bits first. A packed row is the eight lanes' words, each
// little-endian.
const (
	groupRows  = 32
	groupBytes = ResidueBits * Lanes * 4
	mask       = 1<<ResidueBits - 1
)

// pack writes canonical words.
func (r *ring) pack(dst []byte, x []int32) {
	_, _ = dst[polyBytes-1], x[BlockValues-1]
	if r.vector {
		packAVX2(&dst[0], &x[0])
		return
	}
	for g := range N / groupRows {
		rows, out := x[g*groupRows*Lanes:], dst[g*groupBytes:]
		for lane := range Lanes {
			var held uint64
			n, word := 0, 0
			for row := range groupRows {
				held |= uint64(uint32(rows[row*Lanes+lane])) << n
				if n += ResidueBits; n >= 32 {
					binary.LittleEndian.PutUint32(out[4*(word*Lanes+lane):], uint32(held))
					held, n, word = held>>32, n-32, word+1
				}
			}
		}
	}
}

// addPacked adds packed residues to sums without reducing them, and says whether
// all were canonical.
func (r *ring) addPacked(sum []int32, src []byte) bool {
	_, _ = src[polyBytes-1], sum[BlockValues-1]
	if r.vector {
		return addPackedAVX2(&sum[0], &src[0]) == 0
	}
	bad := uint32(0)
	for g := range N / groupRows {
		rows, in := sum[g*groupRows*Lanes:], src[g*groupBytes:]
		for lane := range Lanes {
			var held uint64
			n, word := 0, 0
			for row := range groupRows {
				if n < ResidueBits {
					held |= uint64(binary.LittleEndian.Uint32(in[4*(word*Lanes+lane):])) << n
					n, word = n+32, word+1
				}
				v := uint32(held) & mask
				held, n = held>>ResidueBits, n-ResidueBits
				bad |= (Modulus - 1 - v) >> 31
				rows[row*Lanes+lane] += int32(v)
			}
		}
	}
	return bad == 0
}

// reduce brings sums below 32 q to [0, q).
func (r *ring) reduce(sum []int32) {
	_ = sum[BlockValues-1]
	if r.vector {
		reduceAVX2(&sum[0])
		return
	}
	for i, v := range sum {
		sum[i] = int32(uint32(v) % Modulus)
	}
}
