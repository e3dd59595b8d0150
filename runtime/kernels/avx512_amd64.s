#include "textflag.h"

// AVX-512 with VNNI. A block's vectors hold 4 columns of 16 rows each; one
// VPDPBUSD multiplies a vector with 4 activations, broadcast from memory.
// An activation record is 144 bytes: 32 high and 32 low halves of 16-bit codes,
// scale at 64, offset at 68, sum at 72 (activations.go).
// The float step keeps the order of the reference (reference.go), unfused.

// Nibbles of the 4 vectors at off(SI): low in Z4..Z7, high in Z8..Z11.
#define NIBBLES(off) \
	VMOVDQU32 (off+0)(SI), Z4; \
	VMOVDQU32 (off+64)(SI), Z5; \
	VMOVDQU32 (off+128)(SI), Z6; \
	VMOVDQU32 (off+192)(SI), Z7; \
	VPSRLW $4, Z4, Z8; \
	VPSRLW $4, Z5, Z9; \
	VPSRLW $4, Z6, Z10; \
	VPSRLW $4, Z7, Z11; \
	VPANDD Z31, Z4, Z4; \
	VPANDD Z31, Z5, Z5; \
	VPANDD Z31, Z6, Z6; \
	VPANDD Z31, Z7, Z7; \
	VPANDD Z31, Z8, Z8; \
	VPANDD Z31, Z9, Z9; \
	VPANDD Z31, Z10, Z10; \
	VPANDD Z31, Z11, Z11

#define BYTES(off) \
	VMOVDQU32 (off+0)(SI), Z4; \
	VMOVDQU32 (off+64)(SI), Z5; \
	VMOVDQU32 (off+128)(SI), Z6; \
	VMOVDQU32 (off+192)(SI), Z7; \
	VMOVDQU32 (off+256)(SI), Z8; \
	VMOVDQU32 (off+320)(SI), Z9; \
	VMOVDQU32 (off+384)(SI), Z10; \
	VMOVDQU32 (off+448)(SI), Z11

// acc (with spare) = the 8 vectors Z4..Z11 times the codes at a.
#define DOT(a, acc, spare) \
	VPXORD acc, acc, acc; \
	VPXORD spare, spare, spare; \
	VPDPBUSD.BCST 0(a), Z4, acc; \
	VPDPBUSD.BCST 32(a), Z4, spare; \
	VPDPBUSD.BCST 4(a), Z5, acc; \
	VPDPBUSD.BCST 36(a), Z5, spare; \
	VPDPBUSD.BCST 8(a), Z6, acc; \
	VPDPBUSD.BCST 40(a), Z6, spare; \
	VPDPBUSD.BCST 12(a), Z7, acc; \
	VPDPBUSD.BCST 44(a), Z7, spare; \
	VPDPBUSD.BCST 16(a), Z8, acc; \
	VPDPBUSD.BCST 48(a), Z8, spare; \
	VPDPBUSD.BCST 20(a), Z9, acc; \
	VPDPBUSD.BCST 52(a), Z9, spare; \
	VPDPBUSD.BCST 24(a), Z10, acc; \
	VPDPBUSD.BCST 56(a), Z10, spare; \
	VPDPBUSD.BCST 28(a), Z11, acc; \
	VPDPBUSD.BCST 60(a), Z11, spare; \
	VPSLLD $8, acc, acc; \
	VPADDD spare, acc, acc

// y += d*scale*float(acc), d in Z1.
#define SCALED(a, acc, spare, y) \
	VCVTDQ2PS acc, acc; \
	VMULPS.BCST 64(a), Z1, spare; \
	VMULPS acc, spare, acc; \
	VADDPS acc, y, y

// y += d*scale*float(acc) + m*offset, d in Z1, m in Z2.
#define AFFINE(a, acc, spare, y) \
	VCVTDQ2PS acc, acc; \
	VMULPS.BCST 64(a), Z1, spare; \
	VMULPS acc, spare, acc; \
	VMULPS.BCST 68(a), Z2, spare; \
	VADDPS spare, acc, acc; \
	VADDPS acc, y, y

// acc -= sum << shift: the weights are stored with an offset of 1 << shift.
#define OFFSET(a, acc, spare, shift) \
	VPBROADCASTD 72(a), spare; \
	VPSLLD $shift, spare, spare; \
	VPSUBD spare, acc, acc

#define ONE_ARGS \
	MOVQ dst+0(FP), DI; \
	MOVQ groups+8(FP), SI; \
	MOVQ act+16(FP), DX; \
	MOVQ blocks+24(FP), R8; \
	MOVQ groupCount+32(FP), R9; \
	MOVL $0x0F0F0F0F, AX; \
	VPBROADCASTD AX, Z31

#define FOUR_ARGS \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groups+16(FP), SI; \
	MOVQ act+24(FP), DX; \
	MOVQ blocks+32(FP), R8; \
	MOVQ groupCount+40(FP), R9; \
	MOVL $0x0F0F0F0F, AX; \
	VPBROADCASTD AX, Z31; \
	LEAQ (R8)(R8*8), AX; \
	SHLQ $4, AX

// The four tokens' records lie AX = 144*blocks bytes apart: R10, R11, R12, R13.
#define FOUR_START \
	MOVQ DX, R10; \
	LEAQ (R10)(AX*1), R11; \
	LEAQ (R11)(AX*1), R12; \
	LEAQ (R12)(AX*1), R13; \
	VPXORD Z20, Z20, Z20; \
	VPXORD Z21, Z21, Z21; \
	VPXORD Z22, Z22, Z22; \
	VPXORD Z23, Z23, Z23; \
	MOVQ R8, CX

#define FOUR_STEP \
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

// func oneQ41AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41AVX512(SB), NOSPLIT, $0-40
	ONE_ARGS
group:
	VPXORD Z0, Z0, Z0
	MOVQ DX, R10
	MOVQ R8, CX
block:
	VCVTPH2PS 0(SI), Z1
	VCVTPH2PS 32(SI), Z2
	NIBBLES(64)
	DOT(R10, Z12, Z13)
	AFFINE(R10, Z12, Z13, Z0)
	ADDQ $320, SI
	ADDQ $144, R10
	DECQ CX
	JNZ block
	VMOVUPS Z0, (DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// func oneQ40AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40AVX512(SB), NOSPLIT, $0-40
	ONE_ARGS
group:
	VPXORD Z0, Z0, Z0
	MOVQ DX, R10
	MOVQ R8, CX
block:
	VCVTPH2PS 0(SI), Z1
	NIBBLES(32)
	DOT(R10, Z12, Z13)
	OFFSET(R10, Z12, Z13, 3)
	SCALED(R10, Z12, Z13, Z0)
	ADDQ $288, SI
	ADDQ $144, R10
	DECQ CX
	JNZ block
	VMOVUPS Z0, (DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// func oneQ80AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80AVX512(SB), NOSPLIT, $0-40
	ONE_ARGS
group:
	VPXORD Z0, Z0, Z0
	MOVQ DX, R10
	MOVQ R8, CX
block:
	VCVTPH2PS 0(SI), Z1
	BYTES(32)
	DOT(R10, Z12, Z13)
	OFFSET(R10, Z12, Z13, 7)
	SCALED(R10, Z12, Z13, Z0)
	ADDQ $544, SI
	ADDQ $144, R10
	DECQ CX
	JNZ block
	VMOVUPS Z0, (DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// func fourQ41AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ41AVX512(SB), NOSPLIT, $0-48
	FOUR_ARGS
group:
	FOUR_START
block:
	VCVTPH2PS 0(SI), Z1
	VCVTPH2PS 32(SI), Z2
	NIBBLES(64)
	DOT(R10, Z12, Z16)
	DOT(R11, Z13, Z17)
	DOT(R12, Z14, Z18)
	DOT(R13, Z15, Z19)
	AFFINE(R10, Z12, Z16, Z20)
	AFFINE(R11, Z13, Z17, Z21)
	AFFINE(R12, Z14, Z18, Z22)
	AFFINE(R13, Z15, Z19, Z23)
	ADDQ $320, SI
	FOUR_STEP
	JNZ block
	FOUR_STORE
	JNZ group
	VZEROUPPER
	RET

// func fourQ40AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ40AVX512(SB), NOSPLIT, $0-48
	FOUR_ARGS
group:
	FOUR_START
block:
	VCVTPH2PS 0(SI), Z1
	NIBBLES(32)
	DOT(R10, Z12, Z16)
	DOT(R11, Z13, Z17)
	DOT(R12, Z14, Z18)
	DOT(R13, Z15, Z19)
	OFFSET(R10, Z12, Z16, 3)
	OFFSET(R11, Z13, Z17, 3)
	OFFSET(R12, Z14, Z18, 3)
	OFFSET(R13, Z15, Z19, 3)
	SCALED(R10, Z12, Z16, Z20)
	SCALED(R11, Z13, Z17, Z21)
	SCALED(R12, Z14, Z18, Z22)
	SCALED(R13, Z15, Z19, Z23)
	ADDQ $288, SI
	FOUR_STEP
	JNZ block
	FOUR_STORE
	JNZ group
	VZEROUPPER
	RET

// func fourQ80AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ80AVX512(SB), NOSPLIT, $0-48
	FOUR_ARGS
group:
	FOUR_START
block:
	VCVTPH2PS 0(SI), Z1
	BYTES(32)
	DOT(R10, Z12, Z16)
	DOT(R11, Z13, Z17)
	DOT(R12, Z14, Z18)
	DOT(R13, Z15, Z19)
	OFFSET(R10, Z12, Z16, 7)
	OFFSET(R11, Z13, Z17, 7)
	OFFSET(R12, Z14, Z18, 7)
	OFFSET(R13, Z15, Z19, 7)
	SCALED(R10, Z12, Z16, Z20)
	SCALED(R11, Z13, Z17, Z21)
	SCALED(R12, Z14, Z18, Z22)
	SCALED(R13, Z15, Z19, Z23)
	ADDQ $544, SI
	FOUR_STEP
	JNZ block
	FOUR_STORE
	JNZ group
	VZEROUPPER
	RET
