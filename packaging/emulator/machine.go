package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	tpm      *exec.Cmd
	tpmEnded chan error
	done     chan error
}

// Start turns a machine on: one emulated processor and a TPM with the state in a directory, and whatever the arguments for
// QEMU say.
func (w *Work) Start(ctx context.Context, tpm string, args ...string) (m *Machine, err error) {
	ctx, cancel := context.WithCancel(ctx)
	m = &Machine{cancel: cancel, tpmEnded: make(chan error, 1), done: make(chan error, 1)}
	const socket = "tpm.sock"
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
	go func() {
		err := qemu.Wait()
		m.endTPM()
		m.done <- err
	}()
	return m, nil
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
			return errors.Join(context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
