#include "textflag.h"
#include "words_arm64.h"
#include "dot_arm64.h"
#include "products_arm64.h"
#include "one_arm64.h"

// One token at a time, products of bytes.

// func oneQ40Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40Dot(SB), NOSPLIT, $0-40
	BLOCKS(288, BLOCKQ40)

// func oneQ41Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41Dot(SB), NOSPLIT, $0-40
	BLOCKS(320, BLOCKQ41)

// func oneQ50Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ50Dot(SB), NOSPLIT, $0-40
	BLOCKS(352, BLOCKQ50)

// func oneQ51Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ51Dot(SB), NOSPLIT, $0-40
	BLOCKS(384, BLOCKQ51)

// func oneQ80Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80Dot(SB), NOSPLIT, $0-40
	BLOCKS(544, BLOCKQ80)

// func oneQ2KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ2KDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 160, BLOCKQ2K)

// func oneQ3KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ3KDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 224, BLOCKQ3K)

// func oneQ4KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ4KDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 288, BLOCKQ4K)

// func oneQ5KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ5KDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(64, 352, BLOCKQ5K)

// func oneQ6KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ6KDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 416, BLOCKQ6K)

// func oneIQ4NLDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4NLDot(SB), NOSPLIT, $0-40
	BLOCKS(288, BLOCKIQ4NL)

// func oneIQ4XSDot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4XSDot(SB), NOSPLIT, $0-40
	SUPERBLOCKS(32, 272, BLOCKIQ4XS)

// func oneMXFP4Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneMXFP4Dot(SB), NOSPLIT, $0-40
	BLOCKS(272, BLOCKMXFP4)
