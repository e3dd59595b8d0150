package appraise

import (
	"encoding/hex"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Authority is one of AMD's signing keys, pinned by the SHA-256 of its subject public key info.
type Authority struct {
	// Product is the line that it may vouch for.
	Product evidence.Product
	// Role is the place in the chain: "ark", "ask" or "asvk".
	Role evidence.PartType
	// Name is the common name of its certificate.
	Name string
	// KeySHA256 is the pin in hexadecimal; empty if the certificate could not be obtained. Nothing
	// is accepted from an authority without a pin.
	KeySHA256 string
	// Source is where the certificate came from.
	Source string
}

// AMD publishes ARK and ASK of a line at /vcek/v1/LINE/cert_chain of its key distribution
// service, ARK and ASVK at /vlek/v1/LINE/cert_chain. go-sev-guest carries copies.
const (
	chainOfVCEK = "kdsintf.amd.com/vcek/v1/LINE/cert_chain, as go-sev-guest v0.15.0 has it in verify/trust"
	chainOfVLEK = "kdsintf.amd.com/vlek/v1/LINE/cert_chain, as go-sev-guest v0.15.0 has it in verify/trust"
)

// PinnedAuthorities lists every authority of every product line that this version knows.
func PinnedAuthorities() []Authority {
	const ark, ask, asvk = evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementASVK
	return []Authority{
		{"Milan", ark, "ARK-Milan", "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9", chainOfVCEK},
		{"Milan", ask, "SEV-Milan", "42491669ccb851d627ea9846cd24eccbeb7de7c2a62740120fff88001d38ebb6", chainOfVCEK},
		{"Milan", asvk, "SEV-VLEK-Milan", "66450a123ea5876206df67f2514a4fea224c0f63b18313423078b0edc4535e33", chainOfVLEK},
		{"Genoa", ark, "ARK-Genoa", "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831", chainOfVCEK},
		{"Genoa", ask, "SEV-Genoa", "0324d55bcd48ba877a8fd87c0e1b4934dec8448e3807a24384a34dc6a6c9ebb8", chainOfVCEK},
		{"Genoa", asvk, "SEV-VLEK-Genoa", "7d1633252ebbadaa75f96e9b4e6f7d43a90ceb3f843937482630f8da2459264e", chainOfVLEK},
		{"Turin", ark, "ARK-Turin", "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08", chainOfVCEK},
		{"Turin", ask, "SEV-Turin", "0000ead352025f208bf55297c4192c34cd1b878002107366d8f2065a9ae7d3a9", chainOfVCEK},
		{"Turin", asvk, "SEV-VLEK-Turin", "bfc441408b2f806c5dbf180bd8920e6e60dd404d82141780d85dbf962954d386", chainOfVLEK},
	}
}

// pinned says whether a key is the one that a product line's authority has. It looks at the
// key's digest alone: no arithmetic is done with a key that is not pinned.
func pinned(p product, role evidence.PartType, digest [32]byte) bool {
	got := hex.EncodeToString(digest[:])
	for _, a := range PinnedAuthorities() {
		if product(a.Product) == p && a.Role == role && a.KeySHA256 == got {
			return true
		}
	}
	return false
}
