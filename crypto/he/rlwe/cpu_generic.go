//go:build !amd64

package rlwe

func hasAVX2() bool { return false }

func nttAVX2(*int32, *factor)                  {}
func inttAVX2(*int32, *factor)                 {}
func ternaryAVX2(*int32, *byte)                {}
func errorsAVX2(*int32, *byte)                 {}
func combineAVX2(_, _, _ *int32, _, _ *factor) {}
func finishAVX2(*int32, *factor)               {}
func packAVX2(*byte, *int32)                   {}
func addPackedAVX2(*int32, *byte) uint32       { return 1 }
func reduceAVX2(*int32)                        {}
