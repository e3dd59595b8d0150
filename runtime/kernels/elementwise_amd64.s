#include "textflag.h"

// Elementwise arithmetic with AVX2: the exponential, activations and attention.
// The order of operations is that of vector.go and activations.go, unfused.

DATA ·log2e8+0(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA ·log2e8+8(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA ·log2e8+16(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA ·log2e8+24(SB)/8, $0x3fb8aa3b3fb8aa3b
GLOBL ·log2e8(SB), RODATA, $32
DATA ·magic8+0(SB)/8, $0x4b4000004b400000
DATA ·magic8+8(SB)/8, $0x4b4000004b400000
DATA ·magic8+16(SB)/8, $0x4b4000004b400000
DATA ·magic8+24(SB)/8, $0x4b4000004b400000
GLOBL ·magic8(SB), RODATA, $32
DATA ·ln2hi8+0(SB)/8, $0x3f3180003f318000
DATA ·ln2hi8+8(SB)/8, $0x3f3180003f318000
DATA ·ln2hi8+16(SB)/8, $0x3f3180003f318000
DATA ·ln2hi8+24(SB)/8, $0x3f3180003f318000
GLOBL ·ln2hi8(SB), RODATA, $32
DATA ·ln2lo8+0(SB)/8, $0xb95e8083b95e8083
DATA ·ln2lo8+8(SB)/8, $0xb95e8083b95e8083
DATA ·ln2lo8+16(SB)/8, $0xb95e8083b95e8083
DATA ·ln2lo8+24(SB)/8, $0xb95e8083b95e8083
GLOBL ·ln2lo8(SB), RODATA, $32
DATA ·c68+0(SB)/8, $0x3ab60b613ab60b61
DATA ·c68+8(SB)/8, $0x3ab60b613ab60b61
DATA ·c68+16(SB)/8, $0x3ab60b613ab60b61
DATA ·c68+24(SB)/8, $0x3ab60b613ab60b61
GLOBL ·c68(SB), RODATA, $32
DATA ·c58+0(SB)/8, $0x3c0888893c088889
DATA ·c58+8(SB)/8, $0x3c0888893c088889
DATA ·c58+16(SB)/8, $0x3c0888893c088889
DATA ·c58+24(SB)/8, $0x3c0888893c088889
GLOBL ·c58(SB), RODATA, $32
DATA ·c48+0(SB)/8, $0x3d2aaaab3d2aaaab
DATA ·c48+8(SB)/8, $0x3d2aaaab3d2aaaab
DATA ·c48+16(SB)/8, $0x3d2aaaab3d2aaaab
DATA ·c48+24(SB)/8, $0x3d2aaaab3d2aaaab
GLOBL ·c48(SB), RODATA, $32
DATA ·c38+0(SB)/8, $0x3e2aaaab3e2aaaab
DATA ·c38+8(SB)/8, $0x3e2aaaab3e2aaaab
DATA ·c38+16(SB)/8, $0x3e2aaaab3e2aaaab
DATA ·c38+24(SB)/8, $0x3e2aaaab3e2aaaab
GLOBL ·c38(SB), RODATA, $32
DATA ·c28+0(SB)/8, $0x3f0000003f000000
DATA ·c28+8(SB)/8, $0x3f0000003f000000
DATA ·c28+16(SB)/8, $0x3f0000003f000000
DATA ·c28+24(SB)/8, $0x3f0000003f000000
GLOBL ·c28(SB), RODATA, $32
DATA ·one8+0(SB)/8, $0x3f8000003f800000
DATA ·one8+8(SB)/8, $0x3f8000003f800000
DATA ·one8+16(SB)/8, $0x3f8000003f800000
DATA ·one8+24(SB)/8, $0x3f8000003f800000
GLOBL ·one8(SB), RODATA, $32
DATA ·bias8+0(SB)/8, $0x0000007f0000007f
DATA ·bias8+8(SB)/8, $0x0000007f0000007f
DATA ·bias8+16(SB)/8, $0x0000007f0000007f
DATA ·bias8+24(SB)/8, $0x0000007f0000007f
GLOBL ·bias8(SB), RODATA, $32
DATA ·low8+0(SB)/8, $0xc2ae0000c2ae0000
DATA ·low8+8(SB)/8, $0xc2ae0000c2ae0000
DATA ·low8+16(SB)/8, $0xc2ae0000c2ae0000
DATA ·low8+24(SB)/8, $0xc2ae0000c2ae0000
GLOBL ·low8(SB), RODATA, $32
DATA ·high8+0(SB)/8, $0x42b0000042b00000
DATA ·high8+8(SB)/8, $0x42b0000042b00000
DATA ·high8+16(SB)/8, $0x42b0000042b00000
DATA ·high8+24(SB)/8, $0x42b0000042b00000
GLOBL ·high8(SB), RODATA, $32
DATA ·largest8+0(SB)/8, $0x7f7fffff7f7fffff
DATA ·largest8+8(SB)/8, $0x7f7fffff7f7fffff
DATA ·largest8+16(SB)/8, $0x7f7fffff7f7fffff
DATA ·largest8+24(SB)/8, $0x7f7fffff7f7fffff
GLOBL ·largest8(SB), RODATA, $32
DATA ·sign8+0(SB)/8, $0x8000000080000000
DATA ·sign8+8(SB)/8, $0x8000000080000000
DATA ·sign8+16(SB)/8, $0x8000000080000000
DATA ·sign8+24(SB)/8, $0x8000000080000000
GLOBL ·sign8(SB), RODATA, $32
DATA ·absolute8+0(SB)/8, $0x7fffffff7fffffff
DATA ·absolute8+8(SB)/8, $0x7fffffff7fffffff
DATA ·absolute8+16(SB)/8, $0x7fffffff7fffffff
DATA ·absolute8+24(SB)/8, $0x7fffffff7fffffff
GLOBL ·absolute8(SB), RODATA, $32
DATA ·round8+0(SB)/8, $0x0000008000000080
DATA ·round8+8(SB)/8, $0x0000008000000080
DATA ·round8+16(SB)/8, $0x0000008000000080
DATA ·round8+24(SB)/8, $0x0000008000000080
GLOBL ·round8(SB), RODATA, $32
DATA ·order8+0(SB)/8, $0x0000000400000000
DATA ·order8+8(SB)/8, $0x0000000500000001
DATA ·order8+16(SB)/8, $0x0000000600000002
DATA ·order8+24(SB)/8, $0x0000000700000003
GLOBL ·order8(SB), RODATA, $32

// Y1 = Exp(Y0); Y2 to Y4 are spent.
#define EXP \
	VMULPS ·log2e8(SB), Y0, Y1; \
	VADDPS ·magic8(SB), Y1, Y1; \
	VPSUBD ·magic8(SB), Y1, Y2; \
	VSUBPS ·magic8(SB), Y1, Y1; \
	VMULPS ·ln2hi8(SB), Y1, Y3; \
	VSUBPS Y3, Y0, Y3; \
	VMULPS ·ln2lo8(SB), Y1, Y1; \
	VSUBPS Y1, Y3, Y3; \
	VMULPS ·c68(SB), Y3, Y1; \
	VADDPS ·c58(SB), Y1, Y1; \
	VMULPS Y3, Y1, Y1; \
	VADDPS ·c48(SB), Y1, Y1; \
	VMULPS Y3, Y1, Y1; \
	VADDPS ·c38(SB), Y1, Y1; \
	VMULPS Y3, Y1, Y1; \
	VADDPS ·c28(SB), Y1, Y1; \
	VMULPS Y3, Y1, Y1; \
	VADDPS ·one8(SB), Y1, Y1; \
	VMULPS Y3, Y1, Y1; \
	VADDPS ·one8(SB), Y1, Y1; \
	VPADDD ·bias8(SB), Y2, Y2; \
	VPSLLD $23, Y2, Y2; \
	VMULPS Y2, Y1, Y1; \
	VCMPPS $17, ·low8(SB), Y0, Y2; \
	VANDNPS Y1, Y2, Y1; \
	VCMPPS $30, ·high8(SB), Y0, Y2; \
	VMOVUPS ·largest8(SB), Y4; \
	VBLENDVPS Y2, Y4, Y1, Y1; \
	VCMPPS $3, Y0, Y0, Y2; \
	VBLENDVPS Y2, Y0, Y1, Y1

// func expSumAVX2(x *float32, top float32, sums *[16]float32, n int)
TEXT ·expSumAVX2(SB), NOSPLIT, $0-32
	MOVQ x+0(FP), DI
	VBROADCASTSS top+8(FP), Y5
	MOVQ sums+16(FP), DX
	MOVQ n+24(FP), CX
	VMOVUPS (DX), Y6
	VMOVUPS 32(DX), Y7
	SHRQ $4, CX
	JZ done
loop:
	VMOVUPS (DI), Y0
	VSUBPS Y5, Y0, Y0
	EXP
	VMOVUPS Y1, (DI)
	VADDPS Y1, Y6, Y6
	VMOVUPS 32(DI), Y0
	VSUBPS Y5, Y0, Y0
	EXP
	VMOVUPS Y1, 32(DI)
	VADDPS Y1, Y7, Y7
	ADDQ $64, DI
	DECQ CX
	JNZ loop
done:
	VMOVUPS Y6, (DX)
	VMOVUPS Y7, 32(DX)
	VZEROUPPER
	RET

// func siluMulAVX2(gate, up *float32, n int)
TEXT ·siluMulAVX2(SB), NOSPLIT, $0-24
	MOVQ gate+0(FP), DI
	MOVQ up+8(FP), SI
	MOVQ n+16(FP), CX
	SHRQ $3, CX
	JZ done
loop:
	VMOVUPS (DI), Y5
	VXORPS ·sign8(SB), Y5, Y0
	EXP
	VADDPS ·one8(SB), Y1, Y1
	VDIVPS Y1, Y5, Y5
	VMULPS (SI), Y5, Y5
	VMOVUPS Y5, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET

// X0 to X3 hold 4 partial sums of 4 rows each: their sums, times X8, to (DI). X4 and X5 are spent.
#define SUMS4 \
	VMOVLHPS X1, X0, X4; \
	VUNPCKHPD X1, X0, X5; \
	VADDPS X5, X4, X0; \
	VMOVLHPS X3, X2, X4; \
	VUNPCKHPD X3, X2, X5; \
	VADDPS X5, X4, X2; \
	VSHUFPS $0x88, X2, X0, X4; \
	VSHUFPS $0xDD, X2, X0, X5; \
	VADDPS X5, X4, X0; \
	VMULPS X8, X0, X0; \
	VMOVUPS X0, (DI)

// The same for 4 partial sums of one row in X0.
#define SUMS1 \
	VMOVHLPS X0, X0, X1; \
	VADDPS X1, X0, X0; \
	VMOVSHDUP X0, X1; \
	VADDSS X1, X0, X0; \
	VMULSS X8, X0, X0; \
	VMOVSS X0, (DI)

#define UPPERHALF(x, y) \
	VEXTRACTF128 $1, y, X4; \
	VADDPS X4, x, x

// 16 products of a row at row, after 16 of the query in Y12 and Y13.
#define ROW(row, low, high) \
	VCVTPH2PS (row)(CX*2), Y14; \
	VCVTPH2PS 16(row)(CX*2), Y15; \
	VMULPS Y12, Y14, Y14; \
	VMULPS Y13, Y15, Y15; \
	VADDPS Y14, low, low; \
	VADDPS Y15, high, high

// Addresses of rows 1 to 3, and the first column.
#define FOURROWS \
	LEAQ (DX)(R10*1), R11; \
	LEAQ (DX)(R10*2), R12; \
	LEAQ (R11)(R10*2), R13; \
	XORQ CX, CX

// func scoresAVX2(scores, query *float32, keys *uint16, scale float32, n, count int)
TEXT ·scoresAVX2(SB), NOSPLIT, $0-48
	MOVQ scores+0(FP), DI
	MOVQ query+8(FP), SI
	MOVQ keys+16(FP), DX
	VBROADCASTSS scale+24(FP), X8
	MOVQ n+32(FP), R8
	MOVQ count+40(FP), R9
	LEAQ (R8)(R8*1), R10
	SUBQ $4, R9
	JLT rest
four:
	FOURROWS
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
columns:
	VMOVUPS (SI)(CX*4), Y12
	VMOVUPS 32(SI)(CX*4), Y13
	ROW(DX, Y0, Y4)
	ROW(R11, Y1, Y5)
	ROW(R12, Y2, Y6)
	ROW(R13, Y3, Y7)
	ADDQ $16, CX
	CMPQ CX, R8
	JLT columns
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	VADDPS Y6, Y2, Y2
	VADDPS Y7, Y3, Y3
	UPPERHALF(X0, Y0)
	UPPERHALF(X1, Y1)
	UPPERHALF(X2, Y2)
	UPPERHALF(X3, Y3)
	SUMS4
	ADDQ $16, DI
	LEAQ (R13)(R10*1), DX
	SUBQ $4, R9
	JGE four
rest:
	ADDQ $4, R9
	JZ done
one:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	XORQ CX, CX
column:
	VMOVUPS (SI)(CX*4), Y12
	VMOVUPS 32(SI)(CX*4), Y13
	ROW(DX, Y0, Y1)
	ADDQ $16, CX
	CMPQ CX, R8
	JLT column
	VADDPS Y1, Y0, Y0
	UPPERHALF(X0, Y0)
	SUMS1
	ADDQ $4, DI
	ADDQ R10, DX
	DECQ R9
	JNZ one
done:
	VZEROUPPER
	RET

#define PART(off, acc) \
	VCVTPH2PS (off)(DX), Y9; \
	VMULPS Y8, Y9, Y9; \
	VADDPS Y9, acc, acc

// func weightedSum64AVX2(dst, weights *float32, vals *uint16, stride, count int)
TEXT ·weightedSum64AVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ weights+8(FP), SI
	MOVQ vals+16(FP), DX
	MOVQ stride+24(FP), R8
	MOVQ count+32(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
loop:
	VBROADCASTSS (SI), Y8
	PART(0, Y0)
	PART(16, Y1)
	PART(32, Y2)
	PART(48, Y3)
	PART(64, Y4)
	PART(80, Y5)
	PART(96, Y6)
	PART(112, Y7)
	ADDQ $4, SI
	ADDQ R8, DX
	DECQ CX
	JNZ loop
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	VMOVUPS Y4, 128(DI)
	VMOVUPS Y5, 160(DI)
	VMOVUPS Y6, 192(DI)
	VMOVUPS Y7, 224(DI)
	VZEROUPPER
	RET

// func largestAVX2(x *float32, n int) float32
TEXT ·largestAVX2(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	MOVL $0xff800000, AX // -Inf
	VMOVD AX, X0
	VBROADCASTSS X0, Y0
	VMOVAPS Y0, Y1
loop: // of two operands of which one is no number, VMAXPS gives the second in Intel's order, the first in this one
	VMOVUPS (SI), Y2
	VMOVUPS 32(SI), Y3
	VMAXPS Y0, Y2, Y0
	VMAXPS Y1, Y3, Y1
	ADDQ $64, SI
	SUBQ $16, CX
	JNZ loop
	VMAXPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VMAXPS X1, X0, X0
	VMOVHLPS X0, X0, X1
	VMAXPS X1, X0, X0
	VMOVSHDUP X0, X1
	VMAXSS X1, X0, X0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func scaleAVX2(x *float32, by float32, n int)
TEXT ·scaleAVX2(SB), NOSPLIT, $0-24
	MOVQ x+0(FP), DI
	VBROADCASTSS by+8(FP), Y0
	MOVQ n+16(FP), CX
loop:
	VMULPS (DI), Y0, Y1
	VMULPS 32(DI), Y0, Y2
	VMOVUPS Y1, (DI)
	VMOVUPS Y2, 32(DI)
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ loop
	VZEROUPPER
	RET

// Codes of the 8 values at off(SI): sum into Y10, high half into h, low into l.
#define CODES(off, h, l) \
	VMULPS (off)(SI), Y9, l; \
	VADDPS ·magic8(SB), l, l; \
	VPSUBD ·magic8(SB), l, l; \
	VPADDD l, Y10, Y10; \
	VPADDD ·round8(SB), l, h; \
	VPSRAD $8, h, h; \
	VPSLLD $8, h, Y11; \
	VPSUBD Y11, l, l

// The 32 values of a, b, c, d as bytes, in order, into a.
#define BYTES(a, b, c, d) \
	VPACKSSDW b, a, a; \
	VPACKSSDW d, c, c; \
	VPACKSSWB c, a, a; \
	VPERMD a, Y15, a

// The sum of the 8 words of y, whose lower half is x; X1 is spent.
#define SUM(x, y) \
	VEXTRACTI128 $1, y, X1; \
	VPADDD X1, x, x; \
	VPSHUFD $0x4E, x, X1; \
	VPADDD X1, x, x; \
	VPSHUFD $0xB1, x, X1; \
	VPADDD X1, x, x

// func quantizeAVX2(r *record, x *float32, blocks int) int
TEXT ·quantizeAVX2(SB), NOSPLIT, $0-32
	MOVQ r+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ blocks+16(FP), CX
	VMOVDQU ·absolute8(SB), Y14
	VMOVDQU ·order8(SB), Y15
	MOVL $0x46fe0000, AX
	VMOVD AX, X13
block:
	TESTQ CX, CX
	JZ done
	VPAND (SI), Y14, Y0
	VPAND 32(SI), Y14, Y1
	VPAND 64(SI), Y14, Y2
	VPAND 96(SI), Y14, Y3
	VPMAXUD Y1, Y0, Y0
	VPMAXUD Y3, Y2, Y2
	VPMAXUD Y2, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPMAXUD X1, X0, X0
	VPSHUFD $0x4E, X0, X1
	VPMAXUD X1, X0, X0
	VPSHUFD $0xB1, X0, X1
	VPMAXUD X1, X0, X0
	VMOVD X0, AX
	CMPL AX, $0x0d800000
	JB done
	CMPL AX, $0x7f7fffff
	JA done
	VDIVSS X13, X0, X12
	VDIVSS X0, X13, X9
	VBROADCASTSS X9, Y9
	VPXOR Y10, Y10, Y10
	CODES(0, Y0, Y4)
	CODES(32, Y1, Y5)
	VMOVDQA Y10, Y8
	CODES(64, Y2, Y6)
	CODES(96, Y3, Y7)
	BYTES(Y0, Y1, Y2, Y3)
	BYTES(Y4, Y5, Y6, Y7)
	VMOVDQU Y0, (DI)
	VMOVDQU Y4, 32(DI)
	VPSLLW $8, Y0, Y1 // even columns, whole
	VPSLLW $8, Y4, Y2
	VPSRAW $8, Y2, Y2
	VPADDW Y2, Y1, Y1
	VMOVDQU Y1, 80(DI)
	VPSRLW $8, Y0, Y1 // odd columns, whole
	VPSLLW $8, Y1, Y1
	VPSRAW $8, Y4, Y2
	VPADDW Y2, Y1, Y1
	VMOVDQU Y1, 112(DI)
	SUM(X10, Y10)
	SUM(X8, Y8)
	VCVTDQ2PS X10, X1
	VMULSS X12, X1, X1
	VMOVSS X12, 64(DI)
	VMOVSS X1, 68(DI)
	VMOVD X10, 72(DI)
	VMOVD X8, 76(DI)
	ADDQ $144, DI
	ADDQ $128, SI
	DECQ CX
	JMP block
done:
	MOVQ blocks+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET
