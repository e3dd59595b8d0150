#include "textflag.h"
#include "words_arm64.h"
#include "dot_arm64.h"
#include "products_arm64.h"

// Two tokens at a time, products of bytes: the registers hold no more sums of both halves. Outputs in memory, at R5 and
// R6. R16 is the distance of two tokens' records.

#define TOKENS(M) M(R10, 16); M(R11, 20)
#define TOKENS1(M, x) M(R10, 16, x); M(R11, 20, x)

#define CODES(at) \
	FMOVQ (FIRSTCODES+at)(R10), F0; \
	FMOVQ (FIRSTCODES+at)(R11), F1; \
	FMOVQ (SECONDCODES+at)(R10), F4; \
	FMOVQ (SECONDCODES+at)(R11), F5

#define ARGS \
	MOVD dst+0(FP), R5; \
	MOVD stride+8(FP), R0; \
	MOVD groups+16(FP), R1; \
	MOVD act+24(FP), R2; \
	MOVD blocks+32(FP), R3; \
	MOVD groupCount+40(FP), R9; \
	ADD R0, R5, R6; \
	MOVD $144, R16; \
	MUL R3, R16, R16

#define START \
	CLEAR4(16); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R5); \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R6); \
	MOVD R2, R10; \
	ADD R16, R10, R11; \
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
	ADDTOKEN(R6, 20)

#define PUTALL \
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R5); \
	VST1 [V20.S4, V21.S4, V22.S4, V23.S4], (R6)

#define NEXT(bytes) \
	ADD $bytes, R1; \
	ADD $144, R10; \
	ADD $144, R11; \
	SUB $1, R4

#define END \
	ADD $64, R5; \
	ADD $64, R6; \
	SUB $1, R9

// func twoQ40Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ40Dot(SB), NOSPLIT, $0-48
	BLOCKS(288, BLOCKQ40)

// func twoQ41Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ41Dot(SB), NOSPLIT, $0-48
	BLOCKS(320, BLOCKQ41)

// func twoQ50Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ50Dot(SB), NOSPLIT, $0-48
	BLOCKS(352, BLOCKQ50)

// func twoQ51Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ51Dot(SB), NOSPLIT, $0-48
	BLOCKS(384, BLOCKQ51)

// func twoQ80Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ80Dot(SB), NOSPLIT, $0-48
	BLOCKS(544, BLOCKQ80)

// func twoQ2KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ2KDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 160, BLOCKQ2K)

// func twoQ3KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ3KDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 224, BLOCKQ3K)

// func twoQ4KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ4KDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 288, BLOCKQ4K)

// func twoQ5KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ5KDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(64, 352, BLOCKQ5K)

// func twoQ6KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoQ6KDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 416, BLOCKQ6K)

// func twoIQ4NLDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoIQ4NLDot(SB), NOSPLIT, $0-48
	BLOCKS(288, BLOCKIQ4NL)

// func twoIQ4XSDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoIQ4XSDot(SB), NOSPLIT, $0-48
	SUPERBLOCKS(32, 272, BLOCKIQ4XS)

// func twoMXFP4Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·twoMXFP4Dot(SB), NOSPLIT, $0-48
	BLOCKS(272, BLOCKMXFP4)
