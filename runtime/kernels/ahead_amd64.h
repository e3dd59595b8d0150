// Lines of later blocks into the caches, beyond the 4 KiB page where the processor's own prefetching ends: into that of the
// second level from far off, whose requests do not wait for one of the few buffers of the first, and from
// nearer into the first. How far is the processor's ([ahead]). Behind the end of the weights it does nothing.
// Distances are kept in R11 (far) and R12 (near); those of types with super-blocks are their own.
#define AHEAD_ARGS \
	MOVQ ·ahead+0(SB), R11; \
	MOVQ ·ahead+8(SB), R12

#define AHEADK_ARGS \
	MOVQ ·ahead+16(SB), R11; \
	MOVQ ·ahead+8(SB), R12

#define AHEAD(n) \
	PREFETCHT1 (64*n)(SI)(R11*1); \
	PREFETCHT0 (64*n)(SI)(R12*1)

#define AHEAD3 AHEAD(0); AHEAD(1); AHEAD(2)
#define AHEAD5 AHEAD3; AHEAD(3); AHEAD(4)
#define AHEAD7 AHEAD5; AHEAD(5); AHEAD(6)
#define AHEAD9 AHEAD7; AHEAD(7); AHEAD(8)

// The same for four tokens, whose products leave one register, R14: near alone.
#define FOUR_AHEAD_ARGS MOVQ ·ahead+8(SB), R14
#define FOUR_AHEAD(n) PREFETCHT0 (64*n)(SI)(R14*1)

#define FOUR_AHEAD3 FOUR_AHEAD(0); FOUR_AHEAD(1); FOUR_AHEAD(2)
#define FOUR_AHEAD5 FOUR_AHEAD3; FOUR_AHEAD(3); FOUR_AHEAD(4)
#define FOUR_AHEAD7 FOUR_AHEAD5; FOUR_AHEAD(5); FOUR_AHEAD(6)
#define FOUR_AHEAD9 FOUR_AHEAD7; FOUR_AHEAD(7); FOUR_AHEAD(8)
