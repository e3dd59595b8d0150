#include "textflag.h"

// Attention with AVX2, for up to three queries at once, in the order of attention.go.

// Queries or weights into Y12 to Y14, and products with 8 halves at off(DX).
#define FMA1(a) VFMADD231PS Y15, Y12, a
#define FMA2(a, b) FMA1(a); VFMADD231PS Y15, Y13, b
#define FMA3(a, b, c) FMA2(a, b); VFMADD231PS Y15, Y14, c
#define WIDE(off) VCVTPH2PS (off)(DX), Y15
#define PRODUCTS1 WIDE(0); FMA1(Y0); WIDE(16); FMA1(Y1); WIDE(32); FMA1(Y2); WIDE(48); FMA1(Y3)
#define PRODUCTS2 WIDE(0); FMA2(Y0, Y4); WIDE(16); FMA2(Y1, Y5); WIDE(32); FMA2(Y2, Y6); WIDE(48); FMA2(Y3, Y7)
#define PRODUCTS3 WIDE(0); FMA3(Y0, Y4, Y8); WIDE(16); FMA3(Y1, Y5, Y9); WIDE(32); FMA3(Y2, Y6, Y10); WIDE(48); FMA3(Y3, Y7, Y11)

#define QUERIES1 VBROADCASTSS (R10), Y12; PRODUCTS1
#define QUERIES2 VBROADCASTSS (R10), Y12; VBROADCASTSS 4(R10), Y13; PRODUCTS2
#define QUERIES3 VBROADCASTSS (R10), Y12; VBROADCASTSS 4(R10), Y13; VBROADCASTSS 8(R10), Y14; PRODUCTS3

#define WEIGHTS1 VBROADCASTSS (SI), Y12; PRODUCTS1
#define WEIGHTS2 VBROADCASTSS (SI), Y12; VBROADCASTSS (SI)(BX*1), Y13; PRODUCTS2
#define WEIGHTS3 VBROADCASTSS (SI), Y12; VBROADCASTSS (SI)(BX*1), Y13; VBROADCASTSS (SI)(BX*2), Y14; PRODUCTS3

#define ZERO4(a, b, c, d) VXORPS a, a, a; VXORPS b, b, b; VXORPS c, c, c; VXORPS d, d, d
#define ZERO_1 ZERO4(Y0, Y1, Y2, Y3)
#define ZERO_2 ZERO_1; ZERO4(Y4, Y5, Y6, Y7)
#define ZERO_3 ZERO_2; ZERO4(Y8, Y9, Y10, Y11)

// Four vectors of each of so many rows, R13 bytes apart, at R11.
#define STORE4(a, b, c, d) \
	VMOVUPS a, (R11); \
	VMOVUPS b, 32(R11); \
	VMOVUPS c, 64(R11); \
	VMOVUPS d, 96(R11); \
	ADDQ R13, R11
#define LOAD4(a, b, c, d) \
	VMOVUPS (R11), a; \
	VMOVUPS 32(R11), b; \
	VMOVUPS 64(R11), c; \
	VMOVUPS 96(R11), d; \
	ADDQ R13, R11
#define ROWS1(MOVE) MOVE(Y0, Y1, Y2, Y3)
#define ROWS2(MOVE) ROWS1(MOVE); MOVE(Y4, Y5, Y6, Y7)
#define ROWS3(MOVE) ROWS2(MOVE); MOVE(Y8, Y9, Y10, Y11)

#define SCORES(ZEROS, QUERIES, ROWS) \
	MOVQ scores+0(FP), DI; \
	MOVQ stride+8(FP), R13; \
	MOVQ queries+16(FP), SI; \
	MOVQ step+24(FP), BX; \
	MOVQ keys+32(FP), DX; \
	MOVQ size+40(FP), R8; \
	MOVQ tiles+48(FP), R9; \
tile: \
	ZEROS; \
	MOVQ SI, R10; \
	MOVQ R8, CX; \
element: \
	QUERIES; \
	ADDQ $64, DX; \
	ADDQ BX, R10; \
	DECQ CX; \
	JNZ element; \
	MOVQ DI, R11; \
	ROWS(STORE4); \
	ADDQ $128, DI; \
	DECQ R9; \
	JNZ tile; \
	VZEROUPPER; \
	RET

#define SUM(WEIGHTS, ROWS) \
	MOVQ sums+0(FP), DI; \
	MOVQ sumStride+8(FP), R13; \
	MOVQ weights+16(FP), SI; \
	MOVQ stride+24(FP), BX; \
	MOVQ vals+32(FP), DX; \
	MOVQ valStride+40(FP), R8; \
	MOVQ positions+48(FP), CX; \
	MOVQ DI, R11; \
	ROWS(LOAD4); \
position: \
	WEIGHTS; \
	ADDQ R8, DX; \
	ADDQ $4, SI; \
	DECQ CX; \
	JNZ position; \
	MOVQ DI, R11; \
	ROWS(STORE4); \
	VZEROUPPER; \
	RET

// func scores1AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores1AVX2(SB), NOSPLIT, $0-56
	SCORES(ZERO_1, QUERIES1, ROWS1)

// func scores2AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores2AVX2(SB), NOSPLIT, $0-56
	SCORES(ZERO_2, QUERIES2, ROWS2)

// func scores3AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores3AVX2(SB), NOSPLIT, $0-56
	SCORES(ZERO_3, QUERIES3, ROWS3)

// func sum1AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum1AVX2(SB), NOSPLIT, $0-56
	SUM(WEIGHTS1, ROWS1)

// func sum2AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum2AVX2(SB), NOSPLIT, $0-56
	SUM(WEIGHTS2, ROWS2)

// func sum3AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum3AVX2(SB), NOSPLIT, $0-56
	SUM(WEIGHTS3, ROWS3)

// func halvesAVX2(dst *uint16, x *float32, n int)
TEXT ·halvesAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	SHRQ $3, CX
	JZ done
loop:
	VMOVUPS (SI), Y0
	VCVTPS2PH $0, Y0, X0
	VMOVUPS X0, (DI)
	ADDQ $32, SI
	ADDQ $16, DI
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET
