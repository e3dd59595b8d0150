package rlwe

import "golang.org/x/sys/cpu"

func hasAVX2() bool { return cpu.X86.HasAVX2 }

// The assembly computes the same words as the Go code beside its callers, which
// have checked all lengths.

//go:noescape
func nttAVX2(x *int32, forward *factor)

//go:noescape
func inttAVX2(x *int32, inverse *factor)

//go:noescape
func ternaryAVX2(x *int32, random *byte)

//go:noescape
func errorsAVX2(x *int32, random *byte)

//go:noescape
func combineAVX2(dst, u, v *int32, key, one *factor)

//go:noescape
func finishAVX2(x *int32, scale *factor)

//go:noescape
func packAVX2(dst *byte, x *int32)

//go:noescape
func addPackedAVX2(sum *int32, src *byte) uint32

//go:noescape
func reduceAVX2(sum *int32)
