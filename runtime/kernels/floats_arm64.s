#include "textflag.h"
#include "words_arm64.h"

// Tiles of floating-point numbers with unquantized inputs, column after column as the reference
// does (reference.go), fused. R16 is the distance of two tokens' inputs, R10 to R13 the tokens' inputs, of
// which V20 to V23 have 4 columns, V16 to V19 the weights of 4 rows each.

#define WEIGHTS32 VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]

#define WEIGHTS16 \
	VLD1.P 32(R1), [V26.H8, V27.H8]; \
	FCVTL(16, 26); \
	FCVTL2(17, 26); \
	FCVTL(18, 27); \
	FCVTL2(19, 27)

// V31 is 0.
#define WEIGHTSB16 \
	VLD1.P 32(R1), [V26.H8, V27.H8]; \
	VZIP1 V26.H8, V31.H8, V16.H8; \
	VZIP2 V26.H8, V31.H8, V17.H8; \
	VZIP1 V27.H8, V31.H8, V18.H8; \
	VZIP2 V27.H8, V31.H8, V19.H8

// Column i of 4, for the token whose inputs are in vector x and whose sums from a on.
#define TOKEN(x, a, i) \
	FMLAE(a, 16, x, i); \
	FMLAE(a+1, 17, x, i); \
	FMLAE(a+2, 18, x, i); \
	FMLAE(a+3, 19, x, i)

#define ZERO4(a) ZERO(a); ZERO(a+1); ZERO(a+2); ZERO(a+3)

#define COLUMNS4(COLUMN, WEIGHTS) \
	WEIGHTS; \
	COLUMN(0); \
	WEIGHTS; \
	COLUMN(1); \
	WEIGHTS; \
	COLUMN(2); \
	WEIGHTS; \
	COLUMN(3)

#define ONECOLUMN(i) TOKEN(20, 0, i)
#define FOURCOLUMN(i) TOKEN(20, 0, i); TOKEN(21, 4, i); TOKEN(22, 8, i); TOKEN(23, 12, i)

#define ONE(WEIGHTS) \
	MOVD dst+0(FP), R5; \
	MOVD groups+8(FP), R1; \
	MOVD x+16(FP), R2; \
	MOVD cols+24(FP), R3; \
	MOVD groupCount+32(FP), R9; \
	ZERO(31); \
group: \
	ZERO4(0); \
	MOVD R2, R10; \
	MOVD R3, R4; \
columns: \
	VLD1.P 16(R10), [V20.S4]; \
	COLUMNS4(ONECOLUMN, WEIGHTS); \
	SUBS $4, R4; \
	BNE columns; \
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R5); \
	SUBS $1, R9; \
	BNE group; \
	RET

#define FOUR(WEIGHTS) \
	MOVD dst+0(FP), R5; \
	MOVD stride+8(FP), R0; \
	MOVD groups+16(FP), R1; \
	MOVD x+24(FP), R2; \
	MOVD cols+32(FP), R3; \
	MOVD groupCount+40(FP), R9; \
	ADD R0, R5, R6; \
	ADD R0, R6, R7; \
	ADD R0, R7, R8; \
	LSL $2, R3, R16; \
	ZERO(31); \
group: \
	ZERO4(0); \
	ZERO4(4); \
	ZERO4(8); \
	ZERO4(12); \
	MOVD R2, R10; \
	ADD R16, R10, R11; \
	ADD R16, R11, R12; \
	ADD R16, R12, R13; \
	MOVD R3, R4; \
columns: \
	VLD1.P 16(R10), [V20.S4]; \
	VLD1.P 16(R11), [V21.S4]; \
	VLD1.P 16(R12), [V22.S4]; \
	VLD1.P 16(R13), [V23.S4]; \
	COLUMNS4(FOURCOLUMN, WEIGHTS); \
	SUBS $4, R4; \
	BNE columns; \
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R5); \
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R6); \
	VST1.P [V8.S4, V9.S4, V10.S4, V11.S4], 64(R7); \
	VST1.P [V12.S4, V13.S4, V14.S4, V15.S4], 64(R8); \
	SUBS $1, R9; \
	BNE group; \
	RET

// func oneF32NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneF32NEON(SB), NOSPLIT, $0-40
	ONE(WEIGHTS32)

// func oneF16NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneF16NEON(SB), NOSPLIT, $0-40
	ONE(WEIGHTS16)

// func oneBF16NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneBF16NEON(SB), NOSPLIT, $0-40
	ONE(WEIGHTSB16)

// func fourF32NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourF32NEON(SB), NOSPLIT, $0-48
	FOUR(WEIGHTS32)

// func fourF16NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourF16NEON(SB), NOSPLIT, $0-48
	FOUR(WEIGHTS16)

// func fourBF16NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourBF16NEON(SB), NOSPLIT, $0-48
	FOUR(WEIGHTSB16)
