#include "textflag.h"
#include "words_arm64.h"

// Operations on plain vectors in the order of vector.go, unfused.

// log2(e), magic, ln 2 in two parts, 1/720, 1/120, 1/24, 1/6, 1/2, 1, 127, -87, 88, the largest number.
DATA ·exponentials+0(SB)/4, $0x3fb8aa3b
DATA ·exponentials+4(SB)/4, $0x4b400000
DATA ·exponentials+8(SB)/4, $0x3f318000
DATA ·exponentials+12(SB)/4, $0xb95e8083
DATA ·exponentials+16(SB)/4, $0x3ab60b61
DATA ·exponentials+20(SB)/4, $0x3c088889
DATA ·exponentials+24(SB)/4, $0x3d2aaaab
DATA ·exponentials+28(SB)/4, $0x3e2aaaab
DATA ·exponentials+32(SB)/4, $0x3f000000
DATA ·exponentials+36(SB)/4, $0x3f800000
DATA ·exponentials+40(SB)/4, $127
DATA ·exponentials+44(SB)/4, $0xc2ae0000
DATA ·exponentials+48(SB)/4, $0x42b00000
DATA ·exponentials+52(SB)/4, $0x7f7fffff
GLOBL ·exponentials(SB), RODATA, $56

// V16 to V29 are these numbers, V31 is 0.
#define CONSTANTS \
	MOVD $·exponentials(SB), R8; \
	VLD1R.P 4(R8), [V16.S4]; \
	VLD1R.P 4(R8), [V17.S4]; \
	VLD1R.P 4(R8), [V18.S4]; \
	VLD1R.P 4(R8), [V19.S4]; \
	VLD1R.P 4(R8), [V20.S4]; \
	VLD1R.P 4(R8), [V21.S4]; \
	VLD1R.P 4(R8), [V22.S4]; \
	VLD1R.P 4(R8), [V23.S4]; \
	VLD1R.P 4(R8), [V24.S4]; \
	VLD1R.P 4(R8), [V25.S4]; \
	VLD1R.P 4(R8), [V26.S4]; \
	VLD1R.P 4(R8), [V27.S4]; \
	VLD1R.P 4(R8), [V28.S4]; \
	VLD1R (R8), [V29.S4]; \
	ZERO(31)

// V1 = Exp(V0); V2 and V3 are spent.
#define EXP \
	FMUL(1, 0, 16); \
	FADD(1, 1, 17); \
	VSUB V17.S4, V1.S4, V2.S4; \
	FSUB(1, 1, 17); \
	FMUL(3, 1, 18); \
	FSUB(3, 0, 3); \
	FMUL(1, 1, 19); \
	FSUB(3, 3, 1); \
	FMUL(1, 20, 3); \
	FADD(1, 1, 21); \
	FMUL(1, 1, 3); \
	FADD(1, 1, 22); \
	FMUL(1, 1, 3); \
	FADD(1, 1, 23); \
	FMUL(1, 1, 3); \
	FADD(1, 1, 24); \
	FMUL(1, 1, 3); \
	FADD(1, 1, 25); \
	FMUL(1, 1, 3); \
	FADD(1, 1, 25); \
	VADD V26.S4, V2.S4, V2.S4; \
	VSHL $23, V2.S4, V2.S4; \
	FMUL(1, 1, 2); \
	FCMGT(2, 27, 0); \
	VBIT V2.B16, V31.B16, V1.B16; \
	FCMGT(2, 0, 28); \
	VBIT V2.B16, V29.B16, V1.B16; \
	FCMEQ(2, 0, 0); \
	VBIF V2.B16, V0.B16, V1.B16

// The 4 values of v become exponentials of v - V12 and are added to the sums.
#define EXPSUM(v, number, sums) \
	FSUB(0, number, 12); \
	EXP; \
	VMOV V1.B16, v.B16; \
	FADD(sums, sums, 1)

// func expSumNEON(x *float32, top float32, sums *[16]float32, n int)
TEXT ·expSumNEON(SB), NOSPLIT, $0-32
	MOVD x+0(FP), R0
	FMOVS top+8(FP), F12
	VDUP V12.S[0], V12.S4
	MOVD sums+16(FP), R1
	MOVD n+24(FP), R2
	VLD1 (R1), [V8.S4, V9.S4, V10.S4, V11.S4]
	CONSTANTS
	CBZ R2, done
loop:
	VLD1 (R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	EXPSUM(V4, 4, 8)
	EXPSUM(V5, 5, 9)
	EXPSUM(V6, 6, 10)
	EXPSUM(V7, 7, 11)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	SUBS $16, R2
	BNE loop
done:
	VST1 [V8.S4, V9.S4, V10.S4, V11.S4], (R1)
	RET

// func siluMulNEON(gate, up *float32, n int)
TEXT ·siluMulNEON(SB), NOSPLIT, $0-24
	MOVD gate+0(FP), R0
	MOVD up+8(FP), R1
	MOVD n+16(FP), R2
	CONSTANTS
	CBZ R2, done
loop:
	VLD1 (R0), [V5.S4]
	VLD1.P 16(R1), [V6.S4]
	FNEG(0, 5)
	EXP
	FADD(1, 1, 25)
	FDIV(5, 5, 1)
	FMUL(5, 5, 6)
	VST1.P [V5.S4], 16(R0)
	SUBS $4, R2
	BNE loop
done:
	RET

// func dotNEON(x, y *float32, n int) float32
TEXT ·dotNEON(SB), NOSPLIT, $0-28
	MOVD x+0(FP), R0
	MOVD y+8(FP), R1
	MOVD n+16(FP), R2
	ZERO(0)
	ZERO(1)
	ZERO(2)
	ZERO(3)
	CBZ R2, done
loop:
	VLD1.P 64(R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P 64(R1), [V8.S4, V9.S4, V10.S4, V11.S4]
	FMUL(4, 4, 8)
	FMUL(5, 5, 9)
	FMUL(6, 6, 10)
	FMUL(7, 7, 11)
	FADD(0, 0, 4)
	FADD(1, 1, 5)
	FADD(2, 2, 6)
	FADD(3, 3, 7)
	SUBS $16, R2
	BNE loop
done: // halves onto halves
	FADD(0, 0, 2)
	FADD(1, 1, 3)
	FADD(0, 0, 1)
	VEXT $8, V0.B16, V0.B16, V1.B16
	FADD(0, 0, 1)
	VEXT $4, V0.B16, V0.B16, V1.B16
	FADDS F1, F0, F0
	FMOVS F0, ret+24(FP)
	RET

// The larger of each number of v and top; what is no number is never larger.
#define LARGER(v, number, top, topNumber) \
	FCMGT(8, number, topNumber); \
	VBIT V8.B16, v.B16, top.B16

// func largestNEON(x *float32, n int) float32
TEXT ·largestNEON(SB), NOSPLIT, $0-20
	MOVD x+0(FP), R0
	MOVD n+8(FP), R1
	MOVD $0xff800000, R2 // -Inf
	VDUP R2, V0.S4
	VMOV V0.B16, V1.B16
	VMOV V0.B16, V2.B16
	VMOV V0.B16, V3.B16
loop:
	VLD1.P 64(R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	LARGER(V4, 4, V0, 0)
	LARGER(V5, 5, V1, 1)
	LARGER(V6, 6, V2, 2)
	LARGER(V7, 7, V3, 3)
	SUBS $16, R1
	BNE loop
	LARGER(V1, 1, V0, 0)
	LARGER(V2, 2, V0, 0)
	LARGER(V3, 3, V0, 0)
	FMAXNMV(0, 0)
	FMOVS F0, ret+16(FP)
	RET

// func scaleNEON(x *float32, by float32, n int)
TEXT ·scaleNEON(SB), NOSPLIT, $0-24
	MOVD x+0(FP), R0
	FMOVS by+8(FP), F8
	MOVD n+16(FP), R1
loop:
	VLD1 (R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	FMULE(0, 0, 8, 0)
	FMULE(1, 1, 8, 0)
	FMULE(2, 2, 8, 0)
	FMULE(3, 3, 8, 0)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	SUBS $16, R1
	BNE loop
	RET

// func halvesNEON(dst *uint16, x *float32, n int)
TEXT ·halvesNEON(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R2
	CBZ R2, done
loop:
	VLD1.P 32(R1), [V0.S4, V1.S4]
	FCVTN(2, 0)
	FCVTN2(2, 1)
	VST1.P [V2.H8], 16(R0)
	SUBS $8, R2
	BNE loop
done:
	RET

// The codes of 4 values.
#define CODES(v, number) \
	FMULE(number, number, 14, 0); \
	FADD(number, number, 29); \
	VSUB V29.S4, v.S4, v.S4

// func quantizeNEON(r *record, x *float32, blocks int) int
TEXT ·quantizeNEON(SB), NOSPLIT, $0-32
	MOVD r+0(FP), R0
	MOVD x+8(FP), R1
	MOVD blocks+16(FP), R2
	MOVD $0x7fffffff, R3
	VDUP R3, V28.S4
	MOVD $0x4b400000, R3 // magic
	VDUP R3, V29.S4
	MOVD $128, R3
	VDUP R3, V30.H8
	MOVD $0x0d800000, R4
	MOVD $0x71800000, R5
	MOVD $0x20000, R8
	MOVD $0x07000000, R9
	MOVD $0x7f000000, R10
block:
	CBZ R2, done
	VLD1 (R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	ADD $64, R1, R6
	VLD1 (R6), [V4.S4, V5.S4, V6.S4, V7.S4]
	VAND V28.B16, V0.B16, V16.B16
	VAND V28.B16, V1.B16, V17.B16
	VAND V28.B16, V2.B16, V18.B16
	VAND V28.B16, V3.B16, V19.B16
	VAND V28.B16, V4.B16, V20.B16
	VAND V28.B16, V5.B16, V21.B16
	VAND V28.B16, V6.B16, V22.B16
	VAND V28.B16, V7.B16, V23.B16
	VUMAX V17.S4, V16.S4, V16.S4
	VUMAX V19.S4, V18.S4, V18.S4
	VUMAX V21.S4, V20.S4, V20.S4
	VUMAX V23.S4, V22.S4, V22.S4
	VUMAX V18.S4, V16.S4, V16.S4
	VUMAX V22.S4, V20.S4, V20.S4
	VUMAX V20.S4, V16.S4, V16.S4
	UMAXV(16, 16)
	FMOVS F16, R7
	CMPW R4, R7
	BLO done
	CMPW R5, R7
	BHS done
	ADDW R8, R7, R7 // the scale, a power of two: see activations.go
	ANDW $0x7f800000, R7, R7
	SUBW R9, R7, R7
	FMOVS R7, F12
	SUBW R7, R10, R7
	FMOVS R7, F14
	CODES(V0, 0)
	CODES(V1, 1)
	CODES(V2, 2)
	CODES(V3, 3)
	CODES(V4, 4)
	CODES(V5, 5)
	CODES(V6, 6)
	CODES(V7, 7)
	VADD V0.S4, V1.S4, V20.S4
	VADD V2.S4, V20.S4, V20.S4
	VADD V3.S4, V20.S4, V20.S4
	VADD V4.S4, V5.S4, V21.S4
	VADD V6.S4, V21.S4, V21.S4
	VADD V7.S4, V21.S4, V21.S4
	VADD V20.S4, V21.S4, V21.S4
	VADDV V20.S4, V20
	VADDV V21.S4, V21
	VUZP1 V1.H8, V0.H8, V8.H8 // 8 codes each
	VUZP1 V3.H8, V2.H8, V9.H8
	VUZP1 V5.H8, V4.H8, V10.H8
	VUZP1 V7.H8, V6.H8, V11.H8
	VUZP1 V9.H8, V8.H8, V0.H8 // even columns
	VUZP1 V11.H8, V10.H8, V1.H8
	VUZP2 V9.H8, V8.H8, V2.H8 // odd columns
	VUZP2 V11.H8, V10.H8, V3.H8
	ADD $80, R0, R6
	VST1 [V0.H8, V1.H8, V2.H8, V3.H8], (R6)
	VUZP1 V9.B16, V8.B16, V6.B16 // low halves
	VUZP1 V11.B16, V10.B16, V7.B16
	VADD V30.H8, V8.H8, V8.H8
	VADD V30.H8, V9.H8, V9.H8
	VADD V30.H8, V10.H8, V10.H8
	VADD V30.H8, V11.H8, V11.H8
	VUZP2 V9.B16, V8.B16, V4.B16 // high halves
	VUZP2 V11.B16, V10.B16, V5.B16
	VST1 [V4.B16, V5.B16, V6.B16, V7.B16], (R0)
	FMOVS F21, R7
	SCVTFWS R7, F15
	FMULS F12, F15, F15
	FMOVS F12, 64(R0)
	FMOVS F15, 68(R0)
	FMOVS F21, 72(R0)
	FMOVS F20, 76(R0)
	ADD $144, R0
	ADD $128, R1
	SUB $1, R2
	B block
done:
	MOVD blocks+16(FP), R3
	SUB R2, R3, R3
	MOVD R3, ret+24(FP)
	RET

// Of each of the next 16 values that is below V30, its bit of 8 in a byte of a.
#define BELOW(a) \
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]; \
	FCMGT(16, 30, 16); \
	FCMGT(17, 30, 17); \
	FCMGT(18, 30, 18); \
	FCMGT(19, 30, 19); \
	VUZP1 V17.H8, V16.H8, V16.H8; \
	VUZP1 V19.H8, V18.H8, V18.H8; \
	VUZP1 V18.B16, V16.B16, V16.B16; \
	VAND V31.B16, V16.B16, a.B16

// func notBelowNEON(bits *uint64, x *float32, floor float32, words int)
TEXT ·notBelowNEON(SB), NOSPLIT, $0-32
	MOVD bits+0(FP), R0
	MOVD x+8(FP), R1
	FMOVS floor+16(FP), F30
	VDUP V30.S[0], V30.S4
	MOVD words+24(FP), R2
	MOVD $0x8040201008040201, R3
	VDUP R3, V31.D2
	CBZ R2, done
word:
	BELOW(V0)
	BELOW(V1)
	BELOW(V2)
	BELOW(V3)
	VADDP V1.B16, V0.B16, V0.B16
	VADDP V3.B16, V2.B16, V2.B16
	VADDP V2.B16, V0.B16, V0.B16
	VADDP V0.B16, V0.B16, V0.B16
	FMOVD F0, R3
	MVN R3, R3
	MOVD.P R3, 8(R0)
	SUBS $1, R2
	BNE word
done:
	RET
