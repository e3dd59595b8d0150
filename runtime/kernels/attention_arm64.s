#include "textflag.h"
#include "words_arm64.h"

// Attention for up to three queries at once, in the order of attention.go, fused. The 32 sums of a query are in
// V0 to V7, V8 to V15 or V16 to V23.

// Products of the queries or weights in lane 0 of V28 to V30 with 32 halves in V24 to V27; vector k of the sums
// gets the 4 halves that WIDEN makes float32.
#define PRODUCTS1(WIDEN, half, k) WIDEN(31, half); FMLAE(k, 31, 28, 0)
#define PRODUCTS2(WIDEN, half, k) PRODUCTS1(WIDEN, half, k); FMLAE(8+k, 31, 29, 0)
#define PRODUCTS3(WIDEN, half, k) PRODUCTS2(WIDEN, half, k); FMLAE(16+k, 31, 30, 0)

#define ROW(PRODUCTS) \
	PRODUCTS(FCVTL, 24, 0); \
	PRODUCTS(FCVTL2, 24, 1); \
	PRODUCTS(FCVTL, 25, 2); \
	PRODUCTS(FCVTL2, 25, 3); \
	PRODUCTS(FCVTL, 26, 4); \
	PRODUCTS(FCVTL2, 26, 5); \
	PRODUCTS(FCVTL, 27, 6); \
	PRODUCTS(FCVTL2, 27, 7)

#define QUERIES1 FMOVS (R10), F28; ROW(PRODUCTS1)
#define QUERIES2 FMOVS (R10), F28; FMOVS 4(R10), F29; ROW(PRODUCTS2)
#define QUERIES3 FMOVS (R10), F28; FMOVS 4(R10), F29; FMOVS 8(R10), F30; ROW(PRODUCTS3)

// Weights of a position for one query after another, R3 bytes apart.
#define WEIGHTS1 FMOVS (R10), F28; ROW(PRODUCTS1)
#define WEIGHTS2 FMOVS (R10), F28; FMOVS (R11), F29; ADD $4, R11; ROW(PRODUCTS2)
#define WEIGHTS3 FMOVS (R10), F28; FMOVS (R11), F29; FMOVS (R12), F30; ADD $4, R11; ADD $4, R12; ROW(PRODUCTS3)

#define ZERO8(v) ZERO(v); ZERO(v+1); ZERO(v+2); ZERO(v+3); ZERO(v+4); ZERO(v+5); ZERO(v+6); ZERO(v+7)
#define ZERO_1 ZERO8(0)
#define ZERO_2 ZERO_1; ZERO8(8)
#define ZERO_3 ZERO_2; ZERO8(16)

// Eight vectors of each of so many rows, R1 bytes apart, at R13.
#define STORE8(a, b, c, d, e, f, g, h) \
	VST1 [a.S4, b.S4, c.S4, d.S4], (R13); \
	ADD $64, R13, R14; \
	VST1 [e.S4, f.S4, g.S4, h.S4], (R14); \
	ADD R1, R13, R13
#define LOAD8(a, b, c, d, e, f, g, h) \
	VLD1 (R13), [a.S4, b.S4, c.S4, d.S4]; \
	ADD $64, R13, R14; \
	VLD1 (R14), [e.S4, f.S4, g.S4, h.S4]; \
	ADD R1, R13, R13
#define ROWS1(MOVE) MOVE(V0, V1, V2, V3, V4, V5, V6, V7)
#define ROWS2(MOVE) ROWS1(MOVE); MOVE(V8, V9, V10, V11, V12, V13, V14, V15)
#define ROWS3(MOVE) ROWS2(MOVE); MOVE(V16, V17, V18, V19, V20, V21, V22, V23)

#define SCORES(ZEROS, QUERIES, ROWS) \
	MOVD scores+0(FP), R0; \
	MOVD stride+8(FP), R1; \
	MOVD queries+16(FP), R2; \
	MOVD step+24(FP), R3; \
	MOVD keys+32(FP), R4; \
	MOVD size+40(FP), R5; \
	MOVD tiles+48(FP), R6; \
tile: \
	ZEROS; \
	MOVD R2, R10; \
	MOVD R5, R7; \
element: \
	VLD1.P 64(R4), [V24.H8, V25.H8, V26.H8, V27.H8]; \
	QUERIES; \
	ADD R3, R10; \
	SUBS $1, R7; \
	BNE element; \
	MOVD R0, R13; \
	ROWS(STORE8); \
	ADD $128, R0; \
	SUBS $1, R6; \
	BNE tile; \
	RET

#define SUM(WEIGHTS, ROWS) \
	MOVD sums+0(FP), R0; \
	MOVD sumStride+8(FP), R1; \
	MOVD weights+16(FP), R10; \
	MOVD stride+24(FP), R3; \
	MOVD vals+32(FP), R4; \
	MOVD valStride+40(FP), R5; \
	MOVD positions+48(FP), R6; \
	ADD R3, R10, R11; \
	ADD R3, R11, R12; \
	MOVD R0, R13; \
	ROWS(LOAD8); \
position: \
	VLD1 (R4), [V24.H8, V25.H8, V26.H8, V27.H8]; \
	WEIGHTS; \
	ADD R5, R4; \
	ADD $4, R10; \
	SUBS $1, R6; \
	BNE position; \
	MOVD R0, R13; \
	ROWS(STORE8); \
	RET

// func scores1NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores1NEON(SB), NOSPLIT, $0-56
	SCORES(ZERO_1, QUERIES1, ROWS1)

// func scores2NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores2NEON(SB), NOSPLIT, $0-56
	SCORES(ZERO_2, QUERIES2, ROWS2)

// func scores3NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores3NEON(SB), NOSPLIT, $0-56
	SCORES(ZERO_3, QUERIES3, ROWS3)

// func sum1NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum1NEON(SB), NOSPLIT, $0-56
	SUM(WEIGHTS1, ROWS1)

// func sum2NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum2NEON(SB), NOSPLIT, $0-56
	SUM(WEIGHTS2, ROWS2)

// func sum3NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum3NEON(SB), NOSPLIT, $0-56
	SUM(WEIGHTS3, ROWS3)
