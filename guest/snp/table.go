package snp

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The certificate table of the Guest Hypervisor Communication Block (56421,
// section 4.1.8.1): entries of GUID (16 bytes), offset and length (4 bytes
// each, little-endian), ended by a zero entry; then the certificates.
const (
	entrySize  = 24
	maxEntries = 16
)

// GUIDs of certificates, in the mixed-endian byte order of the table.
var tableTypes = map[string]evidence.EndorsementType{
	guid("63da758d-e664-4564-adc5-f4b93be8accd"): evidence.EndorsementVCEK,
	guid("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): evidence.EndorsementVLEK,
	guid("4ab7b379-bbac-4fe4-a02f-05aef327c782"): evidence.EndorsementASK,
	guid("c0b406a4-a803-4952-9743-3fb6014cd0ae"): evidence.EndorsementARK,
}

// guid turns the printed form into the bytes of the table.
func guid(s string) string {
	b, err := hex.DecodeString(s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return "" // the constants above are well-formed
	}
	for _, r := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		b[r[0]], b[r[1]] = b[r[1]], b[r[0]]
	}
	return string(b)
}

// parseTable reads the table. An empty one is common and no error; entries of
// other kinds are passed over; anything that does not fit is refused. Hosts
// write DER or PEM.
func parseTable(aux []byte) (map[evidence.EndorsementType][]byte, error) {
	found := map[evidence.EndorsementType][]byte{}
	if len(aux) == 0 {
		return found, nil
	}
	for i := range maxEntries {
		at := i * entrySize
		if at+entrySize > len(aux) {
			return nil, evidence.Refuse(ReasonDevice, "the host's certificate table is cut short")
		}
		entry := aux[at : at+entrySize]
		offset, length := uint64(binary.LittleEndian.Uint32(entry[16:])), uint64(binary.LittleEndian.Uint32(entry[20:]))
		if string(entry[:16]) == string(make([]byte, 16)) {
			return found, nil
		}
		if offset+length > uint64(len(aux)) {
			return nil, evidence.Refuse(ReasonDevice, "the host's certificate table points outside itself")
		}
		t, known := tableTypes[string(entry[:16])]
		if !known || length == 0 || length > evidence.MaxEndorsementBytes {
			continue
		}
		der := append([]byte(nil), aux[offset:offset+length]...)
		if block, _ := pem.Decode(der); block != nil {
			der = block.Bytes
		}
		found[t] = der
	}
	return nil, evidence.Refuse(ReasonDevice, "the host's certificate table has more than %d entries", maxEntries)
}
