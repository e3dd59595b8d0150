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
// bytes of a block, for rows r = 0..15 and columns c = 0..31 of the block:
//
//	Q4_0  288 bytes: 16 float16 scales d[r]; 4 vectors of 64 bytes. Byte 4r+k of
//	      vector j holds column 4j+k of row r in its low nibble and column
//	      16+4j+k in its high nibble. Weight = d[r] * (nibble - 8).
//	Q4_1  320 bytes: 16 float16 scales d[r]; 16 float16 minima m[r]; the same 4
//	      vectors. Weight = d[r] * nibble + m[r].
//	Q8_0  544 bytes: 16 float16 scales d[r]; 8 vectors of 64 bytes. Byte 4r+k of
//	      vector j holds column 4j+k of row r. Weight = d[r] * (byte - 128).
//	F16   1024 bytes: for each column, 16 float16 weights, one for each row.
//	F32   2048 bytes: for each column, 16 float32 weights, one for each row.
//
// Numbers are little-endian. One 64-byte vector thus holds 4 consecutive columns
// of 16 rows, which is what VPDPBUSD multiplies at once.
package kernels
