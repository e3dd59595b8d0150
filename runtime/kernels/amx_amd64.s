#include "textflag.h"
#include "avx512_amd64.h"

// Products of bytes for 16 tokens with AMX-INT8. A vector of levels holds 4 columns of 16 rows
// (doc.go): the 8 vectors of a block are a tile as TDPBSSD reads it, and the high or low
// halves of 16 records another. One instruction adds up 32 columns of 16 rows for 16 tokens, in 32
// bits. The float step is that of the other kernels, in the order of reference.go.
//
// A panel is a part of each row group: at most 8 blocks, whose activations stay in the cache of the
// first level while all groups pass. Outputs grow in memory from panel to panel.
//
// A product takes some hundred cycles from unpacking to its sums, so three blocks are at work at a
// time: while the products of one go through the tiles, the next is unpacked and the float step of
// the one before runs. Two of each buffer lie in turn in 128 bytes, and R11 changes between them.
//
// Types share code: which levels and scales they have, and where, says a tiledType (tiled_amd64.go)
// at DX. Branches go the same way for all blocks.
//
// Registers: SI block that is unpacked, R12 block of the float step, R15 head of the super-block, R10
// gathered records of the float step, R8 those of the first block; R11 the unpacked levels, with the
// sums behind them, in the frame; R13 128; CX step. Z0 zeros of levels, Z1 scales, Z2 minima, Z3 to
// Z15 those of avx512_amd64.h until levels are in memory, Z16 to Z31 outputs. Tiles: 0 and 1 high and
// low halves, 2 levels, 3 and 4 sums.

// Shapes: palette 1; bytes of a row at 16, rows at 48.
DATA ·wholeTiles+0(SB)/8, $1
DATA ·wholeTiles+8(SB)/8, $0
DATA ·wholeTiles+16(SB)/8, $0x0040004000200020
DATA ·wholeTiles+24(SB)/8, $0x0000000000000040
DATA ·wholeTiles+32(SB)/8, $0
DATA ·wholeTiles+40(SB)/8, $0
DATA ·wholeTiles+48(SB)/8, $0x0000001010081010
DATA ·wholeTiles+56(SB)/8, $0
GLOBL ·wholeTiles(SB), RODATA, $64

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
// y plus d*t, with t = scale*float(sum), for the token whose record is at at.
#define STEP(S, at, y) \
	VMOVDQU32 (S)(R11), Z4; \
	VPSLLD $8, Z4, Z4; \
	VPADDD (S+2048)(R11), Z4, Z4; \
	VCVTDQ2PS Z4, Z4; \
	VMULPS.BCST (at)(R10), Z4, Z4; \
	VFMADD231PS Z4, Z1, y

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

// Kinds of levels and of scales, as tiled_amd64.go numbers them: values and bytes, float16 and super-blocks.
#define LEVELS(kind, next, UNPACK) \
	CMPQ AX, $kind; \
	JNE next; \
	UNPACK(0); \
	JMP unpacked; \
next:

#define LINEARLEVELS \
	LEVELS(1, notValues, VALUES) \
	BYTES(0)

#define SCALES(kind, next, LOAD) \
	CMPQ AX, $kind; \
	JNE next; \
	LOAD; \
	JMP scaled; \
next:

#define LINEARFLOAT \
	SCALES(0, notHalf, HSCALES(0)) \
	KSIGNED(0); \
scaled: \
	STEPS(STEP, 1024)

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

// Gathers the records of a panel at R8: 1344 bytes from block to block, each with 16 rows of
// codes, 128 bytes apart, and 4 rows of four tokens' scales, offsets and sums.
#define GATHER \
	MOVQ tokenBytes+40(FP), DX; \
	MOVQ act+32(FP), R14; \
	MOVQ R8, R10; \
	MOVQ blocks+48(FP), CX; \
gather: \
	MOVQ R14, SI; \
	MOVQ R10, R12; \
	LEAQ 2048(R10), R15; \
	MOVQ $16, AX; \
token: \
	VMOVDQU32 (SI), Z4; \
	VMOVDQU 64(SI), X5; \
	VMOVDQU32 Z4, (R12); \
	VMOVDQU X5, (R15); \
	ADDQ DX, SI; \
	ADDQ $128, R12; \
	ADDQ $16, R15; \
	DECQ AX; \
	JZ gathered; \
	TESTQ $3, AX; \
	JNZ token; \
	ADDQ $64, R15; \
	JMP token; \
gathered: \
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

// In step i, block i is unpacked, block i-1 multiplied and block i-2 added to the outputs.
#define SIXTEEN(shapes, UNPACKED, SHAPE, PRODUCTS, FLOAT, buffers) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groupCount+56(FP), R9; \
	LEAQ 127(SP), R11; \
	ANDQ $~127, R11; \
	MOVQ $128, R13; \
	LEAQ shapes(SB), AX; \
	LDTILECFG; \
	LEAQ buffers(R11), R8; \
	GATHER; \
	MOVQ kind+64(FP), DX; \
	VPBROADCASTD 40(DX), Z12; \
	VPBROADCASTD 52(DX), Z0; \
	VBROADCASTI32X4 56(DX), Z13; \
group: \
	ANDQ $~127, R11; \
	MOVQ groups+16(FP), R15; \
	MOVQ 24(DX), SI; \
	ADDQ R15, SI; \
	MOVQ SI, R12; \
	LEAQ -2688(R8), R10; \
	XORQ CX, CX; \
	OUTPUTS(LOADOUTPUT); \
step: \
	CMPQ CX, blocks+48(FP); \
	JGE multiply; \
	ADDQ 16(DX), SI; \
	MOVQ groupBytes+24(FP), AX; \
	PREFETCHT0 (SI)(AX*1); \
	PREFETCHT0 64(SI)(AX*1); \
	PREFETCHT0 128(SI)(AX*1); \
	PREFETCHT0 192(SI)(AX*1); \
	PREFETCHT0 256(SI)(AX*1); \
	PREFETCHT0 320(SI)(AX*1); \
	PREFETCHT0 384(SI)(AX*1); \
	PREFETCHT0 448(SI)(AX*1); \
	MOVQ (DX), AX; \
	UNPACKED; \
unpacked: \
	LESS; \
	KEEP; \
	SUBQ 16(DX), SI; \
multiply: \
	XORQ $64, R11; \
	CMPQ CX, blocks+48(FP); \
	JGT add; \
	TESTQ CX, CX; \
	JZ add; \
	SHAPE(1344, PRODUCTS); \
add: \
	XORQ $64, R11; \
	CMPQ CX, $2; \
	JLT next; \
	XCHGQ SI, R12; \
	MOVQ 8(DX), AX; \
	FLOAT; \
	XCHGQ SI, R12; \
	ADDQ 32(DX), R12; \
next: \
	ADDQ 32(DX), SI; \
	ADDQ $1344, R10; \
	XORQ $64, R11; \
	INCQ CX; \
	LEAQ -1(CX), AX; \
	CMPQ AX, blocks+48(FP); \
	JLE step; \
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

// The frame holds two buffers of levels (1024 bytes) and of sums (4096), and a panel's records.

// func sixteenLinearAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType)
TEXT ·sixteenLinearAMX(SB), 0, $17280-72
	SIXTEEN(·wholeTiles, LINEARLEVELS, WHOLE, SIGNED, LINEARFLOAT, 5120)
