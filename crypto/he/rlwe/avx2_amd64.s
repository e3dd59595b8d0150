#include "textflag.h"

// A vector is one row: the same coefficient of eight polynomials. Nothing here
// branches or addresses memory by a secret.

#define N 2048
#define VALUES 16384

DATA ·modulus+0(SB)/4, $134176769
GLOBL ·modulus(SB), RODATA|NOPTR, $4

DATA ·residueMask+0(SB)/4, $0x07FFFFFF
GLOBL ·residueMask(SB), RODATA|NOPTR, $4

DATA ·ones32+0(SB)/4, $1
GLOBL ·ones32(SB), RODATA|NOPTR, $4

DATA ·threes32+0(SB)/4, $3
GLOBL ·threes32(SB), RODATA|NOPTR, $4

DATA ·halfCoins+0(SB)/4, $24
GLOBL ·halfCoins(SB), RODATA|NOPTR, $4

DATA ·lowHalf+0(SB)/4, $0x0000FFFF
GLOBL ·lowHalf(SB), RODATA|NOPTR, $4

DATA ·nibble+0(SB)/1, $0x0F
GLOBL ·nibble(SB), RODATA|NOPTR, $1

DATA ·bytes1+0(SB)/1, $1
GLOBL ·bytes1(SB), RODATA|NOPTR, $1

DATA ·words1+0(SB)/2, $1
GLOBL ·words1(SB), RODATA|NOPTR, $2

DATA ·popcount+0(SB)/8, $0x0302020102010100
DATA ·popcount+8(SB)/8, $0x0403030203020201
GLOBL ·popcount(SB), RODATA|NOPTR, $16

// R = A * w in Montgomery form, with w in W, w*q^-1 in WQ and q in Y15: the high
// halves of two exact products, for even and odd lanes. Uses T1 to T4.
#define MULTIPLY(A, W, WQ, R, T1, T2, T3, T4) \
	VMOVSHDUP A, T1; \
	VPMULDQ A, W, T2; \
	VPMULDQ A, WQ, T3; \
	VPMULDQ T3, Y15, T3; \
	VPSUBQ T3, T2, T2; \
	VPMULDQ T1, W, T4; \
	VPMULDQ T1, WQ, T1; \
	VPMULDQ T1, Y15, T1; \
	VPSUBQ T1, T4, T4; \
	VMOVSHDUP T2, T2; \
	VPBLENDD $0xAA, T4, T2, R

// A in (-q, q) becomes A + q where A is negative: as unsigned words, the lesser.
#define CANONICAL(A, T) \
	VPADDD Y15, A, T; \
	VPMINUD T, A, A

// func nttAVX2(x *int32, forward *factor)
TEXT ·nttAVX2(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ forward+8(FP), SI
	VPBROADCASTD ·modulus(SB), Y15
	MOVQ $1, R10         // groups
	MOVQ $(N*16), R11    // distance in bytes
layer:
	MOVQ DI, AX
	MOVQ R10, CX
group:
	VPBROADCASTD 0(SI), Y14
	VPBROADCASTD 4(SI), Y13
	ADDQ $8, SI
	LEAQ (AX)(R11*1), BX
	MOVQ BX, R12
	CMPQ R11, $32
	JEQ last
two:
	VMOVDQU (BX), Y0
	VMOVDQU 32(BX), Y1
	MULTIPLY(Y0, Y14, Y13, Y2, Y3, Y4, Y5, Y6)
	MULTIPLY(Y1, Y14, Y13, Y7, Y8, Y9, Y10, Y11)
	VMOVDQU (AX), Y0
	VMOVDQU 32(AX), Y1
	VPADDD Y2, Y0, Y3
	VPSUBD Y2, Y0, Y4
	VPADDD Y7, Y1, Y5
	VPSUBD Y7, Y1, Y6
	VMOVDQU Y3, (AX)
	VMOVDQU Y4, (BX)
	VMOVDQU Y5, 32(AX)
	VMOVDQU Y6, 32(BX)
	ADDQ $64, AX
	ADDQ $64, BX
	CMPQ AX, R12
	JB two
	MOVQ BX, AX
	DECQ CX
	JNZ group
	SHRQ $1, R11
	SHLQ $1, R10
	JMP layer
last: // distance 1: one butterfly in each group
	VMOVDQU (BX), Y0
	MULTIPLY(Y0, Y14, Y13, Y2, Y3, Y4, Y5, Y6)
	VMOVDQU (AX), Y0
	VPADDD Y2, Y0, Y3
	VPSUBD Y2, Y0, Y4
	VMOVDQU Y3, (AX)
	VMOVDQU Y4, (BX)
	LEAQ 32(BX), AX
	DECQ CX
	JNZ group
	VZEROUPPER
	RET

// func inttAVX2(x *int32, inverse *factor)
TEXT ·inttAVX2(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ inverse+8(FP), SI
	VPBROADCASTD ·modulus(SB), Y15
	MOVQ $(N/2), R10
	MOVQ $32, R11
layer:
	MOVQ DI, AX
	MOVQ R10, CX
group:
	VPBROADCASTD 0(SI), Y14
	VPBROADCASTD 4(SI), Y13
	ADDQ $8, SI
	LEAQ (AX)(R11*1), BX
	MOVQ BX, R12
butterfly:
	VMOVDQU (AX), Y0
	VMOVDQU (BX), Y1
	VPADDD Y1, Y0, Y2
	VPSUBD Y1, Y0, Y3
	VPSUBD Y15, Y2, Y4
	VPMINUD Y4, Y2, Y2
	MULTIPLY(Y3, Y14, Y13, Y5, Y6, Y7, Y8, Y9)
	CANONICAL(Y5, Y6)
	VMOVDQU Y2, (AX)
	VMOVDQU Y5, (BX)
	ADDQ $32, AX
	ADDQ $32, BX
	CMPQ AX, R12
	JB butterfly
	MOVQ BX, AX
	DECQ CX
	JNZ group
	SHLQ $1, R11
	SHRQ $1, R10
	JNZ layer
	VZEROUPPER
	RET

// func ternaryAVX2(x *int32, random *byte)
TEXT ·ternaryAVX2(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ random+8(FP), SI
	VPBROADCASTD ·threes32(SB), Y14
	VPBROADCASTD ·ones32(SB), Y13
	MOVQ $N, CX
row:
	VMOVDQU (SI), Y0
	VMOVSHDUP Y0, Y1
	VPMULUDQ Y0, Y14, Y2
	VPMULUDQ Y1, Y14, Y3
	VMOVSHDUP Y2, Y2
	VPBLENDD $0xAA, Y3, Y2, Y2
	VPSUBD Y13, Y2, Y2
	VMOVDQU Y2, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	DECQ CX
	JNZ row
	VZEROUPPER
	RET

// The number of ones in each byte of A, by nibbles. Y11 is the table, Y12 the
// nibbles' mask.
#define BYTECOUNT(A, R, T) \
	VPAND Y12, A, T; \
	VPSRLW $4, A, R; \
	VPAND Y12, R, R; \
	VPSHUFB T, Y11, T; \
	VPSHUFB R, Y11, R; \
	VPADDB T, R, R

// Bytes of R to their sums in 32-bit words. Y10 and Y9 are ones.
#define SUMBYTES(R) \
	VPMADDUBSW Y10, R, R; \
	VPMADDWD Y9, R, R

// func errorsAVX2(x *int32, random *byte)
TEXT ·errorsAVX2(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ random+8(FP), SI
	VBROADCASTI128 ·popcount(SB), Y11
	VPBROADCASTB ·nibble(SB), Y12
	VPBROADCASTB ·bytes1(SB), Y10
	VPBROADCASTW ·words1(SB), Y9
	VPBROADCASTD ·halfCoins(SB), Y13
	VPBROADCASTD ·lowHalf(SB), Y14
	MOVQ $(N/2), CX
pair:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VMOVDQU 64(SI), Y2
	BYTECOUNT(Y0, Y3, Y6)
	BYTECOUNT(Y1, Y4, Y7)
	BYTECOUNT(Y2, Y5, Y8)
	VPSRLD $16, Y5, Y6
	VPAND Y14, Y5, Y5
	VPADDB Y5, Y3, Y3
	VPADDB Y6, Y4, Y4
	SUMBYTES(Y3)
	SUMBYTES(Y4)
	VPSUBD Y13, Y3, Y3
	VPSUBD Y13, Y4, Y4
	VPADDD (DI), Y3, Y3
	VPADDD 32(DI), Y4, Y4
	VMOVDQU Y3, (DI)
	VMOVDQU Y4, 32(DI)
	ADDQ $96, SI
	ADDQ $64, DI
	DECQ CX
	JNZ pair
	VZEROUPPER
	RET

// func combineAVX2(dst, u, v *int32, key, one *factor)
TEXT ·combineAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ u+8(FP), SI
	MOVQ v+16(FP), BX
	MOVQ key+24(FP), DX
	MOVQ one+32(FP), AX
	VPBROADCASTD ·modulus(SB), Y15
	VPBROADCASTD 0(AX), Y12
	VPBROADCASTD 4(AX), Y11
	MOVQ $N, CX
row:
	VPBROADCASTD 0(DX), Y14
	VPBROADCASTD 4(DX), Y13
	VMOVDQU (SI), Y0
	MULTIPLY(Y0, Y14, Y13, Y1, Y2, Y3, Y4, Y5)
	VPADDD (BX), Y1, Y1
	MULTIPLY(Y1, Y12, Y11, Y2, Y3, Y4, Y5, Y6)
	CANONICAL(Y2, Y3)
	VMOVDQU Y2, (DI)
	ADDQ $8, DX
	ADDQ $32, SI
	ADDQ $32, BX
	ADDQ $32, DI
	DECQ CX
	JNZ row
	VZEROUPPER
	RET

// func finishAVX2(x *int32, scale *factor)
TEXT ·finishAVX2(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ scale+8(FP), AX
	VPBROADCASTD ·modulus(SB), Y15
	VPSRLD $1, Y15, Y14
	VPBROADCASTD 0(AX), Y12
	VPBROADCASTD 4(AX), Y11
	MOVQ $N, CX
row:
	VMOVDQU (DI), Y0
	MULTIPLY(Y0, Y12, Y11, Y1, Y2, Y3, Y4, Y5)
	CANONICAL(Y1, Y2)
	VPCMPGTD Y14, Y1, Y2
	VPAND Y15, Y2, Y2
	VPSUBD Y2, Y1, Y1
	VMOVDQU Y1, (DI)
	ADDQ $32, DI
	DECQ CX
	JNZ row
	VZEROUPPER
	RET

// func packAVX2(dst *byte, x *int32)
// R8 is the number of bits held in Y0 when a row comes.
TEXT ·packAVX2(SB), NOSPLIT, $0-16
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ $N, CX
	XORQ R8, R8
	VPXOR Y0, Y0, Y0
row:
	VMOVDQU (SI), Y1
	ADDQ $32, SI
	VMOVQ R8, X2
	VPSLLD X2, Y1, Y3
	VPOR Y3, Y0, Y0
	ADDQ $27, R8
	CMPQ R8, $32
	JB held
	VMOVDQU Y0, (DI)
	ADDQ $32, DI
	SUBQ $32, R8
	MOVQ $27, R9 // the bits that did not fit: x >> (27 - left)
	SUBQ R8, R9
	VMOVQ R9, X2
	VPSRLD X2, Y1, Y0
held:
	DECQ CX
	JNZ row
	VZEROUPPER
	RET

// func addPackedAVX2(sum *int32, src *byte) uint32
// Y0 holds the current row of words, R8 how many of its bits are used up.
TEXT ·addPackedAVX2(SB), NOSPLIT, $0-20
	MOVQ sum+0(FP), DI
	MOVQ src+8(FP), SI
	VPBROADCASTD ·residueMask(SB), Y14
	VPBROADCASTD ·modulus(SB), Y15
	VPCMPEQD Y12, Y12, Y12
	VPADDD Y12, Y15, Y15 // q - 1
	VPXOR Y13, Y13, Y13  // residues that are too large
	MOVQ $(N/32), CX
group:
	MOVQ $0, R8
	MOVQ $32, DX
	VMOVDQU (SI), Y0
	ADDQ $32, SI
row:
	VMOVQ R8, X2
	VPSRLD X2, Y0, Y1
	ADDQ $27, R8
	CMPQ R8, $32
	JB whole
	SUBQ $32, R8
	JZ next              // the last row of a group ends with its last word
	MOVQ $27, R9
	SUBQ R8, R9
	VMOVDQU (SI), Y0
	ADDQ $32, SI
	VMOVQ R9, X2
	VPSLLD X2, Y0, Y3
	VPOR Y3, Y1, Y1
whole:
next:
	VPAND Y14, Y1, Y1
	VPCMPGTD Y15, Y1, Y4
	VPOR Y4, Y13, Y13
	VPADDD (DI), Y1, Y1
	VMOVDQU Y1, (DI)
	ADDQ $32, DI
	DECQ DX
	JNZ row
	DECQ CX
	JNZ group
	VPMOVMSKB Y13, AX
	MOVL AX, ret+16(FP)
	VZEROUPPER
	RET

#define FOLD(A) \
	VPSUBD A, Y0, Y1; \
	VPMINUD Y1, Y0, Y0

// func reduceAVX2(sum *int32)
TEXT ·reduceAVX2(SB), NOSPLIT, $0-8
	MOVQ sum+0(FP), DI
	VPBROADCASTD ·modulus(SB), Y15
	VPSLLD $1, Y15, Y14
	VPSLLD $2, Y15, Y13
	VPSLLD $3, Y15, Y12
	VPSLLD $4, Y15, Y11
	MOVQ $N, CX
row:
	VMOVDQU (DI), Y0
	FOLD(Y11)
	FOLD(Y12)
	FOLD(Y13)
	FOLD(Y14)
	FOLD(Y15)
	VMOVDQU Y0, (DI)
	ADDQ $32, DI
	DECQ CX
	JNZ row
	VZEROUPPER
	RET
