package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// memoryGroup is a control group that holds one worker. Version 1 and 2 of the
// memory controller differ in the names of their files alone.
type memoryGroup struct {
	dir    string
	events string // the file with the line "oom_kill N"
}

// newMemoryGroup makes a group under parent, bounds it and moves the process in.
func newMemoryGroup(parent string, pid int, most int64) (*memoryGroup, error) {
	dir := filepath.Join(parent, "worker-"+strconv.Itoa(pid))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a worker's control group: %w", err)
	}
	g := &memoryGroup{dir: dir}
	if err := g.bound(pid, most); err != nil {
		g.remove()
		return nil, fmt.Errorf("bound a worker's control group: %w", err)
	}
	return g, nil
}

func (g *memoryGroup) bound(pid int, most int64) error {
	limit, swap := "memory.max", "memory.swap.max"
	g.events = "memory.events"
	swapMost := "0"
	if _, err := os.Stat(filepath.Join(g.dir, limit)); errors.Is(err, os.ErrNotExist) {
		// Version 1 bounds memory and swap by their sum.
		limit, swap, g.events, swapMost = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control", strconv.FormatInt(most, 10)
	}
	if err := g.write(limit, strconv.FormatInt(most, 10)); err != nil {
		return err
	}
	if err := g.write(swap, swapMost); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // it is absent where the kernel does not account for swap
	}
	if err := g.write("cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err // gone already: the supervisor will say why
	}
	return nil
}

// write never creates: a file that the controller does not have is an error.
func (g *memoryGroup) write(name, value string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// killed reports whether the kernel killed the worker for its memory.
func (g *memoryGroup) killed() bool {
	text, err := os.ReadFile(filepath.Join(g.dir, g.events))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if count, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
			return count != "0"
		}
	}
	return false
}

// remove is called when the worker was waited for, so the group is empty.
func (g *memoryGroup) remove() { _ = os.Remove(g.dir) }
