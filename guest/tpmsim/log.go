//go:build !release

package tpmsim

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf16"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Format is the kind of log and of registers.
type Format int

// Formats: PCRs of a TPM, in banks of SHA-256 and SHA-384, or RTMRs of a confidential guest, with
// SHA-384 alone.
const (
	TPMLog Format = iota
	CCLog
)

// Types of events that a boot has (TCG PC Client Platform Firmware Profile, 10.4.1).
const (
	EventNoAction     = 0x03
	EventSeparator    = 0x04
	EventTag          = 0x06
	EventVersion      = 0x08
	EventIPL          = 0x0d
	EventVariable     = 0x80000001
	EventBootVariable = 0x80000002
	EventApplication  = 0x80000003
	EventGPT          = 0x80000006
	EventAction       = 0x80000007
	EventBlob         = 0x8000000a
)

const (
	algSHA256  = 0x000b
	algSHA384  = 0x000c
	registers  = 24
	ccLastRTMR = 3
)

// Log is a log that is being written, with the registers that it leads to.
type Log struct {
	format Format
	data   []byte
	sha256 [registers][sha256.Size]byte
	sha384 [registers][sha512.Size384]byte
}

// NewLog begins a log with its header.
func NewLog(format Format) *Log {
	l := &Log{format: format}
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	algorithms := l.algorithms()
	spec = binary.LittleEndian.AppendUint32(spec, uint32(len(algorithms)))
	for _, a := range algorithms {
		spec = binary.LittleEndian.AppendUint16(spec, a)
		spec = binary.LittleEndian.AppendUint16(spec, map[uint16]uint16{algSHA256: sha256.Size, algSHA384: sha512.Size384}[a])
	}
	spec = append(spec, 0)
	index := uint32(0)
	if format == CCLog {
		index = 1 // as real firmware has it
	}
	l.u32(index)
	l.u32(EventNoAction)
	l.data = append(l.data, make([]byte, 20)...)
	l.u32(uint32(len(spec)))
	l.data = append(l.data, spec...)
	return l
}

func (l *Log) algorithms() []uint16 {
	if l.format == CCLog {
		return []uint16{algSHA384}
	}
	return []uint16{algSHA256, algSHA384}
}

func (l *Log) u32(v uint32) { l.data = binary.LittleEndian.AppendUint32(l.data, v) }

// Measure extends a register, PCR or RTMR, with the digest of measured, and logs the event with
// data, which is what was measured if measured is nil. Events that take no action extend nothing.
func (l *Log) Measure(register int, typ uint32, data, measured []byte) error {
	last, index := registers-1, uint32(register)
	if l.format == CCLog {
		last, index = ccLastRTMR, uint32(register)+1
	}
	if register < 0 || register > last {
		return fmt.Errorf("tpmsim: no register %d", register)
	}
	if measured == nil {
		measured = data
	}
	d256, d384 := sha256.Sum256(measured), sha512.Sum384(measured)
	if typ == EventNoAction {
		d256, d384 = [32]byte{}, [48]byte{}
	} else {
		l.extend(register, d256, d384)
	}
	l.u32(index)
	l.u32(typ)
	l.u32(uint32(len(l.algorithms())))
	for _, a := range l.algorithms() {
		l.data = binary.LittleEndian.AppendUint16(l.data, a)
		if a == algSHA256 {
			l.data = append(l.data, d256[:]...)
		} else {
			l.data = append(l.data, d384[:]...)
		}
	}
	l.u32(uint32(len(data)))
	l.data = append(l.data, data...)
	return nil
}

func (l *Log) extend(register int, d256 [32]byte, d384 [48]byte) {
	a, b := &l.sha256[register], &l.sha384[register]
	*a = sha256.Sum256(append(a[:], d256[:]...))
	*b = sha512.Sum384(append(b[:], d384[:]...))
}

// Bytes is a copy of the log as far as it was written.
func (l *Log) Bytes() []byte { return append([]byte(nil), l.data...) }

// RTMR is the value of a register of SHA-384: an RTMR, or a PCR in that bank.
func (l *Log) RTMR(register int) [48]byte { return l.sha384[register] }

// PCR is the value of a register in a bank, [evidence.BankSHA384] or else SHA-256.
func (l *Log) PCR(bank string, register int) []byte {
	if bank == evidence.BankSHA384 {
		return slices.Clone(l.sha384[register][:])
	}
	return slices.Clone(l.sha256[register][:])
}

// Boot describes a measured boot.
type Boot struct {
	// SecureBoot is the firmware's setting.
	SecureBoot bool
	// Loader, Kernel and Initrd are measured by digest.
	Loader, Kernel, Initrd []byte
	// CommandLine is the kernel's, without its path.
	CommandLine string
}

// Write measures a boot by a virtual machine's firmware and GRUB, event for event as such log it.
func (b Boot) Write(l *Log) error {
	secure := []byte{0}
	if b.SecureBoot {
		secure[0] = 1
	}
	line := "/vmlinuz " + b.CommandLine
	type event struct {
		register       int // PCR
		typ            uint32
		data, measured []byte
	}
	separator := func(pcr int) event { return event{pcr, EventSeparator, make([]byte, 4), nil} }
	events := []event{
		{0, EventVersion, wide("GCE Virtual Firmware v2"), nil},
		{0, EventBlob, []byte("firmware volume"), []byte("firmware")},
		{7, EventVariable, globalVariable("SecureBoot", secure), nil},
		{7, EventVariable, globalVariable("PK", []byte("platform key")), nil},
		separator(7),
		{1, EventBootVariable, globalVariable("BootOrder", []byte{0, 0}), []byte{0, 0}},
		{4, EventAction, []byte("Calling EFI Application from Boot Option"), nil},
		separator(0), separator(1), separator(2), separator(3), separator(4), separator(5), separator(6),
		{5, EventGPT, []byte("EFI PART of a disk"), nil},
		{4, EventApplication, []byte("device path of the loader"), b.Loader},
		{9, EventIPL, []byte("/vmlinuz\x00"), b.Kernel},
		{8, EventIPL, []byte("grub_cmd: linux " + line + "\x00"), []byte("linux " + line)},
		{8, EventIPL, []byte("kernel_cmdline: " + line + "\x00"), []byte(line)},
		{9, EventTag, []byte("\xec\x22\x3b\x8f\x0d\x00\x00\x00Linux initrd\x00"), b.Initrd},
		{5, EventAction, []byte("Exit Boot Services Invocation"), nil},
		{5, EventAction, []byte("Exit Boot Services Returned with Success"), nil},
	}
	for _, e := range events {
		register := e.register
		if l.format == CCLog {
			if e.typ == EventSeparator && register != 7 && register != 4 {
				continue // confidential guests separate once per register
			}
			register = rtmrOf(register)
		}
		if e.measured == nil && (e.typ == EventApplication || e.typ == EventIPL || e.typ == EventTag) {
			e.measured = []byte{} // of nothing, not of its description
		}
		if err := l.Measure(register, e.typ, e.data, e.measured); err != nil {
			return err
		}
	}
	return nil
}

// rtmrOf is the RTMR into which a PCR's events go (UEFI Specification 2.10, 38.4.1).
func rtmrOf(pcr int) int {
	switch {
	case pcr == 1 || pcr == 7 || pcr == 0:
		return 0
	case pcr <= 6:
		return 1
	case pcr <= 15:
		return 2
	}
	return ccLastRTMR
}

// globalVariable is UEFI_VARIABLE_DATA of a variable of the vendor EFI_GLOBAL_VARIABLE.
func globalVariable(name string, content []byte) []byte {
	b := []byte("\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c")
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(content)))
	return append(append(b, wide(name)...), content...)
}

// wide is a text in UTF-16.
func wide(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
