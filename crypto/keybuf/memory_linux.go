package keybuf

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Protection says how a buffer's memory is protected.
type Protection uint8

const (
	// Unlocked memory could be swapped: the lock limit was too low. It is
	// still left out of core dumps.
	Unlocked Protection = iota
	// Locked memory stays in RAM and out of core dumps and of child processes.
	Locked
	// Secret memory (memfd_secret) is, in addition, unmapped from the kernel's own address
	// space, so that not even the kernel reads it by mistake.
	Secret
)

// String names the protection in one word or sentence.
func (p Protection) String() string {
	switch p {
	case Secret:
		return "memfd_secret: locked, out of dumps, hidden from the kernel"
	case Locked:
		return "locked and out of dumps"
	}
	return "not locked: raise the limit of lockable memory (LimitMEMLOCK=, ulimit -l)"
}

// maxSpare bounds the pages that are kept for brief buffers.
const maxSpare = 64

// spare are pages that brief buffers left: locked, and all zero.
var spare struct {
	sync.Mutex
	pages []spared
}

type spared struct {
	region     []byte
	protection Protection
}

// reuse returns a page for n bytes, if there is one.
func reuse(n int) (p spared, ok bool) {
	spare.Lock()
	defer spare.Unlock()
	last := len(spare.pages) - 1
	if last < 0 || n > os.Getpagesize() {
		return spared{}, false
	}
	p, spare.pages = spare.pages[last], spare.pages[:last]
	return p, true
}

// keep takes a page that holds zeros. What is not locked is not kept: the limit may be
// higher the next time.
func keep(region []byte, protection Protection) bool {
	spare.Lock()
	defer spare.Unlock()
	if protection == Unlocked || len(region) != os.Getpagesize() || len(spare.pages) == maxSpare {
		return false
	}
	spare.pages = append(spare.pages, spared{region, protection})
	return true
}

// allocate maps whole pages with the best protection that the kernel gives.
func allocate(n int) ([]byte, Protection, error) {
	page := os.Getpagesize()
	size := (n + page - 1) / page * page
	if region := secretMemory(size); region != nil {
		return region, Secret, nil
	}
	return anonymousMemory(size)
}

// anonymousMemory serves where secretMemory does not. It is locked if the
// limits allow that, and never dumped or inherited.
func anonymousMemory(size int) ([]byte, Protection, error) {
	region, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, Unlocked, fmt.Errorf("map %d bytes: %w", size, err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(region, advice); err != nil {
			_ = unix.Munmap(region) // holds nothing yet
			return nil, Unlocked, fmt.Errorf("keep memory out of dumps: %w", err)
		}
	}
	if err := unix.Mlock(region); err != nil {
		return region, Unlocked, nil
	}
	return region, Locked, nil
}

// secretMemory returns nil where the kernel or the limits do not give it.
func secretMemory(size int) []byte {
	// The kernel takes O_CLOEXEC; FD_CLOEXEC, which manual pages name, is EINVAL.
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil
	}
	region, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	// A forked child must not share the secret.
	if err := unix.Madvise(region, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(region) // holds nothing yet
		return nil
	}
	return region
}

func release(region []byte) {
	_ = unix.Munmap(region) // cleared already; the mapping ends with the process at the latest
}
