package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Work is a directory below the tree of tools, which programs run in that see nothing else.
type Work struct {
	// Dir is the directory.
	Dir  string
	tree string
	mark *os.File // nil if the directory stays
}

// NewWork makes a directory below the tools' tree in trees, and removes those of runs that were killed. A kept one
// stays when it is closed.
func NewWork(trees string, keep bool) (*Work, error) {
	w := &Work{tree: filepath.Join(trees, "tools")}
	if err := sweep(w.tree); err != nil {
		return nil, err
	}
	var err error
	if w.Dir, err = os.MkdirTemp(w.tree, "boot-"); err != nil {
		return nil, fmt.Errorf("%w (.ci/boot-trees DIRECTORY makes it)", err)
	}
	if !keep {
		w.mark, err = markOwned(w.Dir)
	}
	return w, err
}

// Close removes the directory.
func (w *Work) Close() error {
	if w.mark == nil {
		return nil
	}
	return errors.Join(os.RemoveAll(w.Dir), w.mark.Close())
}

// Tree is the root of the tools.
func (w *Work) Tree() string { return w.tree }

// Path is a file of the directory.
func (w *Work) Path(elements ...string) string {
	return filepath.Join(append([]string{w.Dir}, elements...)...)
}

// Inside is a file of the directory as programs in the tools' tree see it.
func (w *Work) Inside(elements ...string) string {
	return filepath.Join(append([]string{"/", filepath.Base(w.Dir)}, elements...)...)
}

// Tool runs a program of the tree to its end.
func (w *Work) Tool(ctx context.Context, name string, args ...string) ([]byte, error) {
	return Command(ctx, "chroot", append([]string{w.tree, name}, args...)...)
}

// daemon is a program of the tree that ends with the context, and with this process.
func (w *Work) daemon(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "chroot", append([]string{w.tree, name}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Command runs a program and returns its output; a failure shows all that it said.
func Command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, errs.Bytes())
	}
	return out, nil
}

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
// that were kept have no mark.
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

// Busy says that this machine has more to do than it has processors, or nothing. The time-outs
// in a guest are those of real units; an emulated processor that gets no time exceeds them.
func Busy() string {
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
