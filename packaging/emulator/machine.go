package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// MakeTPM makes the state of a TPM in a directory of the work directory: its seeds, and so its keys, are new.
func (w *Work) MakeTPM(ctx context.Context, dir string) error {
	if err := os.Mkdir(w.Path(dir), 0o755); err != nil {
		return err
	}
	_, err := w.Tool(ctx, "swtpm_setup", "--tpm2", "--tpmstate", w.Inside(dir), "--createek", "--pcr-banks", "sha256")
	return err
}

// Machine is a guest with its TPM.
type Machine struct {
	cancel   context.CancelFunc
	pid      int // of QEMU
	tpm      *exec.Cmd
	tpmEnded chan error
	done     chan error
}

// Start turns a machine on: one emulated processor and a TPM with the state in a directory, which no other machine has
// meanwhile, and whatever the arguments for QEMU say.
func (w *Work) Start(ctx context.Context, tpm string, args ...string) (m *Machine, err error) {
	ctx, cancel := context.WithCancel(ctx)
	m = &Machine{cancel: cancel, tpmEnded: make(chan error, 1), done: make(chan error, 1)}
	socket := tpm + ".sock"
	if err := os.Remove(w.Path(socket)); err != nil && !errors.Is(err, os.ErrNotExist) { // of the machine before
		cancel()
		return nil, err
	}
	m.tpm = w.daemon(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+w.Inside(tpm), "--ctrl", "type=unixio,path="+w.Inside(socket), "--terminate")
	if err := m.tpm.Start(); err != nil {
		cancel()
		return nil, err
	}
	go func() { m.tpmEnded <- m.tpm.Wait() }()
	if err := w.awaitTPM(ctx, m, w.Path(socket)); err != nil {
		m.endTPM()
		return nil, err
	}
	qemu := w.daemon(ctx, "qemu-system-x86_64", append([]string{
		// One processor: with two, a busy host starves one emulated processor while it holds what the other waits for.
		"-cpu", "max", "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot",
		"-chardev", "socket,id=tpm,path=" + w.Inside(socket), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci"}, args...)...)
	if err := qemu.Start(); err != nil {
		m.endTPM()
		return nil, err
	}
	m.pid = qemu.Process.Pid
	go func() {
		err := qemu.Wait()
		m.endTPM()
		m.done <- err
	}()
	return m, nil
}

// PID is the emulator's process.
func (m *Machine) PID() int { return m.pid }

// CPU is the time that the emulator has used so far: what a boot would take on an idle processor, or 0 if it is off.
func (m *Machine) CPU() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
	if err != nil {
		return 0
	}
	const user, system = 11, 12 // behind the name, which may hold anything
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= system {
		return 0
	}
	var ticks [2]int64
	for i, field := range []string{fields[user], fields[system]} {
		if ticks[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return 0
		}
	}
	const hertz = 100 // USER_HZ of every architecture that this runs on
	return time.Duration(ticks[0]+ticks[1]) * time.Second / hertz
}

// Done has QEMU's end. Its error says little: a guest's panic is none.
func (m *Machine) Done() <-chan error { return m.done }

// Stop turns the machine off, as a power cut does, unless it is off. It must not be called after Done was received from.
func (m *Machine) Stop() {
	m.cancel()
	<-m.done
}

func (m *Machine) endTPM() {
	m.cancel()
	<-m.tpmEnded
}

func (w *Work) awaitTPM(ctx context.Context, m *Machine, socket string) error {
	for {
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
		select {
		case err := <-m.tpmEnded:
			m.tpmEnded <- err
			return fmt.Errorf("swtpm ended before it was listening: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
