package arena

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapAligned maps size bytes (whole pages); a large region starts on a 2 MiB
// boundary, so that the kernel can back it with huge pages. A page that nobody
// may touch follows the region: code without bounds checks faults there instead
// of reading a neighbour, and the kernel cannot merge two regions and lay one
// huge page across both.
func mapAligned(size int64) ([]byte, error) {
	align := uintptr(pageSize)
	if size >= hugePage {
		align = hugePage
	}
	n := uintptr(size)
	all, err := unix.MmapPtr(-1, 0, nil, n+align, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	before := -uintptr(all) & (align - 1)
	start := unsafe.Add(all, before)
	if align == hugePage { // keep one guard page, give the other slack back
		err = errors.Join(unmapRange(all, before), unmapRange(unsafe.Add(start, n+pageSize), align-before-pageSize))
	}
	data := unsafe.Slice((*byte)(start), size)
	if err == nil {
		err = prepare(data, align == hugePage)
	}
	if err != nil {
		return nil, errors.Join(err, unmap(data))
	}
	return data, nil
}

// prepare makes the pages usable and keeps them out of dumps and children.
// Huge pages are for the whole 2 MiB parts only: a partly used huge page would
// cost memory over the budget.
func prepare(data []byte, huge bool) error {
	if err := unix.Mprotect(data, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK} {
		if err := unix.Madvise(data, advice); err != nil {
			return err
		}
	}
	whole := 0
	if huge {
		whole = len(data) / hugePage * hugePage
		// A kernel without huge pages refuses; the memory works all the same.
		_ = unix.Madvise(data[:whole], unix.MADV_HUGEPAGE)
	}
	if whole < len(data) {
		_ = unix.Madvise(data[whole:], unix.MADV_NOHUGEPAGE) // likewise
	}
	return nil
}

// settle makes the pages resident, locked if the limits allow, so that no page
// is accepted from the hypervisor inside a request. Without the lock the region
// could be swapped: Report tells.
func settle(data []byte) (locked bool, err error) {
	if unix.Mlock(data) == nil {
		return true, nil
	}
	err = unix.Madvise(data, unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) {
		err = nil // older than Linux 5.14: pages come on first use
	}
	return false, err
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

// unmap gives back the pages that data begins in and fills, and their guard.
func unmap(data []byte) error {
	pages := (uintptr(len(data)) + pageSize - 1) / pageSize * pageSize
	return unmapRange(unsafe.Pointer(unsafe.SliceData(data)), pages+pageSize)
}

// Float32s returns the region's memory as float32 values.
func (r *Region) Float32s() []float32 {
	if r == nil || len(r.data) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(r.data))), len(r.data)/4)
}
