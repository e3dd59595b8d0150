// One token at a time: sums from V16 on, outputs in V20 to V23.

#define TOKENS(M) M(R10, 16)
#define TOKENS1(M, x) M(R10, 16, x)
#define TOKENS2(M, x, y) M(R10, 16, x, y)

#define CODES(at) \
	FMOVQ (FIRSTCODES+at)(R10), F0; \
	FMOVQ (SECONDCODES+at)(R10), F4

#define ARGS \
	MOVD dst+0(FP), R5; \
	MOVD groups+8(FP), R1; \
	MOVD act+16(FP), R2; \
	MOVD blocks+24(FP), R3; \
	MOVD groupCount+32(FP), R9

#define START \
	ZERO(20); \
	ZERO(21); \
	ZERO(22); \
	ZERO(23); \
	MOVD R2, R10; \
	MOVD R3, R4

#define OUTPUT(a) (a)+4

#define ADDALL \
	FMLA(20, 16, 8); \
	FMLA(21, 17, 9); \
	FMLA(22, 18, 10); \
	FMLA(23, 19, 11)

#define PUTALL

#define NEXT(bytes) \
	ADD $bytes, R1; \
	ADD $144, R10; \
	SUB $1, R4

#define END \
	VST1.P [V20.S4, V21.S4, V22.S4, V23.S4], 64(R5); \
	SUB $1, R9
