// Package kernels is the arithmetic of inference: the tile layout of quantized
// weights, and products of tiles with activations, in plain Go and in assembly
// with the same results.
//
// It guarantees that the plain Go, AVX2, AVX-512, AMX and NEON kernels agree to the last
// bit: block sums are exact integers, and the float operations stand in one fixed
// order, with the same of them fused. Where tests run on a processor
// without AVX-512, they interpret its kernels (package x86test); those of AMX are tested
// only on a processor that has it, and those of NEON under emulation (.ci/neon). It trusts its
// callers with nothing: every length is checked before assembly runs. It
// refuses unknown types and shapes. The sealer packs with it, the model
// computes with it.
//
// Tiles. A matrix of weights is stored in row groups of 16 rows. A row group is
// a sequence of blocks of 32 columns. Rows that a last group lacks are zero. The
// bytes of a block, for rows r = 0..15 and columns c = 0..31 of the block, are scales
// and then planes of levels q, from which the weights follow:
//
//	       bytes  scales                planes               weight
//	Q4_0   288    d                     nibbles              d[r] * (q - 8)
//	Q4_1   320    d, m                  nibbles              d[r] * q + m[r]
//	Q5_0   352    d                     fives                d[r] * (q - 16)
//	Q5_1   384    d, m                  fives                d[r] * q + m[r]
//	Q8_0   544    d                     bytes                d[r] * (q - 128)
//	IQ4_NL 288    d                     nibbles              d[r] * I[q]
//	MXFP4  272    e                     nibbles              2^(e[r]-128) * X[q]
//	F16    1024   -                     16 float16 for each column, one for each row
//	BF16   1024   -                     16 bfloat16 for each column
//	F32    2048   -                     16 float32 for each column
//
// d and m are 16 float16 numbers each, e are 16 bytes. I are the 16 values of ggml's
// kvalues_iq4nl, X those of E2M1, doubled (tile.go has both).
//
// The types of super-blocks have a head before each 8 blocks, and only bytes as
// scales of a block. Their rows are multiples of 256 columns. h = c / 16:
//
//	       head   block  scales         planes               weight
//	Q4_K   D, M   288    s, m           nibbles              D[r] s[r] * q - M[r] m[r]
//	Q5_K   D, M   352    s, m           fives                D[r] s[r] * q - M[r] m[r]
//	Q6_K   D      416    s0, s1         sixes                D[r] sh[r] * (q - 32)
//	Q3_K   D      224    s0, s1         pairs, bits          D[r] sh[r] * (q - 4)
//	Q2_K   D, M   160    s0, s1         pairs                D[r] (sh[r] & 15) * q - M[r] (sh[r] >> 4)
//	IQ4_XS D      272    s              nibbles              D[r] s[r] * I[q]
//
// D and M are 16 float16 numbers each, s, m, s0 and s1 16 bytes each, signed in
// Q6_K, Q3_K and IQ4_XS. D[r] s[r], which float32 holds exactly, is computed first.
//
// Planes are vectors of 64 bytes. W(j) are the levels of columns 4j+k, j = 0..7 and
// k = 0..3, and byte 4r+k of a vector holds row r of
//
//	bytes    8 vectors: W(j) in vector j
//	nibbles  4 vectors: W(j) in the low nibble of vector j, W(4+j) in its high one
//	pairs    2 vectors: W(4i+f) in bits 2f and 2f+1 of vector i
//	bits     1 vector: W(j) in bit j; a level of pairs and bits has the pair below the bit
//	fives    5 vectors: W(0) to W(4) in bits 0-4 of vectors 0 to 4; of W(5), bits 0-2 in
//	         bits 5-7 of vector 0 and bits 3-4 in bits 6-7 of vector 1; W(6) so in
//	         vectors 2 and 3; of W(7), bits 0-2 in bits 5-7 of vector 4, bit 3 in bit 5
//	         of vector 1, bit 4 in bit 5 of vector 3
//	sixes    6 vectors, 3 for each 16 columns: of W(4h), W(4h+1), W(4h+2) one in bits 0-5
//	         of each; of W(4h+3), bits 0-1, 2-3 and 4-5 in bits 6-7 of the three
//
// Numbers are little-endian. One 64-byte vector thus holds 4 consecutive columns
// of 16 rows, which is what VPDPBUSD multiplies at once. reference.go has the order in
// which products are computed.
package kernels
