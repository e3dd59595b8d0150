// Lines of later blocks into the caches, beyond the 4 KiB page where the processor's own prefetching ends: into that of the
// second level from far off, whose requests do not wait for one of the few buffers of the first, and from
// nearer into the first. Alone, the near one reads memory at 0.9 of the speed of both, and a far one into the first level at 0.7
// (a large cache of the third level at 0.8 and 0.9). Behind the end of the weights it does nothing.
#define AHEAD(n) \
	PREFETCHT1 (6144+64*n)(SI); \
	PREFETCHT0 (3072+64*n)(SI)

#define AHEAD3 AHEAD(0); AHEAD(1); AHEAD(2)
#define AHEAD5 AHEAD3; AHEAD(3); AHEAD(4)
#define AHEAD7 AHEAD5; AHEAD(5); AHEAD(6)
#define AHEAD9 AHEAD7; AHEAD(7); AHEAD(8)
