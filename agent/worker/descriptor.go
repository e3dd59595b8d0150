package worker

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// seals of an input: nobody writes to it again, or changes its length.
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Sealed returns an anonymous file in memory that holds data and can never be
// changed again. Its pages may be swapped, so it is for inputs that are not
// keys. The caller closes it.
func Sealed(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(data, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("fill a file in memory: %w", err), f.Close())
	}
	if err := control(f, func(fd uintptr) error {
		_, err := unix.FcntlInt(fd, unix.F_ADD_SEALS, seals)
		return err
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("seal a file in memory: %w", err), f.Close())
	}
	return f, nil
}

// checkDescriptors refuses what would be a door: a directory, a device, a
// socket, an input that the worker could write to.
func (t Task) checkDescriptors() error {
	for i, f := range t.In {
		if err := control(f, func(fd uintptr) error { return checkDescriptor(fd, false) }); err != nil {
			return refusal.New(ReasonTask, "input %d: %w", i, err)
		}
	}
	for i, f := range t.Out {
		if err := control(f, func(fd uintptr) error { return checkDescriptor(fd, true) }); err != nil {
			return refusal.New(ReasonTask, "output %d: %w", i, err)
		}
	}
	return nil
}

func checkDescriptor(fd uintptr, output bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFIFO {
		return fmt.Errorf("neither a regular file nor a pipe (mode %#o)", kind)
	}
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	access := flags & unix.O_ACCMODE
	switch {
	case output && access == unix.O_RDONLY, !output && access == unix.O_WRONLY:
		return errors.New("opened in the wrong direction")
	case !output && access == unix.O_RDWR && !writeSealed(fd):
		return errors.New("the worker could write to this input: open it read-only, or seal it")
	}
	return nil
}

func writeSealed(fd uintptr) bool {
	have, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
	return err == nil && have&unix.F_SEAL_WRITE != 0
}

// control calls do with the file's descriptor, which stays open meanwhile.
func control(f *os.File, do func(fd uintptr) error) error {
	if f == nil {
		return errors.New("no file")
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(fd) }); err != nil {
		return err
	}
	return inner
}
