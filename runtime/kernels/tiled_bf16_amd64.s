#include "textflag.h"
#include "avx512_amd64.h"

// Products for 16 and 32 tokens with AMX-BF16, for types whose sums fit: bfloat16 holds levels (at most
// 5 bits), the low halves of codes and 256 times their high halves exactly, and float32 holds each sum
// of a block, below 16 * 32 * 32768 = 2^24. The tiles thus give the very sums that the other
// kernels compute in integers, already as float32 and with both halves in one, whatever the order in which
// they add. That leaves half of the float step of amx_amd64.s.
//
// A panel is at most 4 blocks of each row group, and the tokens' codes for it stay in the cache of the
// first level while all groups pass. The levels of a group are looked up once for all tokens. A product
// takes some hundred cycles until its sums are in memory: meanwhile the float step of the block before it runs.
//
// Row 2j of the levels of a block holds columns 4j and 4j+2 of 16 rows of weights, row 2j+1 columns
// 4j+1 and 4j+3: as VPERMW finds them, which looks 32 levels up at once by the lowest 5 bits of each word.
// wideRow has the codes in the same order (activations.go says how they lie in memory).
//
// A tile load waits for stores to the same memory, so the levels of the next group are looked up between the products
// of this one. Blocks take turns at two sets of tiles, because a tile is not renamed.
//
// Registers: R11 the frame: two buffers of sums, at levelsAt two panels of levels, each block followed by
// its scales and minima, and variables at slots. DX kind, DI dst, BX stride, R9 groups left, R10 codes and
// R14 levels of the block, CX its number. Of the next group, SI block, R15 head of the super-block, R8
// where levels go. Z1 scales, Z2 minima, Z15 table, Z16 to Z31 outputs. Tiles: 0 and 1 high and
// low halves, 2 levels, 3 sums, or 4 to 7.

#define levelsAt 2048
#define slots 11264
#define this (slots)(R11) // panel of levels
#define ahead (slots+8)(R11)
#define todo (slots+16)(R11) // blocks of the next group
#define tileAt (slots+24)(R11) // codes of the tile
#define tilesLeft (slots+32)(R11)

// Shapes: palette 1; bytes of a row at 16, rows at 48.
DATA ·fullTiles+0(SB)/8, $1
DATA ·fullTiles+8(SB)/8, $0
DATA ·fullTiles+16(SB)/8, $0x0040004000400040
DATA ·fullTiles+24(SB)/8, $0x0040004000400040
DATA ·fullTiles+32(SB)/8, $0
DATA ·fullTiles+40(SB)/8, $0
DATA ·fullTiles+48(SB)/8, $0x1010101010101010
DATA ·fullTiles+56(SB)/8, $0
GLOBL ·fullTiles(SB), RODATA, $64

// Of each four halves of codes, the second and the third change places.
DATA ·swapped+0(SB)/8, $0x0705060403010200
DATA ·swapped+8(SB)/8, $0x0f0d0e0c0b090a08
GLOBL ·swapped(SB), RODATA, $16

// The assembler does not know AMX. Displacements have 32 bits.
#define LDTILECFG BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0x00 // (AX)
#define TILERELEASE BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0xc0
#define TILEZERO3 BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $0xd8
#define TILELOAD0(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x84; BYTE $0x2a; LONG $off // off(R10)(R13*1)
#define TILELOAD1(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x8c; BYTE $0x2a; LONG $off
#define TILELOAD2(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0x94; BYTE $0x26; LONG $off // off(R14)(R12*1)
#define TILESTORE3(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7a; BYTE $0x4b; BYTE $0x9c; BYTE $0x23; LONG $off // off(R11)(R12*1)
#define TILEZERO7 BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $0xf8
#define TILELOAD4(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0xa4; BYTE $0x2a; LONG $off
#define TILELOAD5(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0xac; BYTE $0x2a; LONG $off
#define TILELOAD6(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $0xb4; BYTE $0x26; LONG $off
#define TILESTORE7(off) BYTE $0xc4; BYTE $0x82; BYTE $0x7a; BYTE $0x4b; BYTE $0xbc; BYTE $0x23; LONG $off
#define ADDOTHERS BYTE $0xc4; BYTE $0xe2; BYTE $0x4a; BYTE $0x5c; BYTE $0xfc; BYTE $0xc4; BYTE $0xe2; BYTE $0x4a; BYTE $0x5c; BYTE $0xfd // TDPBF16PS of 4 and 5 with 6 to 7
#define ADDPRODUCTS BYTE $0xc4; BYTE $0xe2; BYTE $0x6a; BYTE $0x5c; BYTE $0xd8; BYTE $0xc4; BYTE $0xe2; BYTE $0x6a; BYTE $0x5c; BYTE $0xd9 // TDPBF16PS of 0 and 1 with 2 to 3

// The levels of 64 bytes of nibbles at off(SI) to rows at at(R8) and at+512(R8).
#define LOOKUP4(off, at) \
	VMOVDQU32 (off)(SI), Z4; \
	VPSRLW $8, Z4, Z5; \
	VPSRLW $4, Z4, Z6; \
	VPSRLW $12, Z4, Z7; \
	VPERMW Z15, Z4, Z8; \
	VPERMW Z15, Z5, Z9; \
	VPERMW Z15, Z6, Z10; \
	VPERMW Z15, Z7, Z11; \
	VMOVDQU32 Z8, (at)(R8); \
	VMOVDQU32 Z9, (at+64)(R8); \
	VMOVDQU32 Z10, (at+512)(R8); \
	VMOVDQU32 Z11, (at+576)(R8)

#define LOOKUPNIBBLES \
	LOOKUP4(0, 0); \
	LOOKUP4(64, 128); \
	LOOKUP4(128, 256); \
	LOOKUP4(192, 384)

#define LOOKUP2(x, at) \
	VPERMW Z15, x, Z3; \
	VPSRLW $8, x, x; \
	VPERMW Z15, x, x; \
	VMOVDQU32 Z3, (at)(R8); \
	VMOVDQU32 x, (at+64)(R8)

#define LOOKUPFIVES \
	FIVES(0); \
	LOOKUP2(Z4, 0); \
	LOOKUP2(Z5, 128); \
	LOOKUP2(Z6, 256); \
	LOOKUP2(Z7, 384); \
	LOOKUP2(Z8, 512); \
	LOOKUP2(Z9, 640); \
	LOOKUP2(Z10, 768); \
	LOOKUP2(Z11, 896)

// Minima of super-blocks are subtracted: minus m is added, which gives the same bits.
#define LINEARSCALES(exponents, super, found) \
	MOVQ 8(DX), AX; \
	CMPQ AX, $1; \
	JEQ exponents; \
	HSCALES(0); \
	JMP found; \
exponents: \
	EXPONENTS(0); \
found: \
	VMOVUPS Z1, 1024(R8)

#define AFFINESCALES(exponents, super, found) \
	MOVQ 8(DX), AX; \
	CMPQ AX, $2; \
	JEQ super; \
	HSCALES(0); \
	HMINIMA(32); \
	JMP found; \
super: \
	KSCALES(0); \
	KMINIMA(16); \
	CONSTANT(0x80000000, Z3); \
	VPXORD Z3, Z2, Z2; \
found: \
	VMOVUPS Z1, 1024(R8); \
	VMOVUPS Z2, 1088(R8)

// Decoding for many sequences reads weights from memory: those of the group after the next are fetched.
#define FETCH \
	MOVQ groupBytes+24(FP), AX; \
	PREFETCHT0 (SI)(AX*1); \
	PREFETCHT0 64(SI)(AX*1); \
	PREFETCHT0 128(SI)(AX*1); \
	PREFETCHT0 192(SI)(AX*1); \
	PREFETCHT0 256(SI)(AX*1); \
	PREFETCHT0 320(SI)(AX*1)

// Levels and scales of a block, which go to R8.
#define LOOKUP(SCALES, exponents, super, found, five, ready) \
	FETCH; \
	SCALES(exponents, super, found); \
	ADDQ 16(DX), SI; \
	CMPQ (DX), $2; \
	JEQ five; \
	LOOKUPNIBBLES; \
	JMP ready; \
five: \
	LOOKUPFIVES; \
ready: \
	SUBQ 16(DX), SI; \
	ADDQ 32(DX), SI; \
	ADDQ $1152, R8

// Of the group at groups+16(FP).
#define FIRSTBLOCK \
	MOVQ groups+16(FP), R15; \
	MOVQ skip+32(FP), SI; \
	ADDQ R15, SI

// y plus d*t for the token whose scale is at at.
#define STEP(S, at, y) VFMADD231PS (S)(R11), Z1, y

#define STEPPLUS(S, at, y) \
	STEP(S, at, y); \
	VFMADD231PS.BCST (at+4)(R10), Z2, y

#define STEPS4(STEP, S, at, a, b, c, d) \
	STEP(S, at, a); \
	STEP(S+64, at+16, b); \
	STEP(S+128, at+32, c); \
	STEP(S+192, at+48, d)

// Scales of the block before that at R10.
#define STEPS(STEP, S) \
	STEPS4(STEP, S+0, -2560, Z16, Z17, Z18, Z19); \
	STEPS4(STEP, S+256, -2496, Z20, Z21, Z22, Z23); \
	STEPS4(STEP, S+512, -2432, Z24, Z25, Z26, Z27); \
	STEPS4(STEP, S+768, -2368, Z28, Z29, Z30, Z31)

#define LINEARFLOAT(S) \
	VMOVUPS -1280(R14), Z1; \
	STEPS(STEP, S)

#define AFFINEFLOAT(S) \
	VMOVUPS -1280(R14), Z1; \
	VMOVUPS -1216(R14), Z2; \
	STEPS(STEPPLUS, S)

#define OUTPUTS4(MOVE, a, b, c, d) \
	MOVE((AX), a); \
	MOVE((AX)(BX*1), b); \
	LEAQ (AX)(BX*2), AX; \
	MOVE((AX), c); \
	MOVE((AX)(BX*1), d); \
	LEAQ (AX)(BX*2), AX

// Leaves AX behind the 16 tokens.
#define OUTPUTS(MOVE) \
	OUTPUTS4(MOVE, Z16, Z17, Z18, Z19); \
	OUTPUTS4(MOVE, Z20, Z21, Z22, Z23); \
	OUTPUTS4(MOVE, Z24, Z25, Z26, Z27); \
	OUTPUTS4(MOVE, Z28, Z29, Z30, Z31)

#define LOADOUTPUT(at, y) VMOVUPS at, y
#define STOREOUTPUT(at, y) VMOVUPS y, at
#define CLEAROUTPUT(at, y) VPXORD y, y, y

// Weights do not stay on the stack.
#define WIPE \
	MOVQ $88, CX; \
	VPXORD Z4, Z4, Z4; \
wipe: \
	VMOVDQU32 Z4, (R11); \
	VMOVDQU32 Z4, 64(R11); \
	ADDQ $128, R11; \
	DECQ CX; \
	JNZ wipe

#define NEXTBLOCK \
	ADDQ $2304, R10; \
	ADDQ $1152, R14; \
	INCQ CX

// In step i, block i is multiplied, a block of the next group looked up and block i-1 added to the outputs. The sums of
// block i are stored last: the loads of those before would wait for that.
#define PANEL(SCALES, FLOAT) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groupCount+64(FP), R9; \
	LEAQ 2047(SP), R11; \
	ANDQ $~2047, R11; \
	MOVQ $128, R13; \
	MOVQ $64, R12; \
	LEAQ ·fullTiles(SB), AX; \
	LDTILECFG; \
	MOVQ kind+88(FP), DX; \
	VPBROADCASTD 40(DX), Z12; \
	VPBROADCASTD 44(DX), Z13; \
	VPBROADCASTD 48(DX), Z14; \
	VMOVDQU32 72(DX), Z15; \
	FIRSTBLOCK; \
	LEAQ levelsAt(R11), R8; \
	MOVQ R8, this; \
	LEAQ 4608(R8), AX; \
	MOVQ AX, ahead; \
	MOVQ blocks+56(FP), CX; \
lookup: \
	LOOKUP(SCALES, exponents0, super0, found0, five0, ready0); \
	DECQ CX; \
	JNZ lookup; \
group: \
	MOVQ groupBytes+24(FP), AX; \
	ADDQ AX, groups+16(FP); \
	FIRSTBLOCK; \
	MOVQ ahead, R8; \
	XORQ AX, AX; \
	CMPQ R9, $1; \
	JEQ last; \
	MOVQ blocks+56(FP), AX; \
last: \
	MOVQ AX, todo; \
	MOVQ codes+40(FP), R10; \
	MOVQ tiles+72(FP), AX; \
	MOVQ AX, tilesLeft; \
	MOVQ DI, dst+0(FP); \
tile: \
	MOVQ R10, tileAt; \
	MOVQ dst+0(FP), AX; \
	CMPQ first+80(FP), $0; \
	JNE clear; \
	OUTPUTS(LOADOUTPUT); \
	JMP begin; \
clear: \
	OUTPUTS(CLEAROUTPUT); \
begin: \
	MOVQ this, R14; \
	XORQ CX, CX; \
step: \
	CMPQ CX, blocks+56(FP); \
	JGE even; \
	TILELOAD2(0); \
	TILEZERO3; \
	TILELOAD0(0); \
	TILELOAD1(64); \
	ADDPRODUCTS; \
	CMPQ todo, $0; \
	JEQ even; \
	DECQ todo; \
	LOOKUP(SCALES, exponents1, super1, found1, five1, ready1); \
even: \
	TESTQ CX, CX; \
	JZ odd; \
	FLOAT(0); \
	CMPQ CX, blocks+56(FP); \
	JGT done; \
	TILESTORE7(1024); \
odd: \
	NEXTBLOCK; \
	CMPQ CX, blocks+56(FP); \
	JGE last2; \
	TILELOAD6(0); \
	TILEZERO7; \
	TILELOAD4(0); \
	TILELOAD5(64); \
	ADDOTHERS; \
	CMPQ todo, $0; \
	JEQ last2; \
	DECQ todo; \
	LOOKUP(SCALES, exponents2, super2, found2, five2, ready2); \
last2: \
	CMPQ CX, $1; \
	JEQ third; \
	FLOAT(1024); \
	CMPQ CX, blocks+56(FP); \
	JGT done; \
third: \
	TILESTORE3(0); \
	NEXTBLOCK; \
	JMP step; \
done: \
	MOVQ dst+0(FP), AX; \
	OUTPUTS(STOREOUTPUT); \
	MOVQ AX, dst+0(FP); \
	MOVQ tileAt, R10; \
	ADDQ codeBytes+48(FP), R10; \
	DECQ tilesLeft; \
	JNZ tile; \
	MOVQ this, AX; \
	MOVQ ahead, R8; \
	MOVQ AX, ahead; \
	MOVQ R8, this; \
	ADDQ $64, DI; \
	DECQ R9; \
	JNZ group; \
	TILERELEASE; \
	WIPE; \
	VZEROUPPER; \
	RET

// func panelLinearAMX(dst *float32, stride int, groups *byte, groupBytes, skip int, codes *byte, codeBytes, blocks, groupCount, tiles, first int, kind *tiledType)
TEXT ·panelLinearAMX(SB), 0, $13376-96
	PANEL(LINEARSCALES, LINEARFLOAT)

// func panelAffineAMX(dst *float32, stride int, groups *byte, groupBytes, skip int, codes *byte, codeBytes, blocks, groupCount, tiles, first int, kind *tiledType)
TEXT ·panelAffineAMX(SB), 0, $13376-96
	PANEL(AFFINESCALES, AFFINEFLOAT)

// 32 halves of codes at from(SI), shifted left and times Z7, as bfloat16 to to(DI).
#define WIDEN(from, shift, to) \
	VMOVDQU (from)(SI), X4; \
	VMOVDQU (from+16)(SI), X5; \
	VPSHUFB X6, X4, X4; \
	VPSHUFB X6, X5, X5; \
	VPMOVSXBD X4, Z4; \
	VPMOVSXBD X5, Z5; \
	VPSLLD $shift, Z4, Z4; \
	VPSLLD $shift, Z5, Z5; \
	VCVTDQ2PS Z4, Z4; \
	VCVTDQ2PS Z5, Z5; \
	VMULPS Z7, Z4, Z4; \
	VMULPS Z7, Z5, Z5; \
	VPSRLD $16, Z4, Z4; \
	VPSRLD $16, Z5, Z5; \
	VPMOVDW Z4, (to)(DI); \
	VPMOVDW Z5, (to+32)(DI)

// func wideRow(codes, scales *byte, records *record, blocks int)
TEXT ·wideRow(SB), NOSPLIT, $0-32
	MOVQ codes+0(FP), DI
	MOVQ scales+8(FP), DX
	MOVQ records+16(FP), SI
	MOVQ blocks+24(FP), CX
	VMOVDQU ·swapped(SB), X6
block:
	VBROADCASTSS 64(SI), Z7
	WIDEN(0, 8, 0)
	WIDEN(32, 0, 64)
	VMOVDQU 64(SI), X4
	VMOVDQU X4, (DX)
	ADDQ $2304, DI
	ADDQ $2304, DX
	ADDQ $144, SI
	DECQ CX
	JNZ block
	VZEROUPPER
	RET
