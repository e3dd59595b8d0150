// Products of halfwords, which every arm64 processor has. A plane's bytes are loaded four by four (LD4), so that V8 to V11
// each hold one column of all 16 rows. Its levels are widened to halfwords (V12 rows 0-7, V13 rows 8-15), and SMLAL
// multiplies them with one 16-bit code: those of even columns of 16 are in V0 (to V3), of odd ones in V4 (to V7).

#define FIRSTCODES 80
#define SECONDCODES 112

// Bytes of 4 columns into V8 to V11, or V12 to V15.
#define LOAD(off) \
	ADD $(off), R1, R14; \
	VLD4 (R14), [V8.B16, V9.B16, V10.B16, V11.B16]

#define LOADMORE(off) \
	ADD $(off), R1, R14; \
	VLD4 (R14), [V12.B16, V13.B16, V14.B16, V15.B16]

#define CLEARED(token, a) \
	ZERO(a); \
	ZERO(a+1); \
	ZERO(a+2); \
	ZERO(a+3)

#define SUMMED(a, n) \
	LSLW $n, R19, R19; \
	NEGW R19, R19; \
	DUPW(a, 19); \
	DUPW(a+1, 19); \
	DUPW(a+2, 19); \
	DUPW(a+3, 19)

#define FINISH(a)

// One column's levels, widened, times element i of the codes in V(first) and so on.
#define MULTIPLY(token, a, first, i) \
	SMLALE(a, 12, (first)+((a)-16)/4, i); \
	SMLAL2E(a+1, 12, (first)+((a)-16)/4, i); \
	SMLALE(a+2, 13, (first)+((a)-16)/4, i); \
	SMLAL2E(a+3, 13, (first)+((a)-16)/4, i)

#define COLUMN(v, first, i) \
	SXTLB(12, v); \
	SXTL2B(13, v); \
	TOKENS2(MULTIPLY, first, i)

// Columns 4j to 4j+3 of 16: of the first 16 of a block, or of the others.
#define STEP(j) \
	COLUMN(8, 0, 2*(j)); \
	COLUMN(9, 4, 2*(j)); \
	COLUMN(10, 0, 2*(j)+1); \
	COLUMN(11, 4, 2*(j)+1)
