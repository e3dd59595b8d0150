package keybuftest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// half is how much of a secret counts as a copy of it.
const half = 16

// Copies returns where a secret of 32 bytes or more, or a sixteen-byte half of its first 32, is in the memory of this process, but for the
// buffer itself: a line for each, with the address and what it is part of. The test runs Alone, and has to keep no other reference
// to it, such as the bytes that it was made from.
func Copies(t *testing.T, secret *keybuf.Buffer) (found []string) {
	t.Helper()
	const chunk = 1 << 20
	buffer, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buffer)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	err = secret.Use(func(key []byte) error {
		if len(key) < 2*half {
			return fmt.Errorf("got a secret of %d bytes, want at least %d", len(key), 2*half)
		}
		skip := [2]uintptr{address(buffer), address(key)}
		for line := range strings.Lines(string(maps)) {
			var from, to uintptr
			var mode string
			if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n < 3 || mode[0] != 'r' || mode[3] != 'p' || strings.Contains(line, "[v") {
				continue
			}
			for at := from; at < to; at += chunk - half {
				for _, hit := range search(buffer, key, at, min(to, at+chunk)) {
					if hit-skip[0] >= chunk && hit&^uintptr(os.Getpagesize()-1) != skip[1] {
						found = append(found, fmt.Sprintf("%#x in %s", hit, strings.TrimSpace(line)))
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// search returns the addresses of halves of a key in a range of memory. What cannot be read is passed over.
func search(buffer, key []byte, from, to uintptr) (hits []uintptr) {
	n := read(buffer, from, to)
	for _, part := range [][]byte{key[:half], key[half : 2*half]} {
		for at := 0; ; at++ {
			i := bytes.Index(buffer[at:n], part)
			if i < 0 {
				break
			}
			at += i
			hits = append(hits, from+uintptr(at))
		}
	}
	return hits
}

// read copies a range of this process's memory: in one piece, or page for page where some of it cannot be read.
func read(buffer []byte, from, to uintptr) int {
	whole := int(to - from)
	copyFrom := func(at, n int) bool {
		local := []unix.Iovec{{Base: &buffer[at], Len: uint64(n)}}
		got, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: from + uintptr(at), Len: n}}, 0)
		return err == nil && got == n
	}
	if copyFrom(0, whole) {
		return whole
	}
	clear(buffer)
	for at := 0; at < whole; {
		n := min(os.Getpagesize()-int(from+uintptr(at))%os.Getpagesize(), whole-at)
		copyFrom(at, n)
		at += n
	}
	return whole
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
