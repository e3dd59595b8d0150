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
	CMPL AX, $0x71800000
	JAE done
	ADDL $0x20000, AX // the scale, a power of two: see activations.go
	ANDL $0x7f800000, AX
	SUBL $0x07000000, AX
	VMOVD AX, X12
	NEGL AX
	ADDL $0x7f000000, AX
	VMOVD AX, X9
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

// Bits of the 8 values at off(SI) that are not below Y0, shifted to their place in R8.
#define EIGHT(off, shift) \
	VMOVUPS (off)(SI), Y1; \
	VCMPPS $0x15, Y0, Y1, Y1; \
	VMOVMSKPS Y1, AX; \
	SHLQ $shift, AX; \
	ORQ AX, R8

// func notBelowAVX2(bits *uint64, x *float32, floor float32, words int)
TEXT ·notBelowAVX2(SB), NOSPLIT, $0-32
	MOVQ bits+0(FP), DI
	MOVQ x+8(FP), SI
	VBROADCASTSS floor+16(FP), Y0
	MOVQ words+24(FP), CX
	TESTQ CX, CX
	JZ done
word:
	XORL R8, R8
	EIGHT(0, 0)
	EIGHT(32, 8)
	EIGHT(64, 16)
	EIGHT(96, 24)
	EIGHT(128, 32)
	EIGHT(160, 40)
	EIGHT(192, 48)
	EIGHT(224, 56)
	MOVQ R8, (DI)
	ADDQ $8, DI
	ADDQ $256, SI
	DECQ CX
	JNZ word
done:
	VZEROUPPER
	RET
