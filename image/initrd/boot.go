package initrd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"golang.org/x/sys/unix"
)

// Reasons of the boot's other steps.
const (
	// ReasonMount: a file system could not be mounted.
	ReasonMount refusal.Reason = "mount-failed"
	// ReasonModule: the kernel refused a module that lies beside this program.
	ReasonModule refusal.Reason = "module-refused"
	// ReasonRoot: the verified root has no service manager, or lacks a directory that it needs.
	ReasonRoot refusal.Reason = "root-unusable"
)

const (
	// ModulesDir is where the kernel modules lie, in the order of their names.
	ModulesDir = "/modules"
	newRoot    = "/root"
	manager    = "/usr/lib/systemd/systemd"
	// diskPatience bounds the wait for disks, some of which the kernel finds after its modules are loaded.
	diskPatience = 30 * time.Second
	diskInterval = 20 * time.Millisecond
	privateMode  = 0o600
)

// Boot does all that is to be done and becomes the service manager. It returns if it failed.
func Boot() error {
	if err := mountKernelFiles(); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return refusal.New(ReasonMount, "%w", err)
	}
	line, err := ParseCommandLine(string(text))
	if err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := checkVariables(); err != nil {
		return err
	}
	if err := openRoot(line.RootHash); err != nil {
		return err
	}
	if err := giveMachineID(); err != nil {
		return err
	}
	return switchRoot()
}

// mountKernelFiles mounts what the kernel shows, where systemd wants it.
func mountKernelFiles() error {
	for _, m := range []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=20%"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
			return refusal.New(ReasonMount, "%s: %w", m.at, err)
		}
	}
	return nil
}

// loadModules loads what image/build put beside this program. Hardware that is not there is no failure: a module for it loads all the
// same, or says that there is no such device, and what builds on it then lacks its symbols.
func loadModules() error {
	files, err := os.ReadDir(ModulesDir)
	if err != nil {
		return refusal.New(ReasonModule, "%w", err)
	}
	absent := false
	for _, file := range files {
		f, err := os.Open(filepath.Join(ModulesDir, file.Name()))
		if err != nil {
			return refusal.New(ReasonModule, "%w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		absent = absent || errors.Is(err, unix.ENODEV)
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) && (!absent || !errors.Is(err, unix.ENOENT)) {
			return refusal.New(ReasonModule, "%s: %w", file.Name(), err)
		}
		if err := f.Close(); err != nil {
			return refusal.New(ReasonModule, "%w", err)
		}
	}
	return nil
}

// openRoot mounts the verified root.
func openRoot(rootHash [32]byte) error {
	root, verity, err := awaitRoot(rootHash)
	if err != nil {
		return err
	}
	r, closeHashes, err := openDevice(verity.Device)
	if err != nil {
		return refusal.New(ReasonSuperblock, "%w", err)
	}
	raw := make([]byte, SuperblockBytes)
	_, err = r.ReadAt(raw, 0)
	if err = errors.Join(err, closeHashes()); err != nil {
		return refusal.New(ReasonSuperblock, "%w", err)
	}
	block, err := ParseSuperblock(raw)
	if err != nil {
		return err
	}
	if block.Sectors() != root.Sectors {
		return refusal.New(ReasonSuperblock, "it is for %d sectors, and the root has %d", block.Sectors(), root.Sectors)
	}
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return refusal.New(ReasonVerity, "%w", err)
	}
	defer control.Close() // nothing was written
	number, err := Device{Name: "root", Call: func(request uint, message []byte) error { return ioctl(control, request, message) }}.
		Open("verity", block.Sectors(), block.Table(root.Device, verity.Device, rootHash))
	if err != nil {
		return err
	}
	const node = "/dev/verified-root"
	if err := unix.Mknod(node, unix.S_IFBLK|privateMode, int(number)); err != nil {
		return refusal.New(ReasonVerity, "%w", err)
	}
	if err := unix.Mount(node, newRoot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return refusal.New(ReasonMount, "the verified root: %w", err)
	}
	return nil
}

// awaitRoot looks for the root until its disk is there or the patience ends.
func awaitRoot(rootHash [32]byte) (root, verity Partition, err error) {
	disks := Disks{Block: os.DirFS("/sys/block"), Open: openDevice}
	for end := time.Now().Add(diskPatience); ; time.Sleep(diskInterval) {
		root, verity, err = disks.FindRoot(rootHash)
		if reason, _ := refusal.ReasonOf(err); err == nil || reason == ReasonAmbiguous || time.Now().After(end) {
			return root, verity, err
		}
	}
}

// openDevice opens a block device by its number, through a node of its own.
func openDevice(number string) (io.ReaderAt, func() error, error) {
	major, minor, ok := strings.Cut(number, ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(err1, err2); err != nil || !ok {
		return nil, nil, fmt.Errorf("device number %q: %w", number, err)
	}
	node := fmt.Sprintf("/dev/looked-at-%d-%d", ma, mi)
	if err := unix.Mknod(node, unix.S_IFBLK|privateMode, int(unix.Mkdev(uint32(ma), uint32(mi)))); err != nil {
		return nil, nil, fmt.Errorf("make %s: %w", node, err)
	}
	f, err := os.Open(node)
	if err := errors.Join(err, os.Remove(node)); err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

func ioctl(f *os.File, request uint, message []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(unsafe.SliceData(message))))
	runtime.KeepAlive(message)
	if errno != 0 {
		return errno
	}
	return nil
}

// giveMachineID puts a random machine id over the image's empty one. Left alone, systemd would take the one that the
// host wrote into SMBIOS.
func giveMachineID() error {
	const made, size = "/run/machine-id", 16
	raw := make([]byte, size)
	rand.Read(raw) // it never fails: a kernel without random numbers ends the program
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	const readable = 0o444
	if err := os.WriteFile(made, []byte(hex.EncodeToString(raw)+"\n"), readable); err != nil {
		return refusal.New(ReasonRoot, "%w", err)
	}
	if err := unix.Mount(made, newRoot+"/etc/machine-id", "", unix.MS_BIND, ""); err != nil {
		return refusal.New(ReasonRoot, "/etc/machine-id: %w", err)
	}
	return nil
}

// switchRoot makes the verified root the root, and the service manager of it this process. What this program ran from is
// removed first, since it stays in memory otherwise.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return refusal.New(ReasonRoot, "%s: %w", dir, err)
		}
	}
	if err := errors.Join(os.RemoveAll(ModulesDir), os.Remove("/init")); err != nil {
		return refusal.New(ReasonRoot, "%w", err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"enter the root", func() error { return unix.Chdir(newRoot) }},
		{"move the root", func() error { return unix.Mount(newRoot, "/", "", unix.MS_MOVE, "") }},
		{"change the root", func() error { return unix.Chroot(".") }},
		{"enter the new root", func() error { return unix.Chdir("/") }},
		{"start " + manager, func() error { return unix.Exec(manager, []string{manager}, []string{"TERM=linux"}) }},
	} {
		if err := step.do(); err != nil {
			return refusal.New(ReasonRoot, "%s: %w", step.what, err)
		}
	}
	return nil
}

// End says on the console why the guest does not start, and turns the machine off.
func End(why error) {
	say("anchorhold-initrd: the guest does not start: " + why.Error())
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("anchorhold-initrd: the machine cannot be turned off: " + err.Error())
	}
}

// say writes a line to the kernel's log, which shows it on every console.
func say(line string) {
	const emergency = "<0>"
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		if _, err = f.WriteString(emergency + line + "\n"); err == nil {
			return
		}
	}
	fmt.Fprintln(os.Stderr, line) // the console, which the kernel opened; there is nobody else to tell
}
