#include "textflag.h"
#include "avx512_amd64.h"

// Products for tiles of 16 tokens with AMX-BF16, for types whose sums fit: bfloat16 holds levels (at most
// 6 bits), and the low halves of codes and 256 times their high halves, times the token's scale, exactly; float32 holds
// each sum, below 2^24 times the scale. The tiles thus give the very sums that the other
// kernels compute in integers and scale, already as float32 and with both halves in one, whatever the order in which
// they add. That leaves one fused operation of the float step, and one for minima. Sums are of blocks, of
// 32 columns, or of their halves: types with a scale for each 16 columns, or whose levels have 5 bits and no sign.
//
// The blocks are taken in panels. A panel is at most 4 blocks of each row group, and the tokens' codes for it stay in the cache of the
// first level while all groups pass. The levels of a group are looked up once for all tokens. A product
// takes some hundred cycles until its sums are in memory: so while a block is multiplied, the sums of the block before it are
// stored, and the float step of the one before that runs, from tile to tile without a pause.
//
// Row 2j of the levels of a block holds columns 4j and 4j+2 of 16 rows of weights, row 2j+1 columns
// 4j+1 and 4j+3: as VPERMW finds them, which looks 32 levels up at once by the lowest 5 bits of each word (VPERMI2W: by 6).
// wideRow has the codes in the same order (activations.go says how they lie in memory).
//
// A tile load waits for stores to the same memory, so the levels of the next group, or of the next panel's first, are looked up between the products
// of this one. Blocks take turns at two sets of sums, because setting a tile to zero waits for the products before.
//
// Registers: R11 the frame: two sets of sums, at levelsAt two panels of levels, each block followed by
// its scales and minima (or the scales of its second half), and variables at slots. DX kind, CX stride. Of the block that is
// multiplied, R10 codes and R14 levels; of the float step, R9 codes, BX levels and DI outputs. Of the next group, SI block,
// R15 head of the super-block, R8 where levels go. Z1 scales, Z2 minima, Z15 and Z0 tables, Z16 to Z31 outputs. Tiles:
// 0 and 1 high and low halves of codes, 2 and 3 levels, 4 to 7 sums.

#define levelsAt 4096
#define slots 13312
#define this (slots)(R11) // panel of levels
#define ahead (slots+8)(R11)
#define todo (slots+16)(R11) // blocks of the next group
#define left (slots+24)(R11) // blocks of the tile that is multiplied, and of that of the float step
#define leftFloat (slots+32)(R11)
#define step (slots+40)(R11) // number of the step, and of the last one that multiplies
#define steps (slots+48)(R11)
#define tilesLeft (slots+56)(R11) // of the float step
#define between (slots+64)(R11) // from the end of a tile's panel to the next tile
#define groupsLeft (slots+72)(R11)
#define blocksLeft (slots+80)(R11) // behind the panel
#define firstOutput (slots+88)(R11) // of the first group
#define outputs (slots+96)(R11) // of the next group
#define head (slots+104)(R11) // of the next group's super-block, in which the panel begins skip bytes on
#define skip (slots+112)(R11)
#define panel (slots+120)(R11) // number of its blocks, at most 4
#define adding (slots+128)(R11) // not the first panel

// Shapes: palette 1; bytes of a row at 16, rows at 48. In the second, tiles of codes and levels have 16 columns.
DATA ·fullTiles+0(SB)/8, $1
DATA ·fullTiles+8(SB)/8, $0
DATA ·fullTiles+16(SB)/8, $0x0040004000400040
DATA ·fullTiles+24(SB)/8, $0x0040004000400040
DATA ·fullTiles+32(SB)/8, $0
DATA ·fullTiles+40(SB)/8, $0
DATA ·fullTiles+48(SB)/8, $0x1010101010101010
DATA ·fullTiles+56(SB)/8, $0
GLOBL ·fullTiles(SB), RODATA, $64
DATA ·splitTiles+0(SB)/8, $1
DATA ·splitTiles+8(SB)/8, $0
DATA ·splitTiles+16(SB)/8, $0x0040004000200020
DATA ·splitTiles+24(SB)/8, $0x0040004000400040
DATA ·splitTiles+32(SB)/8, $0
DATA ·splitTiles+40(SB)/8, $0
DATA ·splitTiles+48(SB)/8, $0x1010101008081010
DATA ·splitTiles+56(SB)/8, $0
GLOBL ·splitTiles(SB), RODATA, $64

// Of each four halves of codes, the second and the third change places.
DATA ·swapped+0(SB)/8, $0x0705060403010200
DATA ·swapped+8(SB)/8, $0x0f0d0e0c0b090a08
GLOBL ·swapped(SB), RODATA, $16

// The assembler does not know AMX. Displacements have 32 bits.
#define LDTILECFG BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0x00 // (AX)
#define TILERELEASE BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0xc0
#define TILEZERO(t) BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $(0xc0|(t)<<3)
#define LOADCODES(t, off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $(0x84|(t)<<3); BYTE $0x2a; LONG $(off) // TILELOADD off(R10)(R13*1)
#define LOADLEVELS(t, off) BYTE $0xc4; BYTE $0x82; BYTE $0x7b; BYTE $0x4b; BYTE $(0x84|(t)<<3); BYTE $0x26; LONG $(off) // off(R14)(R12*1)
#define STORESUMS(t, off) BYTE $0xc4; BYTE $0x82; BYTE $0x7a; BYTE $0x4b; BYTE $(0x84|(t)<<3); BYTE $0x23; LONG $(off) // TILESTORED off(R11)(R12*1)
#define MULTIPLY(sums, codes, levels) BYTE $0xc4; BYTE $0xe2; BYTE $(0x7a^(levels)<<3); BYTE $0x5c; BYTE $(0xc0|(sums)<<3|(codes)) // TDPBF16PS

// A block, with the set of tiles n, 0 or 1.
#define WHOLE(n) \
	LOADLEVELS(2+n, 0); \
	TILEZERO(4+n); \
	LOADCODES(0, 0); \
	MULTIPLY(4+n, 0, 2+n); \
	LOADCODES(1, 64); \
	MULTIPLY(4+n, 1, 2+n)

#define KEEPWHOLE(n) STORESUMS(4+n, 1024*n)

// The same with sums of each half.
#define SPLIT(n) \
	LOADLEVELS(2, 0); \
	TILEZERO(4+2*n); \
	LOADCODES(0, 0); \
	MULTIPLY(4+2*n, 0, 2); \
	LOADCODES(1, 64); \
	MULTIPLY(4+2*n, 1, 2); \
	LOADLEVELS(3, 512); \
	TILEZERO(5+2*n); \
	LOADCODES(0, 32); \
	MULTIPLY(5+2*n, 0, 3); \
	LOADCODES(1, 96); \
	MULTIPLY(5+2*n, 1, 3)

#define KEEPSPLIT(n) \
	STORESUMS(4+2*n, 2048*n); \
	STORESUMS(5+2*n, 2048*n+1024)

// The levels of 64 bytes of nibbles at off(SI) to rows at at(R8) and at+512(R8).
#define LOOKUP4(off, at) \
	VMOVDQU32 (off)(SI), Z4; \
	VPSRLW $8, Z4, Z5; \
	VPSRLW $4, Z4, Z6; \
	VPSRLW $12, Z4, Z7; \
	VPERMW Z0, Z4, Z8; \
	VPERMW Z0, Z5, Z9; \
	VPERMW Z0, Z6, Z10; \
	VPERMW Z0, Z7, Z11; \
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
	VPERMW Z0, x, Z3; \
	VPSRLW $8, x, x; \
	VPERMW Z0, x, x; \
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

// 6 bits, or 3. Bytes are 4 columns of a row.
#define LOOKUPBYTES(x, at) \
	VPSRLW $8, x, Z3; \
	VPERMI2W Z15, Z0, x; \
	VPERMI2W Z15, Z0, Z3; \
	VMOVDQU32 x, (at)(R8); \
	VMOVDQU32 Z3, (at+64)(R8)

#define LOOKUPALL \
	LOOKUPBYTES(Z4, 0); \
	LOOKUPBYTES(Z5, 128); \
	LOOKUPBYTES(Z6, 256); \
	LOOKUPBYTES(Z7, 384); \
	LOOKUPBYTES(Z8, 512); \
	LOOKUPBYTES(Z9, 640); \
	LOOKUPBYTES(Z10, 768); \
	LOOKUPBYTES(Z11, 896)

// Levels of the block whose planes are at SI: of 4 or 5 bits with table Z0, or of 6 or 3 bits with tables Z0 and Z15, of
// which 3 bits need only the first: THREES uses Z15.
#define NIBBLESORFIVES(five, ready) \
	CMPQ (DX), $2; \
	JEQ five; \
	LOOKUPNIBBLES; \
	JMP ready; \
five: \
	LOOKUPFIVES; \
ready:

#define SIXESORTHREES(three, ready) \
	CMPQ (DX), $5; \
	JEQ three; \
	SIXES(0); \
	JMP ready; \
three: \
	THREES(0); \
ready: \
	LOOKUPALL

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

#define SPLITSCALES(exponents, super, found) \
	KSIGNED(0); \
	VMOVUPS Z1, 1024(R8); \
	KSIGNED(16); \
	VMOVUPS Z1, 1088(R8)

// Decoding for many sequences reads weights from memory: those of the group after the next are fetched.
#define FETCH \
	MOVQ groupBytes+24(FP), AX; \
	PREFETCHT0 (SI)(AX*1); \
	PREFETCHT0 64(SI)(AX*1); \
	PREFETCHT0 128(SI)(AX*1); \
	PREFETCHT0 192(SI)(AX*1); \
	PREFETCHT0 256(SI)(AX*1); \
	PREFETCHT0 320(SI)(AX*1)

// Levels and scales of a block, which go to R8: routines that all kernels share.
#define LOOKUP(SCALES, LEVELS) \
	SCALES(exponents, super, found); \
	ADDQ 16(DX), SI; \
	LEVELS(other, ready); \
	SUBQ 16(DX), SI; \
	ADDQ 32(DX), SI; \
	ADDQ $1152, R8; \
	RET

TEXT lookupLinear<>(SB), NOSPLIT|NOFRAME, $0-0
	LOOKUP(LINEARSCALES, NIBBLESORFIVES)

TEXT lookupAffine<>(SB), NOSPLIT|NOFRAME, $0-0
	LOOKUP(AFFINESCALES, NIBBLESORFIVES)

TEXT lookupSplit<>(SB), NOSPLIT|NOFRAME, $0-0
	LOOKUP(SPLITSCALES, SIXESORTHREES)

#define FIRSTBLOCK \
	MOVQ head, R15; \
	MOVQ skip, SI; \
	ADDQ R15, SI

// Makes head and skip those of the first group's blocks behind the panel: 4 blocks on, or in the next super-block, of 8 blocks.
#define BEHIND(plain, over, moved) \
	MOVQ groups+16(FP), R15; \
	MOVQ 24(DX), SI; \
	MOVQ 32(DX), AX; \
	TESTQ SI, SI; \
	JE plain; \
	CMPQ skip, SI; \
	JNE over; \
	LEAQ (SI)(AX*4), SI; \
	JMP moved; \
over: \
	LEAQ (SI)(AX*8), AX; \
	ADDQ AX, R15; \
	JMP moved; \
plain: \
	LEAQ (R15)(AX*4), R15; \
moved: \
	MOVQ SI, skip; \
	MOVQ R15, groups+16(FP); \
	MOVQ R15, head

// Takes the next panel's blocks, and begins with the first group.
#define NEXTPANEL(whole) \
	MOVQ blocksLeft, AX; \
	CMPQ AX, $4; \
	JLE whole; \
	MOVQ $4, AX; \
whole: \
	MOVQ AX, panel; \
	SUBQ AX, blocksLeft; \
	IMULQ tiles+64(FP), AX; \
	MOVQ AX, steps; \
	IMUL3Q $2304, panel, AX; \
	NEGQ AX; \
	ADDQ codeBytes+40(FP), AX; \
	MOVQ AX, between; \
	MOVQ groupCount+56(FP), AX; \
	MOVQ AX, groupsLeft; \
	MOVQ dst+0(FP), AX; \
	MOVQ AX, outputs

// Outputs y plus d*t, of the block at R9 and BX, whose offsets are at at.
#define ADDSUM(S, at, y) VFMADD231PS (S)(R11), Z1, y

#define ADDSECOND(S, at, y) VFMADD231PS (S)(R11), Z2, y

#define ADDAFFINE(S, at, y) \
	ADDSUM(S, at, y); \
	VFMADD231PS.BCST (at)(R9), Z2, y

#define ADDFIVES(S, at, y) \
	VMOVUPS (S)(R11), Z4; \
	VADDPS (S+1024)(R11), Z4, Z4; \
	VFMADD231PS Z4, Z1, y; \
	VFMADD231PS.BCST (at)(R9), Z2, y

#define TOKENS4(TERM, S, at, a, b, c, d) \
	TERM(S, at, a); \
	TERM(S+64, at+16, b); \
	TERM(S+128, at+32, c); \
	TERM(S+192, at+48, d)

#define TOKENS(TERM, S) \
	TOKENS4(TERM, S+0, 2052, Z16, Z17, Z18, Z19); \
	TOKENS4(TERM, S+256, 2116, Z20, Z21, Z22, Z23); \
	TOKENS4(TERM, S+512, 2180, Z24, Z25, Z26, Z27); \
	TOKENS4(TERM, S+768, 2244, Z28, Z29, Z30, Z31)

#define FLOATLINEAR(n) \
	VMOVUPS 1024(BX), Z1; \
	TOKENS(ADDSUM, 1024*n)

#define FLOATAFFINE(n) \
	VMOVUPS 1024(BX), Z1; \
	VMOVUPS 1088(BX), Z2; \
	TOKENS(ADDAFFINE, 1024*n)

#define FLOATSPLIT(n) \
	VMOVUPS 1024(BX), Z1; \
	VMOVUPS 1088(BX), Z2; \
	TOKENS(ADDSUM, 2048*n); \
	TOKENS(ADDSECOND, 2048*n+1024)

#define FLOATFIVES(n) \
	VMOVUPS 1024(BX), Z1; \
	VMOVUPS 1088(BX), Z2; \
	TOKENS(ADDFIVES, 2048*n)

#define OUTPUTS4(MOVE, a, b, c, d) \
	MOVE((AX), a); \
	MOVE((AX)(CX*1), b); \
	LEAQ (AX)(CX*2), AX; \
	MOVE((AX), c); \
	MOVE((AX)(CX*1), d); \
	LEAQ (AX)(CX*2), AX

// Of the tile at DI; leaves AX at the next one.
#define OUTPUTS(MOVE) \
	MOVQ DI, AX; \
	OUTPUTS4(MOVE, Z16, Z17, Z18, Z19); \
	OUTPUTS4(MOVE, Z20, Z21, Z22, Z23); \
	OUTPUTS4(MOVE, Z24, Z25, Z26, Z27); \
	OUTPUTS4(MOVE, Z28, Z29, Z30, Z31)

#define LOADOUTPUT(at, y) VMOVUPS at, y
#define STOREOUTPUT(at, y) VMOVUPS y, at
#define CLEAROUTPUT(at, y) VPXORD y, y, y

#define BEGINOUTPUTS(clear, begun) \
	CMPQ adding, $0; \
	JEQ clear; \
	OUTPUTS(LOADOUTPUT); \
	JMP begun; \
clear: \
	OUTPUTS(CLEAROUTPUT); \
begun:

// Weights do not stay on the stack.
#define WIPE \
	MOVQ $104, AX; \
	VPXORD Z4, Z4, Z4; \
wipe: \
	VMOVDQU32 Z4, (R11); \
	VMOVDQU32 Z4, 64(R11); \
	ADDQ $128, R11; \
	DECQ AX; \
	JNZ wipe

// Step n of a group multiplies block n of its tiles, looks up a block of the next group, adds block n-2 to the
// outputs and stores the sums of block n-1: last, for loads before it would wait.
#define STEP(n, other, PRODUCTS, FLOAT, KEEP, lookup, add, sameTile, keep, sameFloat, clear, begun, next) \
	MOVQ steps, AX; \
	CMPQ step, AX; \
	JGE add; \
	PRODUCTS(n); \
	ADDQ $2304, R10; \
	ADDQ $1152, R14; \
	DECQ left; \
	JNZ sameTile; \
	ADDQ between, R10; \
	MOVQ this, R14; \
	MOVQ panel, AX; \
	MOVQ AX, left; \
sameTile: \
	CMPQ todo, $0; \
	JEQ add; \
	DECQ todo; \
	FETCH; \
	CALL lookup<>(SB); \
add: \
	CMPQ step, $2; \
	JLT keep; \
	FLOAT(n); \
	ADDQ $2304, R9; \
	ADDQ $1152, BX; \
	DECQ leftFloat; \
	JNZ sameFloat; \
	OUTPUTS(STOREOUTPUT); \
	MOVQ AX, DI; \
	DECQ tilesLeft; \
	JZ done; \
	ADDQ between, R9; \
	MOVQ this, BX; \
	MOVQ panel, AX; \
	MOVQ AX, leftFloat; \
	BEGINOUTPUTS(clear, begun) \
sameFloat: \
	MOVQ steps, AX; \
	CMPQ step, AX; \
	JGT next; \
keep: \
	CMPQ step, $0; \
	JEQ next; \
	KEEP(other); \
next: \
	INCQ step

#define PANEL(shapes, lookup, PRODUCTS, FLOAT, KEEP) \
	LEAQ 2047(SP), R11; \
	ANDQ $~2047, R11; \
	MOVQ stride+8(FP), CX; \
	MOVQ $128, R13; \
	MOVQ $64, R12; \
	LEAQ shapes(SB), AX; \
	LDTILECFG; \
	MOVQ kind+72(FP), DX; \
	VPBROADCASTD 40(DX), Z12; \
	VPBROADCASTD 44(DX), Z13; \
	VPBROADCASTD 48(DX), Z14; \
	VMOVDQU32 72(DX), Z0; \
	VMOVDQU32 136(DX), Z15; \
	MOVQ groups+16(FP), AX; \
	MOVQ AX, head; \
	MOVQ 24(DX), AX; \
	MOVQ AX, skip; \
	MOVQ blocks+48(FP), AX; \
	MOVQ AX, blocksLeft; \
	MOVQ $0, adding; \
behind: \
	NEXTPANEL(whole); \
	CMPQ adding, $0; \
	JNE group; \
	MOVQ panel, AX; \
	MOVQ AX, todo; \
	FIRSTBLOCK; \
	LEAQ levelsAt(R11), R8; \
	MOVQ R8, this; \
	LEAQ 4608(R8), AX; \
	MOVQ AX, ahead; \
begin: \
	FETCH; \
	CALL lookup<>(SB); \
	DECQ todo; \
	JNZ begin; \
group: \
	CMPQ groupsLeft, $1; \
	JE last; \
	MOVQ groupBytes+24(FP), AX; \
	ADDQ AX, head; \
	MOVQ panel, AX; \
	JMP found; \
last: \
	MOVQ $0, AX; \
	CMPQ blocksLeft, AX; \
	JE found; \
	BEHIND(plain, over, moved); \
	MOVQ blocksLeft, AX; \
	CMPQ AX, $4; \
	JLE found; \
	MOVQ $4, AX; \
found: \
	MOVQ AX, todo; \
	FIRSTBLOCK; \
	MOVQ ahead, R8; \
	MOVQ panel, AX; \
	MOVQ AX, left; \
	MOVQ AX, leftFloat; \
	MOVQ tiles+64(FP), AX; \
	MOVQ AX, tilesLeft; \
	MOVQ $0, step; \
	MOVQ codes+32(FP), R10; \
	MOVQ R10, R9; \
	MOVQ this, R14; \
	MOVQ R14, BX; \
	MOVQ outputs, DI; \
	ADDQ $64, outputs; \
	BEGINOUTPUTS(clear0, begun0) \
steps2: \
	STEP(0, 1, PRODUCTS, FLOAT, KEEP, lookup, add1, sameTile1, keep1, sameFloat1, clear1, begun1, next1); \
	STEP(1, 0, PRODUCTS, FLOAT, KEEP, lookup, add2, sameTile2, keep2, sameFloat2, clear2, begun2, next2); \
	JMP steps2; \
done: \
	MOVQ this, AX; \
	MOVQ ahead, R8; \
	MOVQ AX, ahead; \
	MOVQ R8, this; \
	DECQ groupsLeft; \
	JNZ group; \
	CMPQ blocksLeft, $0; \
	JE end; \
	MOVQ $1, adding; \
	ADDQ $9216, codes+32(FP); \
	JMP behind; \
end: \
	TILERELEASE; \
	WIPE; \
	VZEROUPPER; \
	RET

// func panelLinearAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)
TEXT ·panelLinearAMX(SB), 0, $15504-80
	PANEL(·fullTiles, lookupLinear, WHOLE, FLOATLINEAR, KEEPWHOLE)

// func panelAffineAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)
TEXT ·panelAffineAMX(SB), 0, $15504-80
	PANEL(·fullTiles, lookupAffine, WHOLE, FLOATAFFINE, KEEPWHOLE)

// func panelFivesAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)
TEXT ·panelFivesAMX(SB), 0, $15504-80
	PANEL(·splitTiles, lookupAffine, SPLIT, FLOATFIVES, KEEPSPLIT)

// func panelSplitAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)
TEXT ·panelSplitAMX(SB), 0, $15504-80
	PANEL(·splitTiles, lookupSplit, SPLIT, FLOATSPLIT, KEEPSPLIT)

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
