package gguf

import (
	"cmp"
	"fmt"
	"slices"
)

const alignmentKey = "general.alignment"

func alignUp(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// readAlignment takes general.alignment if the file carries it.
func (f *File) readAlignment() error {
	if !f.Has(alignmentKey) {
		return nil
	}
	a, ok := f.Uint(alignmentKey)
	if !ok || a < 8 || a > MaxAlignment || a&(a-1) != 0 {
		return fmt.Errorf("%s must be a power of two from 8 to %d", alignmentKey, MaxAlignment)
	}
	f.alignment = int64(a)
	return nil
}

// checkInside refuses a tensor that reaches past the end of the file.
func (f *File) checkInside(size int64) error {
	for _, t := range f.Tensors {
		if t.Offset > size-f.DataOffset || t.Size > size-f.DataOffset-t.Offset {
			return fmt.Errorf("tensor %s ends at byte %d of a file of %d: the file is truncated or damaged",
				t.Name, f.DataOffset+t.Offset+t.Size, size)
		}
	}
	return nil
}

// checkOverlap refuses two tensors that share bytes: no writer makes such a
// file, and a reader that packs or wipes in place would corrupt one by the other.
func (f *File) checkOverlap() error {
	order := make([]int, len(f.Tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(f.Tensors[a].Offset, f.Tensors[b].Offset) })
	for i := 1; i < len(order); i++ {
		a, b := f.Tensors[order[i-1]], f.Tensors[order[i]]
		if a.Offset+a.Size > b.Offset {
			return fmt.Errorf("tensors %s and %s overlap", a.Name, b.Name)
		}
	}
	return nil
}
