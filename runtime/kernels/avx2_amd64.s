#include "textflag.h"

// AVX2 with F16C. Each 64-byte vector is taken as two halves of 8 rows. Unsigned
// weights of 4 bits times signed bytes fit 16 bits even after all 8 vectors of a
// block are added (8*2*15*128 = 30720), so VPMADDUBSW never saturates. High
// and low halves of the 16-bit codes are summed apart. The integer sums are exact,
// and the float step keeps the order of the reference (reference.go), unfused.
// An activation record is 144 bytes: 32 high and 32 low halves of codes, scale at
// 64, offset at 68, sum at 72 (activations.go).

DATA ·nibbleMask+0(SB)/4, $0x0F0F0F0F
GLOBL ·nibbleMask(SB), RODATA, $4
DATA ·ones16+0(SB)/4, $0x00010001
GLOBL ·ones16(SB), RODATA, $4

#define ARGS \
	MOVQ dst+0(FP), DI; \
	MOVQ groups+8(FP), SI; \
	MOVQ act+16(FP), DX; \
	MOVQ blocks+24(FP), R8; \
	MOVQ groupCount+32(FP), R9; \
	VPBROADCASTD ·nibbleMask(SB), Y15; \
	VPBROADCASTD ·ones16(SB), Y14

// Products of the nibbles in Y8 (rows 0-7) and Y9 (8-15) with the codes at
// a(R10): high halves into Y4, Y5, low halves into Y12, Y13.
#define MULTIPLY(a) \
	VPBROADCASTD a(R10), Y6; \
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
#define NIBBLES(off, a, b) \
	VMOVDQU (off)(SI), Y10; \
	VMOVDQU (off+32)(SI), Y11; \
	VPAND Y15, Y10, Y8; \
	VPAND Y15, Y11, Y9; \
	MULTIPLY(a); \
	VPSRLW $4, Y10, Y10; \
	VPSRLW $4, Y11, Y11; \
	VPAND Y15, Y10, Y8; \
	VPAND Y15, Y11, Y9; \
	MULTIPLY(b)

// Zeroes the 16-bit sums.
#define CLEAR \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y12, Y12, Y12; \
	VPXOR Y13, Y13, Y13

// Y4, Y5 = 256 times the high sums plus the low sums, in 32 bits.
#define WIDEN \
	VPMADDWD Y14, Y4, Y4; \
	VPMADDWD Y14, Y5, Y5; \
	VPMADDWD Y14, Y12, Y12; \
	VPMADDWD Y14, Y13, Y13; \
	VPSLLD $8, Y4, Y4; \
	VPSLLD $8, Y5, Y5; \
	VPADDD Y12, Y4, Y4; \
	VPADDD Y13, Y5, Y5

// Y4, Y5 minus the sum of the codes << shift.
#define OFFSET(shift) \
	VPBROADCASTD 72(R10), Y6; \
	VPSLLD $shift, Y6, Y6; \
	VPSUBD Y6, Y4, Y4; \
	VPSUBD Y6, Y5, Y5

// acc = d*scale*float(acc), d float16 at off(SI).
#define SCALED(off, acc, d, s) \
	VCVTPH2PS off(SI), d; \
	VBROADCASTSS 64(R10), s; \
	VMULPS s, d, d; \
	VCVTDQ2PS acc, acc; \
	VMULPS acc, d, acc

// func oneQ41AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41AVX2(SB), NOSPLIT, $0-40
	ARGS
group:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	MOVQ DX, R10
	MOVQ R8, CX
block:
	CLEAR
	NIBBLES(64, 0, 16)
	NIBBLES(128, 4, 20)
	NIBBLES(192, 8, 24)
	NIBBLES(256, 12, 28)
	WIDEN
	SCALED(0, Y4, Y6, Y7)
	SCALED(16, Y5, Y8, Y9)
	VBROADCASTSS 68(R10), Y10
	VCVTPH2PS 32(SI), Y11
	VMULPS Y10, Y11, Y11
	VADDPS Y11, Y4, Y4
	VCVTPH2PS 48(SI), Y12
	VMULPS Y10, Y12, Y12
	VADDPS Y12, Y5, Y5
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	ADDQ $320, SI
	ADDQ $144, R10
	DECQ CX
	JNZ block
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// func oneQ40AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40AVX2(SB), NOSPLIT, $0-40
	ARGS
group:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	MOVQ DX, R10
	MOVQ R8, CX
block:
	CLEAR
	NIBBLES(32, 0, 16)
	NIBBLES(96, 4, 20)
	NIBBLES(160, 8, 24)
	NIBBLES(224, 12, 28)
	WIDEN
	OFFSET(3)
	SCALED(0, Y4, Y6, Y7)
	SCALED(16, Y5, Y8, Y9)
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	ADDQ $288, SI
	ADDQ $144, R10
	DECQ CX
	JNZ block
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// Folds the 16 partial sums Y0 (0-7), Y1 (8-15) into X0, halves onto halves.
#define FOLD \
	VADDPS Y1, Y0, Y0; \
	VEXTRACTF128 $1, Y0, X1; \
	VADDPS X1, X0, X0; \
	VMOVHLPS X0, X0, X1; \
	VADDPS X1, X0, X0; \
	VMOVSHDUP X0, X1; \
	VADDSS X1, X0, X0

// func dotAVX2(x, y *float32, n int) float32
TEXT ·dotAVX2(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), SI
	MOVQ y+8(FP), DX
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	SHRQ $4, CX
	JZ done
loop:
	VMOVUPS (SI), Y2
	VMOVUPS 32(SI), Y3
	VMULPS (DX), Y2, Y2
	VMULPS 32(DX), Y3, Y3
	VADDPS Y2, Y0, Y0
	VADDPS Y3, Y1, Y1
	ADDQ $64, SI
	ADDQ $64, DX
	DECQ CX
	JNZ loop
done:
	FOLD
	VZEROUPPER
	MOVSS X0, ret+24(FP)
	RET

// func dotF16AVX2(x *float32, y *uint16, n int) float32
TEXT ·dotF16AVX2(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), SI
	MOVQ y+8(FP), DX
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	SHRQ $4, CX
	JZ done
loop:
	VCVTPH2PS (DX), Y2
	VCVTPH2PS 16(DX), Y3
	VMULPS (SI), Y2, Y2
	VMULPS 32(SI), Y3, Y3
	VADDPS Y2, Y0, Y0
	VADDPS Y3, Y1, Y1
	ADDQ $64, SI
	ADDQ $32, DX
	DECQ CX
	JNZ loop
done:
	FOLD
	VZEROUPPER
	MOVSS X0, ret+24(FP)
	RET

// func axpyF16AVX2(dst *float32, a float32, x *uint16, n int)
TEXT ·axpyF16AVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	VBROADCASTSS a+8(FP), Y0
	MOVQ x+16(FP), DX
	MOVQ n+24(FP), CX
	SHRQ $4, CX
	JZ done
loop:
	VCVTPH2PS (DX), Y2
	VCVTPH2PS 16(DX), Y3
	VMULPS Y0, Y2, Y2
	VMULPS Y0, Y3, Y3
	VADDPS (DI), Y2, Y2
	VADDPS 32(DI), Y3, Y3
	VMOVUPS Y2, (DI)
	VMOVUPS Y3, 32(DI)
	ADDQ $64, DI
	ADDQ $32, DX
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET
