#include "textflag.h"
#include "join_amd64.h"
#include "words_amd64.h"

// Four tokens at a time, products of words (words_amd64.h): each level is unpacked once.

// func fourQ40AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ40AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
block:
	FOUR_CLEAR
	NIBBLES(32, FOUR_STEP)
	FOUR_ZERO(ALL, 3)
	HSCALES(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(288)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ41AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ41AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
block:
	FOUR_CLEAR
	NIBBLES(64, FOUR_STEP)
	HSCALES(0)
	HMINIMA(32)
	FOUR_SCALED
	FOUR_ADD
	FOUR_MINIMA(VFMADD231PS)
	FOUR_PUT
	FOUR_NEXT(320)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ80AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ80AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
block:
	FOUR_CLEAR
	BYTES(32, FOUR_STEP)
	FOUR_ZERO(ALL, 7)
	HSCALES(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(544)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ50AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ50AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·mask1F)
group:
	FOUR_START
block:
	FOUR_CLEAR
	FIVES(32, FOUR_STEP)
	FOUR_ZERO(ALL, 4)
	HSCALES(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(352)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ51AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ51AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·mask1F)
group:
	FOUR_START
block:
	FOUR_CLEAR
	FIVES(64, FOUR_STEP)
	HSCALES(0)
	HMINIMA(32)
	FOUR_SCALED
	FOUR_ADD
	FOUR_MINIMA(VFMADD231PS)
	FOUR_PUT
	FOUR_NEXT(384)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ4KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ4KAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	FOUR_CLEAR
	NIBBLES(32, FOUR_STEP)
	KSCALES(0)
	KMINIMA(16)
	FOUR_SCALED
	FOUR_ADD
	FOUR_MINIMA(VFNMADD231PS)
	FOUR_PUT
	FOUR_NEXT(288)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ5KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ5KAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·mask1F)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	FOUR_CLEAR
	FIVES(32, FOUR_STEP)
	KSCALES(0)
	KMINIMA(16)
	FOUR_SCALED
	FOUR_ADD
	FOUR_MINIMA(VFNMADD231PS)
	FOUR_PUT
	FOUR_NEXT(352)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ6KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ6KAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·mask3F)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	FOUR_CLEAR
	FIRST6(FOUR_STEP)
	FOUR_ZERO(FIRST, 5)
	KSIGNED(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_CLEAR
	SECOND6(FOUR_STEP)
	FOUR_ZERO(SECOND, 5)
	KSIGNED(16)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(416)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ2KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ2KAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	FOUR_CLEAR
	FIRST2(FOUR_STEP)
	PAIRED(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_HALFMINIMA(FIRST)
	FOUR_PUT
	FOUR_CLEAR
	SECOND2(FOUR_STEP)
	PAIRED(16)
	FOUR_SCALED
	FOUR_ADD
	FOUR_HALFMINIMA(SECOND)
	FOUR_PUT
	FOUR_NEXT(160)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourQ3KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourQ3KAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	FOUR_CLEAR
	FIRST3(FOUR_STEP)
	FOUR_ZERO(FIRST, 2)
	KSIGNED(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_CLEAR
	SECOND3(FOUR_STEP)
	FOUR_ZERO(SECOND, 2)
	KSIGNED(16)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(224)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourIQ4NLAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4NLAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
block:
	FOUR_CLEAR
	VALUES(32, ·levelsIQ4, FOUR_STEP)
	FOUR_ZERO(ALL, 7)
	HSCALES(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(288)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourIQ4XSAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourIQ4XSAVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	FOUR_CLEAR
	VALUES(16, ·levelsIQ4, FOUR_STEP)
	FOUR_ZERO(ALL, 7)
	KSIGNED(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(272)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	FOUR_END
	JNZ group
	VZEROUPPER
	RET

// func fourMXFP4AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
TEXT ·fourMXFP4AVX2(SB), NOSPLIT, $0-48
	FOUR_ARGS(·nibbleMask)
group:
	FOUR_START
block:
	FOUR_CLEAR
	VALUES(16, ·levelsMXFP4, FOUR_STEP)
	ZERO12(R10, Y0, Y1)
	ZERO12(R11, Y2, Y3)
	ZERO12(R12, Y4, Y5)
	ZERO12(R13, Y6, Y7)
	EXPONENTS(0)
	FOUR_SCALED
	FOUR_ADD
	FOUR_PUT
	FOUR_NEXT(272)
	JNZ block
	FOUR_END
	JNZ group
	VZEROUPPER
	RET
