#include "textflag.h"
#include "words_arm64.h"
#include "halfwords_arm64.h"
#include "products_arm64.h"
#include "one_arm64.h"

// One token at a time, products of halfwords.

DATA ·valuesOfIQ4+0(SB)/8, $0xf6eaddcfbfad9881
DATA ·valuesOfIQ4+8(SB)/8, $0x7159453526190d01
GLOBL ·valuesOfIQ4(SB), RODATA, $16
DATA ·valuesOfMXFP4+0(SB)/8, $0x0c08060403020100
DATA ·valuesOfMXFP4+8(SB)/8, $0xf4f8fafcfdfeff00
GLOBL ·valuesOfMXFP4(SB), RODATA, $16

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
