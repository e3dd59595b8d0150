#include "textflag.h"
#include "avx512_amd64.h"

// Products of bytes, one token at a time and four (avx512_amd64.h).

// func oneQ40AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ40AVX512(SB), NOSPLIT, $0-40
	NIBBLE_MASKS
	ONE(Q40, 288, AHEAD5)

// func oneQ41AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ41AVX512(SB), NOSPLIT, $0-40
	NIBBLE_MASKS
	ONE(Q41, 320, AHEAD5)

// func oneQ50AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ50AVX512(SB), NOSPLIT, $0-40
	FIVE_MASKS
	ONE(Q50, 352, AHEAD7)

// func oneQ51AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ51AVX512(SB), NOSPLIT, $0-40
	FIVE_MASKS
	ONE(Q51, 384, AHEAD7)

// func oneQ80AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80AVX512(SB), NOSPLIT, $0-40
	ONE(Q80, 544, AHEAD9)

// func oneQ2KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ2KAVX512(SB), NOSPLIT, $0-40
	PAIR_MASKS
	ONEK(Q2K, 64, 160, AHEAD3)

// func oneQ3KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ3KAVX512(SB), NOSPLIT, $0-40
	THREE_MASKS
	ONEK(Q3K, 32, 224, AHEAD5)

// func oneQ4KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ4KAVX512(SB), NOSPLIT, $0-40
	NIBBLE_MASKS
	ONEK(Q4K, 64, 288, AHEAD5)

// func oneQ5KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ5KAVX512(SB), NOSPLIT, $0-40
	FIVE_MASKS
	ONEK(Q5K, 64, 352, AHEAD7)

// func oneQ6KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ6KAVX512(SB), NOSPLIT, $0-40
	SIX_MASKS
	ONEK(Q6K, 32, 416, AHEAD7)

// func oneIQ4NLAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4NLAVX512(SB), NOSPLIT, $0-40
	VALUE_MASKS(·levelsIQ4)
	ONE(IQ4NL, 288, AHEAD5)

// func oneIQ4XSAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4XSAVX512(SB), NOSPLIT, $0-40
	VALUE_MASKS(·levelsIQ4)
	ONEK(IQ4XS, 32, 272, AHEAD5)

// func oneMXFP4AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneMXFP4AVX512(SB), NOSPLIT, $0-40
	VALUE_MASKS(·levelsMXFP4)
	ONE(MXFP4, 272, AHEAD5)

// func fourQ40AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ40AVX512(SB), NOSPLIT, $0-48
	NIBBLE_MASKS
	FOUR(Q40, 288, FOUR_AHEAD5)

// func fourQ41AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ41AVX512(SB), NOSPLIT, $0-48
	NIBBLE_MASKS
	FOUR(Q41, 320, FOUR_AHEAD5)

// func fourQ50AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ50AVX512(SB), NOSPLIT, $0-48
	FIVE_MASKS
	FOUR(Q50, 352, FOUR_AHEAD7)

// func fourQ51AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ51AVX512(SB), NOSPLIT, $0-48
	FIVE_MASKS
	FOUR(Q51, 384, FOUR_AHEAD7)

// func fourQ80AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ80AVX512(SB), NOSPLIT, $0-48
	FOUR(Q80, 544, FOUR_AHEAD9)

// func fourQ2KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ2KAVX512(SB), NOSPLIT, $0-48
	PAIR_MASKS
	FOURK(Q2K, 64, 160, FOUR_AHEAD3)

// func fourQ3KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ3KAVX512(SB), NOSPLIT, $0-48
	THREE_MASKS
	FOURK(Q3K, 32, 224, FOUR_AHEAD5)

// func fourQ4KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ4KAVX512(SB), NOSPLIT, $0-48
	NIBBLE_MASKS
	FOURK(Q4K, 64, 288, FOUR_AHEAD5)

// func fourQ5KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ5KAVX512(SB), NOSPLIT, $0-48
	FIVE_MASKS
	FOURK(Q5K, 64, 352, FOUR_AHEAD7)

// func fourQ6KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ6KAVX512(SB), NOSPLIT, $0-48
	SIX_MASKS
	FOURK(Q6K, 32, 416, FOUR_AHEAD7)

// func fourIQ4NLAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4NLAVX512(SB), NOSPLIT, $0-48
	VALUE_MASKS(·levelsIQ4)
	FOUR(IQ4NL, 288, FOUR_AHEAD5)

// func fourIQ4XSAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4XSAVX512(SB), NOSPLIT, $0-48
	VALUE_MASKS(·levelsIQ4)
	FOURK(IQ4XS, 32, 272, FOUR_AHEAD5)

// func fourMXFP4AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourMXFP4AVX512(SB), NOSPLIT, $0-48
	VALUE_MASKS(·levelsMXFP4)
	FOUR(MXFP4, 272, FOUR_AHEAD5)
