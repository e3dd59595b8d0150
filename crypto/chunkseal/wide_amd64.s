// AES-256 in counter mode and GHASH (NIST SP 800-38D) on four blocks at once in each register, with
// VAES and VPCLMULQDQ. It needs AVX-512 F, BW and VL and BMI2 besides. Neither branches nor
// addresses depend on keys or data, only on lengths. Registers that held secrets are cleared.
//
// GHASH reads bits in the opposite order of the processor's multiplication. Blocks are therefore
// turned around byte by byte, and the powers of H were multiplied by x before: the product of two
// reflected polynomials is one bit short, and the factor moves it into place.

#include "textflag.h"

DATA turn<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA turn<>+8(SB)/8, $0x0001020304050607
GLOBL turn<>(SB), RODATA|NOPTR, $16

// What turns the counter of J0 into those of four blocks, and of the next four.
DATA counters<>+0(SB)/8, $0
DATA counters<>+8(SB)/8, $0
DATA counters<>+16(SB)/8, $1
DATA counters<>+24(SB)/8, $0
DATA counters<>+32(SB)/8, $2
DATA counters<>+40(SB)/8, $0
DATA counters<>+48(SB)/8, $3
DATA counters<>+56(SB)/8, $0
GLOBL counters<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

// x^128 = x^7 + x^2 + x + 1, reflected, without its lowest term.
DATA polynomial<>+0(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $8

// CLEAR forgets what all registers held: VZEROALL reaches the first sixteen.
#define CLEAR \
	VZEROALL                \
	VPXORD Z16, Z16, Z16    \
	VPXORD Z17, Z17, Z17    \
	VPXORD Z18, Z18, Z18    \
	VPXORD Z19, Z19, Z19    \
	VPXORD Z20, Z20, Z20    \
	VPXORD Z21, Z21, Z21    \
	VPXORD Z22, Z22, Z22    \
	VPXORD Z23, Z23, Z23    \
	VPXORD Z24, Z24, Z24    \
	VPXORD Z25, Z25, Z25    \
	VPXORD Z26, Z26, Z26    \
	VPXORD Z27, Z27, Z27    \
	VPXORD Z28, Z28, Z28    \
	VPXORD Z29, Z29, Z29    \
	VPXORD Z30, Z30, Z30    \
	VPXORD Z31, Z31, Z31

// ROUNDKEYS loads the round keys, each four times, into Z17 to Z31.
#define ROUNDKEYS(k) \
	VBROADCASTI32X4 0(k), Z17   \
	VBROADCASTI32X4 16(k), Z18  \
	VBROADCASTI32X4 32(k), Z19  \
	VBROADCASTI32X4 48(k), Z20  \
	VBROADCASTI32X4 64(k), Z21  \
	VBROADCASTI32X4 80(k), Z22  \
	VBROADCASTI32X4 96(k), Z23  \
	VBROADCASTI32X4 112(k), Z24 \
	VBROADCASTI32X4 128(k), Z25 \
	VBROADCASTI32X4 144(k), Z26 \
	VBROADCASTI32X4 160(k), Z27 \
	VBROADCASTI32X4 176(k), Z28 \
	VBROADCASTI32X4 192(k), Z29 \
	VBROADCASTI32X4 208(k), Z30 \
	VBROADCASTI32X4 224(k), Z31

// CONSTANTS loads what turns blocks around (Z10) and the polynomial (Z11).
#define CONSTANTS \
	VBROADCASTI32X4 turn<>(SB), Z10  \
	VPBROADCASTQ polynomial<>(SB), Z11

// FIRST4 loads the counter block and makes the counters of four blocks in Z8, turned around, and
// the step to the next four in Z9.
#define FIRST4(counter) \
	VBROADCASTI32X4 (counter), Z8 \
	VPSHUFB Z10, Z8, Z8           \
	VPADDD  counters<>(SB), Z8, Z8 \
	VBROADCASTI32X4 four<>(SB), Z9

// COUNT puts the next four counter blocks into z, the first round key added.
#define COUNT(z) \
	VPSHUFB Z10, Z8, z \
	VPADDD  Z9, Z8, Z8 \
	VPXORD  Z17, z, z

// ROUND is one round of AES on sixteen blocks.
#define ROUND(key) \
	VAESENC key, Z0, Z0 \
	VAESENC key, Z1, Z1 \
	VAESENC key, Z2, Z2 \
	VAESENC key, Z3, Z3

// TIMES adds the four products of z by the powers at p to the sums Z13 (low), Z14 (middle) and
// Z15 (high).
#define TIMES(z, p) \
	VMOVDQU64  p, Z5                  \
	VPCLMULQDQ $0x00, Z5, z, Z6       \
	VPXORD     Z6, Z13, Z13           \
	VPCLMULQDQ $0x01, Z5, z, Z7       \
	VPCLMULQDQ $0x10, Z5, z, Z6       \
	VPTERNLOGD $0x96, Z6, Z7, Z14     \
	VPCLMULQDQ $0x11, Z5, z, Z7       \
	VPXORD     Z7, Z15, Z15

// REDUCE makes of the sums a polynomial in each quarter of Z15.
#define REDUCE \
	VPSHUFD    $0x4e, Z13, Z6        \
	VPCLMULQDQ $0x00, Z11, Z13, Z7   \
	VPTERNLOGD $0x96, Z6, Z7, Z14    \
	VPSHUFD    $0x4e, Z14, Z6        \
	VPCLMULQDQ $0x00, Z11, Z14, Z7   \
	VPTERNLOGD $0x96, Z6, Z7, Z15

// QUARTERS adds the quarters of Z15 into X12, whose upper parts become zero.
#define QUARTERS \
	VEXTRACTI64X4 $1, Z15, Y6  \
	VPXORD        Y6, Y15, Y15 \
	VEXTRACTI32X4 $1, Y15, X6  \
	VPXORD        X6, X15, X12

// GROUP hashes 256 bytes at SI and decrypts them to DI: the steps of the hash stand between rounds.
#define GROUP(store) \
	COUNT(Z0) \
	COUNT(Z1) \
	COUNT(Z2) \
	COUNT(Z3) \
	VPXORD  Z13, Z13, Z13 \
	VPXORD  Z14, Z14, Z14 \
	VPXORD  Z15, Z15, Z15 \
	ROUND(Z18) \
	VMOVDQU64 0(SI), Z4 \
	VPSHUFB Z10, Z4, Z4 \
	VPXORD  Z12, Z4, Z4 \
	ROUND(Z19) \
	TIMES(Z4, 256(AX)) \
	ROUND(Z20) \
	VMOVDQU64 64(SI), Z4 \
	VPSHUFB Z10, Z4, Z4 \
	ROUND(Z21) \
	TIMES(Z4, 320(AX)) \
	ROUND(Z22) \
	VMOVDQU64 128(SI), Z4 \
	VPSHUFB Z10, Z4, Z4 \
	ROUND(Z23) \
	TIMES(Z4, 384(AX)) \
	ROUND(Z24) \
	VMOVDQU64 192(SI), Z4 \
	VPSHUFB Z10, Z4, Z4 \
	ROUND(Z25) \
	TIMES(Z4, 448(AX)) \
	ROUND(Z26) \
	VPSHUFD    $0x4e, Z13, Z6 \
	VPCLMULQDQ $0x00, Z11, Z13, Z7 \
	ROUND(Z27) \
	VPTERNLOGD $0x96, Z6, Z7, Z14 \
	VPSHUFD    $0x4e, Z14, Z6 \
	VPCLMULQDQ $0x00, Z11, Z14, Z7 \
	ROUND(Z28) \
	VPTERNLOGD $0x96, Z6, Z7, Z15 \
	ROUND(Z29) \
	QUARTERS \
	ROUND(Z30) \
	VPXORD 0(SI), Z31, Z4 \
	VPXORD 64(SI), Z31, Z5 \
	VPXORD 128(SI), Z31, Z6 \
	VPXORD 192(SI), Z31, Z7 \
	VAESENCLAST Z4, Z0, Z0 \
	VAESENCLAST Z5, Z1, Z1 \
	VAESENCLAST Z6, Z2, Z2 \
	VAESENCLAST Z7, Z3, Z3 \
	store Z0, 0(DI) \
	store Z1, 64(DI) \
	store Z2, 128(DI) \
	store Z3, 192(DI)

// func openWide(k *wideKey, hash *[16]byte, counter *[16]byte, dst, src *byte, groups int, past bool)
// hashes groups of 256 bytes at src and XORs them with the key stream into dst, at least one.
// counter is that of the first block and does not change. past stores past the cache, for which dst
// is a multiple of 64.
TEXT ·openWide(SB), NOSPLIT, $0-49
	MOVQ k+0(FP), AX
	MOVQ hash+8(FP), BX
	MOVQ counter+16(FP), CX
	MOVQ dst+24(FP), DI
	MOVQ src+32(FP), SI
	MOVQ groups+40(FP), DX
	ROUNDKEYS(AX)
	CONSTANTS
	FIRST4(CX)
	VMOVDQU (BX), X12
	VPSHUFB X10, X12, X12
	CMPB past+48(FP), $0
	JNE  past

group:
	GROUP(VMOVDQU64)
	ADDQ $256, SI
	ADDQ $256, DI
	DECQ DX
	JNZ  group
	JMP  end

past:
	GROUP(VMOVNTDQ)
	ADDQ $256, SI
	ADDQ $256, DI
	DECQ DX
	JNZ  past
	SFENCE

end:
	VPSHUFB X10, X12, X12
	VMOVDQU X12, (BX)
	CLEAR
	RET

// func hashWide(k *wideKey, hash *[16]byte, src *byte, n int)
// adds n bytes, 1 to 256, to the hash, the last block filled up with zeros. The powers begin at
// that of the number of blocks; behind the last one are zeros.
TEXT ·hashWide(SB), NOSPLIT, $0-32
	MOVQ k+0(FP), AX
	MOVQ hash+8(FP), BX
	MOVQ src+16(FP), SI
	MOVQ n+24(FP), CX
	CONSTANTS
	VMOVDQU (BX), X12
	VPSHUFB X10, X12, X12
	LEAQ 15(CX), DX
	ANDQ $-16, DX
	ADDQ $512, AX
	SUBQ DX, AX
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15

quarter:
	MOVQ  $-1, DX
	CMPQ  CX, $64
	JGE   full
	BZHIQ CX, DX, DX

full:
	KMOVQ DX, K1
	VMOVDQU8.Z (SI), K1, Z4
	VPSHUFB Z10, Z4, Z4
	VPXORD  Z12, Z4, Z4
	VPXORD  Z12, Z12, Z12
	TIMES(Z4, (AX))
	ADDQ $64, AX
	ADDQ $64, SI
	SUBQ $64, CX
	JGT  quarter
	REDUCE
	QUARTERS
	VPSHUFB X10, X12, X12
	VMOVDQU X12, (BX)
	CLEAR
	RET

// func streamWide(k *wideKey, counter *[16]byte, dst, src *byte, n int)
// XORs n bytes at src, at least one, with the key stream into dst.
TEXT ·streamWide(SB), NOSPLIT, $0-40
	MOVQ k+0(FP), AX
	MOVQ counter+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ n+32(FP), CX
	ROUNDKEYS(AX)
	CONSTANTS
	FIRST4(BX)

four:
	MOVQ    $-1, DX
	CMPQ    CX, $64
	JGE     whole
	BZHIQ   CX, DX, DX

whole:
	KMOVQ   DX, K1
	COUNT(Z0)
	VAESENC Z18, Z0, Z0
	VAESENC Z19, Z0, Z0
	VAESENC Z20, Z0, Z0
	VAESENC Z21, Z0, Z0
	VAESENC Z22, Z0, Z0
	VAESENC Z23, Z0, Z0
	VAESENC Z24, Z0, Z0
	VAESENC Z25, Z0, Z0
	VAESENC Z26, Z0, Z0
	VAESENC Z27, Z0, Z0
	VAESENC Z28, Z0, Z0
	VAESENC Z29, Z0, Z0
	VAESENC Z30, Z0, Z0
	VAESENCLAST Z31, Z0, Z0
	VMOVDQU8.Z (SI), K1, Z1
	VPXORD     Z1, Z0, Z0
	VMOVDQU8   Z0, K1, (DI)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JGT  four
	CLEAR
	RET

// SPREAD adds each word of x to those above it, and t to all (FIPS 197, section 5.2).
#define SPREAD(x, t) \
	VPSLLDQ $4, x, X5  \
	VPXOR   X5, x, x   \
	VPSLLDQ $8, x, X5  \
	VPXOR   X5, x, x   \
	VPXOR   t, x, x

// EVEN and ODD make the next round key of the two before, X0 and X1.
#define EVEN(constant, at) \
	VAESKEYGENASSIST $constant, X1, X4 \
	VPSHUFD $0xff, X4, X4              \
	SPREAD(X0, X4)                     \
	VMOVDQU X0, at(AX)

#define ODD(at) \
	VAESKEYGENASSIST $0, X0, X4 \
	VPSHUFD $0xaa, X4, X4       \
	SPREAD(X1, X4)              \
	VMOVDQU X1, at(AX)

// func expandWide(k *wideKey, key *[32]byte)
// fills in the round keys.
TEXT ·expandWide(SB), NOSPLIT, $0-16
	MOVQ k+0(FP), AX
	MOVQ key+8(FP), BX
	VMOVDQU 0(BX), X0
	VMOVDQU 16(BX), X1
	VMOVDQU X0, 0(AX)
	VMOVDQU X1, 16(AX)
	EVEN(0x01, 32)
	ODD(48)
	EVEN(0x02, 64)
	ODD(80)
	EVEN(0x04, 96)
	ODD(112)
	EVEN(0x08, 128)
	ODD(144)
	EVEN(0x10, 160)
	ODD(176)
	EVEN(0x20, 192)
	ODD(208)
	EVEN(0x40, 224)
	VZEROALL
	RET

// func powersWide(k *wideKey)
// fills in the powers below the first from the last of them, H x.
TEXT ·powersWide(SB), NOSPLIT, $0-8
	MOVQ k+0(FP), AX
	ADDQ $496, AX
	MOVQ $15, CX
	CONSTANTS
	VMOVDQU (AX), X5
	VMOVDQU X5, X4

power:
	VPCLMULQDQ $0x00, X5, X4, X13
	VPCLMULQDQ $0x01, X5, X4, X14
	VPCLMULQDQ $0x10, X5, X4, X6
	VPXOR      X6, X14, X14
	VPCLMULQDQ $0x11, X5, X4, X15
	REDUCE
	VMOVDQU X15, X4
	SUBQ    $16, AX
	VMOVDQU X4, (AX)
	DECQ CX
	JNZ  power
	VZEROALL
	RET
