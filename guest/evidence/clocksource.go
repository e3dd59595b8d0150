package evidence

import (
	"fmt"
	"slices"
)

// ClockSource is the clock that a guest's kernel keeps time with. Leases are counted on that
// clock, so it says whether the host can stretch a lease by slowing it. The zero value is
// [ClockUnknown], which satisfies no policy that requires a clock source.
type ClockSource uint8

// Clock sources. Their numbers are part of the encoding and never change.
const (
	// ClockUnknown: the kernel does not name its clock, or names one that is not listed here.
	ClockUnknown ClockSource = iota
	// ClockSecureTSC: the processor's time-stamp counter under SEV-SNP Secure TSC,
	// whose frequency and offset the host cannot change after the launch.
	ClockSecureTSC
	// ClockTDX: the time-stamp counter as the TDX module keeps it for a trust
	// domain, out of the host's reach.
	ClockTDX
	// ClockTSC: the time-stamp counter without such protection. The host may scale it.
	ClockTSC
	// ClockParavirtual: kvm-clock, Hyper-V's or Xen's. The host computes the time.
	ClockParavirtual
	// ClockTimer: a timer that the host emulates (HPET, ACPI, jiffies).
	ClockTimer
	numClocks
)

func clockNames() [numClocks]string {
	return [numClocks]string{"unknown", "secure-tsc", "tdx-tsc", "tsc", "paravirtual", "timer"}
}

// Known reports whether this version knows the clock source.
func (c ClockSource) Known() bool { return c < numClocks }

// String is the name that policies use.
func (c ClockSource) String() string {
	if !c.Known() {
		return fmt.Sprintf("unknown clock source %d", uint8(c))
	}
	return clockNames()[c]
}

// MarshalText is String, for JSON.
func (c ClockSource) MarshalText() ([]byte, error) {
	if !c.Known() {
		return nil, fmt.Errorf("clock source %d has no name", uint8(c))
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads a name that String gives.
func (c *ClockSource) UnmarshalText(text []byte) error {
	names := clockNames()
	i := slices.Index(names[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown clock source %q", text)
	}
	*c = ClockSource(i)
	return nil
}

// HostProof reports whether the host is unable to slow this clock.
func (c ClockSource) HostProof() bool { return c == ClockSecureTSC || c == ClockTDX }
