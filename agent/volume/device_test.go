package volume

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/luks"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// deviceVariable names a block device that TestOnARealDevice may overwrite: of a virtual machine whose kernel has
// dm-crypt, dm-integrity and ext4, with cryptsetup and mkfs.ext4 installed.
const deviceVariable = "ANCHORHOLD_TEST_DEVICE"

// TestOnARealDevice opens a volume with the kernel's own device mapper and file system, and is the host that
// copies the disk, puts it back and changes it.
func TestOnARealDevice(t *testing.T) {
	device := os.Getenv(deviceVariable)
	if device == "" {
		t.Skipf("%s names no block device to overwrite", deviceVariable)
	}
	g := newGuest(t, KeyBroker)
	g.System, g.Logger = Linux{}, slog.New(slog.NewTextHandler(os.Stderr, nil))
	g.v.Device = device
	wipe(t, device)

	began := time.Now()
	g.must(g.Open(t.Context(), g.v))
	t.Logf("formatted and opened in %s", time.Since(began).Round(time.Millisecond))
	g.m.write(filepath.Join(g.v.Mount, "data"), make([]byte, 8<<20))
	g.must(g.Close(t.Context(), g.v))
	g.closed("closed")
	first := dump(t, device)

	began = time.Now()
	g.must(g.Open(t.Context(), g.v))
	t.Logf("opened in %s", time.Since(began).Round(time.Millisecond))
	if info, err := os.Stat(filepath.Join(g.v.Mount, "data")); err != nil || info.Size() != 8<<20 {
		t.Errorf("%v, %v", info, err)
	}
	if err := fill(filepath.Join(g.v.Mount, "fill")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the volume's other blocks cannot all be written: %v", err)
	}
	g.must(g.Close(t.Context(), g.v))
	second := dump(t, device)

	restore(t, device, first)
	err := g.Open(t.Context(), g.v)
	refusaltest.Want(t, "an older disk", err, generation.ReasonRolledBack)
	g.closed("an older disk")
	restore(t, device, second)
	g.must(g.Open(t.Context(), g.v))
	g.must(g.Close(t.Context(), g.v))

	// One sector of the data, whose place nobody knows: somewhere it is noticed.
	changed := dump(t, device)
	for at := dataOffset + 8<<20; at < len(changed); at += 4096 {
		changed[at] ^= 1
	}
	restore(t, device, changed)
	if err := readBack(g, t); err == nil {
		t.Error("changed sectors were read")
	}
	g.b.key = "another key"
	restore(t, device, second)
	err = g.Open(t.Context(), g.v)
	refusaltest.Want(t, "another key", err, ReasonNotUnlocked)
	g.closed("another key")

	wipe(t, device)
	g.v.Key = KeyBoot
	for range 2 {
		g.must(g.Open(t.Context(), g.v))
		g.m.write(filepath.Join(g.v.Mount, "data"), []byte("data"))
		g.must(g.Close(t.Context(), g.v))
		with(t, device, func(f *os.File) error {
			empty, err := luks.Zero(f, emptyBytes)
			if !empty {
				t.Error("a volume for one boot left a trace in the first MiB")
			}
			return err
		})
	}
}

// readBack opens a volume with changed sectors, and reads its file.
func readBack(g *guest, t *testing.T) error {
	if err := g.Open(t.Context(), g.v); err != nil {
		return err
	}
	_, err := os.ReadFile(filepath.Join(g.v.Mount, "data"))
	return errors.Join(err, g.Close(t.Context(), g.v))
}

// with opens the device for as long as f runs: what stays open keeps pages of it that dm-crypt does not know of.
func with(t *testing.T, device string, f func(*os.File) error) {
	t.Helper()
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(d), d.Sync(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, device string) (b []byte) {
	t.Helper()
	with(t, device, func(f *os.File) (err error) { b, err = io.ReadAll(f); return err })
	return b
}

func restore(t *testing.T, device string, b []byte) {
	t.Helper()
	with(t, device, func(f *os.File) error { _, err := f.Write(b); return err })
}

func wipe(t *testing.T, device string) {
	t.Helper()
	restore(t, device, make([]byte, 4<<20))
}

// fill writes a file until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for err == nil {
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, os.Remove(path))
}
