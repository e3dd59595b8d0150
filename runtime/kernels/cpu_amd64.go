package kernels

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// ahead is how many bytes before their use weights are fetched for one token: into the cache of the second level, into
// that of the first, where four tokens fetch them, too, and into the second for types with super-blocks (AVX-512's
// kernels alone). What is best was measured for each vendor (docs/performance.md).
var ahead = aheadOf(vendor())

func aheadOf(vendor string) [3]int {
	if vendor == "AuthenticAMD" {
		return [3]int{4096, 4096, 12288}
	}
	return [3]int{6144, 3072, 6144}
}

// vendor is what the processor calls its maker: CPUID leaf 0, bytes of EBX, EDX and ECX.
func vendor() string {
	_, b, c, d := cpuid(0)
	var name []byte
	for _, register := range []uint32{b, d, c} {
		name = binary.LittleEndian.AppendUint32(name, register)
	}
	return string(name)
}

//go:noescape
func cpuid(leaf uint32) (eax, ebx, ecx, edx uint32)

// sets lists the sets that this processor runs, fastest first.
func sets() []*Set {
	list := []*Set{genericSet()}
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA { // FMA stands for F16C, which every such processor has
		return list
	}
	list = append([]*Set{avx2Set()}, list...)
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI {
		list = append([]*Set{avx512Set()}, list...)
		if cpu.X86.HasAMXTile && cpu.X86.HasAMXInt8 && cpu.X86.HasAMXBF16 && tilesPermitted() {
			list = append([]*Set{amxSet()}, list...)
		}
	}
	return list
}

// avx2Set needs AVX2, FMA and F16C.
func avx2Set() *Set {
	return &Set{
		name: "avx2",
		vector: vectorOps{dot: dotWithAVX2, quantize: quantizeWithAVX2, halves: halvesWithAVX2,
			largest: largestWithAVX2, notBelow: notBelowWithAVX2, expSum: expSumWithAVX2, scale: scaleWithAVX2, siluMul: siluMulWithAVX2, scores: attendAVX2.scores, weightedSum: attendAVX2.weightedSum,
			unpackTile: unpackTileWithAVX2, unpackRows: unpackRowsWithAVX2},
		one: map[Type]kernel[record]{Q4_0: oneQ40AVX2, Q4_1: oneQ41AVX2, Q5_0: oneQ50AVX2, Q5_1: oneQ51AVX2, Q8_0: oneQ80AVX2,
			Q2_K: oneQ2KAVX2, Q3_K: oneQ3KAVX2, Q4_K: oneQ4KAVX2, Q5_K: oneQ5KAVX2, Q6_K: oneQ6KAVX2,
			IQ4_NL: oneIQ4NLAVX2, IQ4_XS: oneIQ4XSAVX2, MXFP4: oneMXFP4AVX2},
		four: map[Type]batched[record]{Q4_0: fourQ40AVX2, Q4_1: fourQ41AVX2, Q5_0: fourQ50AVX2, Q5_1: fourQ51AVX2, Q8_0: fourQ80AVX2,
			Q2_K: fourQ2KAVX2, Q3_K: fourQ3KAVX2, Q4_K: fourQ4KAVX2, Q5_K: fourQ5KAVX2, Q6_K: fourQ6KAVX2,
			IQ4_NL: fourIQ4NLAVX2, IQ4_XS: fourIQ4XSAVX2, MXFP4: fourMXFP4AVX2},
		oneFloat:  map[Type]kernel[float32]{F32: oneF32AVX2, F16: oneF16AVX2, BF16: oneBF16AVX2},
		fourFloat: map[Type]batched[float32]{F32: fourF32AVX2, F16: fourF16AVX2, BF16: fourBF16AVX2},
	}
}

// avx512Set needs AVX512F, AVX512BW and AVX512_VNNI besides. Products with floating-point numbers of
// fewer than 16 tokens and most operations on vectors are AVX2's.
func avx512Set() *Set {
	s := avx2Set()
	s.name = "avx512"
	s.vector.expSum, s.vector.siluMul = expSumWithAVX512, siluMulWithAVX512
	s.vector.scores, s.vector.weightedSum = attendAVX512.scores, attendAVX512.weightedSum
	s.one = map[Type]kernel[record]{Q4_0: oneQ40AVX512, Q4_1: oneQ41AVX512, Q5_0: oneQ50AVX512, Q5_1: oneQ51AVX512, Q8_0: oneQ80AVX512,
		Q2_K: oneQ2KAVX512, Q3_K: oneQ3KAVX512, Q4_K: oneQ4KAVX512, Q5_K: oneQ5KAVX512, Q6_K: oneQ6KAVX512,
		IQ4_NL: oneIQ4NLAVX512, IQ4_XS: oneIQ4XSAVX512, MXFP4: oneMXFP4AVX512}
	s.four = map[Type]batched[record]{Q4_0: fourQ40AVX512, Q4_1: fourQ41AVX512, Q5_0: fourQ50AVX512, Q5_1: fourQ51AVX512, Q8_0: fourQ80AVX512,
		Q2_K: fourQ2KAVX512, Q3_K: fourQ3KAVX512, Q4_K: fourQ4KAVX512, Q5_K: fourQ5KAVX512, Q6_K: fourQ6KAVX512,
		IQ4_NL: fourIQ4NLAVX512, IQ4_XS: fourIQ4XSAVX512, MXFP4: fourMXFP4AVX512}
	s.sixteenFloat = map[Type]batched[float32]{F32: sixteenF32AVX512, F16: sixteenF16AVX512, BF16: sixteenBF16AVX512}
	return s
}

// amxSet is AVX-512's with products of 16 tokens and more that need AMX-INT8 and AMX-BF16.
func amxSet() *Set {
	s := avx512Set()
	s.name = "amx"
	s.sixteen = tiledTypes()
	s.wide = wideTypes()
	s.vector.widen = widenWithAVX512
	return s
}

// tilesPermitted asks Linux for the state of tiles, 8 KiB of each thread that uses them: without its
// leave, they are an illegal instruction (Documentation/arch/x86/xstate.rst).
func tilesPermitted() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return errno == 0
}

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func dotAVX2(x, y *float32, n int) float32

func dotWithAVX2(x, y []float32) float32 {
	return dotAVX2(unsafe.SliceData(x), unsafe.SliceData(y[:len(x)]), len(x))
}
