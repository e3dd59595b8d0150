#include "textflag.h"
#include "join_amd64.h"
#include "words_amd64.h"

// One token at a time, products of words (words_amd64.h).

DATA ·lowByteMask+0(SB)/4, $0x00FF00FF
GLOBL ·lowByteMask(SB), RODATA, $4
DATA ·mask03+0(SB)/8, $0x0303030303030303
DATA ·mask03+8(SB)/8, $0x0303030303030303
DATA ·mask03+16(SB)/8, $0x0303030303030303
DATA ·mask03+24(SB)/8, $0x0303030303030303
GLOBL ·mask03(SB), RODATA, $32
DATA ·mask04+0(SB)/8, $0x0404040404040404
DATA ·mask04+8(SB)/8, $0x0404040404040404
DATA ·mask04+16(SB)/8, $0x0404040404040404
DATA ·mask04+24(SB)/8, $0x0404040404040404
GLOBL ·mask04(SB), RODATA, $32
DATA ·mask1F+0(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA ·mask1F+8(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA ·mask1F+16(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA ·mask1F+24(SB)/8, $0x1f1f1f1f1f1f1f1f
GLOBL ·mask1F(SB), RODATA, $32
DATA ·mask20+0(SB)/8, $0x2020202020202020
DATA ·mask20+8(SB)/8, $0x2020202020202020
DATA ·mask20+16(SB)/8, $0x2020202020202020
DATA ·mask20+24(SB)/8, $0x2020202020202020
GLOBL ·mask20(SB), RODATA, $32
DATA ·mask3F+0(SB)/8, $0x3f3f3f3f3f3f3f3f
DATA ·mask3F+8(SB)/8, $0x3f3f3f3f3f3f3f3f
DATA ·mask3F+16(SB)/8, $0x3f3f3f3f3f3f3f3f
DATA ·mask3F+24(SB)/8, $0x3f3f3f3f3f3f3f3f
GLOBL ·mask3F(SB), RODATA, $32
DATA ·maskC0+0(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA ·maskC0+8(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA ·maskC0+16(SB)/8, $0xc0c0c0c0c0c0c0c0
DATA ·maskC0+24(SB)/8, $0xc0c0c0c0c0c0c0c0
GLOBL ·maskC0(SB), RODATA, $32
DATA ·maskE0+0(SB)/8, $0xe0e0e0e0e0e0e0e0
DATA ·maskE0+8(SB)/8, $0xe0e0e0e0e0e0e0e0
DATA ·maskE0+16(SB)/8, $0xe0e0e0e0e0e0e0e0
DATA ·maskE0+24(SB)/8, $0xe0e0e0e0e0e0e0e0
GLOBL ·maskE0(SB), RODATA, $32
// The values of IQ4_NL and IQ4_XS plus 128, those of MXFP4 plus 12.
DATA ·levelsIQ4+0(SB)/8, $0x766a5d4f3f2d1801
DATA ·levelsIQ4+8(SB)/8, $0xf1d9c5b5a6998d81
DATA ·levelsIQ4+16(SB)/8, $0x766a5d4f3f2d1801
DATA ·levelsIQ4+24(SB)/8, $0xf1d9c5b5a6998d81
GLOBL ·levelsIQ4(SB), RODATA, $32
DATA ·levelsMXFP4+0(SB)/8, $0x181412100f0e0d0c
DATA ·levelsMXFP4+8(SB)/8, $0x00040608090a0b0c
DATA ·levelsMXFP4+16(SB)/8, $0x181412100f0e0d0c
DATA ·levelsMXFP4+24(SB)/8, $0x00040608090a0b0c
GLOBL ·levelsMXFP4(SB), RODATA, $32
// The smallest exponent of MXFP4, and 0.5.
DATA ·tiny8+0(SB)/8, $0x0040000000400000
DATA ·tiny8+8(SB)/8, $0x0040000000400000
DATA ·tiny8+16(SB)/8, $0x0040000000400000
DATA ·tiny8+24(SB)/8, $0x0040000000400000
GLOBL ·tiny8(SB), RODATA, $32
DATA ·half8+0(SB)/8, $0x3f0000003f000000
DATA ·half8+8(SB)/8, $0x3f0000003f000000
DATA ·half8+16(SB)/8, $0x3f0000003f000000
DATA ·half8+24(SB)/8, $0x3f0000003f000000
GLOBL ·half8(SB), RODATA, $32

// func oneQ80AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ80AVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
block:
	ONE_CLEAR
	BYTES(32, ONE_STEP)
	ZERO(ALL, R10, 7, Y4, Y5)
	HSCALES(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(544, AHEAD9)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ50AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ50AVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·mask1F)
group:
	ONE_START
block:
	ONE_CLEAR
	FIVES(32, ONE_STEP)
	ZERO(ALL, R10, 4, Y4, Y5)
	HSCALES(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(352, AHEAD7)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ51AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ51AVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·mask1F)
group:
	ONE_START
block:
	ONE_CLEAR
	FIVES(64, ONE_STEP)
	HSCALES(0)
	HMINIMA(32)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	MINIMA(VFMADD231PS, R10, Y0, Y1)
	ONE_NEXT(384, AHEAD7)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ5KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ5KAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·mask1F)
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	ONE_CLEAR
	FIVES(32, ONE_STEP)
	KSCALES(0)
	KMINIMA(16)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	MINIMA(VFNMADD231PS, R10, Y0, Y1)
	ONE_NEXT(352, AHEAD7)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ6KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ6KAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·mask3F)
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	ONE_CLEAR
	FIRST6(ONE_STEP)
	ZERO(FIRST, R10, 5, Y4, Y5)
	KSIGNED(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_CLEAR
	SECOND6(ONE_STEP)
	ZERO(SECOND, R10, 5, Y4, Y5)
	KSIGNED(16)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(416, AHEAD7)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ2KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ2KAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $64, SI
block:
	ONE_CLEAR
	FIRST2(ONE_STEP)
	PAIRED(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	HALFMINIMA(FIRST, R10, Y0, Y1)
	ONE_CLEAR
	SECOND2(ONE_STEP)
	PAIRED(16)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	HALFMINIMA(SECOND, R10, Y0, Y1)
	ONE_NEXT(160, AHEAD3)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneQ3KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneQ3KAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	ONE_CLEAR
	FIRST3(ONE_STEP)
	ZERO(FIRST, R10, 2, Y4, Y5)
	KSIGNED(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_CLEAR
	SECOND3(ONE_STEP)
	ZERO(SECOND, R10, 2, Y4, Y5)
	KSIGNED(16)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(224, AHEAD5)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneIQ4NLAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4NLAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
block:
	ONE_CLEAR
	VALUES(32, ·levelsIQ4, ONE_STEP)
	ZERO(ALL, R10, 7, Y4, Y5)
	HSCALES(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(288, AHEAD5)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneIQ4XSAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneIQ4XSAVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
superBlock:
	MOVQ SI, R15
	ADDQ $32, SI
block:
	ONE_CLEAR
	VALUES(16, ·levelsIQ4, ONE_STEP)
	ZERO(ALL, R10, 7, Y4, Y5)
	KSIGNED(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(272, AHEAD5)
	JZ done
	TESTQ $7, CX
	JNZ block
	JMP superBlock
done:
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET

// func oneMXFP4AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)
TEXT ·oneMXFP4AVX2(SB), NOSPLIT, $0-40
	ONE_ARGS(·nibbleMask)
group:
	ONE_START
block:
	ONE_CLEAR
	VALUES(16, ·levelsMXFP4, ONE_STEP)
	ZERO12(R10, Y4, Y5)
	EXPONENTS(0)
	SCALED(R10, Y4, Y5)
	ONE_ADD
	ONE_NEXT(272, AHEAD5)
	JNZ block
	ONE_STORE
	JNZ group
	VZEROUPPER
	RET
