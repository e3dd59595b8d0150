package service

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// collectAt is how many percent the Go heap may grow before its garbage is collected:
	// a server's live heap is small, and with the runtime's 100 it collects every few
	// requests.
	collectAt = 800
	// unlimited is the memory that CollectSeldom reckons with where no control group says.
	unlimited = 512 << 20
)

// CollectSeldom makes garbage collection less frequent than the runtime's default, and more
// frequent as the heap approaches half of the memory that the control group allows: the rest is
// for memory outside the heap. It leaves GOGC and GOMEMLIMIT in the environment as they are. It
// returns the heap's limit, or 0 if it changed nothing.
func CollectSeldom() (bytes int64) { return collectSeldom(os.DirFS("/"), os.Getenv) }

func collectSeldom(root fs.FS, getenv func(string) string) (bytes int64) {
	if getenv("GOMEMLIMIT") == "" {
		bytes = unlimited
		if most, ok := memoryMax(root); ok {
			bytes = most
		}
		bytes /= 2
		debug.SetMemoryLimit(bytes)
	}
	if getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	return bytes
}

// MemoryMax is the memory limit of this process's control groups, in bytes; ok is false if there
// is none (MemoryMax= of the unit, or of a slice above it).
func MemoryMax() (bytes int64, ok bool) { return memoryMax(os.DirFS("/")) }

// memoryMax is the least limit of this process's control group and those above it, of
// version 2 or 1 (cgroups(7)).
func memoryMax(root fs.FS) (bytes int64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	bytes = math.MaxInt64
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case parts[0] == "0" && parts[1] == "":
		case hasController(parts[1], "memory"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// A container may see its own group as the root: a directory that is not there
		// says nothing, and those above it are asked all the same.
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if limit, there := readLimit(root, mount+path.Join("/", dir, file)); there {
				bytes, ok = min(bytes, limit), true
			}
			if dir == "/" {
				break
			}
		}
	}
	return bytes, ok
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// readLimit reads one limit. "max", and the number that version 1 has instead, are none.
func readLimit(root fs.FS, name string) (bytes int64, ok bool) {
	const none = 1 << 60
	raw, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	bytes, err = strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return bytes, err == nil && bytes > 0 && bytes < none
}
