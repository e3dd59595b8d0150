package appraise

import (
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// product is a processor line. The zero value is unknown and refused: nothing
// is ever taken for Milan because nothing better was found.
type product string

const (
	milan product = "Milan"
	genoa product = "Genoa"
	turin product = "Turin"
)

// productOf reads the line from CPUID values in a report (version 3 and later).
// Bergamo and Siena (family 19h, models A0h to AFh) are of the Genoa line.
func productOf(family, model byte) (product, bool) {
	switch {
	case family == 0x19 && model <= 0x0f:
		return milan, true
	case family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf):
		return genoa, true
	case family == 0x1a && model <= 0x1f:
		return turin, true
	}
	return "", false
}

// productNamed reads the line from a certificate's product name, as "Milan-B0".
func productNamed(name string) (product, bool) {
	line, _, _ := strings.Cut(name, "-")
	switch p := product(line); p {
	case milan, genoa, turin:
		return p, true
	}
	return "", false
}

// tcb takes a TCB_VERSION apart. The layout changed with Turin, which has an
// FMC component first.
func (p product) tcb(v uint64) evidence.TCB {
	at := func(i int) uint8 { return uint8(v >> (8 * i)) }
	if p == turin {
		return evidence.TCB{FMC: at(0), BootLoader: at(1), TEE: at(2), SNP: at(3), Microcode: at(7)}
	}
	return evidence.TCB{BootLoader: at(0), TEE: at(1), SNP: at(6), Microcode: at(7)}
}

// tcbReserved are the bits of a TCB_VERSION that name no component.
func (p product) tcbReserved() uint64 {
	if p == turin {
		return 0x00ff_ffff_0000_0000
	}
	return 0x0000_ffff_ffff_0000
}

// hwidSize is the number of bytes of a chip id that a certificate names.
func (p product) hwidSize() int {
	if p == turin {
		return 8
	}
	return 64
}

// product checks that the report's CPUID and the certificate name the same line.
func (r *report) product(k *chipKey) (product, error) {
	if r.version < 3 { // the report does not say; its certificate does
		return k.product, nil
	}
	p, ok := productOf(r.family, r.model)
	if !ok {
		return "", refusal.New(ReasonProduct, "CPUID family %#02x model %#02x", r.family, r.model)
	}
	if p != k.product {
		return "", refusal.New(ReasonProduct, "the report is from %s, its certificate for %s", p, k.product)
	}
	return p, nil
}
