#include "textflag.h"
#include "words_arm64.h"
#include "halfwords_arm64.h"
#include "products_arm64.h"

// Four tokens at a time, products of halfwords: each level is unpacked once. Outputs in memory,
// at R5 to R8. R16 is the distance of two tokens' records.

#define TOKENS(M) M(R10, 16); M(R11, 20); M(R12, 24); M(R13, 28)
#define TOKENS1(M, x) M(R10, 16, x); M(R11, 20, x); M(R12, 24, x); M(R13, 28, x)
#define TOKENS2(M, x, y) M(R10, 16, x, y); M(R11, 20, x, y); M(R12, 24, x, y); M(R13, 28, x, y)

#define CODES(at) \
	FMOVQ (FIRSTCODES+at)(R10), F0; \
	FMOVQ (FIRSTCODES+at)(R11), F1; \
	FMOVQ (FIRSTCODES+at)(R12), F2; \
	FMOVQ (FIRSTCODES+at)(R13), F3; \
	FMOVQ (SECONDCODES+at)(R10), F4; \
	FMOVQ (SECONDCODES+at)(R11), F5; \
	FMOVQ (SECONDCODES+at)(R12), F6; \
	FMOVQ (SECONDCODES+at)(R13), F7

#define ARGS \
	MOVD dst+0(FP), R5; \
	MOVD stride+8(FP), R0; \
	MOVD groups+16(FP), R1; \
	MOVD act+24(FP), R2; \
	MOVD blocks+32(FP), R3; \
	MOVD groupCount+40(FP), R9; \
	ADD R0, R5, R6; \
	ADD R0, R6, R7; \
	ADD R0, R7, R8; \
	MOVD $144, R16; \
	MUL R3, R16, R16

#define START \
	ZERO(16); \
	ZERO(17); \
	ZERO(18); \
	ZERO(19); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R5); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R6); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R7); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R8); \
	MOVD R2, R10; \
	ADD R16, R10, R11; \
	ADD R16, R11, R12; \
	ADD R16, R12, R13; \
	MOVD R3, R4

#define OUTPUT(a) a

#define ADDTOKEN(out, a) \
	VLD1 (out), [V4.S4, V5.S4, V6.S4, V7.S4]; \
	FMLA(4, a, 8); \
	FMLA(5, a+1, 9); \
	FMLA(6, a+2, 10); \
	FMLA(7, a+3, 11); \
	MOVE(a, 4); \
	MOVE(a+1, 5); \
	MOVE(a+2, 6); \
	MOVE(a+3, 7)

#define ADDALL \
	ADDTOKEN(R5, 16); \
	ADDTOKEN(R6, 20); \
	ADDTOKEN(R7, 24); \
	ADDTOKEN(R8, 28)

#define PUTALL \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R5); \
	VST1 [V20.S4, V21.S4, V22.S4, V23.S4], (R6); \
	VST1 [V24.S4, V25.S4, V26.S4, V27.S4], (R7); \
	VST1 [V28.S4, V29.S4, V30.S4, V31.S4], (R8)

#define NEXT(bytes) \
	ADD $bytes, R1; \
	ADD $144, R10; \
	ADD $144, R11; \
	ADD $144, R12; \
	ADD $144, R13; \
	SUB $1, R4

#define END \
	ADD $64, R5; \
	ADD $64, R6; \
	ADD $64, R7; \
	ADD $64, R8; \
	SUB $1, R9

// func fourQ40NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ40NEON(SB), NOSPLIT, $0-48
	BLOCKS(288, BLOCKQ40)

// func fourQ41NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ41NEON(SB), NOSPLIT, $0-48
	BLOCKS(320, BLOCKQ41)

// func fourQ50NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ50NEON(SB), NOSPLIT, $0-48
	BLOCKS(352, BLOCKQ50)

// func fourQ51NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ51NEON(SB), NOSPLIT, $0-48
	BLOCKS(384, BLOCKQ51)

// func fourQ80NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ80NEON(SB), NOSPLIT, $0-48
	BLOCKS(544, BLOCKQ80)

// func fourQ2KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ2KNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 160, BLOCKQ2K)

// func fourQ3KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ3KNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 224, BLOCKQ3K)

// func fourQ4KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ4KNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 288, BLOCKQ4K)

// func fourQ5KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ5KNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 352, BLOCKQ5K)

// func fourQ6KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ6KNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 416, BLOCKQ6K)

// func fourIQ4NLNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4NLNEON(SB), NOSPLIT, $0-48
	BLOCKS(288, BLOCKIQ4NL)

// func fourIQ4XSNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4XSNEON(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 272, BLOCKIQ4XS)

// func fourMXFP4NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourMXFP4NEON(SB), NOSPLIT, $0-48
	BLOCKS(272, BLOCKMXFP4)
