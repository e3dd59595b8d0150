// Products of blocks with 16-bit codes, of one token, two or four, for which one_arm64.h, dot_two_arm64.s and
// four_arm64.s define:
//
//	ARGS, START, NEXT(bytes), END  the loops over blocks and row groups
//	TOKENS(M)                      M(register of the token's record, first of its four sums)
//	TOKENS1(M, x)                  the same with another argument
//	CODES(at)                      codes of the first 16 columns (0) or the others (16) into V0 to V7
//	ADDALL                         outputs plus d*t, for OFFSET and then PUTALL
//	OUTPUT(a)                      where ADDALL leaves the outputs of a token with sums from a on
//	PUTALL                         puts the outputs where they stay
//
// How a block's levels and codes are multiplied, halfwords_arm64.h and dot_arm64.h define:
//
//	LOAD(off), LOADMORE(off)       64 bytes of a plane into V8 to V11, or V12 to V15
//	STEP(j)                        products of signed levels in V8 to V11, columns 4j to 4j+3 of 16
//	CLEARED(token, a), SUMMED(a, n), FINISH(a)  the sums' beginning and end
//	FIRSTCODES, SECONDCODES        where a record has the codes for V0 and so on, and for V4 and so on
//
// All sums are 32-bit integers and exact: a level is at most 128, a code at most 32512, a
// block has 32 columns. The float step keeps the order of the reference (reference.go), fused as there.
//
// Registers: R1 block, R15 head of the super-block, R10 (to R13) records of the tokens, R4 blocks that
// remain, R9 row groups that do; R14 and R19 are spent. Sums are from V16 on. In the float step V8 to V11 are
// scales of 4 rows each, V12 to V15 minima. An activation record is 144 bytes: high halves of codes at 0, low
// ones at 32, scale at 64, offset at 68, sum at 72, sum of the first 16 codes at 76, codes of even columns at
// 80, of odd columns at 112 (activations.go).

// Shifts in V8 to V11, and in V12 to V15.
#define LEFT(n) \
	VSHL $n, V8.B16, V8.B16; \
	VSHL $n, V9.B16, V9.B16; \
	VSHL $n, V10.B16, V10.B16; \
	VSHL $n, V11.B16, V11.B16

#define RIGHT(n) \
	VUSHR $n, V8.B16, V8.B16; \
	VUSHR $n, V9.B16, V9.B16; \
	VUSHR $n, V10.B16, V10.B16; \
	VUSHR $n, V11.B16, V11.B16

#define LEFTMORE(n) \
	VSHL $n, V12.B16, V12.B16; \
	VSHL $n, V13.B16, V13.B16; \
	VSHL $n, V14.B16, V14.B16; \
	VSHL $n, V15.B16, V15.B16

#define RIGHTMORE(n) \
	VUSHR $n, V12.B16, V12.B16; \
	VUSHR $n, V13.B16, V13.B16; \
	VUSHR $n, V14.B16, V14.B16; \
	VUSHR $n, V15.B16, V15.B16

// V12 to V15 above the n lowest bits of V8 to V11, in place of what stands there.
#define INSERT(n) \
	VSLI $n, V12.B16, V8.B16; \
	VSLI $n, V13.B16, V9.B16; \
	VSLI $n, V14.B16, V10.B16; \
	VSLI $n, V15.B16, V11.B16

// The n lowest bits.
#define LOW(n) \
	LEFT(8-(n)); \
	RIGHT(8-(n))

// Levels less 128.
#define SIGN \
	VMOVI $128, V12.B16; \
	VEOR V12.B16, V8.B16, V8.B16; \
	VEOR V12.B16, V9.B16, V9.B16; \
	VEOR V12.B16, V10.B16, V10.B16; \
	VEOR V12.B16, V11.B16, V11.B16

// Levels become the values of a table.
#define LOOKUP(table) \
	MOVD $table(SB), R14; \
	VLD1 (R14), [V12.B16]; \
	VTBL V8.B16, [V12.B16], V8.B16; \
	VTBL V9.B16, [V12.B16], V9.B16; \
	VTBL V10.B16, [V12.B16], V10.B16; \
	VTBL V11.B16, [V12.B16], V11.B16

// Sums begin with 0, or with less the sum of the token's codes, of all, the first 16 or the others, times a zero
// of 1 << n.
#define ALLOF(token) MOVW 72(token), R19
#define FIRSTOF(token) MOVW 76(token), R19
#define SECONDOF(token) \
	MOVW 72(token), R19; \
	MOVW 76(token), R14; \
	SUBW R14, R19, R19

#define CLEARALL(token, a, n) ALLOF(token); SUMMED(a, n)
#define CLEARFIRST(token, a, n) FIRSTOF(token); SUMMED(a, n)
#define CLEARSECOND(token, a, n) SECONDOF(token); SUMMED(a, n)

#define CLEAR TOKENS(CLEARED)
#define FROMALL(n) TOKENS1(CLEARALL, n)
#define FROMFIRST(n) TOKENS1(CLEARFIRST, n)
#define FROMSECOND(n) TOKENS1(CLEARSECOND, n)

// The levels of 16 columns, whose codes CODES(0) or CODES(16) has loaded.
#define PLANES4(off, UNPACK) \
	LOAD(off); \
	UNPACK; \
	STEP(0); \
	LOAD(off+64); \
	UNPACK; \
	STEP(1); \
	LOAD(off+128); \
	UNPACK; \
	STEP(2); \
	LOAD(off+192); \
	UNPACK; \
	STEP(3)

#define NIBBLES(off) \
	CODES(0); \
	PLANES4(off, LOW(4)); \
	CODES(16); \
	PLANES4(off, RIGHT(4))

#define BYTES(off) \
	CODES(0); \
	PLANES4(off, SIGN); \
	CODES(16); \
	PLANES4(off+256, SIGN)

#define LOWVALUES(table) LOW(4); LOOKUP(table)
#define HIGHVALUES(table) RIGHT(4); LOOKUP(table)

#define VALUES(off, table) \
	CODES(0); \
	PLANES4(off, LOWVALUES(table)); \
	CODES(16); \
	PLANES4(off, HIGHVALUES(table))

// A sixth level of 5 bits: bits 0-2 from the plane at a, 3-4 from that at b.
#define JOIN5(a, b) \
	LOAD(a); \
	RIGHT(5); \
	LOADMORE(b); \
	RIGHTMORE(6); \
	INSERT(3)

// The last one: bits 0-2 from plane 4, bit 3 from plane 1, bit 4 from plane 3.
#define JOIN5LAST(off) \
	LOAD(off+256); \
	RIGHT(5); \
	LOADMORE(off+64); \
	RIGHTMORE(5); \
	INSERT(3); \
	LOADMORE(off+192); \
	RIGHTMORE(5); \
	INSERT(4); \
	LOW(5)

#define FIVES(off) \
	CODES(0); \
	PLANES4(off, LOW(5)); \
	CODES(16); \
	LOAD(off+256); \
	LOW(5); \
	STEP(0); \
	JOIN5(off, off+64); \
	STEP(1); \
	JOIN5(off+128, off+192); \
	STEP(2); \
	JOIN5LAST(off); \
	STEP(3)

// 16 columns of 6 bits.
#define SIXES(off) \
	LOAD(off); \
	LOW(6); \
	STEP(0); \
	LOAD(off+64); \
	LOW(6); \
	STEP(1); \
	LOAD(off+128); \
	LOW(6); \
	STEP(2); \
	LOAD(off); \
	RIGHT(6); \
	LOADMORE(off+64); \
	RIGHTMORE(6); \
	INSERT(2); \
	LOADMORE(off+128); \
	RIGHTMORE(6); \
	INSERT(4); \
	STEP(3)

// Bits 2f and 2f+1 of the plane at off.
#define PAIR(off, f) \
	LOAD(off); \
	LEFT(6-2*(f)); \
	RIGHT(6)

#define PAIRS(off) \
	PAIR(off, 0); \
	STEP(0); \
	PAIR(off, 1); \
	STEP(1); \
	PAIR(off, 2); \
	STEP(2); \
	LOAD(off); \
	RIGHT(6); \
	STEP(3)

// Above them bit j of the plane at bits.
#define BIT(bits, j) \
	LOADMORE(bits); \
	LEFTMORE(7-(j)); \
	RIGHTMORE(7); \
	INSERT(2)

#define THREES(off, bits, first) \
	PAIR(off, 0); \
	BIT(bits, first); \
	STEP(0); \
	PAIR(off, 1); \
	BIT(bits, first+1); \
	STEP(1); \
	PAIR(off, 2); \
	BIT(bits, first+2); \
	STEP(2); \
	LOAD(off); \
	RIGHT(6); \
	BIT(bits, first+3); \
	STEP(3)

// 16 float16 at off of a base into V(d) to V(d+3).
#define HALVES(base, off, d) \
	FMOVQ (off)(base), F0; \
	FMOVQ (off+16)(base), F1; \
	FCVTL(d, 0); \
	FCVTL2(d+1, 0); \
	FCVTL(d+2, 1); \
	FCVTL2(d+3, 1)

#define SCALES(off) HALVES(R1, off, 8)
#define MINIMA(off) HALVES(R1, off, 12)

// The 16 bytes of V0, widened, into V4 to V7.
#define UNSIGNED \
	VUXTL V0.B8, V1.H8; \
	VUXTL2 V0.B16, V2.H8; \
	VUXTL V1.H4, V4.S4; \
	VUXTL2 V1.H8, V5.S4; \
	VUXTL V2.H4, V6.S4; \
	VUXTL2 V2.H8, V7.S4

#define SIGNED \
	SXTLB(1, 0); \
	SXTL2B(2, 0); \
	SXTLH(4, 1); \
	SXTL2H(5, 1); \
	SXTLH(6, 2); \
	SXTL2H(7, 2)

// 16 float16 of the head times those.
#define FACTORS(head, d) \
	SCVTF(4, 4); \
	SCVTF(5, 5); \
	SCVTF(6, 6); \
	SCVTF(7, 7); \
	HALVES(R15, head, d); \
	FMUL(d, d, 4); \
	FMUL(d+1, d+1, 5); \
	FMUL(d+2, d+2, 6); \
	FMUL(d+3, d+3, 7)

#define KSCALES(off) \
	FMOVQ (off)(R1), F0; \
	UNSIGNED; \
	FACTORS(0, 8)

#define KSIGNED(off) \
	FMOVQ (off)(R1), F0; \
	SIGNED; \
	FACTORS(0, 8)

#define KMINIMA(off) \
	FMOVQ (off)(R1), F0; \
	UNSIGNED; \
	FACTORS(32, 12)

// Q2_K: the scale is the low nibble of a byte, the minimum the high one.
#define PAIRED(off) \
	FMOVQ (off)(R1), F0; \
	VSHL $4, V0.B16, V0.B16; \
	VUSHR $4, V0.B16, V0.B16; \
	UNSIGNED; \
	FACTORS(0, 8); \
	FMOVQ (off)(R1), F0; \
	VUSHR $4, V0.B16, V0.B16; \
	UNSIGNED; \
	FACTORS(32, 12)

// MXFP4: 2^(e-128) for a byte e; that of the smallest is a subnormal number.
#define EXPONENT(v, d) \
	VSHL $23, v.S4, v.S4; \
	VUMAX V0.S4, v.S4, v.S4

#define EXPONENTS(off) \
	FMOVQ (off)(R1), F0; \
	UNSIGNED; \
	MOVD $0x400000, R14; \
	VDUP R14, V0.S4; \
	EXPONENT(V4, 8); \
	EXPONENT(V5, 9); \
	EXPONENT(V6, 10); \
	EXPONENT(V7, 11); \
	FMOVS $0.5, F0; \
	FMULE(8, 4, 0, 0); \
	FMULE(9, 5, 0, 0); \
	FMULE(10, 6, 0, 0); \
	FMULE(11, 7, 0, 0)

// A sum becomes t = scale*float(sum); F0 has the token's scale and offset.
#define SCALEONE(a) \
	FINISH(a); \
	SCVTF(a, a); \
	FMULE(a, a, 0, 0)

#define SCALETOKEN(token, a) \
	FMOVD 64(token), F0; \
	SCALEONE(a); \
	SCALEONE(a+1); \
	SCALEONE(a+2); \
	SCALEONE(a+3)

#define SCALED TOKENS(SCALETOKEN)

// Outputs minus (op FMLSE) or plus (FMLAE) m*offset, which is element i of V0.
#define OFFSETS(a, op, i) \
	op(OUTPUT(a), 12, 0, i); \
	op(OUTPUT(a)+1, 13, 0, i); \
	op(OUTPUT(a)+2, 14, 0, i); \
	op(OUTPUT(a)+3, 15, 0, i)

#define OFFSETTOKEN(token, a, op) \
	FMOVD 64(token), F0; \
	OFFSETS(a, op, 1)

#define OFFSET(op) TOKENS1(OFFSETTOKEN, op)

// The same with the offset of 16 columns.
#define HALFOFFSETTOKEN(token, a, SUM) \
	SUM(token); \
	SCVTFWS R19, F1; \
	FMOVS 64(token), F0; \
	FMULS F0, F1, F0; \
	OFFSETS(a, FMLSE, 0)

#define HALFOFFSET(SUM) TOKENS1(HALFOFFSETTOKEN, SUM)

// Loops over blocks, and over super-blocks of 8 blocks with a head.
#define BLOCKS(bytes, BLOCK) \
	ARGS; \
group: \
	START; \
block: \
	BLOCK; \
	NEXT(bytes); \
	CBNZ R4, block; \
	END; \
	CBNZ R9, group; \
	RET

#define SUPERBLOCKS(head, bytes, BLOCK) \
	ARGS; \
group: \
	START; \
superBlock: \
	MOVD R1, R15; \
	ADD $head, R1; \
block: \
	BLOCK; \
	NEXT(bytes); \
	CBZ R4, done; \
	TST $7, R4; \
	BNE block; \
	B superBlock; \
done: \
	END; \
	CBNZ R9, group; \
	RET

#define BLOCKQ40 FROMALL(3); NIBBLES(32); SCALES(0); SCALED; ADDALL; PUTALL
#define BLOCKQ41 CLEAR; NIBBLES(64); SCALES(0); MINIMA(32); SCALED; ADDALL; OFFSET(FMLAE); PUTALL
#define BLOCKQ50 FROMALL(4); FIVES(32); SCALES(0); SCALED; ADDALL; PUTALL
#define BLOCKQ51 CLEAR; FIVES(64); SCALES(0); MINIMA(32); SCALED; ADDALL; OFFSET(FMLAE); PUTALL
#define BLOCKQ80 CLEAR; BYTES(32); SCALES(0); SCALED; ADDALL; PUTALL
#define BLOCKIQ4NL CLEAR; VALUES(32, ·valuesOfIQ4); SCALES(0); SCALED; ADDALL; PUTALL
#define BLOCKMXFP4 CLEAR; VALUES(16, ·valuesOfMXFP4); EXPONENTS(0); SCALED; ADDALL; PUTALL
#define BLOCKIQ4XS CLEAR; VALUES(16, ·valuesOfIQ4); KSIGNED(0); SCALED; ADDALL; PUTALL
#define BLOCKQ4K CLEAR; NIBBLES(32); KSCALES(0); KMINIMA(16); SCALED; ADDALL; OFFSET(FMLSE); PUTALL
#define BLOCKQ5K CLEAR; FIVES(32); KSCALES(0); KMINIMA(16); SCALED; ADDALL; OFFSET(FMLSE); PUTALL
#define BLOCKQ6K \
	FROMFIRST(5); CODES(0); SIXES(32); KSIGNED(0); SCALED; ADDALL; PUTALL; \
	FROMSECOND(5); CODES(16); SIXES(224); KSIGNED(16); SCALED; ADDALL; PUTALL
#define BLOCKQ3K \
	FROMFIRST(2); CODES(0); THREES(32, 160, 0); KSIGNED(0); SCALED; ADDALL; PUTALL; \
	FROMSECOND(2); CODES(16); THREES(96, 160, 4); KSIGNED(16); SCALED; ADDALL; PUTALL
#define BLOCKQ2K \
	CLEAR; CODES(0); PAIRS(32); PAIRED(0); SCALED; ADDALL; HALFOFFSET(FIRSTOF); PUTALL; \
	CLEAR; CODES(16); PAIRS(96); PAIRED(16); SCALED; ADDALL; HALFOFFSET(SECONDOF); PUTALL
