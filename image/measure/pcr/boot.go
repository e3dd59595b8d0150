package pcr

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/measure/uki"
)

// ReasonUnknownBoot means that what the image's stub has firmware start cannot be told from the image.
const ReasonUnknownBoot refusal.Reason = "measurement-not-computable"

// What firmware extends at the end of its work (TCG PC Client Platform Firmware Profile, sections 3.3.4 and 8).
const (
	actionBoot     = "Calling EFI Application from Boot Option"
	actionExit     = "Exit Boot Services Invocation"
	actionReturned = "Exit Boot Services Returned with Success"
)

// separator is what firmware extends before it hands over.
func separator() []byte { return []byte{0, 0, 0, 0} }

// programs are the events of what is started.
func programs(b Bank, image *uki.Image) ([]Event, error) {
	digests, known := image.Programs(b.New)
	if !known {
		return nil, refusal.New(ReasonUnknownBoot, "with systemd-stub %d it depends on the firmware whether the kernel inside the image is measured: take the value from a boot", image.Stub)
	}
	var events []Event
	for i, d := range digests {
		events = append(events, Event{[]string{"the image", "the kernel in it"}[i], d})
	}
	return events, nil
}

// PCR4 are the events of PCR 4, of the programs that firmware starts.
func PCR4(b Bank, image *uki.Image) ([]Event, error) {
	started, err := programs(b, image)
	if err != nil {
		return nil, err
	}
	return append([]Event{b.event("action: "+actionBoot, []byte(actionBoot)), b.event("separator", separator())}, started...), nil
}

// Phase is a point of the boot at which systemd extends PCR 11.
type Phase string

// Phases, in order. The first two are of systemd in the initial RAM disk.
const (
	EnterInitrd Phase = "enter-initrd"
	LeaveInitrd Phase = "leave-initrd"
	SysInit     Phase = "sysinit"
	Ready       Phase = "ready"
)

// Phases are those of a boot, in order.
func Phases(systemdInInitrd bool) []Phase {
	all := []Phase{EnterInitrd, LeaveInitrd, SysInit, Ready}
	if !systemdInInitrd {
		return all[2:]
	}
	return all
}

// PCR11 are the events of PCR 11: of each section that the stub measures its name and its contents, and then
// the phases that have begun (systemd-pcrphase.service).
func PCR11(b Bank, image *uki.Image, begun []Phase) []Event {
	var events []Event
	for _, p := range image.Parts() {
		events = append(events, b.event("name "+p.Name, append([]byte(p.Name), 0)), b.event("section "+p.Name, p.Data))
	}
	for _, p := range begun {
		events = append(events, b.event("phase "+string(p), []byte(p)))
	}
	return events
}

// RTMR1 are the events of a trust domain's RTMR1, if firmware starts the image from a disk: what goes into PCR 4
// and 5 of a TPM. The partition table is the event's data, of [PartitionTable].
func RTMR1(image *uki.Image, partitionTable []byte) ([]Event, error) {
	const b = SHA384
	started, err := programs(b, image)
	if err != nil {
		return nil, err
	}
	return slices.Concat(
		[]Event{b.event("action: "+actionBoot, []byte(actionBoot)), b.event("separator", separator()), b.event("partition table", partitionTable)},
		started,
		[]Event{b.event("action: "+actionExit, []byte(actionExit)), b.event("action: "+actionReturned, []byte(actionReturned))},
	), nil
}
