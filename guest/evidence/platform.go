package evidence

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Where the PCK certificate lies in a quote (Intel TDX DCAP Quoting Library API, appendix 3): behind header,
// body, signature and attestation key comes certification data of type 6, which is the QE's report, its signature
// and authentication data, and in it certification data of type 5, the chain in PEM.
const (
	quoteHeaderBytes = 48
	quoteBodyV4Bytes = 584
	quoteSignedBytes = 64 + 64
	quoteQEBytes     = 384 + 64
	quoteCertified   = 6
	quotePEM         = 5
	platformIDBytes  = 16
	sgxExtensionID   = "1.2.840.113741.1.13.1"
	platformInstance = sgxExtensionID + ".6"
)

// quotePlatform is the platform instance id in the PCK certificate of a quote of TDX, without verifying
// anything: nil if there is none, as in certificates of Intel's Processor CA, or if the quote is not whole.
func quotePlatform(quote []byte) []byte {
	block, _ := pem.Decode(quoteChain(quote))
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	for _, e := range cert.Extensions {
		if e.Id.String() == sgxExtensionID {
			return platformOf(e.Value)
		}
	}
	return nil
}

// quoteChain are the certificates of a quote of version 4 or 5, nil if it is not whole.
func quoteChain(quote []byte) []byte {
	s := cryptobyte.String(quote)
	var version uint16
	head := quoteHeaderBytes
	if len(quote) >= 2 {
		version = binary.LittleEndian.Uint16(quote)
	}
	var typ, body []byte
	switch {
	case version == 4:
		head += quoteBodyV4Bytes
	case version != 5 || len(quote) < quoteHeaderBytes+6:
		return nil
	default:
		size := binary.LittleEndian.Uint32(quote[quoteHeaderBytes+2:])
		if uint64(size) > uint64(len(quote)) {
			return nil
		}
		head += 6 + int(size)
	}
	if !s.Skip(head) || !s.Skip(4+quoteSignedBytes) || !s.ReadBytes(&typ, 2) || binary.LittleEndian.Uint16(typ) != quoteCertified ||
		!s.Skip(4+quoteQEBytes) || !s.ReadBytes(&body, 2) || !s.Skip(int(binary.LittleEndian.Uint16(body))) ||
		!s.ReadBytes(&typ, 2) || binary.LittleEndian.Uint16(typ) != quotePEM || !s.ReadBytes(&body, 4) {
		return nil
	}
	size := binary.LittleEndian.Uint32(body)
	if uint64(size) > uint64(len(s)) {
		return nil
	}
	return s[:size]
}

// platformOf finds the id in the extension that names a platform (PCK Certificate and CRL Profile
// Specification, 1.3.5): a sequence of pairs of an identifier and a value.
func platformOf(extension []byte) []byte {
	s := cryptobyte.String(extension)
	var list cryptobyte.String
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil
	}
	for !list.Empty() {
		var entry, value cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1ObjectIdentifier(&id) {
			return nil
		}
		if id.String() == platformInstance && entry.ReadASN1(&value, cbasn1.OCTET_STRING) && len(value) == platformIDBytes {
			return value
		}
	}
	return nil
}
