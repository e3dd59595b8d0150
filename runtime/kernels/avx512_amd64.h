// AVX-512 with VNNI: products of bytes. A vector holds 4 columns of 16 rows (doc.go); one
// VPDPBUSD multiplies its unsigned levels with 4 halves of codes, broadcast from
// memory, and adds to 32-bit sums, without saturation. High and low halves have sums of
// their own: a level is at most 255, a half at least -128, a block has 32 columns.
// The float step keeps the order of the reference (reference.go), fused as there.
//
// Registers: SI block, R15 head of the super-block, R10 (to R13) records of the token (or
// of four), Z4 to Z11 levels of the block: W(0) to W(7) of doc.go, Z12 their mask, Z1
// scales d, Z2 minima m, Z24 to Z27 sums, Z28 to Z31 spare, Z20 to Z23 outputs. A record
// is 144 bytes: 32 high and 32 low halves, scale at 64, offset at 68, sum at 72, sum of
// the first 16 codes at 76 (activations.go).
//
// No instruction needs more than AVX512F, AVX512BW and AVX512_VNNI: package x86test runs all
// of them and knows no others.

#include "ahead_amd64.h"

#define CONSTANT(bits, z) \
	MOVL $bits, AX; \
	VPBROADCASTD AX, z

// x has the bits of x where mask has ones, and those of y elsewhere.
#define SELECT(mask, y, x) VPTERNLOGD $0xE4, mask, y, x

// a to d are masked by Z12.
#define MASK4(a, b, c, d) \
	VPANDD Z12, a, a; \
	VPANDD Z12, b, b; \
	VPANDD Z12, c, c; \
	VPANDD Z12, d, d

#define LOAD4(off, a, b, c, d) \
	VMOVDQU32 (off)(SI), a; \
	VMOVDQU32 (off+64)(SI), b; \
	VMOVDQU32 (off+128)(SI), c; \
	VMOVDQU32 (off+192)(SI), d

// Levels of the planes at off(SI), into Z4 to Z11: *_MASKS before, once.
#define NIBBLE_MASKS CONSTANT(0x0F0F0F0F, Z12)

#define NIBBLES(off) \
	LOAD4(off, Z4, Z5, Z6, Z7); \
	VPSRLW $4, Z4, Z8; \
	VPSRLW $4, Z5, Z9; \
	VPSRLW $4, Z6, Z10; \
	VPSRLW $4, Z7, Z11; \
	MASK4(Z4, Z5, Z6, Z7); \
	MASK4(Z8, Z9, Z10, Z11)

// Nibbles become the values of a table.
#define VALUE_MASKS(table) \
	NIBBLE_MASKS; \
	VBROADCASTI32X4 table(SB), Z13

#define VALUES(off) \
	NIBBLES(off); \
	VPSHUFB Z4, Z13, Z4; \
	VPSHUFB Z5, Z13, Z5; \
	VPSHUFB Z6, Z13, Z6; \
	VPSHUFB Z7, Z13, Z7; \
	VPSHUFB Z8, Z13, Z8; \
	VPSHUFB Z9, Z13, Z9; \
	VPSHUFB Z10, Z13, Z10; \
	VPSHUFB Z11, Z13, Z11

#define BYTES(off) \
	LOAD4(off, Z4, Z5, Z6, Z7); \
	LOAD4(off+256, Z8, Z9, Z10, Z11)

// See putFives in pack.go.
#define FIVE_MASKS \
	CONSTANT(0x1F1F1F1F, Z12); \
	CONSTANT(0x07070707, Z13); \
	CONSTANT(0x0F0F0F0F, Z14)

#define FIVES(off) \
	LOAD4(off, Z4, Z5, Z6, Z7); \
	VMOVDQU32 (off+256)(SI), Z8; \
	VPSRLW $5, Z4, Z9; \
	VPSRLW $3, Z5, Z3; \
	SELECT(Z13, Z3, Z9); \
	VPSRLW $5, Z6, Z10; \
	VPSRLW $3, Z7, Z3; \
	SELECT(Z13, Z3, Z10); \
	VPSRLW $5, Z8, Z11; \
	VPSRLW $2, Z5, Z3; \
	SELECT(Z13, Z3, Z11); \
	VPSRLW $1, Z7, Z3; \
	SELECT(Z14, Z3, Z11); \
	MASK4(Z4, Z5, Z6, Z7); \
	MASK4(Z8, Z9, Z10, Z11)

// See putSixes in pack.go.
#define SIX_MASKS \
	CONSTANT(0x3F3F3F3F, Z12); \
	CONSTANT(0x03030303, Z13); \
	CONSTANT(0x0F0F0F0F, Z14)

#define SIXES4(off, a, b, c, d) \
	VMOVDQU32 (off)(SI), a; \
	VMOVDQU32 (off+64)(SI), b; \
	VMOVDQU32 (off+128)(SI), c; \
	VPSRLW $6, a, d; \
	VPSRLW $4, b, Z3; \
	SELECT(Z13, Z3, d); \
	VPSRLW $2, c, Z3; \
	SELECT(Z14, Z3, d); \
	MASK4(a, b, c, d)

#define SIXES(off) \
	SIXES4(off, Z4, Z5, Z6, Z7); \
	SIXES4(off+192, Z8, Z9, Z10, Z11)

#define PAIR_MASKS CONSTANT(0x03030303, Z12)

#define SPREAD4(off, a, b, c, d) \
	VMOVDQU32 (off)(SI), a; \
	VPSRLW $2, a, b; \
	VPSRLW $4, a, c; \
	VPSRLW $6, a, d

#define PAIRS(off) \
	SPREAD4(off, Z4, Z5, Z6, Z7); \
	SPREAD4(off+64, Z8, Z9, Z10, Z11); \
	MASK4(Z4, Z5, Z6, Z7); \
	MASK4(Z8, Z9, Z10, Z11)

// Pairs at off with a third bit, of level j in bit j of the vector behind them.
#define THREE_MASKS \
	CONSTANT(0x07070707, Z12); \
	CONSTANT(0x03030303, Z13)

#define THIRD(shift, n, x) \
	shift $n, Z15, Z3; \
	SELECT(Z13, Z3, x)

#define THREES(off) \
	SPREAD4(off, Z4, Z5, Z6, Z7); \
	SPREAD4(off+64, Z8, Z9, Z10, Z11); \
	VMOVDQU32 (off+128)(SI), Z15; \
	THIRD(VPSLLW, 2, Z4); \
	THIRD(VPSLLW, 1, Z5); \
	SELECT(Z13, Z15, Z6); \
	THIRD(VPSRLW, 1, Z7); \
	THIRD(VPSRLW, 2, Z8); \
	THIRD(VPSRLW, 3, Z9); \
	THIRD(VPSRLW, 4, Z10); \
	THIRD(VPSRLW, 5, Z11); \
	MASK4(Z4, Z5, Z6, Z7); \
	MASK4(Z8, Z9, Z10, Z11)

// Scales into Z1, minima into Z2: float16 at off(SI), or float16 at head(R15) times a byte at
// off(SI), widened by extend.
#define KFACTORS(head, off, extend, z) \
	VCVTPH2PS (head)(R15), z; \
	extend (off)(SI), Z3; \
	VCVTDQ2PS Z3, Z3; \
	VMULPS Z3, z, z

#define HSCALES(off) VCVTPH2PS (off)(SI), Z1
#define HMINIMA(off) VCVTPH2PS (off)(SI), Z2
#define KSCALES(off) KFACTORS(0, off, VPMOVZXBD, Z1)
#define KSIGNED(off) KFACTORS(0, off, VPMOVSXBD, Z1)
#define KMINIMA(off) KFACTORS(32, off, VPMOVZXBD, Z2)

// Q2_K: the scale is the low nibble of a byte, the minimum the high one.
#define PAIRED(off) \
	VCVTPH2PS (R15), Z1; \
	VCVTPH2PS 32(R15), Z2; \
	VPMOVZXBD (off)(SI), Z3; \
	VPSRLD $4, Z3, Z15; \
	VPSLLD $28, Z3, Z3; \
	VPSRLD $28, Z3, Z3; \
	VCVTDQ2PS Z3, Z3; \
	VMULPS Z3, Z1, Z1; \
	VCVTDQ2PS Z15, Z15; \
	VMULPS Z15, Z2, Z2

// MXFP4: 2^(e-128) for a byte e at off(SI).
#define EXPONENTS(off) \
	VPMOVZXBD (off)(SI), Z1; \
	VPSLLD $23, Z1, Z1; \
	VPMAXUD.BCST ·tiny8(SB), Z1, Z1; \
	VMULPS.BCST ·half8(SB), Z1, Z1

// Four vectors of levels times the codes at at(token).
#define DOT4(at, token, a, b, c, d, acc, spare) \
	VPDPBUSD.BCST (at)(token), a, acc; \
	VPDPBUSD.BCST (at+32)(token), a, spare; \
	VPDPBUSD.BCST (at+4)(token), b, acc; \
	VPDPBUSD.BCST (at+36)(token), b, spare; \
	VPDPBUSD.BCST (at+8)(token), c, acc; \
	VPDPBUSD.BCST (at+40)(token), c, spare; \
	VPDPBUSD.BCST (at+12)(token), d, acc; \
	VPDPBUSD.BCST (at+44)(token), d, spare

#define CLEAR(acc, spare) \
	VPXORD acc, acc, acc; \
	VPXORD spare, spare, spare

#define JOIN(acc, spare) \
	VPSLLD $8, acc, acc; \
	VPADDD spare, acc, acc

// acc = levels times codes, of the block or of 16 of its columns.
#define DOT(token, acc, spare) \
	CLEAR(acc, spare); \
	DOT4(0, token, Z4, Z5, Z6, Z7, acc, spare); \
	DOT4(16, token, Z8, Z9, Z10, Z11, acc, spare); \
	JOIN(acc, spare)

#define DOTFIRST(token, acc, spare) \
	CLEAR(acc, spare); \
	DOT4(0, token, Z4, Z5, Z6, Z7, acc, spare); \
	JOIN(acc, spare)

#define DOTSECOND(token, acc, spare) \
	CLEAR(acc, spare); \
	DOT4(16, token, Z8, Z9, Z10, Z11, acc, spare); \
	JOIN(acc, spare)

// The sum of a token's codes: of all, of the first 16 and of the others.
#define ALL(token, z) VPBROADCASTD 72(token), z
#define FIRST(token, z) VPBROADCASTD 76(token), z
#define SECOND(token, z) \
	VPBROADCASTD 72(token), z; \
	VPSUBD.BCST 76(token), z, z

// acc minus the sum of the codes times a zero of 1 << n.
#define ZERO(sum, n, token, acc, spare) \
	sum(token, spare); \
	VPSLLD $n, spare, spare; \
	VPSUBD spare, acc, acc

// The zero of MXFP4's table is 12.
#define ZERO12(token, acc, spare) \
	ALL(token, spare); \
	VPSLLD $3, spare, Z3; \
	VPSUBD Z3, acc, acc; \
	VPSLLD $2, spare, spare; \
	VPSUBD spare, acc, acc

// y plus d*t, with t = scale*float(acc).
#define SCALED(token, acc, y) \
	VCVTDQ2PS acc, acc; \
	VMULPS.BCST 64(token), acc, acc; \
	VFMADD231PS acc, Z1, y

// y minus (op VFNMADD231PS.BCST) or plus (VFMADD231PS.BCST) m*offset.
#define MINIMA(op, token, y) op 68(token), Z2, y

// The same with the offset of 16 columns.
#define HALFMINIMA(sum, token, spare, y) \
	sum(token, spare); \
	VCVTDQ2PS spare, spare; \
	VMULPS.BCST 64(token), spare, spare; \
	VFNMADD231PS spare, Z2, y

// What a type does for each token, when levels and scales are in registers.
#define LINEAR(n, token, acc, spare, y) \
	DOT(token, acc, spare); \
	ZERO(ALL, n, token, acc, spare); \
	SCALED(token, acc, y)

#define ZERO8(token, acc, spare, y) LINEAR(3, token, acc, spare, y)
#define ZERO16(token, acc, spare, y) LINEAR(4, token, acc, spare, y)
#define ZERO128(token, acc, spare, y) LINEAR(7, token, acc, spare, y)

#define AFFINE(op, token, acc, spare, y) \
	DOT(token, acc, spare); \
	SCALED(token, acc, y); \
	MINIMA(op, token, y)

#define PLUS(token, acc, spare, y) AFFINE(VFMADD231PS.BCST, token, acc, spare, y)
#define MINUS(token, acc, spare, y) AFFINE(VFNMADD231PS.BCST, token, acc, spare, y)

#define EXPONENTIAL(token, acc, spare, y) \
	DOT(token, acc, spare); \
	ZERO12(token, acc, spare); \
	SCALED(token, acc, y)

#define HALF(DOTHALF, sum, n, token, acc, spare, y) \
	DOTHALF(token, acc, spare); \
	ZERO(sum, n, token, acc, spare); \
	SCALED(token, acc, y)

#define FIRST32(token, acc, spare, y) HALF(DOTFIRST, FIRST, 5, token, acc, spare, y)
#define SECOND32(token, acc, spare, y) HALF(DOTSECOND, SECOND, 5, token, acc, spare, y)
#define FIRST4(token, acc, spare, y) HALF(DOTFIRST, FIRST, 2, token, acc, spare, y)
#define SECOND4(token, acc, spare, y) HALF(DOTSECOND, SECOND, 2, token, acc, spare, y)

#define AFFINEHALF(DOTHALF, sum, token, acc, spare, y) \
	DOTHALF(token, acc, spare); \
	SCALED(token, acc, y); \
	HALFMINIMA(sum, token, spare, y)

#define FIRSTMINUS(token, acc, spare, y) AFFINEHALF(DOTFIRST, FIRST, token, acc, spare, y)
#define SECONDMINUS(token, acc, spare, y) AFFINEHALF(DOTSECOND, SECOND, token, acc, spare, y)

// Tokens that a step is for.
#define ONETOKEN(STEP) STEP(R10, Z24, Z28, Z20)

#define FOURTOKENS(STEP) \
	STEP(R10, Z24, Z28, Z20); \
	STEP(R11, Z25, Z29, Z21); \
	STEP(R12, Z26, Z30, Z22); \
	STEP(R13, Z27, Z31, Z23)

// A block of each type, for TOKENS = ONETOKEN or FOURTOKENS.
#define Q40(TOKENS) HSCALES(0); NIBBLES(32); TOKENS(ZERO8)
#define Q41(TOKENS) HSCALES(0); HMINIMA(32); NIBBLES(64); TOKENS(PLUS)
#define Q50(TOKENS) HSCALES(0); FIVES(32); TOKENS(ZERO16)
#define Q51(TOKENS) HSCALES(0); HMINIMA(32); FIVES(64); TOKENS(PLUS)
#define Q80(TOKENS) HSCALES(0); BYTES(32); TOKENS(ZERO128)
#define IQ4NL(TOKENS) HSCALES(0); VALUES(32); TOKENS(ZERO128)
#define MXFP4(TOKENS) EXPONENTS(0); VALUES(16); TOKENS(EXPONENTIAL)
#define Q4K(TOKENS) KSCALES(0); KMINIMA(16); NIBBLES(32); TOKENS(MINUS)
#define Q5K(TOKENS) KSCALES(0); KMINIMA(16); FIVES(32); TOKENS(MINUS)
#define IQ4XS(TOKENS) KSIGNED(0); VALUES(16); TOKENS(ZERO128)
#define Q6K(TOKENS) SIXES(32); KSIGNED(0); TOKENS(FIRST32); KSIGNED(16); TOKENS(SECOND32)
#define Q3K(TOKENS) THREES(32); KSIGNED(0); TOKENS(FIRST4); KSIGNED(16); TOKENS(SECOND4)
#define Q2K(TOKENS) PAIRS(32); PAIRED(0); TOKENS(FIRSTMINUS); PAIRED(16); TOKENS(SECONDMINUS)

// Loops over groups and blocks of so many bytes, with AHEAD: for one token.
#define ONE_ARGS \
	MOVQ dst+0(FP), DI; \
	MOVQ groups+8(FP), SI; \
	MOVQ act+16(FP), DX; \
	MOVQ blocks+24(FP), R8; \
	MOVQ groupCount+32(FP), R9

#define ONE_START \
	VPXORD Z20, Z20, Z20; \
	MOVQ DX, R10; \
	MOVQ R8, CX

#define ONE_NEXT(bytes) \
	ADDQ $bytes, SI; \
	ADDQ $144, R10; \
	DECQ CX

#define ONE_STORE \
	VMOVUPS Z20, (DI); \
	ADDQ $64, DI; \
	DECQ R9

#define ONE(BLOCK, bytes, AHEAD) \
	ONE_ARGS; \
	AHEAD_ARGS; \
group: \
	ONE_START; \
block: \
	BLOCK(ONETOKEN); \
	AHEAD; \
	ONE_NEXT(bytes); \
	JNZ block; \
	ONE_STORE; \
	JNZ group; \
	VZEROUPPER; \
	RET

// The same with a head of so many bytes before each 8 blocks.
#define ONEK(BLOCK, head, bytes, AHEAD) \
	ONE_ARGS; \
	AHEADK_ARGS; \
group: \
	ONE_START; \
superBlock: \
	MOVQ SI, R15; \
	ADDQ $head, SI; \
block: \
	BLOCK(ONETOKEN); \
	AHEAD; \
	ONE_NEXT(bytes); \
	JZ done; \
	TESTQ $7, CX; \
	JNZ block; \
	JMP superBlock; \
done: \
	ONE_STORE; \
	JNZ group; \
	VZEROUPPER; \
	RET

// For four tokens, whose records lie AX = 144*blocks bytes apart.
#define FOUR_ARGS \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groups+16(FP), SI; \
	MOVQ act+24(FP), DX; \
	MOVQ blocks+32(FP), R8; \
	MOVQ groupCount+40(FP), R9; \
	LEAQ (R8)(R8*8), AX; \
	SHLQ $4, AX

#define FOUR_START \
	MOVQ DX, R10; \
	LEAQ (R10)(AX*1), R11; \
	LEAQ (R11)(AX*1), R12; \
	LEAQ (R12)(AX*1), R13; \
	VPXORD Z20, Z20, Z20; \
	VPXORD Z21, Z21, Z21; \
	VPXORD Z22, Z22, Z22; \
	VPXORD Z23, Z23, Z23; \
	FOUR_AHEAD_ARGS; \
	MOVQ R8, CX

#define FOUR_NEXT(bytes) \
	ADDQ $bytes, SI; \
	ADDQ $144, R10; \
	ADDQ $144, R11; \
	ADDQ $144, R12; \
	ADDQ $144, R13; \
	DECQ CX

#define FOUR_STORE \
	VMOVUPS Z20, (DI); \
	VMOVUPS Z21, (DI)(BX*1); \
	LEAQ (DI)(BX*2), R14; \
	VMOVUPS Z22, (R14); \
	VMOVUPS Z23, (R14)(BX*1); \
	ADDQ $64, DI; \
	DECQ R9

#define FOUR(BLOCK, bytes, AHEAD) \
	FOUR_ARGS; \
group: \
	FOUR_START; \
block: \
	BLOCK(FOURTOKENS); \
	AHEAD; \
	FOUR_NEXT(bytes); \
	JNZ block; \
	FOUR_STORE; \
	JNZ group; \
	VZEROUPPER; \
	RET

#define FOURK(BLOCK, head, bytes, AHEAD) \
	FOUR_ARGS; \
group: \
	FOUR_START; \
superBlock: \
	MOVQ SI, R15; \
	ADDQ $head, SI; \
block: \
	BLOCK(FOURTOKENS); \
	AHEAD; \
	FOUR_NEXT(bytes); \
	JZ done; \
	TESTQ $7, CX; \
	JNZ block; \
	JMP superBlock; \
done: \
	FOUR_STORE; \
	JNZ group; \
	VZEROUPPER; \
	RET
