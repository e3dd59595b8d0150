// Package tdx collects Intel TDX quotes through configfs-tsm, and the event log that the firmware
// kept.
//
// A quote was made for the requested REPORT_DATA, in this trust domain: where the kernel shows the
// measurement registers (Linux 6.16 and later), the quote's are compared with them, so a host that
// answers with another domain's quote is noticed here and not first by the broker. Requests are
// made one at a time and end at their callers' deadlines. The [Collector] trusts the kernel to be
// the guest's own; the host's quoting service makes the quote, and nobody trusts it before the
// broker has appraised it. The agent calls it.
package tdx

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

// Reasons of this package.
const (
	// ReasonNoTEE: this is not a TDX guest, or its kernel has no configfs-tsm.
	ReasonNoTEE = device.ReasonAbsent
	// ReasonDevice: the kernel or the host's quoting service could not make a quote.
	ReasonDevice = device.ReasonFailed
	// ReasonUnresponsive: a call into the kernel has not returned, and no other is made before
	// it does.
	ReasonUnresponsive = device.ReasonUnresponsive
	// ReasonRegisters: the quote's measurements are not those of this trust domain.
	ReasonRegisters refusal.Reason = "quote-of-another-domain"
	// ReasonNoEventLog: the firmware keeps no event log.
	ReasonNoEventLog refusal.Reason = "event-log-absent"
)

// Where the kernel shows things.
const (
	// DefaultMeasurements is the directory of the measurement registers
	// (Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest).
	DefaultMeasurements = "/sys/devices/virtual/misc/tdx_guest/measurements"
	// DefaultACPI is the directory of the ACPI tables (sysfs-firmware-acpi).
	DefaultACPI = "/sys/firmware/acpi/tables"
)

const provider = "tdx_guest"

// Options say where quotes come from. The zero value is the running kernel.
type Options struct {
	// Root is the directory of configfs-tsm; tsm.DefaultRoot if empty.
	Root string
	// Measurements and ACPI are those directories; the defaults if empty.
	Measurements, ACPI string
	// Files replaces the operating system's.
	Files tsm.Files
}

// Collector collects quotes. It is safe for concurrent use.
type Collector struct {
	device             *tsm.Device
	files              tsm.Files
	measurements, acpi string
	registers          bool // the kernel shows them
	queue              *device.Queue
}

// New returns a collector. It asks the kernel whether this is a TDX guest, and whether it shows
// the measurement registers.
func New(o Options) (*Collector, error) {
	c := &Collector{files: o.Files, measurements: o.Measurements, acpi: o.ACPI, queue: device.NewQueue()}
	if c.files == nil {
		c.files = tsm.System{}
	}
	if c.measurements == "" {
		c.measurements = DefaultMeasurements
	}
	if c.acpi == "" {
		c.acpi = DefaultACPI
	}
	var err error
	if c.device, err = tsm.Open(tsm.Options{Provider: provider, TEE: "TDX", Root: o.Root, Files: o.Files}); err != nil {
		return nil, err
	}
	_, err = c.Registers()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.registers = err == nil
	return c, nil
}

// ShowsRegisters reports whether the kernel shows the measurement registers, and quotes are
// compared with them.
func (c *Collector) ShowsRegisters() bool { return c.registers }

// Registers reads the measurement registers. On kernels before Linux 6.16 the error is
// [fs.ErrNotExist].
func (c *Collector) Registers() (Registers, error) {
	var r Registers
	to := []*[RegisterSize]byte{&r.MRTD, &r.RTMR[0], &r.RTMR[1], &r.RTMR[2], &r.RTMR[3]}
	for i, name := range []string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"} {
		value, err := c.files.Read(c.measurements+"/"+name+":sha384", RegisterSize+1)
		if err != nil {
			return Registers{}, refusal.New(ReasonDevice, "read the register %s: %w", name, err)
		}
		if len(value) != RegisterSize {
			return Registers{}, refusal.New(ReasonDevice, "the register %s has %d bytes, want %d", name, len(value), RegisterSize)
		}
		copy(to[i][:], value)
	}
	return r, nil
}

// Quote returns a quote over reportData, as the host's quoting service made it: some pad it with
// zero bytes. It waits for its turn until the context ends, and then at most [device.Patience].
func (c *Collector) Quote(ctx context.Context, reportData [64]byte) ([]byte, error) {
	return device.Call(ctx, c.queue, func(ctx context.Context) ([]byte, error) {
		var err error
		for range tsm.Attempts {
			var quote []byte
			if quote, err = c.attempt(ctx, reportData); err == nil || !errors.Is(err, errExtended) {
				return quote, err
			}
		}
		return nil, refusal.New(ReasonRegisters, "%w, %d times", err, tsm.Attempts)
	})
}

var errExtended = errors.New("the registers changed while the quote was made")

// attempt makes one quote between two readings of the registers. Programs may extend registers at
// any time: each of the quote's has the value that it had before or after.
func (c *Collector) attempt(ctx context.Context, reportData [64]byte) ([]byte, error) {
	before, err := c.shown(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.device.Report(ctx, tsm.Request{Data: reportData, MaxReport: MaxQuoteBytes})
	if err != nil {
		return nil, err
	}
	q, err := parseQuote(r.Data)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(q.reportData[:], reportData[:]) != 1 {
		return nil, refusal.New(ReasonDevice, "the kernel returned a quote for different REPORT_DATA")
	}
	after, err := c.shown(ctx)
	if err != nil {
		return nil, err
	}
	if c.registers {
		if err := compare(q.registers, before, after); err != nil {
			return nil, err
		}
	}
	return r.Data, nil
}

// shown are the registers, if the kernel shows them.
func (c *Collector) shown(ctx context.Context) (r Registers, err error) {
	if !c.registers {
		return Registers{}, nil
	}
	err = device.Patiently(ctx, func() (err error) { r, err = c.Registers(); return err })
	return r, err
}

// compare checks a quote's registers against those read before and after it was made.
func compare(quoted, before, after Registers) error {
	if quoted.MRTD != before.MRTD {
		return refusal.New(ReasonRegisters, "MRTD is %x in the quote, %x in this domain", quoted.MRTD, before.MRTD)
	}
	for i, value := range quoted.RTMR {
		if value == before.RTMR[i] || value == after.RTMR[i] {
			continue
		}
		if before.RTMR[i] != after.RTMR[i] { // extended more than once
			return fmt.Errorf("RTMR%d: %w", i, errExtended)
		}
		return refusal.New(ReasonRegisters, "RTMR%d is %x in the quote, %x in this domain", i, value, before.RTMR[i])
	}
	return nil
}

// Kinds are the kinds of evidence that Collect makes.
func (c *Collector) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindTDX} }

// Collect returns evidence for a challenge: a quote and, if the firmware keeps one, the event log,
// which the quote covers. A log that is there and cannot be read, or is larger than an envelope
// takes, is a refusal: a policy may need it, and the guest's operator can mend it.
func (c *Collector) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	bound, err := c.Bound(ctx)
	if err != nil {
		return evidence.Envelope{}, err
	}
	return evidence.Assemble(evidence.KindTDX, challenge, bound, func(reportData [64]byte) (evidence.Signed, error) {
		return c.Sign(ctx, reportData)
	})
}

// Kind is the kind of evidence that its quotes are the primary part of.
func (c *Collector) Kind() evidence.Kind { return evidence.KindTDX }

// Sign makes the primary part of evidence.
func (c *Collector) Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error) {
	quote, err := c.Quote(ctx, reportData)
	return evidence.Signed{Primary: quote}, err
}

// Bound are the parts that a quote covers besides: the event log, if the firmware keeps one.
func (c *Collector) Bound(ctx context.Context) (parts []evidence.Part, err error) {
	var log []byte
	err = device.Patiently(ctx, func() (err error) { log, err = c.EventLog(); return err })
	if reason, _ := refusal.ReasonOf(err); reason == ReasonNoEventLog {
		return nil, nil
	}
	if err == nil && len(log) > evidence.MaxLogBytes {
		err = refusal.New(ReasonDevice, "the event log has %d bytes; evidence takes %d", len(log), evidence.MaxLogBytes)
	}
	return []evidence.Part{{Type: evidence.PartCCLog, Data: log}}, err
}
