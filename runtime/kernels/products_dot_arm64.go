package kernels

import "unsafe"

// inPairs makes a kernel for four tokens of one for two. Row groups are taken one by one, so that the second pair
// finds the weights in the cache.
func inPairs(t Type, two batched[record]) batched[record] {
	return func(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int) {
		size := TileBytes(t, blocks*BlockCols)
		for g := range groupCount {
			out, group := unsafe.Add(unsafe.Pointer(dst), g*TileRows*4), (*byte)(unsafe.Add(unsafe.Pointer(groups), g*size))
			two((*float32)(out), stride, group, act, blocks, 1)
			two((*float32)(unsafe.Add(out, 2*stride)), stride, group, (*record)(unsafe.Add(unsafe.Pointer(act), 2*blocks*recordBytes)), blocks, 1)
		}
	}
}

//go:noescape
func oneQ40Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ50Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ51Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ2KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ3KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ4KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ5KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ6KDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4NLDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4XSDot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneMXFP4Dot(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ40Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ41Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ50Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ51Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ80Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ2KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ3KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ4KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ5KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoQ6KDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoIQ4NLDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoIQ4XSDot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func twoMXFP4Dot(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)
