// AVX2: products of words. The levels of 4 columns of 16 rows are unpacked to
// bytes (Y8 rows 0-7, Y9 rows 8-15), then to words of even and odd columns, and
// VPMADDWD multiplies them with pairs of 16-bit codes, broadcast from memory. All
// sums are 32-bit integers and exact: a level is at most 255, a code at most 32512,
// a block has 32 columns. The float step keeps the order of the reference
// (reference.go), fused as there.
//
// Registers: SI block, R15 head of the super-block, R10 (to R13) records of the
// token (or of four), Y14 mask of levels, Y15 of low bytes. An activation
// record is 144 bytes: scale at 64, offset at 68, sum at 72, sum of the first 16 codes
// at 76, codes of even columns at 80, of odd columns at 112 (activations.go).

#include "ahead_amd64.h"

#define MASKS(mask) \
	VPBROADCASTD mask(SB), Y14; \
	VPBROADCASTD ·lowByteMask(SB), Y15

// Levels of 4 columns: bytes, lower bits by the mask, high nibbles.
#define WHOLE(off) \
	VMOVDQU (off)(SI), Y8; \
	VMOVDQU (off+32)(SI), Y9

#define MASKED(off) \
	VPAND (off)(SI), Y14, Y8; \
	VPAND (off+32)(SI), Y14, Y9

#define HIGHNIBBLES(off) \
	VMOVDQU (off)(SI), Y8; \
	VMOVDQU (off+32)(SI), Y9; \
	VPSRLW $4, Y8, Y8; \
	VPSRLW $4, Y9, Y9; \
	VPAND Y14, Y8, Y8; \
	VPAND Y14, Y9, Y9

// A further plane at off, shifted by n to where mask keeps it; PLANE0 is not shifted.
#define PLANE(off, shift, n, mask) \
	VMOVDQU (off)(SI), Y10; \
	VMOVDQU (off+32)(SI), Y11; \
	shift $n, Y10, Y10; \
	shift $n, Y11, Y11; \
	VPAND mask(SB), Y10, Y10; \
	VPAND mask(SB), Y11, Y11; \
	VPOR Y10, Y8, Y8; \
	VPOR Y11, Y9, Y9

#define PLANE0(off, mask) \
	OR(off, mask, Y10, Y11)

// The only plane.
#define PAIRS(off, n) \
	VMOVDQU (off)(SI), Y8; \
	VMOVDQU (off+32)(SI), Y9; \
	VPSRLW $n, Y8, Y8; \
	VPSRLW $n, Y9, Y9; \
	VPAND ·mask03(SB), Y8, Y8; \
	VPAND ·mask03(SB), Y9, Y9

// Levels become the values of a table.
#define LOOKUP(table) \
	VMOVDQU table(SB), Y12; \
	VPSHUFB Y8, Y12, Y8; \
	VPSHUFB Y9, Y12, Y9

// Scales d of rows 0-7 and 8-15 in Y8, Y9, minima in Y10, Y11. H*: float16 at off(SI).
#define HSCALES(off) \
	VCVTPH2PS (off)(SI), Y8; \
	VCVTPH2PS (off+16)(SI), Y9

#define HMINIMA(off) \
	VCVTPH2PS (off)(SI), Y10; \
	VCVTPH2PS (off+16)(SI), Y11

// K*: float16 at head(R15) times a byte at off(SI), widened by extend.
#define KFACTORS(head, off, extend, a, b) \
	VCVTPH2PS (head)(R15), a; \
	VCVTPH2PS (head+16)(R15), b; \
	extend (off)(SI), Y12; \
	extend (off+8)(SI), Y13; \
	VCVTDQ2PS Y12, Y12; \
	VCVTDQ2PS Y13, Y13; \
	VMULPS Y12, a, a; \
	VMULPS Y13, b, b

#define KSCALES(off) KFACTORS(0, off, VPMOVZXBD, Y8, Y9)
#define KSIGNED(off) KFACTORS(0, off, VPMOVSXBD, Y8, Y9)
#define KMINIMA(off) KFACTORS(32, off, VPMOVZXBD, Y10, Y11)

// Q2_K: the scale is the low nibble of a byte, the minimum the high one.
#define PAIRED(off) \
	VCVTPH2PS (R15), Y8; \
	VCVTPH2PS 16(R15), Y9; \
	VCVTPH2PS 32(R15), Y10; \
	VCVTPH2PS 48(R15), Y11; \
	VPMOVZXBD (off)(SI), Y12; \
	VPAND Y14, Y12, Y13; \
	VCVTDQ2PS Y13, Y13; \
	VMULPS Y13, Y8, Y8; \
	VPSRLD $4, Y12, Y12; \
	VCVTDQ2PS Y12, Y12; \
	VMULPS Y12, Y10, Y10; \
	VPMOVZXBD (off+8)(SI), Y12; \
	VPAND Y14, Y12, Y13; \
	VCVTDQ2PS Y13, Y13; \
	VMULPS Y13, Y9, Y9; \
	VPSRLD $4, Y12, Y12; \
	VCVTDQ2PS Y12, Y12; \
	VMULPS Y12, Y11, Y11

// MXFP4: 2^(e-128) for a byte e at off(SI).
#define EXPONENT(off, y) \
	VPMOVZXBD (off)(SI), y; \
	VPSLLD $23, y, y; \
	VPMAXUD ·tiny8(SB), y, y; \
	VMULPS ·half8(SB), y, y

#define EXPONENTS(off) \
	EXPONENT(off, Y8); \
	EXPONENT(off+8, Y9)

// The sum of a token's codes into Y12: of all, of the first 16 and of the others.
#define ALL(token) VPBROADCASTD 72(token), Y12
#define FIRST(token) VPBROADCASTD 76(token), Y12
#define SECOND(token) \
	VPBROADCASTD 72(token), Y12; \
	VPBROADCASTD 76(token), Y13; \
	VPSUBD Y13, Y12, Y12

// Sums a, b minus the sum of the codes times a zero of 1 << n.
#define ZERO(sum, token, n, a, b) \
	sum(token); \
	VPSLLD $n, Y12, Y12; \
	VPSUBD Y12, a, a; \
	VPSUBD Y12, b, b

// The zero of MXFP4's table is 12.
#define ZERO12(token, a, b) \
	ALL(token); \
	VPSLLD $3, Y12, Y13; \
	VPSLLD $2, Y12, Y12; \
	VPADDD Y13, Y12, Y12; \
	VPSUBD Y12, a, a; \
	VPSUBD Y12, b, b

// Sums a, b become t = scale*float(sum).
#define SCALED(token, a, b) \
	VBROADCASTSS 64(token), Y12; \
	VCVTDQ2PS a, a; \
	VCVTDQ2PS b, b; \
	VMULPS Y12, a, a; \
	VMULPS Y12, b, b

// Outputs a, b minus (op VFNMADD231PS) or plus (VFMADD231PS) m*offset.
#define MINIMA(op, token, a, b) \
	VBROADCASTSS 68(token), Y12; \
	op Y12, Y10, a; \
	op Y12, Y11, b

// The same with the offset of 16 columns.
#define HALFMINIMA(sum, token, a, b) \
	sum(token); \
	VCVTDQ2PS Y12, Y12; \
	VBROADCASTSS 64(token), Y13; \
	VMULPS Y13, Y12, Y12; \
	VFNMADD231PS Y12, Y10, a; \
	VFNMADD231PS Y12, Y11, b

// One token: sums in Y4, Y5, outputs in Y0, Y1.
#define ONE_ARGS(mask) \
	MOVQ dst+0(FP), DI; \
	MOVQ groups+8(FP), SI; \
	MOVQ act+16(FP), DX; \
	MOVQ blocks+24(FP), R8; \
	MOVQ groupCount+32(FP), R9; \
	AHEAD_ARGS; \
	MASKS(mask)

#define ONE_START \
	VXORPS Y0, Y0, Y0; \
	VXORPS Y1, Y1, Y1; \
	MOVQ DX, R10; \
	MOVQ R8, CX

#define ONE_CLEAR \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5

#define ONE_WORDS(at) \
	VPBROADCASTD (at)(R10), Y12; \
	VPMADDWD Y10, Y12, Y13; \
	VPADDD Y13, Y4, Y4; \
	VPMADDWD Y11, Y12, Y12; \
	VPADDD Y12, Y5, Y5

// Columns 4j to 4j+3 of the block.
#define ONE_STEP(j) \
	VPAND Y15, Y8, Y10; \
	VPAND Y15, Y9, Y11; \
	ONE_WORDS(80+4*j); \
	VPSRLW $8, Y8, Y10; \
	VPSRLW $8, Y9, Y11; \
	ONE_WORDS(112+4*j)

// Outputs plus d*t.
#define ONE_ADD \
	VFMADD231PS Y4, Y8, Y0; \
	VFMADD231PS Y5, Y9, Y1

#define ONE_NEXT(bytes, PREFETCH) \
	PREFETCH; \
	ADDQ $bytes, SI; \
	ADDQ $144, R10; \
	DECQ CX

#define ONE_STORE \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y1, 32(DI); \
	ADDQ $64, DI; \
	DECQ R9

// Four tokens: sums in Y0 and Y1, Y2 and Y3, Y4 and Y5, Y6 and Y7; outputs in memory.
#define FOUR_ARGS(mask) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groups+16(FP), SI; \
	MOVQ act+24(FP), DX; \
	MOVQ blocks+32(FP), R8; \
	MOVQ groupCount+40(FP), R9; \
	LEAQ (R8)(R8*8), AX; \
	SHLQ $4, AX; \
	MASKS(mask)

#define FOUR_START \
	LEAQ (DI)(BX*2), R14; \
	VXORPS Y0, Y0, Y0; \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y0, 32(DI); \
	VMOVUPS Y0, (DI)(BX*1); \
	VMOVUPS Y0, 32(DI)(BX*1); \
	VMOVUPS Y0, (R14); \
	VMOVUPS Y0, 32(R14); \
	VMOVUPS Y0, (R14)(BX*1); \
	VMOVUPS Y0, 32(R14)(BX*1); \
	MOVQ DX, R10; \
	LEAQ (R10)(AX*1), R11; \
	LEAQ (R11)(AX*1), R12; \
	LEAQ (R12)(AX*1), R13; \
	MOVQ R8, CX

#define FOUR_CLEAR \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3; \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y6, Y6, Y6; \
	VPXOR Y7, Y7, Y7

#define TOKEN_WORDS(at, token, a, b) \
	VPBROADCASTD (at)(token), Y12; \
	VPMADDWD Y10, Y12, Y13; \
	VPADDD Y13, a, a; \
	VPMADDWD Y11, Y12, Y12; \
	VPADDD Y12, b, b

#define FOUR_WORDS(at) \
	TOKEN_WORDS(at, R10, Y0, Y1); \
	TOKEN_WORDS(at, R11, Y2, Y3); \
	TOKEN_WORDS(at, R12, Y4, Y5); \
	TOKEN_WORDS(at, R13, Y6, Y7)

#define FOUR_STEP(j) \
	VPAND Y15, Y8, Y10; \
	VPAND Y15, Y9, Y11; \
	FOUR_WORDS(80+4*j); \
	VPSRLW $8, Y8, Y10; \
	VPSRLW $8, Y9, Y11; \
	FOUR_WORDS(112+4*j)

#define FOUR_ZERO(sum, n) \
	ZERO(sum, R10, n, Y0, Y1); \
	ZERO(sum, R11, n, Y2, Y3); \
	ZERO(sum, R12, n, Y4, Y5); \
	ZERO(sum, R13, n, Y6, Y7)

#define FOUR_SCALED \
	SCALED(R10, Y0, Y1); \
	SCALED(R11, Y2, Y3); \
	SCALED(R12, Y4, Y5); \
	SCALED(R13, Y6, Y7)

#define FOUR_MINIMA(op) \
	MINIMA(op, R10, Y0, Y1); \
	MINIMA(op, R11, Y2, Y3); \
	MINIMA(op, R12, Y4, Y5); \
	MINIMA(op, R13, Y6, Y7)

#define FOUR_HALFMINIMA(sum) \
	HALFMINIMA(sum, R10, Y0, Y1); \
	HALFMINIMA(sum, R11, Y2, Y3); \
	HALFMINIMA(sum, R12, Y4, Y5); \
	HALFMINIMA(sum, R13, Y6, Y7)

// Outputs plus d*t, in place of t.
#define FOUR_ADD \
	VFMADD213PS (DI), Y8, Y0; \
	VFMADD213PS 32(DI), Y9, Y1; \
	VFMADD213PS (DI)(BX*1), Y8, Y2; \
	VFMADD213PS 32(DI)(BX*1), Y9, Y3; \
	VFMADD213PS (R14), Y8, Y4; \
	VFMADD213PS 32(R14), Y9, Y5; \
	VFMADD213PS (R14)(BX*1), Y8, Y6; \
	VFMADD213PS 32(R14)(BX*1), Y9, Y7

#define FOUR_PUT \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y1, 32(DI); \
	VMOVUPS Y2, (DI)(BX*1); \
	VMOVUPS Y3, 32(DI)(BX*1); \
	VMOVUPS Y4, (R14); \
	VMOVUPS Y5, 32(R14); \
	VMOVUPS Y6, (R14)(BX*1); \
	VMOVUPS Y7, 32(R14)(BX*1)

#define FOUR_NEXT(bytes) \
	ADDQ $bytes, SI; \
	ADDQ $144, R10; \
	ADDQ $144, R11; \
	ADDQ $144, R12; \
	ADDQ $144, R13; \
	DECQ CX

#define FOUR_END \
	ADDQ $64, DI; \
	DECQ R9

// The levels of a block, for STEP = ONE_STEP or FOUR_STEP.
#define NIBBLES(off, STEP) \
	MASKED(off); \
	STEP(0); \
	MASKED(off+64); \
	STEP(1); \
	MASKED(off+128); \
	STEP(2); \
	MASKED(off+192); \
	STEP(3); \
	HIGHNIBBLES(off); \
	STEP(4); \
	HIGHNIBBLES(off+64); \
	STEP(5); \
	HIGHNIBBLES(off+128); \
	STEP(6); \
	HIGHNIBBLES(off+192); \
	STEP(7)

#define VALUES(off, table, STEP) \
	MASKED(off); \
	LOOKUP(table); \
	STEP(0); \
	MASKED(off+64); \
	LOOKUP(table); \
	STEP(1); \
	MASKED(off+128); \
	LOOKUP(table); \
	STEP(2); \
	MASKED(off+192); \
	LOOKUP(table); \
	STEP(3); \
	HIGHNIBBLES(off); \
	LOOKUP(table); \
	STEP(4); \
	HIGHNIBBLES(off+64); \
	LOOKUP(table); \
	STEP(5); \
	HIGHNIBBLES(off+128); \
	LOOKUP(table); \
	STEP(6); \
	HIGHNIBBLES(off+192); \
	LOOKUP(table); \
	STEP(7)

#define FIVES(off, STEP) \
	MASKED(off); \
	STEP(0); \
	MASKED(off+64); \
	STEP(1); \
	MASKED(off+128); \
	STEP(2); \
	MASKED(off+192); \
	STEP(3); \
	MASKED(off+256); \
	STEP(4); \
	JOIN5(off, off+64, Y10, Y11); \
	STEP(5); \
	JOIN5(off+128, off+192, Y10, Y11); \
	STEP(6); \
	JOIN5LAST(off, Y10, Y11); \
	STEP(7)

#define BYTES(off, STEP) \
	WHOLE(off); \
	STEP(0); \
	WHOLE(off+64); \
	STEP(1); \
	WHOLE(off+128); \
	STEP(2); \
	WHOLE(off+192); \
	STEP(3); \
	WHOLE(off+256); \
	STEP(4); \
	WHOLE(off+320); \
	STEP(5); \
	WHOLE(off+384); \
	STEP(6); \
	WHOLE(off+448); \
	STEP(7)

// Halves of 16 columns: of Q6_K, Q2_K and Q3_K.
#define FIRST6(STEP) \
	MASKED(32); \
	STEP(0); \
	MASKED(96); \
	STEP(1); \
	MASKED(160); \
	STEP(2); \
	JOIN6(32, Y10, Y11); \
	STEP(3)

#define SECOND6(STEP) \
	MASKED(224); \
	STEP(4); \
	MASKED(288); \
	STEP(5); \
	MASKED(352); \
	STEP(6); \
	JOIN6(224, Y10, Y11); \
	STEP(7)

#define FIRST2(STEP) \
	PAIRS(32, 0); \
	STEP(0); \
	PAIRS(32, 2); \
	STEP(1); \
	PAIRS(32, 4); \
	STEP(2); \
	PAIRS(32, 6); \
	STEP(3)

#define SECOND2(STEP) \
	PAIRS(96, 0); \
	STEP(4); \
	PAIRS(96, 2); \
	STEP(5); \
	PAIRS(96, 4); \
	STEP(6); \
	PAIRS(96, 6); \
	STEP(7)

#define FIRST3(STEP) \
	PAIRS(32, 0); \
	PLANE(160, VPSLLW, 2, ·mask04); \
	STEP(0); \
	PAIRS(32, 2); \
	PLANE(160, VPSLLW, 1, ·mask04); \
	STEP(1); \
	PAIRS(32, 4); \
	PLANE0(160, ·mask04); \
	STEP(2); \
	PAIRS(32, 6); \
	PLANE(160, VPSRLW, 1, ·mask04); \
	STEP(3)

#define SECOND3(STEP) \
	PAIRS(96, 0); \
	PLANE(160, VPSRLW, 2, ·mask04); \
	STEP(4); \
	PAIRS(96, 2); \
	PLANE(160, VPSRLW, 3, ·mask04); \
	STEP(5); \
	PAIRS(96, 4); \
	PLANE(160, VPSRLW, 4, ·mask04); \
	STEP(6); \
	PAIRS(96, 6); \
	PLANE(160, VPSRLW, 5, ·mask04); \
	STEP(7)
