package eventlog

import (
	"bytes"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// maxText bounds the text of one boot event.
const maxText = 256

// addBoot keeps an event that says what was started: programs, kernels, initial RAM disks, other
// files that a boot loader read, and command lines. Neither an event's type nor a label in its
// data is measured, so which events these are depends on the register and on what the digest
// covers alone: in the registers of boot loaders and systems, each event that its data does not
// explain as harmless counts. A renamed or retyped event therefore hides nothing, not even where the
// measured bytes stand beside it as the data of another type. More events than the claims can hold are a refusal, because a policy
// over a part of them could be evaded.
func (j *judge) addBoot(e *event, register, at int) error {
	if !j.boots(register) && e.typ != evApplication {
		return nil
	}
	text := j.coveredText(e)
	if text != nil && j.harmless(e, register, text) {
		return nil
	}
	if len(j.boot) == evidence.MaxBootEvents {
		return refusal.New(ReasonLimit, "event %d: more than %d things were started", at, evidence.MaxBootEvents)
	}
	j.boot = append(j.boot, evidence.BootEvent{Register: j.format.name(register), Type: e.typ.name(), Digest: slices.Clone(e.digest), Text: printable(text)})
	return nil
}

// partitionTable begins the data of an event over one (UEFI Specification, 5.3.2).
const partitionTable = "EFI PART"

// harmless says whether the text that a digest covers starts nothing: an action of the firmware or a loader's
// command, in one line of printable ASCII, that loads nothing, or a partition table in the register of those. Programs,
// drivers, kernels and initial RAM disks are no such text, nor is a command line in UTF-16.
func (j *judge) harmless(e *event, register int, text []byte) bool {
	if e.typ == evGPT || e.typ == evGPT2 {
		return register == j.partitions() && bytes.HasPrefix(text, []byte(partitionTable))
	}
	return isPrintable(text) && !loads(text)
}

// partitions is the register that partition tables are measured into.
func (j *judge) partitions() int {
	if j.format == CCEL {
		return 1
	}
	return 5
}

// boots says whether a register measures what is started, from the firmware's boot manager on.
func (j *judge) boots(register int) bool {
	if j.format == CCEL {
		return register >= 1
	}
	return register >= 4 && register != 6 && register != 7
}

// coveredText returns the part of the event's data that its digest covers: all of it, or all but
// the label that GRUB puts before it and the zero byte behind it. nil if it covers none.
func (j *judge) coveredText(e *event) []byte {
	if e.typ.covered() {
		return bytes.TrimSuffix(e.data, []byte{0})
	}
	for _, label := range [...]string{"grub_cmd: ", "kernel_cmdline: ", "grub_cmd ", "grub_kernel_cmdline ", "module_cmdline: ", ""} {
		rest, found := bytes.CutPrefix(e.data, []byte(label))
		if !found {
			continue
		}
		text := bytes.TrimSuffix(rest, []byte{0})
		if j.is(e, text) || len(text) < len(rest) && j.is(e, rest) {
			return text
		}
	}
	return nil
}

// loads says whether a command of GRUB loads something, or is no command but a kernel's command
// line, which begins with the kernel's path. Each file that a command reads is an event of its
// own.
func loads(text []byte) bool {
	word, _, _ := bytes.Cut(text, []byte(" "))
	if len(word) > 0 && (word[0] == '/' || word[0] == '(' && bytes.Contains(word, []byte(")/"))) {
		return true
	}
	for _, command := range [...]string{"linux", "initrd", "chainloader", "multiboot", "module", "xen_", "devicetree", "acpi"} {
		if bytes.HasPrefix(word, []byte(command)) {
			return true
		}
	}
	return false
}

// printable is the text if all of it is printable ASCII, cut to maxText bytes.
func printable(text []byte) string {
	if !isPrintable(text) {
		return ""
	}
	return string(text[:min(len(text), maxText)])
}

func isPrintable(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c > '~' })
}
