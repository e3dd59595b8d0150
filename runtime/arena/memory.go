package arena

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapAligned maps size bytes (whole pages); a large region starts on a 2 MiB
// boundary, so that the kernel can back it with huge pages.
func mapAligned(size int64) ([]byte, error) {
	extra := uintptr(0)
	if size >= hugePage {
		extra = hugePage
	}
	n := uintptr(size)
	all, err := unix.MmapPtr(-1, 0, nil, n+extra, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	start := all
	if extra != 0 {
		before := -uintptr(all) & (hugePage - 1)
		start = unsafe.Add(all, before)
		if err := errors.Join(unmapRange(all, before), unmapRange(unsafe.Add(start, n), extra-before)); err != nil {
			return nil, err
		}
	}
	data := unsafe.Slice((*byte)(start), size)
	if err := advise(data, extra != 0); err != nil {
		return nil, errors.Join(err, unmap(data))
	}
	return data, nil
}

func unmapRange(p unsafe.Pointer, n uintptr) error {
	if n == 0 {
		return nil
	}
	if err := unix.MunmapPtr(p, n); err != nil {
		return fmt.Errorf("unmap: %w", err)
	}
	return nil
}

// unmap gives back the pages that data begins in and fills.
func unmap(data []byte) error {
	pages := (uintptr(len(data)) + pageSize - 1) / pageSize * pageSize
	return unmapRange(unsafe.Pointer(unsafe.SliceData(data)), pages)
}

// Float32s returns the region's memory as float32 values.
func (r *Region) Float32s() []float32 {
	if len(r.data) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(r.data))), len(r.data)/4)
}
