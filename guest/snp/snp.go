// Package snp collects AMD SEV-SNP attestation reports: through configfs-tsm (Linux 6.7 and
// later), and where that is absent through the ioctls of /dev/sev-guest, which older kernels have
// alone.
//
// A report was made for the requested REPORT_DATA. Only one request is in flight at a time; other
// callers queue within their deadlines, and Collect returns at its deadline even if a call into
// the kernel never does. The [Collector] trusts the kernel to be the guest's own. The host writes
// the certificate table, and is not trusted: what does not fit is refused, and a certificate is
// named by what it says, not by its place. Nobody trusts the report itself before the broker has
// appraised it. The agent calls it.
package snp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

// Reasons of this package.
const (
	// ReasonNoTEE: this is not an SEV-SNP guest, or its kernel offers no reports.
	ReasonNoTEE = device.ReasonAbsent
	// ReasonDevice: the kernel, the firmware or the host could not make a report.
	ReasonDevice = device.ReasonFailed
	// ReasonUnresponsive: a call into the kernel has not returned, and no other is made before
	// it does.
	ReasonUnresponsive = device.ReasonUnresponsive
)

// DefaultRoot is the directory of configfs-tsm.
const DefaultRoot = tsm.DefaultRoot

const (
	provider       = "sev_guest"
	reportSize     = 0x4a0
	maxAux         = 64 << 10
	maxCertificate = 8 << 10 // what an envelope takes
)

// Files is the part of a filesystem that configfs-tsm needs.
type Files = tsm.Files

// Options say where reports come from. The zero value is the running kernel.
type Options struct {
	// Root is the directory of configfs-tsm; DefaultRoot if empty.
	Root string
	// Files replaces the operating system's.
	Files Files
	// Privilege is the VMPL that reports are asked for. The zero value is the kernel's default,
	// or its floor for a guest below an SVSM.
	Privilege tsm.Privilege

	guest guestDevice // replaces /dev/sev-guest in tests
}

// source is where reports come from.
type source interface {
	// report makes a report, with the host's certificate table if there is one.
	report(ctx context.Context, reportData [64]byte) (tsm.Report, error)
}

// Collector collects reports. It is safe for concurrent use.
type Collector struct{ source source }

// New returns a collector, which asks the kernel once whether there is a TEE at all.
func New(o Options) (*Collector, error) {
	d, err := tsm.Open(tsm.Options{Provider: provider, TEE: "SEV-SNP", Root: o.Root, Files: o.Files, Privilege: o.Privilege})
	if err == nil {
		return &Collector{configfs{d}}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	guest := o.guest
	if guest == nil {
		guest = sevGuest{path: guestPath, ioctl: ioctl}
	}
	if absent := guest.present(); errors.Is(absent, fs.ErrNotExist) {
		return nil, err
	} else if absent != nil {
		return nil, refusal.New(ReasonNoTEE, "%w, and %w", err, absent)
	}
	return &Collector{newIoctls(guest, o.Privilege)}, nil
}

// Collect returns a report over reportData with the certificates that the host offers. It waits
// for its turn until the context ends, and then at most [device.Patience] for the firmware.
func (c *Collector) Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error) {
	r, err := c.source.report(ctx, reportData)
	if err != nil {
		return evidence.Envelope{}, err
	}
	return envelope(r, reportData)
}

// Kind is the kind of evidence that its reports are the primary part of.
func (c *Collector) Kind() evidence.Kind { return evidence.KindSNP }

// Bound are the parts that a report covers besides: none.
func (c *Collector) Bound(context.Context) ([]evidence.Part, error) { return nil, nil }

// Sign is Collect, for evidence with parts of other devices: REPORT_DATA covers them.
func (c *Collector) Sign(ctx context.Context, reportData [64]byte) (evidence.Signed, error) {
	env, err := c.Collect(ctx, reportData)
	if err != nil {
		return evidence.Signed{}, err
	}
	return evidence.Signed{Primary: env.Primary(), Endorsements: env.Parts[1:]}, nil
}

// configfs is the source of kernels that have configfs-tsm.
type configfs struct{ *tsm.Device }

func (c configfs) report(ctx context.Context, reportData [64]byte) (tsm.Report, error) {
	return c.Report(ctx, tsm.Request{Data: reportData, MaxReport: reportSize, MaxAux: maxAux})
}

// envelope checks that the report is the one asked for: a cached one would be
// refused by the broker, later and with less to say about it.
func envelope(r tsm.Report, reportData [64]byte) (evidence.Envelope, error) {
	report := r.Data
	if len(report) != reportSize {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "got a report of %d bytes, want %d", len(report), reportSize)
	}
	if !bytes.Equal(report[0x50:0x90], reportData[:]) {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "the kernel returned a report for different REPORT_DATA")
	}
	vmpl := binary.LittleEndian.Uint32(report[0x30:])
	if level, set := r.Privilege.Chosen(); set && vmpl != uint32(level) {
		return evidence.Envelope{}, refusal.New(ReasonDevice, "the report is for VMPL %d, want %d", vmpl, level)
	}
	certificates, err := Certificates(report, r.Aux)
	if err != nil {
		return evidence.Envelope{}, err
	}
	parts := append([]evidence.Part{{Type: evidence.PartSNPReport, Data: report}}, certificates...)
	return evidence.NewEnvelope(evidence.KindSNP, parts...)
}
