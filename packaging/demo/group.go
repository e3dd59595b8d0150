package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// group is a control group for memory: the guest's limit, which the kernel holds.
type group struct {
	dir            string // empty if there is none
	absent         string // why not
	limit          int64
	peakAt, killed string // files
}

// newGroup makes one without swap, of version 2 or 1. There is none where this machine has no memory controller
// that this user may use; where it has one, whatever fails then is an error, or a demo would pass with no limit.
func newGroup(name string, limit int64) (*group, error) {
	return groupBelow("/sys/fs/cgroup", name, limit)
}

func groupBelow(root, name string, limit int64) (*group, error) {
	bytes, absent := strconv.FormatInt(limit, 10), []string{}
	for _, v := range []struct {
		parent, limit, swap, most string
		group                     group
	}{
		{root, "memory.max", "memory.swap.max", "0", group{peakAt: "memory.peak", killed: "memory.events"}},
		{filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes, group{peakAt: "memory.max_usage_in_bytes", killed: "memory.oom_control"}},
	} {
		g := v.group
		g.dir, g.limit = filepath.Join(v.parent, name), limit
		err := os.Mkdir(g.dir, 0o755)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
			absent = append(absent, err.Error())
			continue
		case err != nil:
			return nil, fmt.Errorf("control group for memory: %w", err)
		}
		err = g.write(v.limit, bytes)
		if errors.Is(err, fs.ErrNotExist) { // a plain directory, or a group without this controller
			absent = append(absent, err.Error())
			if err := os.Remove(g.dir); err != nil {
				return nil, err
			}
			continue
		}
		if swap := g.write(v.swap, v.most); !errors.Is(swap, fs.ErrNotExist) { // a kernel without swap has no such file
			err = errors.Join(err, swap)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("control group for memory: %w", err), os.Remove(g.dir))
		}
		return &g, nil
	}
	return &group{absent: strings.Join(absent, "; ")}, nil
}

// none says whether there is no such group.
func (g *group) none() bool { return g == nil || g.dir == "" }

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
	if g.none() {
		return program
	}
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, program...)
}

// told is whether the kernel enforced the limit, the peak, and that nothing was ended for its memory, which else is an
// error.
func (g *group) told() (string, error) {
	if g.none() {
		return "limit NOT ENFORCED by the kernel, for want of a control group: " + g.absent, nil
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
	said := fmt.Sprintf("limit enforced by the kernel: control group of %d MiB without swap", g.limit>>20)
	text, err = os.ReadFile(filepath.Join(g.dir, g.peakAt))
	if err != nil { // before Linux 5.19 version 2 does not say
		return said + ", nothing was killed", nil
	}
	peak, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return fmt.Sprintf("%s, peak %.1f MiB, nothing was killed", said, float64(peak)/(1<<20)), err
}

func (g *group) remove() error {
	if g.none() {
		return nil
	}
	return os.Remove(g.dir)
}

// removal is the end of a command line that removes the group, once what ran in it has ended.
func (g *group) removal() string {
	if g.none() {
		return ""
	}
	return fmt.Sprintf(" && rmdir %q", g.dir)
}
