#include "textflag.h"
#include "words_arm64.h"
#include "products_arm64.h"

// One token at a time, products of halfwords (products_arm64.h). Outputs in V20 to V23.

DATA ·valuesOfIQ4+0(SB)/8, $0xf6eaddcfbfad9881
DATA ·valuesOfIQ4+8(SB)/8, $0x7159453526190d01
GLOBL ·valuesOfIQ4(SB), RODATA, $16
DATA ·valuesOfMXFP4+0(SB)/8, $0x0c08060403020100
DATA ·valuesOfMXFP4+8(SB)/8, $0xf4f8fafcfdfeff00
GLOBL ·valuesOfMXFP4(SB), RODATA, $16

#define TOKENS(M) M(R10, 16)
#define TOKENS1(M, x) M(R10, 16, x)
#define TOKENS2(M, x, y) M(R10, 16, x, y)

#define CODES(at) \
	FMOVQ (80+at)(R10), F0; \
	FMOVQ (112+at)(R10), F4

#define ARGS \
	MOVD dst+0(FP), R5; \
	MOVD groups+8(FP), R1; \
	MOVD act+16(FP), R2; \
	MOVD blocks+24(FP), R3; \
	MOVD groupCount+32(FP), R9

#define START \
	ZERO(20); \
	ZERO(21); \
	ZERO(22); \
	ZERO(23); \
	MOVD R2, R10; \
	MOVD R3, R4

#define ADDALL \
	FADD(20, 20, 16); \
	FADD(21, 21, 17); \
	FADD(22, 22, 18); \
	FADD(23, 23, 19)

#define NEXT(bytes) \
	ADD $bytes, R1; \
	ADD $144, R10; \
	SUB $1, R4

#define END \
	VST1.P [V20.S4, V21.S4, V22.S4, V23.S4], 64(R5); \
	SUB $1, R9

// func oneQ40NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40NEON(SB), NOSPLIT, $0-40
	BLOCKS(288, BLOCKQ40)

// func oneQ41NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41NEON(SB), NOSPLIT, $0-40
	BLOCKS(320, BLOCKQ41)

// func oneQ50NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ50NEON(SB), NOSPLIT, $0-40
	BLOCKS(352, BLOCKQ50)

// func oneQ51NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ51NEON(SB), NOSPLIT, $0-40
	BLOCKS(384, BLOCKQ51)

// func oneQ80NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80NEON(SB), NOSPLIT, $0-40
	BLOCKS(544, BLOCKQ80)

// func oneQ2KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ2KNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 160, BLOCKQ2K)

// func oneQ3KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ3KNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 224, BLOCKQ3K)

// func oneQ4KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ4KNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 288, BLOCKQ4K)

// func oneQ5KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ5KNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 352, BLOCKQ5K)

// func oneQ6KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ6KNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 416, BLOCKQ6K)

// func oneIQ4NLNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4NLNEON(SB), NOSPLIT, $0-40
	BLOCKS(288, BLOCKIQ4NL)

// func oneIQ4XSNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4XSNEON(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 272, BLOCKIQ4XS)

// func oneMXFP4NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneMXFP4NEON(SB), NOSPLIT, $0-40
	BLOCKS(272, BLOCKMXFP4)
