// Instructions that Go's assembler does not know, as words. Arguments are numbers of registers in the order of the
// Arm Architecture Reference Manual: destination first. Each word was compared with LLVM's assembler; the
// comment is what the macro gives for the arguments 1, 2, 3 (d, n, m) and the indices told.

#define FMUL(d, n, m) WORD $(0x6E20DC00 | (m)<<16 | (n)<<5 | (d)) // fmul v1.4s, v2.4s, v3.4s
#define FADD(d, n, m) WORD $(0x4E20D400 | (m)<<16 | (n)<<5 | (d)) // fadd v1.4s, v2.4s, v3.4s
#define FSUB(d, n, m) WORD $(0x4EA0D400 | (m)<<16 | (n)<<5 | (d)) // fsub v1.4s, v2.4s, v3.4s
#define FMLA(d, n, m) WORD $(0x4E20CC00 | (m)<<16 | (n)<<5 | (d)) // fmla v1.4s, v2.4s, v3.4s
#define FDIV(d, n, m) WORD $(0x6E20FC00 | (m)<<16 | (n)<<5 | (d)) // fdiv v1.4s, v2.4s, v3.4s
#define FCMGT(d, n, m) WORD $(0x6EA0E400 | (m)<<16 | (n)<<5 | (d)) // fcmgt v1.4s, v2.4s, v3.4s
#define FCMEQ(d, n, m) WORD $(0x4E20E400 | (m)<<16 | (n)<<5 | (d)) // fcmeq v1.4s, v2.4s, v3.4s
#define FNEG(d, n) WORD $(0x6EA0F800 | (n)<<5 | (d)) // fneg v1.4s, v2.4s
#define FMAXNMV(d, n) WORD $(0x6E30C800 | (n)<<5 | (d)) // fmaxnmv s1, v2.4s
#define UMAXV(d, n) WORD $(0x6EB0A800 | (n)<<5 | (d)) // umaxv s1, v2.4s

// By element i of m, 0 to 3.
#define FMULE(d, n, m, i) WORD $(0x4F809000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 3: fmul v1.4s, v2.4s, v3.s[3]
#define FMLAE(d, n, m, i) WORD $(0x4F801000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 3: fmla v1.4s, v2.4s, v3.s[3]
#define FMLSE(d, n, m, i) WORD $(0x4F805000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 3: fmls v1.4s, v2.4s, v3.s[3]
#define SDOTE(d, n, m, i) WORD $(0x4F80E000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 3: sdot v1.4s, v2.16b, v3.4b[3]

// By element i of m, 0 to 7; m is at most 15.
#define SMLALE(d, n, m, i) WORD $(0x0F402000 | ((i)&1)<<20 | ((i)>>1&1)<<21 | ((i)>>2)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 5: smlal v1.4s, v2.4h, v3.h[5]
#define SMLAL2E(d, n, m, i) WORD $(0x4F402000 | ((i)&1)<<20 | ((i)>>1&1)<<21 | ((i)>>2)<<11 | (m)<<16 | (n)<<5 | (d)) // i = 5: smlal2 v1.4s, v2.8h, v3.h[5]

// Conversions: bytes to halfwords and halfwords to words, signed; integers and float16 to float32, and back.
#define SXTLB(d, n) WORD $(0x0F08A400 | (n)<<5 | (d)) // sshll v1.8h, v2.8b, #0
#define SXTL2B(d, n) WORD $(0x4F08A400 | (n)<<5 | (d)) // sshll2 v1.8h, v2.16b, #0
#define SXTLH(d, n) WORD $(0x0F10A400 | (n)<<5 | (d)) // sshll v1.4s, v2.4h, #0
#define SXTL2H(d, n) WORD $(0x4F10A400 | (n)<<5 | (d)) // sshll2 v1.4s, v2.8h, #0
#define SCVTF(d, n) WORD $(0x4E21D800 | (n)<<5 | (d)) // scvtf v1.4s, v2.4s
#define FCVTL(d, n) WORD $(0x0E217800 | (n)<<5 | (d)) // fcvtl v1.4s, v2.4h
#define FCVTL2(d, n) WORD $(0x4E217800 | (n)<<5 | (d)) // fcvtl2 v1.4s, v2.8h
#define FCVTN(d, n) WORD $(0x0E216800 | (n)<<5 | (d)) // fcvtn v1.4h, v2.4s
#define FCVTN2(d, n) WORD $(0x4E216800 | (n)<<5 | (d)) // fcvtn2 v1.8h, v2.4s

// A shift to the left by k, a sum of words, the word of general register n in all lanes, and zero.
#define SHLWORDS(d, n, k) WORD $(0x4F205400 | (k)<<16 | (n)<<5 | (d)) // k = 8: shl v1.4s, v2.4s, #8
#define ADDWORDS(d, n, m) WORD $(0x4EA08400 | (m)<<16 | (n)<<5 | (d)) // add v1.4s, v2.4s, v3.4s
#define DUPW(d, n) WORD $(0x4E040C00 | (n)<<5 | (d)) // dup v1.4s, w2
#define MOVE(d, n) WORD $(0x4EA01C00 | (n)<<16 | (n)<<5 | (d)) // mov v1.16b, v2.16b
#define ZERO(d) WORD $(0x6F00E400 | (d)) // movi v1.2d, #0
