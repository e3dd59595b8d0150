package tdx

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The layout of quotes (Intel TDX DCAP Quoting Library API, quote formats of versions 4 and 5) as
// far as a guest has to know it: whose quote it is, and over what.
const (
	headerSize  = 48
	typeTDX     = 0x81
	bodySize    = 584 // TD report, TDX 1.0; later bodies begin with it
	bodySize15  = 648 // TDX 1.5
	atMRTD      = 136 // in the body
	atRTMR      = 328
	atData      = 520
	descriptor5 = 6 // type and size of the body, version 5
)

// MaxQuoteBytes is the largest quote that is accepted, as an envelope takes it. Real ones have 5 to 8 KiB.
const MaxQuoteBytes = 16 << 10

// RegisterSize is the size of a measurement register in bytes (SHA-384).
const RegisterSize = 48

// Registers are the measurements of a trust domain.
type Registers struct {
	// MRTD measures what the domain was built from.
	MRTD [RegisterSize]byte
	// RTMR are extended by the firmware, the boot loader, the kernel and, the last, by anybody.
	RTMR [4][RegisterSize]byte
}

// quoted is what a quote says about the domain it was made for.
type quoted struct {
	reportData [64]byte
	registers  Registers
}

// parseQuote reads a quote's body; it verifies nothing.
func parseQuote(quote []byte) (quoted, error) {
	if len(quote) < headerSize+bodySize {
		return quoted{}, refusal.New(ReasonDevice, "got a quote of %d bytes; the host's quoting service may have failed", len(quote))
	}
	le := binary.LittleEndian
	version, tee := le.Uint16(quote), le.Uint32(quote[4:])
	if tee != typeTDX {
		return quoted{}, refusal.New(ReasonDevice, "got a quote of TEE type %#x, want %#x; the host's quoting service may have failed", tee, typeTDX)
	}
	body := quote[headerSize:]
	switch version {
	case 4:
	case 5:
		kind, size := le.Uint16(body), le.Uint32(body[2:])
		body = body[descriptor5:]
		least := uint32(bodySize15)
		switch kind {
		case 2: // TDX 1.0
			least = bodySize
		case 3, 4: // TDX 1.5, and with the initial TCB of a service domain
		default:
			return quoted{}, refusal.New(ReasonDevice, "got a quote with a body of type %d", kind)
		}
		if size < least || uint64(size) > uint64(len(body)) {
			return quoted{}, refusal.New(ReasonDevice, "got a quote with a body of %d bytes, type %d", size, kind)
		}
	default:
		return quoted{}, refusal.New(ReasonDevice, "got a quote of version %d; 4 and 5 are known", version)
	}
	q := quoted{reportData: [64]byte(body[atData:]), registers: Registers{MRTD: [RegisterSize]byte(body[atMRTD:])}}
	for i := range q.registers.RTMR {
		q.registers.RTMR[i] = [RegisterSize]byte(body[atRTMR+i*RegisterSize:])
	}
	return q, nil
}
