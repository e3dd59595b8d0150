package snp

import (
	"encoding/binary"
	"encoding/pem"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The certificate table of the Guest Hypervisor Communication Block (56421,
// section 4.1.8.1): entries of GUID (16 bytes), offset and length (4 bytes
// each, little-endian), ended by a zero entry; then the certificates.
const (
	entrySize  = 24
	maxEntries = 16
)

// GUIDs of certificates. One serves for whichever key issued the signing key:
// the ASK, or the ASVK under a provider's loaded key.
const (
	guidVCEK   = "63da758d-e664-4564-adc5-f4b93be8accd"
	guidVLEK   = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
	guidIssuer = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
	guidARK    = "c0b406a4-a803-4952-9743-3fb6014cd0ae"
)

// printed is the usual form of a GUID. Hosts write its bytes in the order in
// which they are printed, not in the mixed order that firmware uses elsewhere.
func printed(g []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// entryType is the type of certificate that a GUID stands for.
func entryType(g []byte, issuer evidence.PartType) (evidence.PartType, bool) {
	switch printed(g) {
	case guidVCEK:
		return evidence.EndorsementVCEK, true
	case guidVLEK:
		return evidence.EndorsementVLEK, true
	case guidIssuer:
		return issuer, true
	case guidARK:
		return evidence.EndorsementARK, true
	}
	return "", false
}

// parseTable reads the table. An empty one is common and no error; entries of
// other kinds are passed over; anything that does not fit is refused. Hosts
// write DER or PEM. The issuer is what the one GUID of issuers stands for.
func parseTable(aux []byte, issuer evidence.PartType) (map[evidence.PartType][]byte, error) {
	found := map[evidence.PartType][]byte{}
	if len(aux) == 0 {
		return found, nil
	}
	for i := range maxEntries {
		at := i * entrySize
		if at+entrySize > len(aux) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table is cut short")
		}
		entry := aux[at : at+entrySize]
		offset, length := uint64(binary.LittleEndian.Uint32(entry[16:])), uint64(binary.LittleEndian.Uint32(entry[20:]))
		if string(entry[:16]) == string(make([]byte, 16)) {
			return found, nil
		}
		if offset+length > uint64(len(aux)) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table points outside itself")
		}
		t, known := entryType(entry[:16], issuer)
		if !known || length == 0 || length > maxCertificate {
			continue
		}
		der := append([]byte(nil), aux[offset:offset+length]...)
		if block, _ := pem.Decode(der); block != nil {
			der = block.Bytes
		}
		if len(der) > 0 {
			found[t] = der
		}
	}
	return nil, refusal.New(ReasonDevice, "the host's certificate table has more than %d entries", maxEntries)
}
