// Package kernels is the arithmetic of inference: the tile layout of quantized
// weights, and products of tiles with activations, in plain Go and in assembly
// with the same results.
//
// It guarantees that the plain Go, AVX2 and AVX-512 kernels agree to the last
// bit: block sums are exact 32-bit integers, and the float operations after
// them stand in one fixed order without fused multiply-add. It trusts its
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
//	Q5_0   352    d                     nibbles, bits        d[r] * (q - 16)
//	Q5_1   384    d, m                  nibbles, bits        d[r] * q + m[r]
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
//	Q5_K   D, M   352    s, m           nibbles, bits        D[r] s[r] * q - M[r] m[r]
//	Q6_K   D      416    s0, s1         nibbles, pairs       D[r] sh[r] * (q - 32)
//	Q3_K   D      224    s0, s1         pairs, bits          D[r] sh[r] * (q - 4)
//	Q2_K   D, M   160    s0, s1         pairs                D[r] (sh[r] & 15) * q - M[r] (sh[r] >> 4)
//	IQ4_XS D      272    s              nibbles              D[r] s[r] * I[q]
//
// D and M are 16 float16 numbers each, s, m, s0 and s1 16 bytes each, signed in
// Q6_K, Q3_K and IQ4_XS. D[r] s[r], which float32 holds exactly, is computed first.
//
// Planes. Of 4 vectors of 64 bytes of nibbles, byte 4r+k of vector j holds column 4j+k
// of row r in its low nibble and column 16+4j+k in its high nibble. Of 2 vectors of
// pairs, byte 4r+k of vector i holds column 16i+4f+k in bits 2f and 2f+1. Of the one
// vector of bits, byte 4r+k holds column 4j+k in bit j, j = 0..7. Of 8 vectors of
// bytes, byte 4r+k of vector j holds column 4j+k. A level is made of its planes in
// the order of the table, lowest bits first.
//
// Numbers are little-endian. One 64-byte vector thus holds 4 consecutive columns
// of 16 rows, which is what VPDPBUSD multiplies at once. reference.go has the order in
// which products are computed.
package kernels
