#include "textflag.h"
#include "avx512_amd64.h"

// Products of bytes for 16 tokens with AMX-INT8. A vector of levels holds 4 columns of 16 rows
// (doc.go): the 8 vectors of a block are a tile as TDPBSUD and TDPBSSD read it, and the high or low
// halves of 16 records another. One instruction adds up 32 columns of 16 rows for 16 tokens, in 32
// bits. The float step is that of the other kernels, in the order of reference.go, unfused. Q2_K is not
// here: with two scales and two minima for 16 columns each, four tokens at a time are as fast.
//
// A panel is a part of each row group: at most 8 blocks, whose activations stay in the cache of the
// first level while all groups pass. Outputs grow in memory from panel to panel.
//
// A product takes some hundred cycles from unpacking to its sums, so three blocks are at work at a
// time: while the products of one go through the tiles, the next is unpacked and the float step of
// the one before runs. Two of each buffer lie in turn in 128 bytes, and R11 changes between them.
//
// Registers: SI block, R15 head of the super-block, R10 records of the first token, DX bytes from
// token to token, R8 three times as many, R14 records of the token at hand; R11 the unpacked levels,
// with the sums behind them, in the frame; R13 128. Z0 zeros of levels, Z1 scales, Z2 minima, Z3 to
// Z15 those of avx512_amd64.h until levels are in memory, Z16 to Z31 outputs. Tiles: 0 and 1 high and
// low halves, 2 levels, 3 and 4 sums.

// Shapes: palette 1; bytes of a row at 16, rows at 48. In the second, a tile has 16 columns.
DATA ·wholeTiles+0(SB)/8, $1
DATA ·wholeTiles+8(SB)/8, $0
DATA ·wholeTiles+16(SB)/8, $0x0040004000200020
DATA ·wholeTiles+24(SB)/8, $0x0000000000000040
DATA ·wholeTiles+32(SB)/8, $0
DATA ·wholeTiles+40(SB)/8, $0
DATA ·wholeTiles+48(SB)/8, $0x0000001010081010
DATA ·wholeTiles+56(SB)/8, $0
GLOBL ·wholeTiles(SB), RODATA, $64
DATA ·halfTiles+0(SB)/8, $1
DATA ·halfTiles+8(SB)/8, $0
DATA ·halfTiles+16(SB)/8, $0x0040004000100010
DATA ·halfTiles+24(SB)/8, $0x0000000000000040
DATA ·halfTiles+32(SB)/8, $0
DATA ·halfTiles+40(SB)/8, $0
DATA ·halfTiles+48(SB)/8, $0x0000001010041010
DATA ·halfTiles+56(SB)/8, $0
GLOBL ·halfTiles(SB), RODATA, $64

// The assembler does not know AMX. Displacements have 32 bits.
#define LDTILECFG BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0x00 // (AX)
#define TILERELEASE BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0xc0
#define TILEZERO3 BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $0xd8
#define TILEZERO4 BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $0xe0
#define TILELOAD0(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x84; BYTE $0x2a; LONG $off // off(R10)(R13*1)
#define TILELOAD1(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x8c; BYTE $0x2a; LONG $off
#define TILELOAD2(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x94; BYTE $0x2b; LONG $off // off(R11)(R13*1)
#define TILESTORE3(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7a; BYTE $0x4b; BYTE $0x9c; BYTE $0x2b; LONG $off
#define TILESTORE4(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7a; BYTE $0x4b; BYTE $0xa4; BYTE $0x2b; LONG $off
#define SIGNED BYTE $0xc4; BYTE $0xe2; BYTE $0x6b; BYTE $0x5e; BYTE $0xd8; BYTE $0xc4; BYTE $0xe2; BYTE $0x6b; BYTE $0x5e; BYTE $0xe1 // TDPBSSD to 3 and 4
#define UNSIGNED BYTE $0xc4; BYTE $0xe2; BYTE $0x6a; BYTE $0x5e; BYTE $0xd8; BYTE $0xc4; BYTE $0xe2; BYTE $0x6a; BYTE $0x5e; BYTE $0xe1 // TDPBSUD

// Levels minus their zero.
#define LESS \
	VPSUBB Z0, Z4, Z4; \
	VPSUBB Z0, Z5, Z5; \
	VPSUBB Z0, Z6, Z6; \
	VPSUBB Z0, Z7, Z7; \
	VPSUBB Z0, Z8, Z8; \
	VPSUBB Z0, Z9, Z9; \
	VPSUBB Z0, Z10, Z10; \
	VPSUBB Z0, Z11, Z11

#define KEEP \
	VMOVDQU32 Z4, (R11); \
	VMOVDQU32 Z5, 128(R11); \
	VMOVDQU32 Z6, 256(R11); \
	VMOVDQU32 Z7, 384(R11); \
	VMOVDQU32 Z8, 512(R11); \
	VMOVDQU32 Z9, 640(R11); \
	VMOVDQU32 Z10, 768(R11); \
	VMOVDQU32 Z11, 896(R11)

// Products of the block whose records lie ahead bytes on: sums of the high halves of codes to
// S(R11), of the low ones to S+2048(R11).
#define TILES(high, low, levels, PRODUCTS, S) \
	TILELOAD2(levels); \
	TILELOAD0(high); \
	TILELOAD1(low); \
	TILEZERO3; \
	TILEZERO4; \
	PRODUCTS; \
	TILESTORE3(S); \
	TILESTORE4(S+2048)

#define WHOLE(ahead, PRODUCTS) TILES(ahead, ahead+32, 0, PRODUCTS, 1024)
#define HALVES(ahead, PRODUCTS) \
	TILES(ahead, ahead+32, 0, PRODUCTS, 1024); \
	TILES(ahead+16, ahead+48, 512, PRODUCTS, 5120)

// Z4 = t = d*scale*float(sum) for the token whose record is at at.
#define TERM(S, at) \
	VMOVDQU32 (S)(R11), Z4; \
	VPSLLD $8, Z4, Z4; \
	VPADDD (S+2048)(R11), Z4, Z4; \
	VCVTDQ2PS Z4, Z4; \
	VMULPS.BCST (at)(R10), Z1, Z5; \
	VMULPS Z4, Z5, Z4

#define STEP(S, at, y) \
	TERM(S, at); \
	VADDPS Z4, y, y

#define STEPPLUS(S, at, y) \
	TERM(S, at); \
	VMULPS.BCST (at+4)(R10), Z2, Z5; \
	VADDPS Z5, Z4, Z4; \
	VADDPS Z4, y, y

#define STEPMINUS(S, at, y) \
	TERM(S, at); \
	VMULPS.BCST (at+4)(R10), Z2, Z5; \
	VSUBPS Z5, Z4, Z4; \
	VADDPS Z4, y, y

#define STEPS4(STEP, S, at, a, b, c, d) \
	STEP(S, at, a); \
	STEP(S+128, at+16, b); \
	STEP(S+256, at+32, c); \
	STEP(S+384, at+48, d)

#define STEPS(STEP, S) \
	STEPS4(STEP, S, 2048, Z16, Z17, Z18, Z19); \
	STEPS4(STEP, S+512, 2176, Z20, Z21, Z22, Z23); \
	STEPS4(STEP, S+1024, 2304, Z24, Z25, Z26, Z27); \
	STEPS4(STEP, S+1536, 2432, Z28, Z29, Z30, Z31)

// What a type does: masks before all, the levels of a block ahead of SI, and the float step of a block.
#define Q40MASKS NIBBLE_MASKS; CONSTANT(0x08080808, Z0)
#define Q40LEVELS(ahead) NIBBLES(ahead+32); LESS; KEEP
#define Q40FLOAT HSCALES(0); STEPS(STEP, 1024)
#define Q41MASKS NIBBLE_MASKS
#define Q41LEVELS(ahead) NIBBLES(ahead+64); KEEP
#define Q41FLOAT HSCALES(0); HMINIMA(32); STEPS(STEPPLUS, 1024)
#define Q50MASKS FIVE_MASKS; CONSTANT(0x10101010, Z0)
#define Q50LEVELS(ahead) FIVES(ahead+32); LESS; KEEP
#define Q50FLOAT HSCALES(0); STEPS(STEP, 1024)
#define Q51MASKS FIVE_MASKS
#define Q51LEVELS(ahead) FIVES(ahead+64); KEEP
#define Q51FLOAT HSCALES(0); HMINIMA(32); STEPS(STEPPLUS, 1024)
#define Q80MASKS CONSTANT(0x80808080, Z0)
#define Q80LEVELS(ahead) BYTES(ahead+32); LESS; KEEP
#define Q80FLOAT HSCALES(0); STEPS(STEP, 1024)
#define IQ4NLMASKS VALUE_MASKS(·levelsIQ4); CONSTANT(0x80808080, Z0)
#define IQ4NLLEVELS(ahead) VALUES(ahead+32); LESS; KEEP
#define IQ4NLFLOAT HSCALES(0); STEPS(STEP, 1024)
#define MXFP4MASKS VALUE_MASKS(·levelsMXFP4); CONSTANT(0x0C0C0C0C, Z0)
#define MXFP4LEVELS(ahead) VALUES(ahead+16); LESS; KEEP
#define MXFP4FLOAT EXPONENTS(0); STEPS(STEP, 1024)
#define Q4KMASKS NIBBLE_MASKS
#define Q4KLEVELS(ahead) NIBBLES(ahead+32); KEEP
#define Q4KFLOAT KSCALES(0); KMINIMA(16); STEPS(STEPMINUS, 1024)
#define Q5KMASKS FIVE_MASKS
#define Q5KLEVELS(ahead) FIVES(ahead+32); KEEP
#define Q5KFLOAT KSCALES(0); KMINIMA(16); STEPS(STEPMINUS, 1024)
#define IQ4XSMASKS VALUE_MASKS(·levelsIQ4); CONSTANT(0x80808080, Z0)
#define IQ4XSLEVELS(ahead) VALUES(ahead+16); LESS; KEEP
#define IQ4XSFLOAT KSIGNED(0); STEPS(STEP, 1024)
#define Q6KMASKS SIX_MASKS; CONSTANT(0x20202020, Z0)
#define Q6KLEVELS(ahead) SIXES(ahead+32); LESS; KEEP
#define Q6KFLOAT KSIGNED(0); STEPS(STEP, 1024); KSIGNED(16); STEPS(STEP, 5120)
#define Q3KMASKS THREE_MASKS; CONSTANT(0x04040404, Z0)
#define Q3KLEVELS(ahead) THREES(ahead+32); LESS; KEEP
#define Q3KFLOAT KSIGNED(0); STEPS(STEP, 1024); KSIGNED(16); STEPS(STEP, 5120)

#define OUTPUTS4(MOVE, a, b, c, d) \
	MOVE((R14), a); \
	MOVE((R14)(BX*1), b); \
	LEAQ (R14)(BX*2), R14; \
	MOVE((R14), c); \
	MOVE((R14)(BX*1), d); \
	LEAQ (R14)(BX*2), R14

#define OUTPUTS(MOVE) \
	MOVQ DI, R14; \
	OUTPUTS4(MOVE, Z16, Z17, Z18, Z19); \
	OUTPUTS4(MOVE, Z20, Z21, Z22, Z23); \
	OUTPUTS4(MOVE, Z24, Z25, Z26, Z27); \
	OUTPUTS4(MOVE, Z28, Z29, Z30, Z31)

#define LOADOUTPUT(at, y) VMOVUPS at, y
#define STOREOUTPUT(at, y) VMOVUPS y, at

// Gathers the records of a panel at R8: 1344 bytes from block to block.
#define GATHERTOKEN(t, q) \
	VMOVDQU32 (SI), Z4; \
	VMOVDQU 64(SI), X5; \
	VMOVDQU32 Z4, (128*(t))(R10); \
	VMOVDQU X5, (2048+q)(R10); \
	ADDQ DX, SI

#define GATHER4(t, q) \
	GATHERTOKEN(t, q); \
	GATHERTOKEN(t+1, q+16); \
	GATHERTOKEN(t+2, q+32); \
	GATHERTOKEN(t+3, q+48)

#define GATHER \
	MOVQ act+32(FP), R14; \
	MOVQ R8, R10; \
	MOVQ blocks+48(FP), CX; \
gather: \
	MOVQ R14, SI; \
	GATHER4(0, 0); \
	GATHER4(4, 128); \
	GATHER4(8, 256); \
	GATHER4(12, 384); \
	ADDQ $144, R14; \
	ADDQ $1344, R10; \
	DECQ CX; \
	JNZ gather

// Weights and activations do not stay on the stack.
#define WIPE(buffers) \
	ANDQ $~127, R11; \
	MOVQ $((buffers+12032)/128), CX; \
	VPXORD Z4, Z4, Z4; \
wipe: \
	VMOVDQU32 Z4, (R11); \
	VMOVDQU32 Z4, 64(R11); \
	ADDQ $128, R11; \
	DECQ CX; \
	JNZ wipe

// LEVELS and FLOAT are the type's, SHAPE is WHOLE or HALVES. The head of a super-block has head bytes
// before its 8 blocks of so many bytes.
#define SIXTEEN(shapes, MASKS, LEVELS, SHAPE, PRODUCTS, FLOAT, head, bytes, buffers) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ tokenBytes+40(FP), DX; \
	MOVQ groupCount+56(FP), R9; \
	LEAQ 127(SP), R11; \
	ANDQ $~127, R11; \
	MOVQ $128, R13; \
	LEAQ shapes(SB), AX; \
	LDTILECFG; \
	LEAQ buffers(R11), R8; \
	GATHER; \
	MASKS; \
group: \
	MOVQ groups+16(FP), R15; \
	LEAQ head(R15), SI; \
	MOVQ R8, R10; \
	MOVQ blocks+48(FP), CX; \
	OUTPUTS(LOADOUTPUT); \
	LEVELS(0); \
	SHAPE(0, PRODUCTS); \
	XORQ $64, R11; \
	CMPQ CX, $2; \
	JLT block; \
	LEVELS(bytes); \
block: \
	XORQ $64, R11; \
	CMPQ CX, $3; \
	JLT tiles; \
	LEVELS(2*bytes); \
tiles: \
	XORQ $64, R11; \
	CMPQ CX, $2; \
	JLT last; \
	SHAPE(1344, PRODUCTS); \
last: \
	XORQ $64, R11; \
	FLOAT; \
	ADDQ $bytes, SI; \
	ADDQ $1344, R10; \
	DECQ CX; \
	JNZ block; \
	OUTPUTS(STOREOUTPUT); \
	MOVQ groupBytes+24(FP), AX; \
	ADDQ AX, groups+16(FP); \
	ADDQ $64, DI; \
	DECQ R9; \
	JNZ group; \
	TILERELEASE; \
	WIPE(buffers); \
	VZEROUPPER; \
	RET

// Frames hold two buffers of levels (1024 bytes) and of sums (4096, or 8192 for halves), and a panel's records.

// func sixteenQ40AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ40AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q40MASKS, Q40LEVELS, WHOLE, SIGNED, Q40FLOAT, 0, 288, 5120)

// func sixteenQ41AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ41AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q41MASKS, Q41LEVELS, WHOLE, UNSIGNED, Q41FLOAT, 0, 320, 5120)

// func sixteenQ50AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ50AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q50MASKS, Q50LEVELS, WHOLE, SIGNED, Q50FLOAT, 0, 352, 5120)

// func sixteenQ51AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ51AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q51MASKS, Q51LEVELS, WHOLE, UNSIGNED, Q51FLOAT, 0, 384, 5120)

// func sixteenQ80AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ80AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q80MASKS, Q80LEVELS, WHOLE, SIGNED, Q80FLOAT, 0, 544, 5120)

// func sixteenQ3KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ3KAMX(SB), 0, $21376-64
	SIXTEEN(·halfTiles, Q3KMASKS, Q3KLEVELS, HALVES, SIGNED, Q3KFLOAT, 32, 224, 9216)

// func sixteenQ4KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ4KAMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q4KMASKS, Q4KLEVELS, WHOLE, UNSIGNED, Q4KFLOAT, 64, 288, 5120)

// func sixteenQ5KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ5KAMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, Q5KMASKS, Q5KLEVELS, WHOLE, UNSIGNED, Q5KFLOAT, 64, 352, 5120)

// func sixteenQ6KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenQ6KAMX(SB), 0, $21376-64
	SIXTEEN(·halfTiles, Q6KMASKS, Q6KLEVELS, HALVES, SIGNED, Q6KFLOAT, 32, 416, 9216)

// func sixteenIQ4NLAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenIQ4NLAMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, IQ4NLMASKS, IQ4NLLEVELS, WHOLE, SIGNED, IQ4NLFLOAT, 0, 288, 5120)

// func sixteenIQ4XSAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenIQ4XSAMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, IQ4XSMASKS, IQ4XSLEVELS, WHOLE, SIGNED, IQ4XSFLOAT, 32, 272, 5120)

// func sixteenMXFP4AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
TEXT ·sixteenMXFP4AMX(SB), 0, $17280-64
	SIXTEEN(·wholeTiles, MXFP4MASKS, MXFP4LEVELS, WHOLE, SIGNED, MXFP4FLOAT, 0, 272, 5120)
