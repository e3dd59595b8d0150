package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"math/big"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Types of certification data: the QE's report, which the PCK signed, and inside it the PCK's
// certificates in PEM.
const (
	certifiedByQEReport = 6
	certifiedByPCKChain = 5
)

const (
	signatureBytes = 64
	rawKeyBytes    = 64
	qeReportBytes  = 384
	// maxQEAuthBytes bounds the QE's authentication data; Intel's has 32.
	maxQEAuthBytes = 1 << 10
	// maxChainBytes bounds the PEM text; Intel's has 3.7 KB.
	maxChainBytes = 8 << 10
)

// authData is the part of a quote that proves the rest: its signature, the attestation key that
// made it, and who vouches for that key.
type authData struct {
	signature, key  []byte // r and s, x and y: 32 bytes each, big-endian
	report          qeReport
	rawReport       []byte
	reportSignature []byte
	qeAuth          []byte
	chain           []byte // PEM
	certified       []byte // report, its signature, QE authentication data
}

// readAuthData reads the signature data of versions 4 and 5, to its last byte.
func readAuthData(s littleEndian) (a authData, err error) {
	const fixed = signatureBytes + rawKeyBytes + 6
	if len(s) < fixed {
		return a, refusal.New(ReasonQuoteMalformed, "signature data of %d bytes, %d are needed", len(s), fixed)
	}
	a.signature, a.key = s.bytes(signatureBytes), s.bytes(rawKeyBytes)
	typ, size := s.uint16(), s.uint32()
	if typ != certifiedByQEReport {
		return a, refusal.New(ReasonCertificationData, "certification data of type %d; %d (QE report) is known", typ, certifiedByQEReport)
	}
	if uint64(size) != uint64(len(s)) {
		return a, refusal.New(ReasonQuoteMalformed, "certification data of %d bytes in %d", size, len(s))
	}
	return a, a.readCertification(s)
}

// readCertification reads the QE report certification data.
func (a *authData) readCertification(s littleEndian) error {
	whole := s
	if len(s) < qeReportBytes+signatureBytes+2 {
		return refusal.New(ReasonQuoteMalformed, "QE report certification data of %d bytes", len(s))
	}
	a.rawReport, a.reportSignature = s.bytes(qeReportBytes), s.bytes(signatureBytes)
	n := int(s.uint16())
	if n > maxQEAuthBytes || n > len(s) {
		return refusal.New(ReasonQuoteMalformed, "QE authentication data of %d bytes, %d are left and the limit is %d", n, len(s), maxQEAuthBytes)
	}
	a.qeAuth = s.bytes(n)
	a.certified = whole[:len(whole)-len(s)]
	if len(s) < 6 {
		return refusal.New(ReasonQuoteMalformed, "cut short before the PCK certificates")
	}
	typ, size := s.uint16(), s.uint32()
	if typ != certifiedByPCKChain {
		return refusal.New(ReasonCertificationData, "inner certification data of type %d; %d (PCK chain) is known", typ, certifiedByPCKChain)
	}
	if uint64(size) != uint64(len(s)) || len(s) > maxChainBytes {
		return refusal.New(ReasonQuoteMalformed, "PCK certificates of %d bytes in %d, the limit is %d", size, len(s), maxChainBytes)
	}
	a.chain = s
	var err error
	a.report, err = readQEReport(a.rawReport)
	return err
}

// vouched checks that the QE's report names the attestation key: its data is the SHA-256 of the
// key and the QE's authentication data, then zeros.
func (a *authData) vouched() error {
	h := sha256.New()
	h.Write(a.key)
	h.Write(a.qeAuth)
	want := h.Sum(make([]byte, 0, 64))[:64]
	if subtle.ConstantTimeCompare(want, a.report.reportData) != 1 {
		return refusal.New(ReasonAttestationKey, "the QE report vouches for another attestation key")
	}
	return nil
}

// qeReport is the SGX report of the quoting enclave (SDM volume 3D, REPORT), as far as it is used.
type qeReport struct {
	miscSelect []byte // 4
	attributes []byte // 16
	mrSigner   []byte // 32
	productID  uint16
	svn        uint16
	reportData []byte // 64
}

func readQEReport(raw []byte) (qeReport, error) {
	for _, r := range [][2]int{{24, 32}, {96, 128}, {160, 192}, {262, 304}} {
		if !allZero(raw[r[0]:r[1]]) {
			return qeReport{}, refusal.New(ReasonReserved, "bytes %d to %d of the QE report are not zero", r[0], r[1])
		}
	}
	s := littleEndian(raw)
	var r qeReport
	s.skip(16) // CPUSVN; the PCK certificate states the platform's
	r.miscSelect = s.bytes(4)
	s.skip(12 + 16) // CET attributes, reserved; extended product id
	r.attributes = s.bytes(16)
	s.skip(32 + 32) // MRENCLAVE, reserved
	r.mrSigner = s.bytes(32)
	s.skip(32 + 64) // reserved, CONFIGID
	r.productID, r.svn = s.uint16(), s.uint16()
	s.skip(2 + 42 + 16) // CONFIGSVN, reserved, family id
	r.reportData = s.bytes(64)
	return r, nil
}

// publicKey makes a P-256 key of x and y; a point off the curve is an error.
func publicKey(raw []byte) (*ecdsa.PublicKey, error) {
	uncompressed := append(make([]byte, 0, 1+rawKeyBytes), 4)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(uncompressed, raw...))
}

// verifyP256 checks a signature that is r and s, 32 bytes each, over the SHA-256 of a message.
// Numbers outside 1 to the group order less one are refused by crypto/ecdsa.
func verifyP256(key *ecdsa.PublicKey, message, signature []byte) bool {
	if len(signature) != signatureBytes {
		return false
	}
	digest := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key, digest[:], r, s)
}
