// Package azure collects the evidence of a confidential VM on Azure, whose CPU is the paravisor's
// to ask: what the guest can have is the paravisor's report, at index 0x01400001 of the VM's TPM,
// and from the instance metadata service the certificates of the chip (SEV-SNP) or a quote (TDX).
//
// A [Collector] exists only where the index does: that is how a guest knows where it is. What it
// returns is the report as it lies there, and beside it what the metadata service gave; none of
// it is fresh, so a quote of the TPM over the broker's nonce has to come with it. The package
// trusts neither source and believes nothing of what it reads: the broker does
// (keybroker/appraise/hcl). It refuses reports of unknown kinds, answers that are too large, too
// late or of another form, redirects, and every address but 169.254.169.254, whatever proxies the
// environment names. The agent calls it.
//
// Sources: Microsoft, "Azure confidential VM guest attestation design" (indices of the TPM) and
// "Trusted Hardware Identity Management" (certificates); Intel and Microsoft samples of
// confidential computing (the quote's address).
package azure

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Reasons of this package.
const (
	// ReasonNotAzure: the TPM has no index with a paravisor's report.
	ReasonNotAzure refusal.Reason = "azure-absent"
	// ReasonReport: the index could not be read, or has something else in it.
	ReasonReport refusal.Reason = "azure-report"
	// ReasonMetadata: the instance metadata service did not answer as it should.
	ReasonMetadata refusal.Reason = "azure-metadata"
)

// ReportIndex is where the paravisor's report lies in the TPM's non-volatile storage.
const ReportIndex = 0x01400001

// What the report's bytes say before anybody verifies them.
const (
	maxReport      = 4 << 10
	hardwareAt     = 0x20
	hardwareTypeAt = 0x4c8
	hardwareSNP    = 2
	hardwareTDX    = 4
	tdReportSize   = 0x400
	tdReportDataAt = 0x80
)

// TPM is the part of a TPM that a collector needs.
type TPM interface {
	// ReadNV returns the content of an index of at most limit bytes; of one that is larger, an
	// error. If there is no such index, or no TPM, the error is fs.ErrNotExist. It keeps the
	// context's deadline.
	ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error)
}

// Options say where evidence comes from.
type Options struct {
	// TPM is required.
	TPM TPM
	// Dial connects to the metadata service; nil is the operating system. The address that it is
	// given never differs.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one request to the metadata service; 0 is 10 seconds.
	Timeout time.Duration
}

// Collector collects evidence. It may be used by several goroutines if its TPM may.
type Collector struct {
	tpm      TPM
	kind     evidence.Kind
	metadata *Metadata
}

// Evidence is a paravisor's report with what goes with it.
type Evidence struct {
	// Kind is the kind of evidence that it is a part of.
	Kind evidence.Kind
	// HCL is the content of the TPM's index.
	HCL []byte
	// Quote is the TDX quote of the report's TDREPORT; nil with SEV-SNP.
	Quote []byte
	// Endorsements are the certificates of the chip (SEV-SNP), in canonical order. A broker that
	// has them elsewhere can do without.
	Endorsements []evidence.Part
	// Missing says why there are no endorsements though the kind has them; nil if there are.
	Missing error
}

// New returns a collector, or a refusal with ReasonNotAzure where there is no paravisor's report.
func New(ctx context.Context, o Options) (*Collector, error) {
	if o.TPM == nil {
		return nil, refusal.New(ReasonNotAzure, "no TPM")
	}
	c := &Collector{tpm: o.TPM, metadata: NewMetadata(o)}
	var err error
	if _, c.kind, err = c.read(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Kind is what the report said when it was first read: KindAzureSNP or KindAzureTDX.
func (c *Collector) Kind() evidence.Kind { return c.kind }

// Collect reads the report anew and asks the metadata service for what belongs to it. Without a
// quote there is no evidence of TDX; without certificates there is evidence, which says so.
func (c *Collector) Collect(ctx context.Context) (Evidence, error) {
	blob, kind, err := c.read(ctx)
	if err != nil {
		return Evidence{}, err
	}
	e := Evidence{Kind: kind, HCL: blob}
	if kind == evidence.KindAzureTDX {
		e.Quote, err = c.metadata.Quote(ctx, blob[hardwareAt:hardwareAt+tdReportSize])
		return e, err
	}
	e.Endorsements, e.Missing = c.metadata.Certificates(ctx)
	return e, nil
}

// noDevice says whether it was the TPM that refused to be opened, and not the index to be read.
func noDevice(err error) bool {
	_, named := refusal.ReasonOf(err)
	return named
}

// read returns the index's content and the kind that it names.
func (c *Collector) read(ctx context.Context) ([]byte, evidence.Kind, error) {
	blob, err := c.tpm.ReadNV(ctx, ReportIndex, maxReport)
	switch {
	case errors.Is(err, fs.ErrNotExist) && noDevice(err):
		return nil, "", refusal.New(ReasonNotAzure, "on Azure a TPM has the paravisor's report, and there is none: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", refusal.New(ReasonNotAzure, "the TPM has no index %#x: %w", ReportIndex, err)
	case err != nil:
		return nil, "", refusal.New(ReasonReport, "read index %#x: %w", ReportIndex, err)
	case len(blob) < hardwareTypeAt+4 || len(blob) > maxReport || string(blob[:4]) != "HCLA":
		return nil, "", refusal.New(ReasonReport, "index %#x has %d bytes that are no paravisor's report", ReportIndex, len(blob))
	}
	switch hardware := binary.LittleEndian.Uint32(blob[hardwareTypeAt:]); hardware {
	case hardwareSNP:
		return blob, evidence.KindAzureSNP, nil
	case hardwareTDX:
		return blob, evidence.KindAzureTDX, nil
	default:
		return nil, "", refusal.New(ReasonReport, "a CPU's report of kind %d", hardware)
	}
}
