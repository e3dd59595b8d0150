// AVX2: the levels of 4 columns of 16 rows that are spread over vectors at SI,
// into Y8 (rows 0-7) and Y9 (rows 8-15); x and y are spent. See putFives and
// putSixes in pack.go.

#define TAKE(off, mask) \
	VMOVDQU mask(SB), Y9; \
	VPAND (off)(SI), Y9, Y8; \
	VPAND (off+32)(SI), Y9, Y9

#define OR(off, mask, x, y) \
	VMOVDQU mask(SB), y; \
	VPAND (off)(SI), y, x; \
	VPAND (off+32)(SI), y, y; \
	VPOR x, Y8, Y8; \
	VPOR y, Y9, Y9

#define RIGHT(n) \
	VPSRLW $n, Y8, Y8; \
	VPSRLW $n, Y9, Y9

// 3 bits of the vector at p, 2 of the one at q.
#define JOIN5(p, q, x, y) \
	TAKE(p, ·maskE0); \
	RIGHT(2); \
	OR(q, ·maskC0, x, y); \
	RIGHT(3)

// One bit of vectors 1 and 3 each, 3 bits of vector 4.
#define JOIN5LAST(off, x, y) \
	TAKE(off+192, ·mask20); \
	VPADDB Y8, Y8, Y8; \
	VPADDB Y9, Y9, Y9; \
	OR(off+64, ·mask20, x, y); \
	RIGHT(2); \
	VMOVDQU ·maskE0(SB), y; \
	VPAND (off+256)(SI), y, x; \
	VPAND (off+288)(SI), y, y; \
	VPSRLW $5, x, x; \
	VPSRLW $5, y, y; \
	VPOR x, Y8, Y8; \
	VPOR y, Y9, Y9

// 2 bits of 3 vectors each.
#define JOIN6(off, x, y) \
	TAKE(off, ·maskC0); \
	RIGHT(2); \
	OR(off+64, ·maskC0, x, y); \
	RIGHT(2); \
	OR(off+128, ·maskC0, x, y); \
	RIGHT(2)
