package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"

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

// printed is the usual form of a GUID whose bytes are in the order in which they are printed,
// as most hosts write them.
func printed(g []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// printedMixed is that of a GUID in the mixed order of firmware (RFC 9562, section 4): the first
// three fields are little-endian. Some hosts write this one.
func printedMixed(g []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:16])
}

// slotOf is the type of certificate that a GUID stands for, in either order of bytes.
func slotOf(g []byte, issuer evidence.PartType) (evidence.PartType, bool) {
	for _, name := range []string{printed(g), printedMixed(g)} {
		switch name {
		case guidVCEK:
			return evidence.EndorsementVCEK, true
		case guidVLEK:
			return evidence.EndorsementVLEK, true
		case guidIssuer:
			return issuer, true
		case guidARK:
			return evidence.EndorsementARK, true
		}
	}
	return "", false
}

// entry is one line of the table.
type entry struct {
	guid          []byte
	offset, bytes uint64
}

// parseTable reads the table. An empty one is common and no error; entries of
// other kinds are passed over; anything that does not fit is refused. Hosts
// write DER or PEM, and a VLEK into either slot: the certificate says what it
// is. The issuer is what the one GUID of issuers stands for.
func parseTable(aux []byte, issuer evidence.PartType) (map[evidence.PartType][]byte, error) {
	entries, err := readEntries(aux)
	if err != nil {
		return nil, err
	}
	slots, found := map[evidence.PartType]bool{}, map[evidence.PartType][]byte{}
	for _, e := range entries {
		slot, known := slotOf(e.guid, issuer)
		if !known {
			continue
		}
		if slots[slot] {
			return nil, refusal.New(ReasonDevice, "the host's certificate table has two entries for the %s", slot)
		}
		slots[slot] = true
		if e.bytes > maxCertificate {
			continue
		}
		der := bytes.Clone(aux[e.offset : e.offset+e.bytes])
		if block, _ := pem.Decode(der); block != nil {
			der = block.Bytes
		}
		if len(der) == 0 {
			continue
		}
		t := typeOf(der, slot)
		if other := found[t]; other != nil && !bytes.Equal(other, der) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table has two different certificates of the %s", t)
		}
		found[t] = der
	}
	return found, nil
}

// Certificates are those of a report's chain that the host's certificate table has: the auxblob of
// configfs-tsm. A table or a report that is malformed is refused with [ReasonDevice].
func Certificates(report, table []byte) ([]evidence.Part, error) {
	if len(report) != reportSize {
		return nil, refusal.New(ReasonDevice, "got a report of %d bytes, want %d", len(report), reportSize)
	}
	wanted := []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementVCEK}
	if loaded := binary.LittleEndian.Uint32(report[0x48:])>>2&7 == 1; loaded {
		wanted = []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASVK, evidence.EndorsementVLEK}
	}
	found, err := parseTable(table, wanted[1])
	if err != nil {
		return nil, err
	}
	var parts []evidence.Part
	for _, t := range wanted {
		if der := found[t]; der != nil {
			parts = append(parts, evidence.Part{Type: t, Data: der})
		}
	}
	return parts, nil
}

// readEntries reads the table's lines, except those of no length, and checks that their
// certificates lie behind the table, inside the blob, and apart from each other.
func readEntries(aux []byte) (entries []entry, err error) {
	if len(aux) == 0 {
		return nil, nil
	}
	end := 0
	for ; ; end += entrySize {
		if end == maxEntries*entrySize {
			return nil, refusal.New(ReasonDevice, "the host's certificate table has more than %d entries", maxEntries)
		}
		if end+entrySize > len(aux) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table is cut short")
		}
		line := aux[end : end+entrySize]
		if string(line[:16]) == string(make([]byte, 16)) {
			break
		}
		e := entry{line[:16], uint64(binary.LittleEndian.Uint32(line[16:])), uint64(binary.LittleEndian.Uint32(line[20:]))}
		if e.offset+e.bytes > uint64(len(aux)) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table points outside itself")
		}
		if e.bytes > 0 {
			entries = append(entries, e)
		}
	}
	for i, e := range entries {
		if e.offset < uint64(end+entrySize) {
			return nil, refusal.New(ReasonDevice, "the host's certificate table points into itself")
		}
		for _, other := range entries[:i] {
			if e.offset < other.offset+other.bytes && other.offset < e.offset+e.bytes {
				return nil, refusal.New(ReasonDevice, "two certificates overlap in the host's table")
			}
		}
	}
	return entries, nil
}

// typeOf is what a certificate says it is: chip keys and their issuers are told apart by their
// subjects and by the provider's name, which a VLEK alone has (57230, table 8, extension 5). One
// that says neither, or cannot be read, is what its slot says; the broker judges it.
func typeOf(der []byte, slot evidence.PartType) evidence.PartType {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return slot
	}
	switch slot {
	case evidence.EndorsementVCEK, evidence.EndorsementVLEK:
		provider := hasExtension(cert, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 5})
		chip := hasExtension(cert, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4})
		switch name := cert.Subject.CommonName; {
		case name == "SEV-VLEK" || provider && !chip:
			return evidence.EndorsementVLEK
		case name == "SEV-VCEK" || chip && !provider:
			return evidence.EndorsementVCEK
		}
	case evidence.EndorsementASK, evidence.EndorsementASVK:
		switch name := cert.Subject.CommonName; {
		case strings.HasPrefix(name, "SEV-VLEK-"):
			return evidence.EndorsementASVK
		case strings.HasPrefix(name, "SEV-"):
			return evidence.EndorsementASK
		}
	}
	return slot
}

func hasExtension(cert *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(id) {
			return true
		}
	}
	return false
}
