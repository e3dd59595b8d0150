// SHA-256 (FIPS 180-4, section 6.2.2) of sixteen messages at once: each 32-bit
// lane of a register belongs to one message. It needs AVX-512 F and BW. What
// is hashed is ciphertext and public, so nothing is cleared.

#include "textflag.h"

// ROTATIONS XORs x rotated right by r1, r2 and r3 into Z8.
#define ROTATIONS(r1, r2, r3, x) \
	VPRORD     $r1, x, Z8         \
	VPRORD     $r2, x, Z9         \
	VPRORD     $r3, x, Z10        \
	VPTERNLOGD $0x96, Z10, Z9, Z8

// ROUND is step 3 of the hash computation; the names rotate at the caller. Each
// constant of DX serves all lanes. 0xCA selects (Ch) and 0xE8 is the majority (Maj).
#define ROUND(a, b, c, d, e, f, g, h, w, k) \
	ROTATIONS(6, 11, 25, e)              \
	VPADDD.BCST (4*k)(DX), w, Z11        \
	VMOVDQA64   e, Z12                   \
	VPTERNLOGD  $0xCA, g, f, Z12         \
	VPADDD      Z11, h, h                \
	VPADDD      Z12, Z8, Z8              \
	VPADDD      Z8, h, h                 \
	VPADDD      h, d, d                  \
	ROTATIONS(2, 13, 22, a)              \
	VMOVDQA64   a, Z12                   \
	VPTERNLOGD  $0xE8, c, b, Z12         \
	VPADDD      Z12, Z8, Z8              \
	VPADDD      Z8, h, h

// EXPAND makes word t+16 of the message schedule (step 1) in place of word t, from
// the words t+1, t+9 and t+14.
#define EXPAND(w, w1, w9, w14) \
	VPRORD     $7, w1, Z8          \
	VPRORD     $18, w1, Z9         \
	VPSRLD     $3, w1, Z10         \
	VPTERNLOGD $0x96, Z10, Z9, Z8  \
	VPADDD     w9, w, w            \
	VPRORD     $17, w14, Z11       \
	VPRORD     $19, w14, Z12       \
	VPSRLD     $10, w14, Z13       \
	VPTERNLOGD $0x96, Z13, Z12, Z11 \
	VPADDD     Z8, w, w            \
	VPADDD     Z11, w, w

// PAIR interleaves two registers with the unpacking instructions for low and high parts.
#define PAIR(low, high, a, b) \
	high b, a, Z8 \
	low  b, a, a  \
	VMOVDQA64 Z8, b

// FOUR takes the same four words of four messages each, a to d, and gives each register one word of
// sixteen messages, its bytes in the machine's order: the first word, the fifth, the ninth, the last.
#define FOUR(a, b, c, d) \
	VSHUFI32X4 $0x44, b, a, Z8   \
	VSHUFI32X4 $0xee, b, a, Z9   \
	VSHUFI32X4 $0x44, d, c, Z10  \
	VSHUFI32X4 $0xee, d, c, Z11  \
	VSHUFI32X4 $0x88, Z10, Z8, a \
	VSHUFI32X4 $0xdd, Z10, Z8, b \
	VSHUFI32X4 $0x88, Z11, Z9, c \
	VSHUFI32X4 $0xdd, Z11, Z9, d \
	VPSHUFB    Z12, a, a         \
	VPSHUFB    Z12, b, b         \
	VPSHUFB    Z12, c, c         \
	VPSHUFB    Z12, d, d

// LOAD reads the blocks of two messages.
#define LOAD(i, a, j, b) \
	MOVQ      (8*(i))(AX), R8      \
	MOVQ      (8*(j))(AX), R9      \
	VMOVDQU32 (R8)(SI*1), a      \
	VMOVDQU32 (R9)(SI*1), b

// COLUMNS reads the blocks of four messages from number i on; then each register has one word of
// the four in each of its quarters, four words apart.
#define COLUMNS(i, a, b, c, d) \
	LOAD(i, a, i+1, c)                \
	LOAD(i+2, b, i+3, d)              \
	PAIR(VPUNPCKLDQ, VPUNPCKHDQ, a, c)   \
	PAIR(VPUNPCKLDQ, VPUNPCKHDQ, b, d)   \
	PAIR(VPUNPCKLQDQ, VPUNPCKHQDQ, a, b) \
	PAIR(VPUNPCKLQDQ, VPUNPCKHQDQ, c, d)

DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// The constants of section 4.2.2.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256

// func blocks16(state *[8][16]uint32, data *[16]*byte, blocks int)
TEXT ·blocks16(SB), NOSPLIT, $0-24
	MOVQ state+0(FP), BX
	MOVQ data+8(FP), AX
	MOVQ blocks+16(FP), CX
	XORL SI, SI
	VMOVDQU32 0(BX), Z0
	VMOVDQU32 64(BX), Z1
	VMOVDQU32 128(BX), Z2
	VMOVDQU32 192(BX), Z3
	VMOVDQU32 256(BX), Z4
	VMOVDQU32 320(BX), Z5
	VMOVDQU32 384(BX), Z6
	VMOVDQU32 448(BX), Z7

block:
	VBROADCASTI32X4 swap<>(SB), Z12
	COLUMNS(0, Z16, Z17, Z18, Z19)
	COLUMNS(4, Z20, Z21, Z22, Z23)
	COLUMNS(8, Z24, Z25, Z26, Z27)
	COLUMNS(12, Z28, Z29, Z30, Z31)
	FOUR(Z16, Z20, Z24, Z28)
	FOUR(Z17, Z21, Z25, Z29)
	FOUR(Z18, Z22, Z26, Z30)
	FOUR(Z19, Z23, Z27, Z31)
	LEAQ constants<>(SB), DX
	MOVQ $4, DI

sixteen:
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16, 0)
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z17, 1)
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z18, 2)
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19, 3)
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20, 4)
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z21, 5)
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z22, 6)
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23, 7)
	ROUND(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z24, 8)
	ROUND(Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z25, 9)
	ROUND(Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z26, 10)
	ROUND(Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z27, 11)
	ROUND(Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z28, 12)
	ROUND(Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z29, 13)
	ROUND(Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z30, 14)
	ROUND(Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z31, 15)
	DECQ DI
	JZ   end
	EXPAND(Z16, Z17, Z25, Z30)
	EXPAND(Z17, Z18, Z26, Z31)
	EXPAND(Z18, Z19, Z27, Z16)
	EXPAND(Z19, Z20, Z28, Z17)
	EXPAND(Z20, Z21, Z29, Z18)
	EXPAND(Z21, Z22, Z30, Z19)
	EXPAND(Z22, Z23, Z31, Z20)
	EXPAND(Z23, Z24, Z16, Z21)
	EXPAND(Z24, Z25, Z17, Z22)
	EXPAND(Z25, Z26, Z18, Z23)
	EXPAND(Z26, Z27, Z19, Z24)
	EXPAND(Z27, Z28, Z20, Z25)
	EXPAND(Z28, Z29, Z21, Z26)
	EXPAND(Z29, Z30, Z22, Z27)
	EXPAND(Z30, Z31, Z23, Z28)
	EXPAND(Z31, Z16, Z24, Z29)
	ADDQ $64, DX
	JMP  sixteen

end:
	VPADDD    0(BX), Z0, Z0
	VPADDD    64(BX), Z1, Z1
	VPADDD    128(BX), Z2, Z2
	VPADDD    192(BX), Z3, Z3
	VPADDD    256(BX), Z4, Z4
	VPADDD    320(BX), Z5, Z5
	VPADDD    384(BX), Z6, Z6
	VPADDD    448(BX), Z7, Z7
	VMOVDQU32 Z0, 0(BX)
	VMOVDQU32 Z1, 64(BX)
	VMOVDQU32 Z2, 128(BX)
	VMOVDQU32 Z3, 192(BX)
	VMOVDQU32 Z4, 256(BX)
	VMOVDQU32 Z5, 320(BX)
	VMOVDQU32 Z6, 384(BX)
	VMOVDQU32 Z7, 448(BX)
	ADDQ $64, SI
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET
