// Package clock finds out which clock a guest's kernel keeps time with.
//
// A lease is counted on the guest's monotonic clock. Where the host can slow that clock, it can
// stretch the lease as the guest sees it; the broker's view, and so renewals and new releases, are
// not affected. The agent states the clock source in its claims, and a policy may require one that
// the host cannot influence. The package reports such a source only when the processor itself
// confirms it: when in doubt it reports a weaker one, never a stronger one.
//
// The agent and the command line's doctor call [Source].
package clock

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Files below the root of the system.
const (
	// SourceFile names the clock source that the kernel is using.
	SourceFile = "sys/devices/system/clocksource/clocksource0/current_clocksource"
	// StatusDevice reads model-specific registers. It needs a privilege that the
	// agent does not have.
	StatusDevice = "dev/cpu/0/msr"
	// StatusFile holds the 8 bytes of SEV_STATUS that a privileged step of the
	// image read from StatusDevice before the agent started.
	StatusFile = "run/anchorhold-clock/sev-status"
	// trustDomain is there in a guest of TDX alone.
	trustDomain = "sys/class/misc/tdx_guest"
)

// SEV_STATUS tells a guest what protects it; the host can neither intercept nor
// change it (AMD64 Architecture Programmer's Manual, volume 2, 15.34.10).
const (
	sevStatusRegister = 0xC0010131
	statusSNP         = 1 << 2
	statusSecureTSC   = 1 << 11
)

// maxNameBytes bounds the name of a clock source.
const maxNameBytes = 64

// Source is the clock source of the system below root, "/" for the running one.
func Source(root string) evidence.ClockSource {
	name, err := readSome(filepath.Join(root, SourceFile), maxNameBytes)
	if err != nil {
		return evidence.ClockUnknown
	}
	switch strings.TrimSpace(string(name)) {
	case "tsc":
		return counter(root)
	case "kvm-clock", "hyperv_clocksource_tsc_page", "hyperv_clocksource_msr", "xen":
		return evidence.ClockParavirtual
	case "hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit":
		return evidence.ClockTimer
	}
	return evidence.ClockUnknown // also "tsc-early", which the kernel replaces during boot
}

// counter says what protects the time-stamp counter.
func counter(root string) evidence.ClockSource {
	if status, ok := sevStatus(root); ok {
		if status&statusSNP != 0 && status&statusSecureTSC != 0 {
			return evidence.ClockSecureTSC
		}
		return evidence.ClockTSC
	}
	if _, err := os.Stat(filepath.Join(root, trustDomain)); err == nil {
		return evidence.ClockTDX
	}
	return evidence.ClockTSC
}

// sevStatus reads the register where somebody may: from the device, else from
// what the image's privileged step left.
func sevStatus(root string) (uint64, bool) {
	var b [8]byte
	if f, err := os.Open(filepath.Join(root, StatusDevice)); err == nil {
		n, err := f.ReadAt(b[:], sevStatusRegister)
		f.Close()
		if n == len(b) && (err == nil || err == io.EOF) {
			return binary.LittleEndian.Uint64(b[:]), true
		}
	}
	data, err := readSome(filepath.Join(root, StatusFile), len(b)+1)
	if err != nil || len(data) != len(b) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(data), true
}

// readSome reads at most limit bytes.
func readSome(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(limit)))
}
