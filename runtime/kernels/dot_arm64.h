// Products of bytes with SDOT, which processors of Armv8.2-A may have and those of Armv8.4-A do. V8 to V11 hold 4 columns of 4
// rows each, as a plane has them, and SDOT multiplies them with the halves of 4 codes: high ones are in V0 (and V1), low ones
// in V4 (and V5). A token's sums of the high halves are from a on, 16 or 20, those of the low ones from a+8 on.

#define FIRSTCODES 0
#define SECONDCODES 32

#define LOAD(off) \
	ADD $(off), R1, R14; \
	VLD1 (R14), [V8.B16, V9.B16, V10.B16, V11.B16]

#define LOADMORE(off) \
	ADD $(off), R1, R14; \
	VLD1 (R14), [V12.B16, V13.B16, V14.B16, V15.B16]

#define CLEAR4(a) \
	ZERO(a); \
	ZERO(a+1); \
	ZERO(a+2); \
	ZERO(a+3)

#define CLEARED(token, a) \
	CLEAR4(a); \
	CLEAR4(a+8)

#define SUMMED(a, n) \
	LSLW $n, R19, R19; \
	NEGW R19, R19; \
	CLEAR4(a); \
	DUPW(a+8, 19); \
	DUPW(a+9, 19); \
	DUPW(a+10, 19); \
	DUPW(a+11, 19)

// 256 times the sum of the high halves and that of the low ones.
#define FINISH(a) \
	SHLWORDS(a, a, 8); \
	ADDWORDS(a, a, a+8)

#define DOT(token, a, j) \
	SDOTE(a, 8, ((a)-16)/4, j); \
	SDOTE(a+1, 9, ((a)-16)/4, j); \
	SDOTE(a+2, 10, ((a)-16)/4, j); \
	SDOTE(a+3, 11, ((a)-16)/4, j); \
	SDOTE(a+8, 8, 4+((a)-16)/4, j); \
	SDOTE(a+9, 9, 4+((a)-16)/4, j); \
	SDOTE(a+10, 10, 4+((a)-16)/4, j); \
	SDOTE(a+11, 11, 4+((a)-16)/4, j)

#define STEP(j) TOKENS1(DOT, j)
