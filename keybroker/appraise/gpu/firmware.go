package gpu

import (
	"bytes"
	"crypto/x509"
	encodingasn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Extensions that name the firmware which holds a key. Hopper has a CompositeDeviceID (of the
// device's key and an FWID) under the first, Blackwell a DiceTcbInfo under the second.
var (
	oidComposite = encodingasn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo   = encodingasn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
	oidSHA384    = encodingasn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

const (
	maxFWIDs = 8
	vendor   = "NVIDIA"
)

// Fields of DiceTcbInfo, by their context tags, and bits of its flags from the first on.
const (
	tagVendor, tagSVN, tagFWIDs, tagFlags, maxTag             = 0, 3, 6, 7, 9
	flagNotConfigured, flagNotSecure, flagRecovery, flagDebug = 0, 1, 2, 3
)

// firmware is what a report key's certificate states of the firmware that holds the key.
type firmware struct {
	fwid  []byte
	svn   *int64
	flags *encodingasn1.BitString // nil if there are none
}

// read finds the one extension in the certificate of a key, below that of its device.
func (f *firmware) read(leaf, device *x509.Certificate) error {
	for _, e := range leaf.Extensions {
		var ok bool
		switch {
		case e.Id.Equal(oidComposite):
			ok = f.readComposite(e.Value, device.RawSubjectPublicKeyInfo)
		case e.Id.Equal(oidTCBInfo):
			ok = f.readTCBInfo(e.Value)
		default:
			continue
		}
		if !ok {
			return refusal.New(ReasonFirmware, "extension %s of %q is malformed, or of another device", e.Id, leaf.Subject.CommonName)
		}
	}
	if f.fwid == nil {
		return refusal.New(ReasonFirmware, "%q names no firmware", leaf.Subject.CommonName)
	}
	return nil
}

// readComposite reads SEQUENCE { version 1, device's public key, FWID }.
func (f *firmware) readComposite(value, deviceKey []byte) bool {
	in := cryptobyte.String(value)
	var s, key cryptobyte.String
	var version int
	if f.fwid != nil || !in.ReadASN1(&s, asn1.SEQUENCE) || !in.Empty() || !s.ReadASN1Integer(&version) || version != 1 ||
		!s.ReadASN1Element(&key, asn1.SEQUENCE) || !bytes.Equal(key, deviceKey) {
		return false
	}
	f.fwid = readFWID(&s)
	return f.fwid != nil && s.Empty()
}

// readTCBInfo reads a SEQUENCE of optional fields in the order of their tags. The first FWID is
// the one that reports repeat; others are places for firmware that is not there, all zero.
func (f *firmware) readTCBInfo(value []byte) bool {
	in := cryptobyte.String(value)
	var s cryptobyte.String
	if f.fwid != nil || !in.ReadASN1(&s, asn1.SEQUENCE) || !in.Empty() {
		return false
	}
	named := false
	for last := -1; !s.Empty(); {
		var field cryptobyte.String
		var tag asn1.Tag
		if !s.ReadAnyASN1(&field, &tag) {
			return false
		}
		n := int(tag & 0x1f)
		if tag&0xc0 != 0x80 || n <= last || n > maxTag || (n == tagFWIDs) != (tag&0x20 != 0) {
			return false
		}
		last = n
		ok := true
		switch n {
		case tagVendor:
			named = string(field) == vendor
		case tagSVN:
			ok = f.readSVN(field)
		case tagFWIDs:
			ok = f.readFWIDs(field)
		case tagFlags:
			ok = f.readFlags(field)
		}
		if !ok {
			return false
		}
	}
	return named && f.fwid != nil
}

func (f *firmware) readSVN(field cryptobyte.String) bool {
	if len(field) == 0 || len(field) > 8 || field[0]&0x80 != 0 {
		return false
	}
	var n int64
	for _, b := range field {
		n = n<<8 | int64(b)
	}
	f.svn = &n
	return true
}

func (f *firmware) readFWIDs(list cryptobyte.String) bool {
	for i := 0; !list.Empty(); i++ {
		digest := readFWID(&list)
		switch {
		case digest == nil || i == maxFWIDs:
			return false
		case i == 0:
			f.fwid = digest
		case !bytes.Equal(digest, make([]byte, digestSize)):
			return false
		}
	}
	return f.fwid != nil
}

func (f *firmware) readFlags(field cryptobyte.String) bool {
	if len(field) < 2 || len(field) > 5 || field[0] > 7 {
		return false
	}
	f.flags = &encodingasn1.BitString{Bytes: bytes.Clone(field[1:]), BitLength: 8*(len(field)-1) - int(field[0])}
	return true
}

// flag says whether a bit is set.
func (f *firmware) flag(bit int) bool { return f.flags != nil && f.flags.At(bit) == 1 }

// readFWID takes SEQUENCE { hashAlg, digest } off the front: SHA-384, or nil.
func readFWID(s *cryptobyte.String) []byte {
	var fwid cryptobyte.String
	var algorithm encodingasn1.ObjectIdentifier
	var digest []byte
	if !s.ReadASN1(&fwid, asn1.SEQUENCE) || !fwid.ReadASN1ObjectIdentifier(&algorithm) || !algorithm.Equal(oidSHA384) ||
		!fwid.ReadASN1Bytes(&digest, asn1.OCTET_STRING) || len(digest) != digestSize || !fwid.Empty() {
		return nil
	}
	return bytes.Clone(digest)
}
