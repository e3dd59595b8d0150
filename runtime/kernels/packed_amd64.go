package kernels

import "unsafe"

// The callers have checked the lengths.

//go:noescape
func unpackTileAVX2(dst *uint16, codes *int8, scales *uint16, rows int)

//go:noescape
func unpackRowsAVX2(dst *uint16, codes *int8, scales *uint16, blocks int)

func unpackTileWithAVX2(dst []uint16, codes []int8, scales []uint16) {
	unpackTileAVX2(unsafe.SliceData(dst), unsafe.SliceData(codes), unsafe.SliceData(scales), len(codes)/KeyTile)
}

func unpackRowsWithAVX2(dst []uint16, codes []int8, scales []uint16) {
	unpackRowsAVX2(unsafe.SliceData(dst), unsafe.SliceData(codes), unsafe.SliceData(scales), len(scales))
}
