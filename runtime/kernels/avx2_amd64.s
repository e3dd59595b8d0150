#include "textflag.h"

// AVX2 with F16C. Each 64-byte vector is taken as two halves of 8 rows. Unsigned
// weights of 4 bits times signed codes fit 16 bits even after all 8 vectors of a
// block are added (8*2*15*127 = 30480), so VPMADDUBSW never saturates; bytes are
// split into two nibbles for the same reason. The integer sums are exact, and the
// float step keeps the order of the reference (reference.go), unfused.

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

// One vector of nibbles at off(SI): both halves of rows, codes at a(R10) for the
// low and b(R10) for the high nibbles; 16-bit sums in Y4 (rows 0-7), Y5 (8-15).
#define NIBBLES(off, a, b) \
	VPBROADCASTD a(R10), Y6; \
	VPBROADCASTD b(R10), Y7; \
	VMOVDQU (off)(SI), Y8; \
	VMOVDQU (off+32)(SI), Y9; \
	VPSRLW $4, Y8, Y10; \
	VPSRLW $4, Y9, Y11; \
	VPAND Y15, Y8, Y8; \
	VPAND Y15, Y9, Y9; \
	VPAND Y15, Y10, Y10; \
	VPAND Y15, Y11, Y11; \
	VPMADDUBSW Y6, Y8, Y8; \
	VPMADDUBSW Y6, Y9, Y9; \
	VPMADDUBSW Y7, Y10, Y10; \
	VPMADDUBSW Y7, Y11, Y11; \
	VPADDW Y8, Y4, Y4; \
	VPADDW Y9, Y5, Y5; \
	VPADDW Y10, Y4, Y4; \
	VPADDW Y11, Y5, Y5

// One vector of bytes at off(SI) with codes at a(R10): sums of low nibbles in
// Y4, Y5, of high nibbles in Y12, Y13.
#define BYTES(off, a) \
	VPBROADCASTD a(R10), Y6; \
	VMOVDQU (off)(SI), Y8; \
	VMOVDQU (off+32)(SI), Y9; \
	VPSRLW $4, Y8, Y10; \
	VPSRLW $4, Y9, Y11; \
	VPAND Y15, Y8, Y8; \
	VPAND Y15, Y9, Y9; \
	VPAND Y15, Y10, Y10; \
	VPAND Y15, Y11, Y11; \
	VPMADDUBSW Y6, Y8, Y8; \
	VPMADDUBSW Y6, Y9, Y9; \
	VPMADDUBSW Y6, Y10, Y10; \
	VPMADDUBSW Y6, Y11, Y11; \
	VPADDW Y8, Y4, Y4; \
	VPADDW Y9, Y5, Y5; \
	VPADDW Y10, Y12, Y12; \
	VPADDW Y11, Y13, Y13

// Y4, Y5 minus the sum of the codes << shift.
#define OFFSET(shift) \
	VPBROADCASTD 40(R10), Y6; \
	VPSLLD $shift, Y6, Y6; \
	VPSUBD Y6, Y4, Y4; \
	VPSUBD Y6, Y5, Y5

// acc = d*scale*float(acc), d float16 at off(SI).
#define SCALED(off, acc, d, s) \
	VCVTPH2PS off(SI), d; \
	VBROADCASTSS 32(R10), s; \
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
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	NIBBLES(64, 0, 16)
	NIBBLES(128, 4, 20)
	NIBBLES(192, 8, 24)
	NIBBLES(256, 12, 28)
	VPMADDWD Y14, Y4, Y4
	VPMADDWD Y14, Y5, Y5
	SCALED(0, Y4, Y6, Y7)
	SCALED(16, Y5, Y8, Y9)
	VBROADCASTSS 36(R10), Y10
	VCVTPH2PS 32(SI), Y11
	VMULPS Y10, Y11, Y11
	VADDPS Y11, Y4, Y4
	VCVTPH2PS 48(SI), Y12
	VMULPS Y10, Y12, Y12
	VADDPS Y12, Y5, Y5
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	ADDQ $320, SI
	ADDQ $48, R10
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
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	NIBBLES(32, 0, 16)
	NIBBLES(96, 4, 20)
	NIBBLES(160, 8, 24)
	NIBBLES(224, 12, 28)
	VPMADDWD Y14, Y4, Y4
	VPMADDWD Y14, Y5, Y5
	OFFSET(3)
	SCALED(0, Y4, Y6, Y7)
	SCALED(16, Y5, Y8, Y9)
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	ADDQ $288, SI
	ADDQ $48, R10
	DECQ CX
	JNZ block
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ $64, DI
	DECQ R9
	JNZ group
	VZEROUPPER
	RET

// func oneQ80AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80AVX2(SB), NOSPLIT, $0-40
	ARGS
group:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	MOVQ DX, R10
	MOVQ R8, CX
block:
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y12, Y12, Y12
	VPXOR Y13, Y13, Y13
	BYTES(32, 0)
	BYTES(96, 4)
	BYTES(160, 8)
	BYTES(224, 12)
	BYTES(288, 16)
	BYTES(352, 20)
	BYTES(416, 24)
	BYTES(480, 28)
	VPMADDWD Y14, Y4, Y4
	VPMADDWD Y14, Y5, Y5
	VPMADDWD Y14, Y12, Y12
	VPMADDWD Y14, Y13, Y13
	VPSLLD $4, Y12, Y12
	VPSLLD $4, Y13, Y13
	VPADDD Y12, Y4, Y4
	VPADDD Y13, Y5, Y5
	OFFSET(7)
	SCALED(0, Y4, Y6, Y7)
	SCALED(16, Y5, Y8, Y9)
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	ADDQ $544, SI
	ADDQ $48, R10
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
