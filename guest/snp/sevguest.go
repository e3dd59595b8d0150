package snp

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const guestPath = "/dev/sev-guest"

// sevGuest is the kernel's device. It is opened for each call: the driver keeps no state per file.
type sevGuest struct {
	path  string
	ioctl func(fd, command, argument uintptr) error
}

func (g sevGuest) present() error {
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// do writes the addresses of the call's buffers into its structures, and makes it. The garbage
// collector does not know these addresses; the buffers are pinned until the call has returned.
func (g sevGuest) do(c *call) error {
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&c.argument[0])
	address := func(at []byte, buffer []byte) {
		pins.Pin(&buffer[0])
		binary.LittleEndian.PutUint64(at, uint64(uintptr(unsafe.Pointer(&buffer[0]))))
	}
	address(c.argument[atRequest:], c.request)
	address(c.argument[atResponse:], c.response[:])
	if len(c.certs) > 0 {
		address(c.request[atCertsAddress:], c.certs)
	}
	err = g.ioctl(f.Fd(), uintptr(c.command), uintptr(unsafe.Pointer(&c.argument[0])))
	return errors.Join(err, f.Close())
}

// ioctl makes the system call. It is not repeated when a signal interrupts it: the driver says
// so only before it has asked the firmware, and then the request fails.
func ioctl(fd, command, argument uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, command, argument); errno != 0 {
		return &fs.PathError{Op: "ioctl", Path: guestPath, Err: errno}
	}
	return nil
}
