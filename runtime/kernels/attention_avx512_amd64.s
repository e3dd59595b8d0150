#include "textflag.h"

// Attention with AVX-512, for several queries at once, in the order of attention.go.

// Query at at(R10): products with 32 keys.
#define QUERY(at, a, b) \
	VBROADCASTSS (at)(R10), Z26; \
	VFMADD231PS Z24, Z26, a; \
	VFMADD231PS Z25, Z26, b

#define QUERIES1 QUERY(0, Z0, Z1)
#define QUERIES2 QUERIES1; QUERY(4, Z2, Z3)
#define QUERIES3 QUERIES2; QUERY(8, Z4, Z5)
#define QUERIES4 QUERIES3; QUERY(12, Z6, Z7)
#define QUERIES6 QUERIES4; QUERY(16, Z8, Z9); QUERY(20, Z10, Z11)
#define QUERIES12 \
	QUERIES6; \
	QUERY(24, Z12, Z13); \
	QUERY(28, Z14, Z15); \
	QUERY(32, Z16, Z17); \
	QUERY(36, Z18, Z19); \
	QUERY(40, Z20, Z21); \
	QUERY(44, Z22, Z23)

#define ZERO2(a, b) VPXORD a, a, a; VPXORD b, b, b
#define ZERO_1 ZERO2(Z0, Z1)
#define ZERO_2 ZERO_1; ZERO2(Z2, Z3)
#define ZERO_3 ZERO_2; ZERO2(Z4, Z5)
#define ZERO_4 ZERO_3; ZERO2(Z6, Z7)
#define ZERO_6 ZERO_4; ZERO2(Z8, Z9); ZERO2(Z10, Z11)
#define ZERO_12 ZERO_6; ZERO2(Z12, Z13); ZERO2(Z14, Z15); ZERO2(Z16, Z17); ZERO2(Z18, Z19); ZERO2(Z20, Z21); ZERO2(Z22, Z23)

// Two vectors of each of so many rows, R13 bytes apart, at R11.
#define STORE2(a, b) \
	VMOVUPS a, (R11); \
	VMOVUPS b, 64(R11); \
	ADDQ R13, R11
#define LOAD2(a, b) \
	VMOVUPS (R11), a; \
	VMOVUPS 64(R11), b; \
	ADDQ R13, R11
#define ROWS1(MOVE) MOVE(Z0, Z1)
#define ROWS2(MOVE) ROWS1(MOVE); MOVE(Z2, Z3)
#define ROWS3(MOVE) ROWS2(MOVE); MOVE(Z4, Z5)
#define ROWS4(MOVE) ROWS3(MOVE); MOVE(Z6, Z7)
#define ROWS6(MOVE) ROWS4(MOVE); MOVE(Z8, Z9); MOVE(Z10, Z11)
#define ROWS12(MOVE) ROWS6(MOVE); MOVE(Z12, Z13); MOVE(Z14, Z15); MOVE(Z16, Z17); MOVE(Z18, Z19); MOVE(Z20, Z21); MOVE(Z22, Z23)

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
	VCVTPH2PS (DX), Z24; \
	VCVTPH2PS 32(DX), Z25; \
	QUERIES; \
	ADDQ $64, DX; \
	ADDQ BX, R10; \
	DECQ CX; \
	JNZ element; \
	MOVQ DI, R11; \
	ROWS(STORE2); \
	ADDQ $128, DI; \
	DECQ R9; \
	JNZ tile; \
	VZEROUPPER; \
	RET

// Weight at at: products with 32 elements of a row.
#define WEIGHT(at, a, b) \
	VBROADCASTSS at, Z26; \
	VFMADD231PS Z24, Z26, a; \
	VFMADD231PS Z25, Z26, b

#define WEIGHTS1 WEIGHT((SI), Z0, Z1)
#define WEIGHTS2 WEIGHTS1; WEIGHT((SI)(BX*1), Z2, Z3)
#define WEIGHTS3 WEIGHTS2; WEIGHT((SI)(BX*2), Z4, Z5)
#define WEIGHTS4 WEIGHTS3; WEIGHT((R10), Z6, Z7)
#define WEIGHTS6 WEIGHTS4; WEIGHT((R10)(BX*1), Z8, Z9); WEIGHT((R10)(BX*2), Z10, Z11)
#define WEIGHTS12 \
	WEIGHTS6; \
	WEIGHT((R12), Z12, Z13); \
	WEIGHT((R12)(BX*1), Z14, Z15); \
	WEIGHT((R12)(BX*2), Z16, Z17); \
	WEIGHT((AX), Z18, Z19); \
	WEIGHT((AX)(BX*1), Z20, Z21); \
	WEIGHT((AX)(BX*2), Z22, Z23)

#define SUM_ARGS \
	MOVQ sums+0(FP), DI; \
	MOVQ sumStride+8(FP), R13; \
	MOVQ weights+16(FP), SI; \
	MOVQ stride+24(FP), BX; \
	MOVQ vals+32(FP), DX; \
	MOVQ valStride+40(FP), R8; \
	MOVQ positions+48(FP), CX; \
	LEAQ (BX)(BX*2), R9; \
	LEAQ (SI)(R9*1), R10; \
	LEAQ (SI)(R9*2), R12; \
	LEAQ (R10)(R9*2), AX; \
	MOVQ DI, R11

#define SUM(WEIGHTS, ROWS) \
	SUM_ARGS; \
	ROWS(LOAD2); \
position: \
	VCVTPH2PS (DX), Z24; \
	VCVTPH2PS 32(DX), Z25; \
	WEIGHTS; \
	ADDQ R8, DX; \
	ADDQ $4, SI; \
	ADDQ $4, R10; \
	ADDQ $4, R12; \
	ADDQ $4, AX; \
	DECQ CX; \
	JNZ position; \
	MOVQ DI, R11; \
	ROWS(STORE2); \
	VZEROUPPER; \
	RET

// func scores1AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores1AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_1, QUERIES1, ROWS1)

// func scores2AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores2AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_2, QUERIES2, ROWS2)

// func scores3AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores3AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_3, QUERIES3, ROWS3)

// func scores4AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores4AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_4, QUERIES4, ROWS4)

// func scores6AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores6AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_6, QUERIES6, ROWS6)

// func scores12AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
TEXT ·scores12AVX512(SB), NOSPLIT, $0-56
	SCORES(ZERO_12, QUERIES12, ROWS12)

// func sum1AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum1AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS1, ROWS1)

// func sum2AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum2AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS2, ROWS2)

// func sum3AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum3AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS3, ROWS3)

// func sum4AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum4AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS4, ROWS4)

// func sum6AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum6AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS6, ROWS6)

// func sum12AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
TEXT ·sum12AVX512(SB), NOSPLIT, $0-56
	SUM(WEIGHTS12, ROWS12)

// Z1 = Exp(Z0); Z2 to Z4 are spent.
#define EXP \
	VMULPS.BCST ·log2e8(SB), Z0, Z1; \
	VADDPS.BCST ·magic8(SB), Z1, Z1; \
	VPSUBD.BCST ·magic8(SB), Z1, Z2; \
	VSUBPS.BCST ·magic8(SB), Z1, Z1; \
	VMULPS.BCST ·ln2hi8(SB), Z1, Z3; \
	VSUBPS Z3, Z0, Z3; \
	VMULPS.BCST ·ln2lo8(SB), Z1, Z1; \
	VSUBPS Z1, Z3, Z3; \
	VMULPS.BCST ·c68(SB), Z3, Z1; \
	VADDPS.BCST ·c58(SB), Z1, Z1; \
	VMULPS Z3, Z1, Z1; \
	VADDPS.BCST ·c48(SB), Z1, Z1; \
	VMULPS Z3, Z1, Z1; \
	VADDPS.BCST ·c38(SB), Z1, Z1; \
	VMULPS Z3, Z1, Z1; \
	VADDPS.BCST ·c28(SB), Z1, Z1; \
	VMULPS Z3, Z1, Z1; \
	VADDPS.BCST ·one8(SB), Z1, Z1; \
	VMULPS Z3, Z1, Z1; \
	VADDPS.BCST ·one8(SB), Z1, Z1; \
	VPADDD.BCST ·bias8(SB), Z2, Z2; \
	VPSLLD $23, Z2, Z2; \
	VMULPS Z2, Z1, Z1; \
	VCMPPS.BCST $17, ·low8(SB), Z0, K1; \
	VPXORD Z1, Z1, K1, Z1; \
	VCMPPS.BCST $30, ·high8(SB), Z0, K1; \
	VBROADCASTSS ·largest8(SB), K1, Z1; \
	VCMPPS $3, Z0, Z0, K1; \
	VMOVAPS Z0, K1, Z1

// func expSumAVX512(x *float32, top float32, sums *[16]float32, n int)
TEXT ·expSumAVX512(SB), NOSPLIT, $0-32
	MOVQ x+0(FP), DI
	VBROADCASTSS top+8(FP), Z5
	MOVQ sums+16(FP), DX
	MOVQ n+24(FP), CX
	VMOVUPS (DX), Z6
	SHRQ $4, CX
	JZ done
loop:
	VMOVUPS (DI), Z0
	VSUBPS Z5, Z0, Z0
	EXP
	VMOVUPS Z1, (DI)
	VADDPS Z1, Z6, Z6
	ADDQ $64, DI
	DECQ CX
	JNZ loop
done:
	VMOVUPS Z6, (DX)
	VZEROUPPER
	RET

// func siluMulAVX512(gate, up *float32, n int)
TEXT ·siluMulAVX512(SB), NOSPLIT, $0-24
	MOVQ gate+0(FP), DI
	MOVQ up+8(FP), SI
	MOVQ n+16(FP), CX
	SHRQ $4, CX
	JZ done
loop:
	VMOVUPS (DI), Z5
	VPXORD.BCST ·sign8(SB), Z5, Z0
	EXP
	VADDPS.BCST ·one8(SB), Z1, Z1
	VDIVPS Z1, Z5, Z5
	VMULPS (SI), Z5, Z5
	VMOVUPS Z5, (DI)
	ADDQ $64, DI
	ADDQ $64, SI
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET
