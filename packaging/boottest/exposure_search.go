package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// What the guest and the host of the broker search alike: processes and files.

// trace is a part of a canary, and where it is.
type trace struct {
	canary.Hit
	Place string `json:"place"`
	In    string `json:"in"` // file, process or page
}

// tracer collects what is found.
type tracer struct {
	*canary.Searcher
	traces []trace
	errs   []error
}

func (t *tracer) found(place, in string, hits []canary.Hit, err error) {
	for _, h := range hits {
		t.traces = append(t.traces, trace{Hit: h, Place: place, In: in})
	}
	if err != nil {
		t.errs = append(t.errs, fmt.Errorf("search %s: %w", in, err))
	}
}

// file searches a file. One that is gone meanwhile holds nothing.
func (t *tracer) file(place, path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.found(place, path, nil, err)
		return
	}
	defer f.Close()
	hits, err := t.Search(f)
	t.found(place, path, hits, err)
}

// files searches all regular files below a directory that were changed since.
func (t *tracer) files(place, dir string, since time.Time, skip ...string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, s := range skip {
			if path == s {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err == nil && !info.ModTime().Before(since) {
			t.file(place, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.found(place, dir, nil, err)
	}
}

// process searches what a process could have changed of its memory, and how it was started. It reads through
// process_vm_readv, which copies from page to page: /proc/PID/mem has the kernel copy into a page between.
func (t *tracer) process(memory, start string, pid int, name string) {
	for _, file := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			continue // it ended
		}
		hits, err := t.Search(bytes.NewReader(text))
		t.found(start, file+" of "+name, hits, err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return
	}
	pages, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return
	}
	defer pages.Close()
	for line := range strings.Lines(string(maps)) {
		from, to, ok := private(line)
		if !ok {
			continue
		}
		own := pages // a page that others share may be there, and not be mapped here
		if strings.Fields(line)[1][3] == 's' {
			own = nil
		}
		hits, err := t.SearchFrom(func(at int64, p []byte) (int, error) { return readMemory(pid, own, from+uint64(at), to, p) })
		if errors.Is(err, unix.ESRCH) {
			return
		}
		t.found(memory, name, hits, err)
	}
}

// private returns the addresses of a mapping that is not merely a file's bytes.
func private(line string) (from, to uint64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || f[1][0] != 'r' || f[1][1] != 'w' && f[4] != "0" {
		return 0, 0, false
	}
	if len(f) > 5 && (strings.HasPrefix(f[5], "[v") || strings.HasPrefix(f[5], "/dev/")) {
		return 0, 0, false // the kernel's own
	}
	begin, end, _ := strings.Cut(f[0], "-")
	from, err1 := strconv.ParseUint(begin, 16, 64)
	to, err2 := strconv.ParseUint(end, 16, 64)
	return from, to, err1 == nil && err2 == nil
}

// readMemory reads another process's memory. Pages that the kernel keeps from others, and those that are gone, read
// as zeros, and so do those that it never made: pages, if any, says which are there, in memory or in swap.
func readMemory(pid int, pages io.ReaderAt, at, to uint64, p []byte) (int, error) {
	if at >= to {
		return 0, io.EOF
	}
	p = p[:min(uint64(len(p)), to-at)]
	if pages != nil {
		n, there := stretch(pages, at, len(p))
		p = p[:n]
		if !there {
			clear(p)
			return n, nil
		}
	}
	local := []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(p)}}, 0)
	if errors.Is(err, unix.EFAULT) || err == nil && n == 0 {
		n, err = min(len(p), os.Getpagesize()-int(at)%os.Getpagesize()), nil
		clear(p[:n])
	}
	return n, err
}

// stretch returns how many of n bytes of a process's memory from an address on are all there, or all are not. What the
// kernel does not say is there.
func stretch(pages io.ReaderAt, at uint64, n int) (bytes int, there bool) {
	page := uint64(os.Getpagesize())
	entries := make([]byte, ((at+uint64(n)-1)/page-at/page+1)*8)
	if got, _ := pages.ReadAt(entries, int64(at/page*8)); got < len(entries) {
		return n, true
	}
	const mapped, swapped = 1 << 63, 1 << 62 // Documentation/admin-guide/mm/pagemap.rst
	is := func(i int) bool { return binary.LittleEndian.Uint64(entries[i:])&(mapped|swapped) != 0 }
	bytes = int(page - at%page)
	for i := 8; i < len(entries) && is(i) == is(0); i += 8 {
		bytes += int(page)
	}
	return min(bytes, n), is(0)
}

// processes are the ids of all, by their directories in /proc.
func processes() (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, nerr := strconv.Atoi(e.Name()); nerr == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}
