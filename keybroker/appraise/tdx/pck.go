package tdx

import (
	"crypto/x509"
	"encoding/asn1"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// sgxExtension is the extension of PCK certificates that names a platform, and the prefix of the
// identifiers inside it (PCK Certificate and CRL Profile Specification, section 1.3.5).
const sgxExtension = "1.2.840.113741.1.13.1"

// Identifiers inside the extension, behind its own.
const (
	oidTCB              = ".2"
	oidPCEID            = ".3"
	oidFMSPC            = ".4"
	oidPlatformInstance = ".6"
	oidPCESVN           = ".2.17"
	oidCPUSVN           = ".2.18"
)

// maxSGXEntries bounds one sequence of the extension; the longest has 18.
const maxSGXEntries = 32

// platform is what a PCK certificate states of the platform and its firmware.
type platform struct {
	fmspc      [6]byte
	pceID      [2]byte
	components [16]uint8 // SGX TCB component SVNs
	pceSVN     uint16
	cpuSVN     [16]byte
	instance   []byte // 16 bytes of the Platform CA's certificates, else nil
}

// parsePlatform reads the extension wherever it stands among others, and its entries in any
// order. Entries that say nothing about versions (PPID, SGX type, configuration), and those that
// Intel may add, are left unread.
func parsePlatform(cert *x509.Certificate) (*platform, error) {
	var found []byte
	for _, e := range cert.Extensions {
		if e.Id.String() == sgxExtension {
			if found != nil {
				return nil, refusal.New(ReasonCertificate, "the PCK certificate has two SGX extensions")
			}
			found = e.Value
		}
	}
	if found == nil {
		return nil, refusal.New(ReasonCertificate, "the PCK certificate has no SGX extension")
	}
	p, ok := readPlatform(found)
	if !ok {
		return nil, refusal.New(ReasonCertificate, "the SGX extension is malformed or incomplete")
	}
	return p, nil
}

// readPlatform reads the extension's value.
func readPlatform(der []byte) (*platform, bool) {
	outer, ok := readEntries(der)
	if !ok {
		return nil, false
	}
	tcb, ok := readEntries(outer[oidTCB])
	if !ok {
		return nil, false
	}
	p := &platform{}
	for i := range p.components {
		n, ok := readNumber(tcb[oidTCB+"."+strconv.Itoa(i+1)], 0xff)
		if !ok {
			return nil, false
		}
		p.components[i] = uint8(n)
	}
	if p.pceSVN, ok = readNumber(tcb[oidPCESVN], 0xffff); !ok {
		return nil, false
	}
	if !readOctets(tcb[oidCPUSVN], p.cpuSVN[:]) || !readOctets(outer[oidPCEID], p.pceID[:]) || !readOctets(outer[oidFMSPC], p.fmspc[:]) {
		return nil, false
	}
	if instance, present := outer[oidPlatformInstance]; present {
		p.instance = make([]byte, 16)
		if !readOctets(instance, p.instance) {
			return nil, false
		}
	}
	return p, true
}

// readEntries reads a sequence of pairs of an identifier and a value, and returns the values in
// DER by the end of their identifiers. An identifier that comes twice is an error.
func readEntries(der []byte) (map[string][]byte, bool) {
	s := cryptobyte.String(der)
	var list cryptobyte.String
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, false
	}
	entries := map[string][]byte{}
	for !list.Empty() {
		var entry, value cryptobyte.String
		var id asn1.ObjectIdentifier
		var tag cbasn1.Tag
		if len(entries) == maxSGXEntries || !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1ObjectIdentifier(&id) ||
			!entry.ReadAnyASN1Element(&value, &tag) || !entry.Empty() {
			return nil, false
		}
		name := id.String()
		if len(name) <= len(sgxExtension) || name[:len(sgxExtension)] != sgxExtension || name[len(sgxExtension)] != '.' {
			return nil, false
		}
		name = name[len(sgxExtension):]
		if _, twice := entries[name]; twice {
			return nil, false
		}
		entries[name] = value
	}
	return entries, true
}

func readNumber(der []byte, most uint64) (uint16, bool) {
	s := cryptobyte.String(der)
	var n uint64
	if !s.ReadASN1Integer(&n) || !s.Empty() || n > most {
		return 0, false
	}
	return uint16(n), true
}

func readOctets(der, into []byte) bool {
	s := cryptobyte.String(der)
	var v cryptobyte.String
	if !s.ReadASN1(&v, cbasn1.OCTET_STRING) || !s.Empty() || len(v) != len(into) {
		return false
	}
	copy(into, v)
	return true
}
