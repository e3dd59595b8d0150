// SHA-256 (FIPS 180-4, section 6.2.2) of eight messages at once: each 32-bit
// lane of a register belongs to one message. It needs AVX-512 F, BW and VL. What
// is hashed is ciphertext and public, so nothing is cleared.

#include "textflag.h"

// ROTATIONS XORs x rotated right by r1, r2 and r3 into Y8.
#define ROTATIONS(r1, r2, r3, x) \
	VPRORD     $r1, x, Y8         \
	VPRORD     $r2, x, Y9         \
	VPRORD     $r3, x, Y10        \
	VPTERNLOGD $0x96, Y10, Y9, Y8

// ROUND is step 3 of the hash computation; the names rotate at the caller. Each
// constant of DX serves all lanes. 0xCA selects (Ch) and 0xE8 is the majority (Maj).
#define ROUND(a, b, c, d, e, f, g, h, w, k) \
	ROTATIONS(6, 11, 25, e)              \
	VPADDD.BCST (4*k)(DX), w, Y11        \
	VMOVDQA     e, Y12                   \
	VPTERNLOGD  $0xCA, g, f, Y12         \
	VPADDD      Y11, h, h                \
	VPADDD      Y12, Y8, Y8              \
	VPADDD      Y8, h, h                 \
	VPADDD      h, d, d                  \
	ROTATIONS(2, 13, 22, a)              \
	VMOVDQA     a, Y12                   \
	VPTERNLOGD  $0xE8, c, b, Y12         \
	VPADDD      Y12, Y8, Y8              \
	VPADDD      Y8, h, h

// EXPAND makes word t+16 of the message schedule (step 1) in place of word t, from
// the words t+1, t+9 and t+14.
#define EXPAND(w, w1, w9, w14) \
	VPRORD     $7, w1, Y8          \
	VPRORD     $18, w1, Y9         \
	VPSRLD     $3, w1, Y10         \
	VPTERNLOGD $0x96, Y10, Y9, Y8  \
	VPADDD     w9, w, w            \
	VPRORD     $17, w14, Y11       \
	VPRORD     $19, w14, Y12       \
	VPSRLD     $10, w14, Y13       \
	VPTERNLOGD $0x96, Y13, Y12, Y11 \
	VPADDD     Y8, w, w            \
	VPADDD     Y11, w, w

// WORDS reads 32 bytes of each message and turns them around: register i then has
// word i of every message, its bytes in the machine's order.
#define WORDS(at, r0, r1, r2, r3, r4, r5, r6, r7) \
	VMOVDQU32   at(R8), r0         \
	VMOVDQU32   at(R9), r1         \
	VMOVDQU32   at(R10), r2        \
	VMOVDQU32   at(R11), r3        \
	VMOVDQU32   at(R12), r4        \
	VMOVDQU32   at(R13), r5        \
	VMOVDQU32   at(SI), r6         \
	VMOVDQU32   at(DI), r7         \
	VPUNPCKLDQ  r1, r0, Y8         \
	VPUNPCKHDQ  r1, r0, Y9         \
	VPUNPCKLDQ  r3, r2, Y10        \
	VPUNPCKHDQ  r3, r2, Y11        \
	VPUNPCKLDQ  r5, r4, Y12        \
	VPUNPCKHDQ  r5, r4, Y13        \
	VPUNPCKLDQ  r7, r6, Y14        \
	VPUNPCKHDQ  r7, r6, Y15        \
	VPUNPCKLQDQ Y10, Y8, r0        \
	VPUNPCKHQDQ Y10, Y8, r1        \
	VPUNPCKLQDQ Y11, Y9, r2        \
	VPUNPCKHQDQ Y11, Y9, r3        \
	VPUNPCKLQDQ Y14, Y12, r4       \
	VPUNPCKHQDQ Y14, Y12, r5       \
	VPUNPCKLQDQ Y15, Y13, r6       \
	VPUNPCKHQDQ Y15, Y13, r7       \
	VMOVDQU     swap<>(SB), Y9     \
	HALVES(r0, r4)                 \
	HALVES(r1, r5)                 \
	HALVES(r2, r6)                 \
	HALVES(r3, r7)

#define HALVES(low, high) \
	VSHUFI32X4 $0, high, low, Y8    \
	VSHUFI32X4 $3, high, low, high  \
	VPSHUFB    Y9, Y8, low          \
	VPSHUFB    Y9, high, high

DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
DATA swap<>+16(SB)/8, $0x0405060700010203
DATA swap<>+24(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $32

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

// func blocks8(state *[8][8]uint32, data *[8]*byte, blocks int)
TEXT ·blocks8(SB), NOSPLIT, $0-24
	MOVQ state+0(FP), BX
	MOVQ data+8(FP), AX
	MOVQ blocks+16(FP), CX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	MOVQ 32(AX), R12
	MOVQ 40(AX), R13
	MOVQ 48(AX), SI
	MOVQ 56(AX), DI
	VMOVDQU 0(BX), Y0
	VMOVDQU 32(BX), Y1
	VMOVDQU 64(BX), Y2
	VMOVDQU 96(BX), Y3
	VMOVDQU 128(BX), Y4
	VMOVDQU 160(BX), Y5
	VMOVDQU 192(BX), Y6
	VMOVDQU 224(BX), Y7

block:
	WORDS(0, Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23)
	WORDS(32, Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31)
	LEAQ constants<>(SB), DX
	MOVQ $4, AX

sixteen:
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y16, 0)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y17, 1)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y18, 2)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y19, 3)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y20, 4)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y21, 5)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y22, 6)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y23, 7)
	ROUND(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y24, 8)
	ROUND(Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y25, 9)
	ROUND(Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y26, 10)
	ROUND(Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y27, 11)
	ROUND(Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y28, 12)
	ROUND(Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y29, 13)
	ROUND(Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y30, 14)
	ROUND(Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y31, 15)
	DECQ AX
	JZ   end
	EXPAND(Y16, Y17, Y25, Y30)
	EXPAND(Y17, Y18, Y26, Y31)
	EXPAND(Y18, Y19, Y27, Y16)
	EXPAND(Y19, Y20, Y28, Y17)
	EXPAND(Y20, Y21, Y29, Y18)
	EXPAND(Y21, Y22, Y30, Y19)
	EXPAND(Y22, Y23, Y31, Y20)
	EXPAND(Y23, Y24, Y16, Y21)
	EXPAND(Y24, Y25, Y17, Y22)
	EXPAND(Y25, Y26, Y18, Y23)
	EXPAND(Y26, Y27, Y19, Y24)
	EXPAND(Y27, Y28, Y20, Y25)
	EXPAND(Y28, Y29, Y21, Y26)
	EXPAND(Y29, Y30, Y22, Y27)
	EXPAND(Y30, Y31, Y23, Y28)
	EXPAND(Y31, Y16, Y24, Y29)
	ADDQ $64, DX
	JMP  sixteen

end:
	VPADDD  0(BX), Y0, Y0
	VPADDD  32(BX), Y1, Y1
	VPADDD  64(BX), Y2, Y2
	VPADDD  96(BX), Y3, Y3
	VPADDD  128(BX), Y4, Y4
	VPADDD  160(BX), Y5, Y5
	VPADDD  192(BX), Y6, Y6
	VPADDD  224(BX), Y7, Y7
	VMOVDQU Y0, 0(BX)
	VMOVDQU Y1, 32(BX)
	VMOVDQU Y2, 64(BX)
	VMOVDQU Y3, 96(BX)
	VMOVDQU Y4, 128(BX)
	VMOVDQU Y5, 160(BX)
	VMOVDQU Y6, 192(BX)
	VMOVDQU Y7, 224(BX)

	ADDQ $64, R8
	ADDQ $64, R9
	ADDQ $64, R10
	ADDQ $64, R11
	ADDQ $64, R12
	ADDQ $64, R13
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET
