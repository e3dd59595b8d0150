package hcl

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Runtime is the runtime data of a report, with the keys in it.
type Runtime struct {
	// Claims are what the data says.
	Claims evidence.AzureClaims
	// AK is the attestation key of the VM's TPM, RSA with 2048 bits: it signs quotes.
	AK *rsa.PublicKey
	// EK is the TPM's endorsement key, or nil if the data has none.
	EK *rsa.PublicKey
}

// IsAK says whether an RSA key is the attestation key, given its modulus (big-endian) and
// exponent as the public area of a TPM has them: exponent 0 is 65537 (TPM 2.0 Library, part 2,
// TPMS_RSA_PARMS).
func (r Runtime) IsAK(modulus []byte, exponent uint32) bool {
	if exponent == 0 {
		exponent = defaultExponent
	}
	return r.AK != nil && int64(exponent) == int64(r.AK.E) && len(modulus) == keyBits/8 && r.AK.N.Cmp(new(big.Int).SetBytes(modulus)) == 0
}

const snpReportIDAt, snpReportIDSize = 0x140, 32

// ConfirmSNP returns the runtime data, given the claims of the SEV-SNP report in the container
// ([Report.SNPReport]) as they came out of its appraisal. Claims of another report, one over
// other data, and one from below VMPL 0 are refused.
func (r *Report) ConfirmSNP(c evidence.SNPClaims) (Runtime, error) {
	if r.kind != evidence.KindSNP {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the container has a report of kind %q, the claims are of SEV-SNP", r.kind)
	}
	if subtle.ConstantTimeCompare(c.ReportData, r.reportData[:]) != 1 {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the verified report is over other data")
	}
	if subtle.ConstantTimeCompare(c.ReportID, r.hardware[snpReportIDAt:snpReportIDAt+snpReportIDSize]) != 1 {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the verified report is of another guest")
	}
	if c.VMPL != 0 {
		// The guest may have asked for it, over a key of its own.
		return Runtime{}, refusal.New(ReasonPrivilege, "the report was asked for from VMPL %d; a paravisor asks from VMPL 0", c.VMPL)
	}
	return r.runtime, nil
}

// ConfirmTDX returns the runtime data, given the claims of a quote that was verified to be over
// reportData. Every field that the quote signs must be as in the container's TDREPORT.
func (r *Report) ConfirmTDX(c evidence.TDXClaims, reportData [64]byte) (Runtime, error) {
	if r.kind != evidence.KindTDX || r.td == nil {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the container has a report of kind %q, the claims are of a TDX quote", r.kind)
	}
	if subtle.ConstantTimeCompare(reportData[:], r.reportData[:]) != 1 {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the verified quote is over other data")
	}
	if name := r.td.differs(c); name != "" {
		return Runtime{}, refusal.New(ReasonUnconfirmed, "the verified quote has another %s than the TDREPORT", name)
	}
	return r.runtime, nil
}

// keyDigest is the SHA-256 of a key's subject public key info (RFC 3279, 2.3.1).
func keyDigest(k *rsa.PublicKey) (evidence.Hex, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes([]byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}) // rsaEncryption
			b.AddASN1NULL()
		})
		b.AddASN1(asn1.BIT_STRING, func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(k.N)
				b.AddASN1Int64(int64(k.E))
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, refusal.New(ReasonKey, "%w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}
