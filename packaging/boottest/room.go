package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// ownedMark is a file in a work directory that its process has locked.
const ownedMark = "owned"

// markOwned says that a work directory goes with this process: the next run removes it if
// this one is killed.
func markOwned(dir string) (*os.File, error) {
	fresh := filepath.Join(dir, ".owned")
	f, err := os.Create(fresh)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX), os.Rename(fresh, filepath.Join(dir, ownedMark))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes the work directories, some two gigabytes each, of runs that were killed. Those
// that -keep left have no mark.
func sweep(base string) error {
	marks, err := filepath.Glob(filepath.Join(base, "boot-*", ownedMark))
	for _, mark := range marks {
		f, oerr := os.Open(mark)
		if oerr != nil {
			continue // its run removed it
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = errors.Join(err, os.RemoveAll(filepath.Dir(mark)))
		}
		f.Close()
	}
	return err
}

// busy says that this machine has more to do than it has processors, or nothing. The time-outs
// in the guest are those of real units; an emulated processor that gets no time exceeds them.
func busy() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	var load float64
	if _, err := fmt.Sscan(strings.Fields(string(text) + " 0")[0], &load); err != nil || load < float64(runtime.NumCPU())+1 {
		return ""
	}
	return fmt.Sprintf("this machine is busy (load %.0f, %d processors), which may be why the guest was slow: try again when it is idle", load, runtime.NumCPU())
}

// unitWord is a word of a unit's ExecStart= that stays what it is (systemd.service(5)).
func unitWord(s string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(fmt.Sprintf("%q", s))
}
