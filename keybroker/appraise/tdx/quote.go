package tdx

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// MaxQuoteBytes bounds a quote with its padding. Real ones have 5 to 8 KB.
const MaxQuoteBytes = 16 << 10

// Versions of the quote format.
const (
	version3 = 3 // SGX alone
	version4 = 4
	version5 = 5
)

// Values of a quote's header.
const (
	headerBytes     = 48
	keyTypeP256     = 2 // ECDSA-256-with-P-256
	teeTypeSGX      = 0
	teeTypeTDX      = 0x81
	quoteDigestName = "anchorhold/evidence/tdx-quote/1"
)

// intelQEVendor is the QE_VENDOR_ID of Intel's quoting enclave.
const intelQEVendor = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"

// Quote is a parsed TDX quote. Nothing in it is verified. [Verifier.Verify] refuses the zero value.
type Quote struct {
	version uint16
	body    body
	auth    authData
	raw     []byte // the quote without padding
	signed  []byte // of raw: what the attestation key signed
}

// Parse reads a quote of version 4 or 5 with any padding of zeros behind it. It keeps a copy of
// what it read. A refusal is an *refusal.Error.
func Parse(raw []byte) (*Quote, error) {
	if len(raw) > MaxQuoteBytes {
		return nil, refusal.New(ReasonQuoteSize, "%d bytes, the limit is %d", len(raw), MaxQuoteBytes)
	}
	end, err := quoteEnd(raw)
	if err != nil {
		return nil, err
	}
	q := &Quote{raw: bytes.Clone(raw[:end])}
	s := littleEndian(q.raw)
	if err := q.readHeader(&s); err != nil {
		return nil, err
	}
	if err := q.readBody(&s); err != nil {
		return nil, err
	}
	q.signed = q.raw[:len(q.raw)-len(s)]
	s.skip(4) // the size, which quoteEnd has read
	if q.auth, err = readAuthData(s); err != nil {
		return nil, err
	}
	return q, nil
}

// Digest is the SHA-256 of the quote without padding, behind a label (1-byte length) and a 3-byte
// big-endian length: what follows a quote does not change it.
func (q *Quote) Digest() [32]byte {
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(quoteDigestName)) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(q.raw) })
	return sha256.Sum256(b.BytesOrPanic()) // MaxQuoteBytes is far below the prefix
}

// ReportData is what the guest asked to have signed.
func (q *Quote) ReportData() [64]byte { return q.body.reportData }

// Body is the signed TD report as it lies in the quote, for a comparison with a TDREPORT: 584
// bytes of type 2, 648 of type 3, 885 of type 4. The caller must not change it.
func (q *Quote) Body() []byte {
	if q.version == version4 {
		return q.signed[headerBytes:]
	}
	return q.signed[headerBytes+descriptorBytes:]
}

// quoteEnd finds where a quote ends, from its header and its two sizes, and refuses anything but
// zeros behind it.
func quoteEnd(raw []byte) (int, error) {
	at := headerBytes
	if len(raw) < at {
		return 0, refusal.New(ReasonQuoteMalformed, "%d bytes, a header has %d", len(raw), headerBytes)
	}
	switch version := binary.LittleEndian.Uint16(raw); version {
	case version3:
		return 0, wrongTEE(teeTypeSGX)
	case version4:
		if tee := binary.LittleEndian.Uint32(raw[4:]); tee != teeTypeTDX {
			return 0, wrongTEE(tee)
		}
		at += bodySize(bodyTD10)
	case version5:
		if len(raw) < at+descriptorBytes {
			return 0, refusal.New(ReasonQuoteMalformed, "cut short in the description of its body")
		}
		typ, size := binary.LittleEndian.Uint16(raw[at:]), binary.LittleEndian.Uint32(raw[at+2:])
		if err := checkBodyType(typ, size); err != nil {
			return 0, err
		}
		at += descriptorBytes + bodySize(typ)
	default:
		return 0, refusal.New(ReasonQuoteVersion, "version %d; 4 and 5 are known", version)
	}
	if len(raw) < at+4 {
		return 0, refusal.New(ReasonQuoteMalformed, "cut short in its body")
	}
	size := binary.LittleEndian.Uint32(raw[at:])
	if at += 4; uint64(size) > uint64(len(raw)-at) {
		return 0, refusal.New(ReasonQuoteMalformed, "signature data of %d bytes, %d are left", size, len(raw)-at)
	}
	at += int(size)
	if !allZero(raw[at:]) {
		return 0, refusal.New(ReasonTrailing, "the %d bytes behind the quote are not all zero", len(raw)-at)
	}
	return at, nil
}

// readHeader reads the 48 bytes that all versions begin with. Bytes 8 to 11 were versions of the
// QE and the PCE in older quotes and are reserved in newer ones; the QE report and the PCK
// certificate state those versions, so nothing is read from there. The last 20 are the QE's own.
func (q *Quote) readHeader(s *littleEndian) error {
	q.version = s.uint16()
	keyType, tee := s.uint16(), s.uint32()
	s.skip(4)
	vendor := s.bytes(16)
	s.skip(20)
	switch {
	case tee != teeTypeTDX:
		return wrongTEE(tee)
	case keyType != keyTypeP256:
		return refusal.New(ReasonKeyType, "attestation key of type %d; ECDSA P-256 (%d) is known", keyType, keyTypeP256)
	case string(vendor) != intelQEVendor:
		return refusal.New(ReasonQEVendor, "quoting enclave of vendor %x", vendor)
	}
	return nil
}

func wrongTEE(tee uint32) error {
	if tee == teeTypeSGX {
		return refusal.New(ReasonTEEType, "a quote of an SGX enclave, not of a TDX guest")
	}
	return refusal.New(ReasonTEEType, "a quote of type %#x, not of a TDX guest", tee)
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// littleEndian is the unread rest of a structure whose size was checked: reading past its end
// gives zeros, never a panic.
type littleEndian []byte

func (s *littleEndian) bytes(n int) []byte {
	if n > len(*s) {
		*s = nil
		return make([]byte, n)
	}
	b := (*s)[:n:n]
	*s = (*s)[n:]
	return b
}

func (s *littleEndian) skip(n int)     { *s = (*s)[min(n, len(*s)):] }
func (s *littleEndian) uint16() uint16 { return binary.LittleEndian.Uint16(s.bytes(2)) }
func (s *littleEndian) uint32() uint32 { return binary.LittleEndian.Uint32(s.bytes(4)) }
func (s *littleEndian) uint64() uint64 { return binary.LittleEndian.Uint64(s.bytes(8)) }
