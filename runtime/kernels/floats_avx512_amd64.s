#include "textflag.h"

// AVX-512F: tiles of floating-point numbers for 16 tokens with unquantized inputs, column after column as the
// reference does (reference.go), fused. Z0 to Z15 are the tokens' sums of 16 rows, Z16 is a column of
// weights. AX is the distance of two tokens' inputs, R13 three of them; R10, R11, R12 and R15 are the
// inputs of tokens 0, 5, 7 and 2, from which the others are 1, 2, 3, 4, 6, 8 or 12 distances away.

#define WEIGHTS32 \
	VMOVUPS (SI), Z16; \
	ADDQ $64, SI

#define WEIGHTS16 \
	VCVTPH2PS (SI), Z16; \
	ADDQ $32, SI

#define WEIGHTSB16 \
	VPMOVZXWD (SI), Z16; \
	VPSLLD $16, Z16, Z16; \
	ADDQ $32, SI

#define COLUMN16 \
	VFMADD231PS.BCST (R10), Z16, Z0; \
	VFMADD231PS.BCST (R10)(AX*1), Z16, Z1; \
	VFMADD231PS.BCST (R15), Z16, Z2; \
	VFMADD231PS.BCST (R10)(R13*1), Z16, Z3; \
	VFMADD231PS.BCST (R10)(AX*4), Z16, Z4; \
	VFMADD231PS.BCST (R11), Z16, Z5; \
	VFMADD231PS.BCST (R10)(R13*2), Z16, Z6; \
	VFMADD231PS.BCST (R12), Z16, Z7; \
	VFMADD231PS.BCST (R10)(AX*8), Z16, Z8; \
	VFMADD231PS.BCST (R11)(AX*4), Z16, Z9; \
	VFMADD231PS.BCST (R12)(R13*1), Z16, Z10; \
	VFMADD231PS.BCST (R11)(R13*2), Z16, Z11; \
	VFMADD231PS.BCST (R10)(R13*4), Z16, Z12; \
	VFMADD231PS.BCST (R11)(AX*8), Z16, Z13; \
	VFMADD231PS.BCST (R15)(R13*4), Z16, Z14; \
	VFMADD231PS.BCST (R12)(AX*8), Z16, Z15; \
	ADDQ $4, R10; \
	ADDQ $4, R11; \
	ADDQ $4, R12; \
	ADDQ $4, R15

#define STORE(z) \
	VMOVUPS z, (R10); \
	LEAQ (R10)(BX*1), R10

#define SIXTEEN(WEIGHTS) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groups+16(FP), SI; \
	MOVQ x+24(FP), DX; \
	MOVQ cols+32(FP), R8; \
	MOVQ groupCount+40(FP), R9; \
	LEAQ (R8*4), AX; \
	LEAQ (AX)(AX*2), R13; \
group: \
	VPXORD Z0, Z0, Z0; \
	VPXORD Z1, Z1, Z1; \
	VPXORD Z2, Z2, Z2; \
	VPXORD Z3, Z3, Z3; \
	VPXORD Z4, Z4, Z4; \
	VPXORD Z5, Z5, Z5; \
	VPXORD Z6, Z6, Z6; \
	VPXORD Z7, Z7, Z7; \
	VPXORD Z8, Z8, Z8; \
	VPXORD Z9, Z9, Z9; \
	VPXORD Z10, Z10, Z10; \
	VPXORD Z11, Z11, Z11; \
	VPXORD Z12, Z12, Z12; \
	VPXORD Z13, Z13, Z13; \
	VPXORD Z14, Z14, Z14; \
	VPXORD Z15, Z15, Z15; \
	MOVQ DX, R10; \
	LEAQ (DX)(AX*2), R15; \
	LEAQ (R15)(R13*1), R11; \
	LEAQ (R11)(AX*2), R12; \
	MOVQ R8, CX; \
column: \
	WEIGHTS; \
	COLUMN16; \
	DECQ CX; \
	JNZ column; \
	MOVQ DI, R10; \
	STORE(Z0); \
	STORE(Z1); \
	STORE(Z2); \
	STORE(Z3); \
	STORE(Z4); \
	STORE(Z5); \
	STORE(Z6); \
	STORE(Z7); \
	STORE(Z8); \
	STORE(Z9); \
	STORE(Z10); \
	STORE(Z11); \
	STORE(Z12); \
	STORE(Z13); \
	STORE(Z14); \
	STORE(Z15); \
	ADDQ $64, DI; \
	DECQ R9; \
	JNZ group; \
	VZEROUPPER; \
	RET

// func sixteenF32AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·sixteenF32AVX512(SB), NOSPLIT, $0-48
	SIXTEEN(WEIGHTS32)

// func sixteenF16AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·sixteenF16AVX512(SB), NOSPLIT, $0-48
	SIXTEEN(WEIGHTS16)

// func sixteenBF16AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·sixteenBF16AVX512(SB), NOSPLIT, $0-48
	SIXTEEN(WEIGHTSB16)
