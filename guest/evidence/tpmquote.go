package evidence

import (
	"maps"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of a [TPMQuote]. The largest attestation that a TPM makes of PCRs has less than 400
// bytes, the largest signature and public area are those of RSA with 4096 bits.
const (
	MaxTPMQuoteBytes     = 4 << 10
	MaxTPMAttestBytes    = 512
	MaxTPMSignatureBytes = 600
	MaxTPMPublicBytes    = 640
	// MaxPCRs is the number of PCRs of a PC client's TPM.
	MaxPCRs = 24
)

// Banks of PCRs that quotes may be over, as claims call them.
const (
	BankSHA256 = "sha256"
	BankSHA384 = "sha384"
)

const tpmQuoteVersion = 1

// pcrBank is a bank's number (TCG Algorithm Registry, TPM_ALG_ID) and the size of its values.
func pcrBank(name string) (alg uint16, size int) {
	switch name {
	case BankSHA256:
		return 0x000b, 32
	case BankSHA384:
		return 0x000c, 48
	}
	return 0, 0
}

// TPMQuote is a quote with all that its verification needs, beside the trust in its key: what a
// TPM returns is in the TPM's own encoding.
type TPMQuote struct {
	// Attest is the signed TPMS_ATTEST, without the length in front of it.
	Attest []byte
	// Signature is the TPMT_SIGNATURE over it.
	Signature []byte
	// Public is the TPMT_PUBLIC of the attestation key. It may be empty where the CPU's report
	// names the key, and only there.
	Public []byte
	// Bank is [BankSHA256] or [BankSHA384].
	Bank string
	// PCRs are the values that were quoted, by number.
	PCRs map[int]Hex
}

// Marshal returns the canonical encoding; numbers are big-endian, as the TPM's:
//
//	version 1 (1 byte) | attest (2) | signature (2) | public (2) |
//	bank, TPM_ALG_ID (2 bytes) | count of PCRs (1 byte) |
//	each: number (1 byte) | value, 32 or 48 bytes as the bank says
//
// where (2) is a length of two bytes before the field. PCRs stand in the order of their numbers.
func (q TPMQuote) Marshal() ([]byte, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	alg, _ := pcrBank(q.Bank)
	var b cryptobyte.Builder
	b.AddUint8(tpmQuoteVersion)
	for _, field := range [][]byte{q.Attest, q.Signature, q.Public} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(field) })
	}
	b.AddUint16(alg)
	b.AddUint8(uint8(len(q.PCRs)))
	for _, n := range slices.Sorted(maps.Keys(q.PCRs)) {
		b.AddUint8(uint8(n))
		b.AddBytes(q.PCRs[n])
	}
	out, err := b.Bytes()
	if err != nil {
		return nil, refusal.New(ReasonMalformedEvidence, "encode the TPM quote: %w", err)
	}
	return out, nil
}

func (q TPMQuote) check() error {
	for _, field := range []struct {
		name            string
		size, low, high int
	}{
		{"attestation", len(q.Attest), 1, MaxTPMAttestBytes}, {"signature", len(q.Signature), 1, MaxTPMSignatureBytes},
		{"public area", len(q.Public), 0, MaxTPMPublicBytes}, {"set of PCRs", len(q.PCRs), 1, MaxPCRs},
	} {
		if field.size < field.low || field.size > field.high {
			return refusal.New(ReasonMalformedEvidence, "the %s of a TPM quote has %d bytes or members, want %d to %d", field.name, field.size, field.low, field.high)
		}
	}
	_, size := pcrBank(q.Bank)
	if size == 0 {
		return refusal.New(ReasonMalformedEvidence, "unknown bank %q", q.Bank)
	}
	for n, value := range q.PCRs {
		if n < 0 || n >= MaxPCRs || len(value) != size {
			return refusal.New(ReasonMalformedEvidence, "PCR %d of %d bytes in the bank %s", n, len(value), q.Bank)
		}
	}
	return nil
}

// ParseTPMQuote reads the canonical encoding and nothing else. What it returns shares the
// memory of data.
func ParseTPMQuote(data []byte) (TPMQuote, error) {
	malformed := func(what string) (TPMQuote, error) {
		return TPMQuote{}, refusal.New(ReasonMalformedEvidence, "TPM quote: %s", what)
	}
	if len(data) > MaxTPMQuoteBytes {
		return malformed("too large")
	}
	s := cryptobyte.String(data)
	var version, count uint8
	var attest, signature, public cryptobyte.String
	var alg uint16
	if !s.ReadUint8(&version) || version != tpmQuoteVersion {
		return malformed("not of this version")
	}
	if !s.ReadUint16LengthPrefixed(&attest) || !s.ReadUint16LengthPrefixed(&signature) || !s.ReadUint16LengthPrefixed(&public) ||
		!s.ReadUint16(&alg) || !s.ReadUint8(&count) {
		return malformed("cut short")
	}
	q := TPMQuote{Attest: attest, Signature: signature, Public: public}
	size := 0
	for _, name := range [...]string{BankSHA256, BankSHA384} {
		if a, n := pcrBank(name); a == alg {
			q.Bank, size = name, n
		}
	}
	if size == 0 || count == 0 || count > MaxPCRs {
		return malformed("unknown bank or number of PCRs")
	}
	q.PCRs = make(map[int]Hex, count)
	last := -1
	for range count {
		var n uint8
		var value []byte
		if !s.ReadUint8(&n) || int(n) <= last || !s.ReadBytes(&value, size) {
			return malformed("PCRs are cut short or out of order")
		}
		last = int(n)
		q.PCRs[last] = value
	}
	if !s.Empty() {
		return malformed("trailing bytes")
	}
	if err := q.check(); err != nil {
		return TPMQuote{}, err
	}
	return q, nil
}
