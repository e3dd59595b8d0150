package hcl

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// MaxBytes bounds a paravisor's report with what follows it in the TPM's index, whose size is
// 2600 bytes today.
const MaxBytes = 4 << 10

// Sizes of the parts.
const (
	headerSize   = 32
	hardwareSize = snpReportSize // the area for the CPU's report, whichever it is
	requestSize  = 20
	extendedSize = 4 // follows the request from its version 2 on

	snpReportSize = 0x4a0
	tdReportSize  = 0x400
)

// Values of the header and the request.
const (
	signature        = "HCLA"
	minHeaderVersion = 1
	maxHeaderVersion = 2
	requestAKCert    = 2 // the request for a certificate of the attestation key
	maxRequest       = 3
	hardwareSNP      = 2
	hardwareTDX      = 4
)

// Where the CPUs' reports have the data that they are over.
const (
	snpReportDataAt = 0x50
	tdReportDataAt  = 0x80
	reportDataSize  = 64
)

// Report is a paravisor's report whose runtime data is bound to the CPU's report inside it.
// Whether the CPU made that report is for the package of its kind; see [Report.ConfirmSNP] and
// [Report.ConfirmTDX].
type Report struct {
	kind           evidence.Kind
	version        uint32
	requestVersion uint32
	hash           string
	hardware       []byte // the CPU's report
	td             *tdReport
	reportData     [reportDataSize]byte
	runtime        Runtime
}

// Parse reads a paravisor's report: all of it, strictly. What it returns is not verified.
func Parse(raw []byte) (*Report, error) {
	if len(raw) < headerSize+hardwareSize+requestSize || len(raw) > MaxBytes {
		return nil, refusal.New(ReasonSize, "%d bytes; a paravisor's report has %d to %d", len(raw), headerSize+hardwareSize+requestSize, MaxBytes)
	}
	r := &Report{}
	size, err := r.readHeader(raw[:headerSize])
	if err != nil {
		return nil, err
	}
	request := raw[headerSize+hardwareSize:]
	hash, runtime, err := r.readRequest(request, size)
	if err != nil {
		return nil, err
	}
	if err := r.readHardware(raw[headerSize : headerSize+hardwareSize]); err != nil {
		return nil, err
	}
	if err := r.bind(hash, runtime); err != nil {
		return nil, err
	}
	if r.runtime, err = readRuntime(runtime); err != nil {
		return nil, err
	}
	r.runtime.Claims.Hardware, r.runtime.Claims.Hash = r.kind, r.hash
	r.runtime.Claims.HCLVersion, r.runtime.Claims.RequestVersion = r.version, r.requestVersion
	return r, nil
}

// readHeader checks the first 32 bytes and returns the size that they state for the whole.
func (r *Report) readHeader(h []byte) (size uint32, err error) {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
	if string(h[:4]) != signature {
		return 0, refusal.New(ReasonHeader, "the signature is %q, want %s", h[:4], signature)
	}
	if r.version = u32(4); r.version < minHeaderVersion || r.version > maxHeaderVersion {
		return 0, refusal.New(ReasonHeader, "version %d; %d and %d are known", r.version, minHeaderVersion, maxHeaderVersion)
	}
	if request := u32(12); request != requestAKCert {
		return 0, refusal.New(ReasonHeader, "request type %d, want %d", request, requestAKCert)
	}
	if !allZero(h[16:]) { // status and reserved
		return 0, refusal.New(ReasonReserved, "status or reserved bytes of the header are not zero")
	}
	return u32(8), nil
}

// readRequest reads the description of the runtime data and returns the data. Sizes are stated
// three times, and must agree; what follows the data, up to the end of the index, is zero.
func (r *Report) readRequest(q []byte, size uint32) (hash uint32, runtime []byte, err error) {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(q[at:]) }
	if r.requestVersion = u32(4); r.requestVersion < 1 || r.requestVersion > maxRequest {
		return 0, nil, refusal.New(ReasonHeader, "request version %d; 1 to %d are known", r.requestVersion, maxRequest)
	}
	head := requestSize
	if r.requestVersion >= 2 {
		head += extendedSize // a bitmap of the paravisor's abilities, which nobody signed
	}
	switch kind := u32(8); kind {
	case hardwareSNP:
		r.kind = evidence.KindSNP
	case hardwareTDX:
		r.kind = evidence.KindTDX
	default:
		return 0, nil, refusal.New(ReasonHardware, "a CPU's report of kind %d", kind)
	}
	n := u32(16)
	if n > MaxBytes || head+int(n) > len(q) {
		return 0, nil, refusal.New(ReasonSize, "%d bytes of runtime data in a rest of %d", n, len(q))
	}
	end := head + int(n)
	if u32(0) != uint32(end) || size != uint32(headerSize+hardwareSize+end) {
		return 0, nil, refusal.New(ReasonSize, "the request states %d bytes and the header %d, but there are %d and %d", u32(0), size, end, headerSize+hardwareSize+end)
	}
	if !allZero(q[end:]) {
		return 0, nil, refusal.New(ReasonReserved, "bytes after the runtime data are not zero")
	}
	return u32(12), q[head:end], nil
}

// readHardware takes the CPU's report out of its area.
func (r *Report) readHardware(area []byte) (err error) {
	at := snpReportDataAt
	r.hardware = bytes.Clone(area)
	if r.kind == evidence.KindTDX {
		if !allZero(area[tdReportSize:]) {
			return refusal.New(ReasonReserved, "bytes after the TDREPORT are not zero")
		}
		at, r.hardware = tdReportDataAt, r.hardware[:tdReportSize]
		if r.td, err = parseTDReport(r.hardware); err != nil {
			return err
		}
	}
	copy(r.reportData[:], r.hardware[at:])
	return nil
}

// bind compares the CPU's REPORT_DATA with the hash of the runtime data followed by zeros: all
// 64 bytes, in constant time.
func (r *Report) bind(hash uint32, runtime []byte) error {
	var want [reportDataSize]byte
	switch hash {
	case 1:
		sum := sha256.Sum256(runtime)
		copy(want[:], sum[:])
		r.hash = "sha256"
	case 2:
		sum := sha512.Sum384(runtime)
		copy(want[:], sum[:])
		r.hash = "sha384"
	case 3:
		want = sha512.Sum512(runtime)
		r.hash = "sha512"
	default:
		return refusal.New(ReasonHardware, "hash %d of the runtime data", hash)
	}
	if subtle.ConstantTimeCompare(want[:], r.reportData[:]) != 1 {
		return refusal.New(ReasonBinding, "the CPU's report is over other data than the %s of the runtime data", r.hash)
	}
	return nil
}

// Kind is the kind of the CPU's report.
func (r *Report) Kind() evidence.Kind { return r.kind }

// ReportData is what the CPU's report must be verified to be over.
func (r *Report) ReportData() [64]byte { return r.reportData }

// SNPReport is the SEV-SNP report, 1184 bytes, or nil.
func (r *Report) SNPReport() []byte {
	if r.kind != evidence.KindSNP {
		return nil
	}
	return bytes.Clone(r.hardware)
}

// TDReport is the TDREPORT, 1024 bytes, or nil.
func (r *Report) TDReport() []byte {
	if r.kind != evidence.KindTDX {
		return nil
	}
	return bytes.Clone(r.hardware)
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
