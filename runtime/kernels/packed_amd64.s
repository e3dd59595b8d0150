#include "textflag.h"

// UNPACK writes 32 codes at SI, times the scales in Y8 to Y11, as float16 (to the nearest, ties to even).
#define UNPACK(a, b, c, d) \
	VPMOVSXBD 0(SI), Y0; \
	VPMOVSXBD 8(SI), Y1; \
	VPMOVSXBD 16(SI), Y2; \
	VPMOVSXBD 24(SI), Y3; \
	VCVTDQ2PS Y0, Y0; \
	VCVTDQ2PS Y1, Y1; \
	VCVTDQ2PS Y2, Y2; \
	VCVTDQ2PS Y3, Y3; \
	VMULPS a, Y0, Y0; \
	VMULPS b, Y1, Y1; \
	VMULPS c, Y2, Y2; \
	VMULPS d, Y3, Y3; \
	VCVTPS2PH $0, Y0, 0(DI); \
	VCVTPS2PH $0, Y1, 16(DI); \
	VCVTPS2PH $0, Y2, 32(DI); \
	VCVTPS2PH $0, Y3, 48(DI); \
	ADDQ $32, SI; \
	ADDQ $64, DI

// func unpackTileAVX2(dst *uint16, codes *int8, scales *uint16, rows int)
TEXT ·unpackTileAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ codes+8(FP), SI
	MOVQ scales+16(FP), BX
	MOVQ rows+24(FP), CX
	VCVTPH2PS 0(BX), Y8
	VCVTPH2PS 16(BX), Y9
	VCVTPH2PS 32(BX), Y10
	VCVTPH2PS 48(BX), Y11
row:
	UNPACK(Y8, Y9, Y10, Y11)
	DECQ CX
	JNZ row
	VZEROUPPER
	RET

// func unpackRowsAVX2(dst *uint16, codes *int8, scales *uint16, blocks int)
TEXT ·unpackRowsAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ codes+8(FP), SI
	MOVQ scales+16(FP), BX
	MOVQ blocks+24(FP), CX
block:
	VPBROADCASTW (BX), X8
	VCVTPH2PS X8, Y8
	UNPACK(Y8, Y8, Y8, Y8)
	ADDQ $2, BX
	DECQ CX
	JNZ block
	VZEROUPPER
	RET
