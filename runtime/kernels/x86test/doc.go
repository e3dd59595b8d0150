// Package x86test interprets the machine code of the kernels, so that tests can run AVX-512
// assembly on a processor that has none.
//
// It knows the few instructions that the products of the kernels consist of, in their legacy,
// VEX and EVEX encodings, and nothing else: any other encoding ends a call with an error that
// names its bytes. In EVEX encodings only 512-bit vectors without a mask are known, so that
// whatever runs needs no more than AVX512F, AVX512BW and AVX512_VNNI. Memory is what a test maps:
// a load or store that is not wholly inside one such range is an error, as with guard pages, but
// exact to the byte on both sides. What a function owes its caller in Go's assembly is
// checked, too: the stack and frame pointers are as before, and VZEROUPPER has run.
//
// The semantics are those of Intel's Software Developer's Manual, volume 2, written for reading
// rather than speed: a second interprets some million instructions. Tests hold them against the
// processor, which runs instructions and kernels natively if it has what they need, and against a
// second model after the manual. The interpreter says nothing about time.
package x86test
