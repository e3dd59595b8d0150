package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds one run of a program of others.
const patience = 5 * time.Minute

// Linux is the system: device mapper through cryptsetup, ext4, and the kernel's mounts.
type Linux struct{}

// Ready implements System.
func (Linux) Ready(makes bool) error {
	programs := [][2]string{{"cryptsetup", "cryptsetup-bin"}}
	if makes {
		programs = append(programs, [2]string{"mkfs.ext4", "e2fsprogs"})
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p[0]); err != nil {
			return fmt.Errorf("%w: install the package %s", err, p[1])
		}
	}
	return nil
}

// Format implements System. The key's derivation is the shortest: the key is random, and no derivation makes
// it better. The metadata is small, because it is kept in memory.
func (Linux) Format(ctx context.Context, header, device string, key []byte) error {
	return program(ctx, key, "cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--header="+header, "--offset="+strconv.Itoa(dataOffset/512),
		"--cipher=aes-xts-plain64", "--key-size=512", "--integrity=hmac-sha256", "--integrity-no-wipe", "--sector-size=4096",
		"--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--luks2-metadata-size=16k", "--luks2-keyslots-size=512k",
		"--key-file=-", device)
}

// Unlock implements System.
func (Linux) Unlock(ctx context.Context, header, device, name string, key []byte) error {
	return program(ctx, key, "cryptsetup", "open", "--batch-mode", "--type=luks2", "--header="+header, "--key-file=-", "--disable-external-tokens", device, name)
}

// Lock implements System.
func (Linux) Lock(ctx context.Context, name string) error {
	return program(ctx, nil, "cryptsetup", "close", name)
}

// Unlocked implements System.
func (Linux) Unlocked(name string) bool {
	_, err := os.Stat(mapper(name))
	return err == nil
}

func mapper(name string) string { return filepath.Join("/dev/mapper", name) }

// MakeFilesystem implements System. A sector that was never written does not read: mkfs looks for former
// contents at both ends, which are written first. ext4 reads no other block before it has written it, given that
// its blocks are as large as the sectors.
func (Linux) MakeFilesystem(ctx context.Context, name string) error {
	if err := zeroEnds(mapper(name)); err != nil {
		return err
	}
	return program(ctx, nil, "mkfs.ext4", "-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", mapper(name))
}

// zeroEnds writes the first and the last MiB of a device.
func zeroEnds(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	zeros := make([]byte, 1<<20)
	if err == nil && size >= 2*int64(len(zeros)) {
		_, err = f.WriteAt(zeros, 0)
		if err == nil {
			_, err = f.WriteAt(zeros, (size-int64(len(zeros)))&^4095)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Mount implements System.
func (Linux) Mount(name, target string, aside bool) error {
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID)
	if aside {
		flags |= unix.MS_NOEXEC
	}
	if err := unix.Mount(mapper(name), target, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s at %s: %w", mapper(name), target, err)
	}
	return nil
}

// Unmount implements System.
func (Linux) Unmount(target string) error {
	if err := unix.Unmount(target, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// program runs a program with a secret on its standard input, which is a pipe. Its arguments hold none.
func program(ctx context.Context, secret []byte, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.Stdin = bytes.NewReader(secret)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %.400s", name, args[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}
