package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/packaging/emulator"
)

// machine is what is turned on. It has a TPM of its own: two machines can run beside each other.
type machine struct {
	// name is that of its files. The firmware's variables are those of a machine that is new, unless there is NAME.vars.
	name string
	// tpm is the directory of its TPM's state.
	tpm string
	// disk is the image's, which is not written.
	disk string
	// volumes are files of other disks by their serial, which are written; without a file a disk is empty and is forgotten.
	volumes map[string]string
	// more are arguments for the emulator besides.
	more []string
	// cut turns the machine off when it asks the broker about a volume for the second time, which the broker does not hear.
	cut bool
	// volatile machines do not write their volumes.
	volatile bool
}

// boot is what was seen of one from outside.
type boot struct {
	began    time.Time
	took     time.Duration
	cpu      time.Duration // of the processor that was emulated, until the end
	findings []finding
	console  string                   // the log's path
	reached  map[string]time.Duration // processor time until the first finding of a kind
	wasCut   bool                     // by its machine's cut
}

// last returns the last finding of a kind.
func (b *boot) last(what string) (f finding, ok bool) {
	for i := len(b.findings) - 1; i >= 0; i-- {
		if b.findings[i].What == what {
			return b.findings[i], true
		}
	}
	return f, ok
}

// data is what the guest found, or why it did not.
func (b *boot) data(what string) ([]byte, error) {
	f, ok := b.last(what)
	switch {
	case !ok:
		return nil, fmt.Errorf("the guest said nothing of its %s\n%s", what, b.lines(30))
	case f.Error != "":
		return nil, fmt.Errorf("the guest's %s: %s %s", what, f.Error, f.Data)
	}
	return f.Data, nil
}

// cost says how long it took.
func (b *boot) cost() string {
	return fmt.Sprintf("%.0f s, %.0f s of processor time", b.took.Seconds(), b.cpu.Seconds())
}

// said is the console log.
func (b *boot) said() string {
	text, _ := os.ReadFile(b.console) // what there is of it
	return strings.ReplaceAll(string(text), "\r", "")
}

// lines are the last of the console.
func (b *boot) lines(n int) string {
	all := strings.Split(strings.TrimSpace(b.said()), "\n")
	return "the end of the console log:\n" + strings.Join(all[max(0, len(all)-n):], "\n")
}

// add keeps a line of the guest's report.
func (b *boot) add(line string, cpu time.Duration) (f finding, ok bool) {
	if json.Unmarshal([]byte(line), &f) != nil {
		return f, false
	}
	b.took, b.cpu, b.findings = time.Since(b.began), cpu, append(b.findings, f)
	if _, again := b.reached[f.What]; !again {
		b.reached[f.What] = cpu
	}
	return f, true
}

// boot turns a machine on and watches until enough was said, the machine is off, or the patience ends.
func (h *host) boot(ctx context.Context, m machine, enough func(finding, *boot) bool) (*boot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.patience, fmt.Errorf("the guest said too little within %s (-patience)", h.patience))
	defer cancel()
	args, err := h.arguments(m)
	if err != nil {
		return nil, err
	}
	b := &boot{began: time.Now(), console: h.work.Path(m.name + ".console"), reached: map[string]time.Duration{}}
	running, err := h.work.Start(ctx, m.tpm, args...)
	if err != nil {
		return nil, err
	}
	var lines emulator.Lines
	for off := false; ; {
		news, err := lines.Read(h.work.Path(m.name + ".report"))
		cpu := max(b.cpu, running.CPU()) // a machine that is off has none
		for _, line := range news {
			f, ok := b.add(line, cpu)
			if !ok {
				h.say("guest: %s", line)
				continue
			}
			if enough(f, b) {
				if !off {
					running.Stop()
				}
				return b, nil
			}
		}
		b.took, b.cpu = time.Since(b.began), cpu
		if off || err != nil {
			return b, err // the machine is off, and its last lines were read
		}
		if b.wasCut = m.cut && h.asked(m) >= 2; b.wasCut {
			running.Stop()
			return b, nil
		}
		select {
		case <-running.Done():
			off = true
		case <-ctx.Done():
			running.Stop()
			return b, fmt.Errorf("%w\n%s", context.Cause(ctx), b.lines(40))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// asked is how often a machine that will be cut has asked the broker about volumes.
func (h *host) asked(m machine) int64 {
	info, err := os.Stat(h.work.Path(m.name + ".asked"))
	if err != nil {
		return 0 // not once
	}
	return info.Size()
}

// arguments are the emulator's.
func (h *host) arguments(m machine) ([]string, error) {
	vars := m.name + ".vars"
	if _, err := os.Stat(h.work.Path(vars)); errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(h.variables(), h.work.Path(vars)); err != nil {
			return nil, err
		}
	}
	disk, err := filepath.Rel(h.work.Dir, m.disk)
	if err != nil {
		return nil, err
	}
	network := "user,id=n0,restrict=on"
	if h.port != "" {
		network += ",guestfwd=tcp:" + brokerAddress + "-cmd:" + h.work.Inside("imagetest") + " -pipe " + h.port
		if m.cut {
			network += " -asked " + h.work.Inside(m.name+".asked")
		}
	}
	args := []string{"-machine", "q35,accel=tcg,smm=off", "-m", "1024",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file=" + h.work.Inside(vars),
		"-serial", "file:" + h.work.Inside(m.name+".console"), "-netdev", network,
		"-device", "virtio-serial-pci", "-chardev", "file,id=report,path=" + h.work.Inside(m.name+".report"), "-device", "virtserialport,chardev=report,name=" + reportPort,
		"-drive", "if=none,id=d0,format=raw,snapshot=on,file=" + h.work.Inside(disk), "-device", "virtio-blk-pci,drive=d0,bootindex=1"}
	for serial, file := range m.volumes {
		drive := "if=none,format=raw,id=" + serial + ",file=" + h.work.Inside(file)
		if m.volatile {
			drive += ",snapshot=on"
		}
		args = append(args, "-drive", drive, "-device", "virtio-blk-pci,drive="+serial+",serial="+serial)
	}
	return slices.Concat(args, m.more), nil
}
