#include "textflag.h"
#include "words_amd64.h"

// One token at a time, for levels of 4 bits: products of bytes, which is less work
// than products of words (words_amd64.h) where a level is used once. VPMADDUBSW
// multiplies unsigned levels with the signed high and low halves of the codes, summed
// apart in 16 bits, which hold a block (8*2*15*128 = 30720). Wider levels would have
// to be widened more often, and gain nothing.

DATA ·nibbleMask+0(SB)/4, $0x0F0F0F0F
GLOBL ·nibbleMask(SB), RODATA, $4
DATA ·ones16+0(SB)/4, $0x00010001
GLOBL ·ones16(SB), RODATA, $4
DATA ·word256+0(SB)/8, $0x0100010001000100
DATA ·word256+8(SB)/8, $0x0100010001000100
DATA ·word256+16(SB)/8, $0x0100010001000100
DATA ·word256+24(SB)/8, $0x0100010001000100
GLOBL ·word256(SB), RODATA, $32

#define HALVES_ARGS \
	ONE_ARGS(·nibbleMask); \
	VPBROADCASTD ·ones16(SB), Y15

// Products of the levels in Y8 (rows 0-7) and Y9 (8-15) with the codes at
// a(R10): high halves into Y4, Y5, low halves into Y12, Y13.
#define HALVES(a) \
	VPBROADCASTD (a)(R10), Y6; \
	VPBROADCASTD (a+32)(R10), Y7; \
	VPMADDUBSW Y6, Y8, Y2; \
	VPMADDUBSW Y6, Y9, Y3; \
	VPMADDUBSW Y7, Y8, Y8; \
	VPMADDUBSW Y7, Y9, Y9; \
	VPADDW Y2, Y4, Y4; \
	VPADDW Y3, Y5, Y5; \
	VPADDW Y8, Y12, Y12; \
	VPADDW Y9, Y13, Y13

// One vector of nibbles at off(SI): codes at a(R10) for the low nibbles and at
// b(R10) for the high ones.
#define TWO(off, a, b) \
	VMOVDQU (off)(SI), Y10; \
	VMOVDQU (off+32)(SI), Y11; \
	VPAND Y14, Y10, Y8; \
	VPAND Y14, Y11, Y9; \
	HALVES(a); \
	VPSRLW $4, Y10, Y10; \
	VPSRLW $4, Y11, Y11; \
	VPAND Y14, Y10, Y8; \
	VPAND Y14, Y11, Y9; \
	HALVES(b)

// Zeroes the 16-bit sums.
#define CLEAR \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y12, Y12, Y12; \
	VPXOR Y13, Y13, Y13

// Y4, Y5 = 256 times the high sums plus the low sums, in 32 bits.
#define WIDEN \
	VPMADDWD ·word256(SB), Y4, Y4; \
	VPMADDWD ·word256(SB), Y5, Y5; \
	VPMADDWD Y15, Y12, Y12; \
	VPMADDWD Y15, Y13, Y13; \
	VPADDD Y12, Y4, Y4; \
	VPADDD Y13, Y5, Y5

#define FOURBITS(off) \
	CLEAR; \
	TWO(off, 0, 16); \
	TWO(off+64, 4, 20); \
	TWO(off+128, 8, 24); \
	TWO(off+192, 12, 28); \
	WIDEN

// func oneQ40AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40AVX2(SB), NOSPLIT, $0-40
	HALVES_ARGS
group:
	ONE_START
block:
	FOURBITS(32)
	ZERO(ALL, R10, 3, Y4, Y5)
	HSCALES(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(288, AHEAD5)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ41AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41AVX2(SB), NOSPLIT, $0-40
	HALVES_ARGS
group:
	ONE_START
block:
	FOURBITS(64)
	HSCALES(0)
	HMINIMA(32)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	MINIMA(VFMADD231PS, R10, Y0, Y1)
	ONE_NEXT(320, AHEAD5)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ4KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ4KAVX2(SB), NOSPLIT, $0-40
	HALVES_ARGS
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	FOURBITS(32)
	KSCALES(0)
	KMINIMA(16)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	MINIMA(VFNMADD231PS, R10, Y0, Y1)
	ONE_NEXT(288, AHEAD5)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET
