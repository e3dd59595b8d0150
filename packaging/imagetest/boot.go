package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/packaging/emulator"
)

// boot is what was seen of one from outside.
type boot struct {
	began    time.Time
	took     time.Duration
	findings []finding
	console  string        // the log's path
	live     time.Duration // processor time until the agent's first answer
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

// lines are the last of the console.
func (b *boot) lines(n int) string {
	text, _ := os.ReadFile(b.console) // what there is of it
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(text), "\r", "")), "\n")
	return "the end of the console log:\n" + strings.Join(all[max(0, len(all)-n):], "\n")
}

// boot starts a disk with this test's TPM and watches until enough was said, the machine is off, or the patience ends. The disk
// is not written. The firmware's variables are those of a machine that is new, unless there is NAME.vars. More arguments go to the emulator.
func (h *host) boot(ctx context.Context, name, disk string, more []string, enough func(finding, *boot) bool) (*boot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.patience, fmt.Errorf("the guest said too little within %s (-patience)", h.patience))
	defer cancel()
	if _, err := os.Stat(h.work.Path(name + ".vars")); errors.Is(err, fs.ErrNotExist) {
		err = copyFile(h.variables(), h.work.Path(name+".vars"))
		if err != nil {
			return nil, err
		}
	}
	inside, err := filepath.Rel(h.work.Dir, disk)
	if err != nil {
		return nil, err
	}
	report := name + ".report"
	network := "user,id=n0,restrict=on"
	if h.port != "" {
		network += ",guestfwd=tcp:" + brokerAddress + "-cmd:" + h.work.Inside("imagetest") + " -pipe " + h.port
	}
	b := &boot{began: time.Now(), console: h.work.Path(name + ".console")}
	machine, err := h.work.Start(ctx, "tpm", append([]string{"-machine", "q35,accel=tcg,smm=off", "-m", "1024",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file=" + h.work.Inside(name+".vars"),
		"-serial", "file:" + h.work.Inside(name+".console"), "-netdev", network,
		"-device", "virtio-serial-pci", "-chardev", "file,id=report,path=" + h.work.Inside(report), "-device", "virtserialport,chardev=report,name=" + reportPort,
		"-drive", "if=none,id=d0,format=raw,snapshot=on,file=" + h.work.Inside(inside), "-device", "virtio-blk-pci,drive=d0,bootindex=1"}, more...)...)
	if err != nil {
		return nil, err
	}
	var lines emulator.Lines
	for off := false; ; {
		news, err := lines.Read(h.work.Path(report))
		for _, line := range news {
			var f finding
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				h.say("guest: %s", line)
				continue
			}
			b.took, b.findings = time.Since(b.began), append(b.findings, f)
			if f.What == foundLive {
				b.live = machine.CPU()
			}
			if enough(f, b) {
				if !off {
					machine.Stop()
				}
				return b, nil
			}
		}
		if off || err != nil {
			b.took = time.Since(b.began)
			return b, err // the machine is off, and its last lines were read
		}
		select {
		case <-machine.Done():
			off = true
		case <-ctx.Done():
			machine.Stop()
			return b, fmt.Errorf("%w\n%s", context.Cause(ctx), b.lines(40))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
