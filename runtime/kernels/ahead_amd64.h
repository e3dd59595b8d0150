// Lines of a later block into the cache: reading ahead of the processor's own prefetching,
// which ends at 4 KiB, is a third of the speed where weights come from memory. Behind the
// end of the weights it does nothing.
#define AHEAD(n) PREFETCHT0 (4096+64*n)(SI)

#define AHEAD3 AHEAD(0); AHEAD(1); AHEAD(2)
#define AHEAD5 AHEAD3; AHEAD(3); AHEAD(4)
#define AHEAD7 AHEAD5; AHEAD(5); AHEAD(6)
#define AHEAD9 AHEAD7; AHEAD(7); AHEAD(8)
