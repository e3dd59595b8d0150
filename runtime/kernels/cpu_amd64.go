package kernels

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// sets lists the sets that this processor runs, fastest first.
func sets() []*Set {
	list := []*Set{genericSet()}
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA { // FMA stands for F16C, which every such processor has
		return list
	}
	vector := vectorOps{dot: dotWithAVX2, dotF16: dotF16WithAVX2, axpyF16: axpyF16WithAVX2, quantize: quantizeWithAVX2,
		expSum: expSumWithAVX2, siluMul: siluMulWithAVX2, scores: scoresWithAVX2, weightedSum: weightedSumWithAVX2}
	list = append([]*Set{{
		name: "avx2", vector: vector,
		one: map[Type]quantized{Q4_0: oneQ40AVX2, Q4_1: oneQ41AVX2, Q8_0: oneQ80AVX2},
	}}, list...)
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI {
		list = append([]*Set{{
			name: "avx512", vector: vector,
			one:  map[Type]quantized{Q4_0: oneQ40AVX512, Q4_1: oneQ41AVX512, Q8_0: oneQ80AVX512},
			four: map[Type]batched{Q4_0: fourQ40AVX512, Q4_1: fourQ41AVX512, Q8_0: fourQ80AVX512},
		}}, list...)
	}
	return list
}

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func oneQ40AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ40AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ41AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ80AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ40AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func dotAVX2(x, y *float32, n int) float32

//go:noescape
func dotF16AVX2(x *float32, y *uint16, n int) float32

//go:noescape
func axpyF16AVX2(dst *float32, a float32, x *uint16, n int)

func dotWithAVX2(x, y []float32) float32 {
	return dotAVX2(unsafe.SliceData(x), unsafe.SliceData(y[:len(x)]), len(x))
}

func dotF16WithAVX2(x []float32, y []uint16) float32 {
	return dotF16AVX2(unsafe.SliceData(x), unsafe.SliceData(y[:len(x)]), len(x))
}

func axpyF16WithAVX2(dst []float32, a float32, x []uint16) {
	axpyF16AVX2(unsafe.SliceData(dst), a, unsafe.SliceData(x[:len(dst)]), len(dst))
}
