#include "textflag.h"

// AVX2 with F16C: tiles of floating-point numbers with unquantized inputs, column
// after column as the reference does (reference.go), fused. AX is the distance of
// two tokens' inputs, R10 to R13 the tokens' inputs, Y8 and Y9 the weights of rows 0-7
// and 8-15.

#define WEIGHTS32 \
	VMOVUPS (SI), Y8; \
	VMOVUPS 32(SI), Y9; \
	ADDQ $64, SI

#define WEIGHTS16 \
	VCVTPH2PS (SI), Y8; \
	VCVTPH2PS 16(SI), Y9; \
	ADDQ $32, SI

#define WEIGHTSB16 \
	VPMOVZXWD (SI), Y8; \
	VPMOVZXWD 16(SI), Y9; \
	VPSLLD $16, Y8, Y8; \
	VPSLLD $16, Y9, Y9; \
	ADDQ $32, SI

#define TOKEN(x, a, b) \
	VBROADCASTSS (x), Y10; \
	VFMADD231PS Y8, Y10, a; \
	VFMADD231PS Y9, Y10, b; \
	ADDQ $4, x

#define ONE(WEIGHTS) \
	MOVQ dst+0(FP), DI; \
	MOVQ groups+8(FP), SI; \
	MOVQ x+16(FP), DX; \
	MOVQ cols+24(FP), R8; \
	MOVQ groupCount+32(FP), R9; \
group: \
	VXORPS Y0, Y0, Y0; \
	VXORPS Y1, Y1, Y1; \
	MOVQ DX, R10; \
	MOVQ R8, CX; \
column: \
	WEIGHTS; \
	TOKEN(R10, Y0, Y1); \
	DECQ CX; \
	JNZ column; \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y1, 32(DI); \
	ADDQ $64, DI; \
	DECQ R9; \
	JNZ group; \
	VZEROUPPER; \
	RET

#define FOUR(WEIGHTS) \
	MOVQ dst+0(FP), DI; \
	MOVQ stride+8(FP), BX; \
	MOVQ groups+16(FP), SI; \
	MOVQ x+24(FP), DX; \
	MOVQ cols+32(FP), R8; \
	MOVQ groupCount+40(FP), R9; \
	LEAQ (R8*4), AX; \
group: \
	VXORPS Y0, Y0, Y0; \
	VXORPS Y1, Y1, Y1; \
	VXORPS Y2, Y2, Y2; \
	VXORPS Y3, Y3, Y3; \
	VXORPS Y4, Y4, Y4; \
	VXORPS Y5, Y5, Y5; \
	VXORPS Y6, Y6, Y6; \
	VXORPS Y7, Y7, Y7; \
	MOVQ DX, R10; \
	LEAQ (R10)(AX*1), R11; \
	LEAQ (R11)(AX*1), R12; \
	LEAQ (R12)(AX*1), R13; \
	MOVQ R8, CX; \
column: \
	WEIGHTS; \
	TOKEN(R10, Y0, Y1); \
	TOKEN(R11, Y2, Y3); \
	TOKEN(R12, Y4, Y5); \
	TOKEN(R13, Y6, Y7); \
	DECQ CX; \
	JNZ column; \
	LEAQ (DI)(BX*2), R14; \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y1, 32(DI); \
	VMOVUPS Y2, (DI)(BX*1); \
	VMOVUPS Y3, 32(DI)(BX*1); \
	VMOVUPS Y4, (R14); \
	VMOVUPS Y5, 32(R14); \
	VMOVUPS Y6, (R14)(BX*1); \
	VMOVUPS Y7, 32(R14)(BX*1); \
	ADDQ $64, DI; \
	DECQ R9; \
	JNZ group; \
	VZEROUPPER; \
	RET

// func oneF32AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneF32AVX2(SB), NOSPLIT, $0-40
	ONE(WEIGHTS32)

// func oneF16AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneF16AVX2(SB), NOSPLIT, $0-40
	ONE(WEIGHTS16)

// func oneBF16AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)
TEXT ·oneBF16AVX2(SB), NOSPLIT, $0-40
	ONE(WEIGHTSB16)

// func fourF32AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourF32AVX2(SB), NOSPLIT, $0-48
	FOUR(WEIGHTS32)

// func fourF16AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourF16AVX2(SB), NOSPLIT, $0-48
	FOUR(WEIGHTS16)

// func fourBF16AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
TEXT ·fourBF16AVX2(SB), NOSPLIT, $0-48
	FOUR(WEIGHTSB16)
