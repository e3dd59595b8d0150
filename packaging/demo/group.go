package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// group is a control group for memory: the guest's limit, which the kernel holds. A nil one is none.
type group struct {
	dir            string
	limit          int64
	peakAt, killed string // files
}

// newGroup makes one without swap, of version 2 or 1; nil where this user may not.
func newGroup(name string, limit int64) *group {
	bytes := strconv.FormatInt(limit, 10)
	for _, v := range []struct {
		parent, limit, swap, most string
		group                     group
	}{
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0", group{peakAt: "memory.peak", killed: "memory.events"}},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes, group{peakAt: "memory.max_usage_in_bytes", killed: "memory.oom_control"}},
	} {
		g := v.group
		g.dir, g.limit = filepath.Join(v.parent, name), limit
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		err := g.write(v.limit, bytes)
		if swap := g.write(v.swap, v.most); !errors.Is(swap, fs.ErrNotExist) { // a kernel without swap has no such file
			err = errors.Join(err, swap)
		}
		if err == nil {
			return &g
		}
		_ = os.Remove(g.dir) // a plain directory, or a group without this controller
	}
	return nil
}

// write makes no file: a directory that is no control group has none.
func (g *group) write(name, value string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// within is a command line that runs a program in the group, from its first page on.
func (g *group) within(program []string) []string {
	if g == nil {
		return program
	}
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, program...)
}

// told is the limit, the peak and that nothing was ended for its memory, which else is an error.
func (g *group) told() (string, error) {
	if g == nil {
		return "no control group: that takes root and a memory controller", nil
	}
	text, err := os.ReadFile(filepath.Join(g.dir, g.killed))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
			return "", errors.New("the kernel ended the agent for its memory")
		}
	}
	text, err = os.ReadFile(filepath.Join(g.dir, g.peakAt))
	if err != nil { // before Linux 5.19 version 2 does not say
		return fmt.Sprintf("control group: limit %d MiB without swap, nothing was killed", g.limit>>20), nil
	}
	peak, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return fmt.Sprintf("control group: limit %d MiB without swap, peak %.1f MiB, nothing was killed", g.limit>>20, float64(peak)/(1<<20)), err
}

func (g *group) remove() error {
	if g == nil {
		return nil
	}
	return os.Remove(g.dir)
}

// removal is the end of a command line that removes the group, once what ran in it has ended.
func (g *group) removal() string {
	if g == nil {
		return ""
	}
	return fmt.Sprintf(" && rmdir %q", g.dir)
}
